"""Figures that the commands print, against what pencil and paper give."""

import json
import re
from xml.etree import ElementTree

import pytest

from factory import write_run
from qwen2vl_rs.cli import main

T4 = 2.7764451  # 97.5 % quantile of Student's t with 4 degrees of freedom
ROAD, FARM = "Is there a road?", "Is there a farm?"
MORE, AREA = "Are there more roads than farms?", "Is it a rural or an urban area?"
TRUE = {  # image by image
    ROAD: ["yes", "yes", "yes", "yes", "no"],
    FARM: ["no", "no", "no", "yes", "yes"],
    MORE: ["yes", "yes", "no", "no", "no"],
    AREA: ["urban", "urban", "urban", "rural", "rural"],
}
#: Which answers are right, by question: of the five images 4, 4, 3, 2 and 1 after.
AFTER = {ROAD: "11111", FARM: "11110", MORE: "11100", AREA: "11000"}
BEFORE = {ROAD: "01011", FARM: "01011", MORE: "11100", AREA: "10100"}
SHUFFLED = {ROAD: "10010", FARM: "01001", MORE: "10100", AREA: "00110"}
OTHER = {"yes": "no", "no": "yes", "rural": "urban", "urban": "rural"}


def lines(right, confidence=True):
    found = []
    for question, marks in right.items():
        for image, (mark, gold) in enumerate(zip(marks, TRUE[question], strict=True)):
            line = {"image": f"{image}.tif", "question": question, "answer": gold}
            line["prediction"] = gold if mark == "1" else OTHER[gold]
            if confidence:
                line["confidence"] = 0.95 if mark == "1" else 0.55
            found.append(line)
    return found


def save(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hand")
    runs = {"after": AFTER, "before": BEFORE, "shuffled": SHUFFLED}
    found = {name: save(folder / f"{name}.jsonl", lines(run)) for name, run in runs.items()}
    asked = [(ROAD, "yes")] * 3 + [(FARM, "no")] * 2 + [(MORE, "yes"), (AREA, "rural")]
    rows = [{"question": question, "answer": answer} for question, answer in asked]
    return found | {"train": save(folder / "train.jsonl", rows)}


def scored(capsys, *words):
    capsys.readouterr()
    assert main(["-q", "score", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def near(*values):
    return pytest.approx(list(values), abs=2e-6)


def test_intervals_of_five_images(files, capsys):
    found = scored(capsys, files["after"])["protocols"]["official"]
    assert (found["n"], found["clusters"], found["OA"]) == (20, 5, 0.7)
    # right − 4 · 0.7 by image: 1.2, 1.2, 0.2, −0.8, −1.8; squares 6.8; se = √(5/4 · 6.8) / 20
    assert found["OA_se"] == pytest.approx(0.14577380, abs=1e-8)
    # Wilson with a = t² se² / (0.7 · 0.3) = 0.78: (0.7 + a/2 ± √(t² se² + a²/4)) / (1 + a)
    a = T4**2 * 8.5 / 400 / 0.21
    reach = (T4**2 * 8.5 / 400 + a * a / 4) ** 0.5
    assert found["OA_ci"] == near((0.7 + a / 2 - reach) / (1 + a), (0.7 + a / 2 + reach) / (1 + a))
    assert found["OA_ci"] == pytest.approx([0.297, 0.928], abs=5e-4)
    assert {name: (one["n"], one["accuracy"]) for name, one in found["types"].items()} == {
        "presence": (10, 0.9), "comp": (5, 0.6), "rural_urban": (5, 0.4),
    }  # fmt: skip
    assert found["AA"] == pytest.approx(1.9 / 3)
    # by image: 0.2/30 + 0.4/15 + 0.6/15 (twice), 0.2/30, 0.2/30 − 1/15, −0.8/30 − 1/15
    assert found["AA_se"] == pytest.approx((1.25 * 0.0231111111) ** 0.5, abs=1e-8)


def test_a_difference_of_five_images(files, capsys):
    found = scored(capsys, files["after"], "--against", files["before"])["against"]
    one = found["protocols"]["official"]["OA"]
    assert (one["before"], one["after"], one["wins"], one["losses"]) == (0.55, 0.7, 5, 2)
    assert one["difference"] == pytest.approx(0.15)
    # 2, 1, 1, 0 and −1 by image, the mean of 0.6 taken off: 1.4, 0.4, 0.4, −0.6, −1.6
    assert one["se"] == pytest.approx((1.25 * 5.2) ** 0.5 / 20, abs=1e-8)
    # its square is less than chance would have it, (7/20 − 0.15²) / 20, which counts then: as of
    # 20 questions. Bonett & Price: (3 ± t · √(7 + 2 − 3² / 22)) / 22
    reach = T4 * (9 - 9 / 22) ** 0.5 / 22
    assert one["ci"] == near(3 / 22 - reach, 3 / 22 + reach)
    assert one["p"] == pytest.approx(2 * (1 + 7 + 21) / 2**7)


def cells(markdown, heading):
    """The rows of the first table below a heading, by their first cell."""
    part = markdown.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip().replace("\u00a0", " ") for cell in row] for row in rows]
    return {row[0].replace("*", ""): dict(zip(head, row, strict=True)) for row in rows if row[0]}


def test_the_report(files, tmp_path):
    words = ["-q", "report", "-o", str(tmp_path), "--after", files["after"], "--before"]
    words += [files["before"], "--shuffled", files["shuffled"], "--train-questions", files["train"]]
    assert main(words) == 0
    markdown = (tmp_path / "report.md").read_text()
    page = re.sub(r"<[^>]+>", " ", (tmp_path / "report.html").read_text())
    page, plain = (" ".join(t.replace("\u00a0", " ").split()) for t in (page, markdown))
    table = cells(markdown, "By question type")
    # n, before, after, difference, fixed, broken, constant answer, question only, wrong image
    wanted = {
        "Presence": (10, 60.0, 90.0, "+30.0", 4, 1, 60.0, 70.0, 40.0),
        "Comparison": (5, 60.0, 60.0, "+0.0", 0, 0, 40.0, 40.0, 40.0),
        "Rural / urban": (5, 40.0, 40.0, "+0.0", 1, 1, 40.0, 40.0, 40.0),
        "OA": (20, 55.0, 70.0, "+15.0", 5, 2, 50.0, 55.0, 40.0),
        # (60 + 60 + 40) / 3 and so on
        "AA": (20, 53.3, 63.3, "+10.0", "", "", 46.7, 50.0, 40.0),
    }
    columns = ("Questions", "Before", "After", "Difference", "Fixed", "Broken", "Majority baseline",
               "Question-only baseline", "Shuffled images")  # fmt: skip
    for row, values in wanted.items():
        said = tuple(table[row][name].split(" (")[0] for name in columns)
        assert said == tuple(map(str, values)), row
    # a = t² · 0.0288889 / (0.6333 · 0.3667) = 0.959 in Wilson's interval
    assert table["AA"]["After"] == "63.3 (22.5 – 91.1)"
    official = cells(markdown, "By other protocols")["official"]
    assert [official[c].split(" (")[0] for c in ("OA before", "OA", "AA")] == [
        "55.0",
        "70.0",
        "63.3",
    ]
    assert official["AA"] == table["AA"]["After"]
    for text in (page, plain):
        assert "+15.0 points" in text  # visual gain: 70 − 55
        assert "+30.0 points" in text  # cost of a wrong image: 70 − 40
        # 5 won and 2 lost, as before and after; 9 won and 3 lost, which differ less than by
        # chance too: (6 ± t · √(12 + 2 − 6² / 22)) / 22
        assert text.count("−23.4 to +50.6") >= 2
        assert "−17.1 to +71.6" in text
        # 14 right at 0.95, 6 wrong at 0.55: 0.7 · 0.05 + 0.3 · 0.55, and
        # (1/15 + 2/16 + 3/17 + 4/18 + 5/19 + 6/20) / 20
        assert re.search(r"After: [^.]*0\.200 .{0,70}0\.058, 20 answers", text)
        # before, 11 right and 9 wrong: 0.55 · 0.05 + 0.45 · 0.55
        assert re.search(r"Before: [^.]*0\.275 .{0,70}, 20 answers", text)
        assert "5 answers were fixed and 2 broken" in text
        assert "7 training questions; 0 left out" in text
    fixed, broken = (
        sorted(re.findall(r"Image (\d)\.tif", part)) for part in
        plain.partition("### Fixed")[2].partition("## Worst")[0].split("### Broken")
    )  # fmt: skip
    assert (fixed, broken) == (["0", "0", "1", "2", "2"], ["2", "4"])


def test_counting(tmp_path, capsys):
    said = [("3", "5"), ("8", "8"), ("50", "60"), ("4", "between 0 and 10"), ("0", "many"),
            ("10", "11"), ("1000", "1001"), ("1001", "1000"), ("70", "30")]  # fmt: skip
    rows = [
        {"image": f"{k}.tif", "question": "How many roads are there?", "answer": gold,
         "prediction": text}
        for k, (gold, text) in enumerate(said)
    ]  # fmt: skip
    file = save(tmp_path / "a.jsonl", rows)
    assert main(["-q", "report", "-o", str(tmp_path), "--after", file, "--dataset", "LR"]) == 0
    markdown = (tmp_path / "report.md").read_text()
    table = cells(markdown, "Counts: predicted and true")
    columns = list(next(iter(table.values())))
    found = {
        name: [row[column].split(" (")[0] for column in columns[1:]] for name, row in table.items()
    }
    assert found == {
        "0": ["1", "0", "–", "0.0", "0.0"],
        "1–10": ["4", "3", "1.0", "25.0", "75.0"],
        "11–100": ["2", "2", "25.0", "0.0", "100.0"],
        "101–1000": ["1", "1", "1.0", "0.0", "0.0"],
        "&gt;1000": ["1", "1", "1.0", "0.0", "0.0"],
        "Σ": ["9", "7", "7.9", "11.1", "55.6"],
    }
    found = scored(capsys, file, "--dataset", "LR")["counts"]
    assert (found["numbers"], found["median_error"]) == (7, 1.0)
    assert found["mae"] == pytest.approx((2 + 0 + 10 + 1 + 1 + 1 + 40) / 7)


def curves(page):
    """The points of both curves of the loss, in percent of the chart."""
    (part,) = re.findall(r'<section[^>]*id="loss".*?</section>', page, re.S)
    found = {}
    for path in re.findall(r"<path [^>]*/>", part):
        tree = ElementTree.fromstring(path)
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", tree.get("d"))
        found[tree.get("class")] = [float(y) for _, y in points]
    return found


def test_the_curve_of_the_loss_is_a_running_mean(tmp_path):
    run = write_run(tmp_path, images=4)
    losses = [5 - k % 7 - k / 60 for k in range(60)]
    rows = [{"step": k + 1, "loss": loss} for k, loss in enumerate(losses)]
    save(run / "metrics.jsonl", rows)
    assert main(["-q", "report", str(run)]) == 0
    found = curves((run / "report.html").read_text())
    raw, mean = found["line faint"], found["line after"]
    assert len(raw) == len(mean) == 60
    # a twentieth of the steps: the mean of three, of fewer at the beginning
    parts = [raw[max(0, k - 2) : k + 1] for k in range(60)]
    assert mean == pytest.approx([sum(part) / len(part) for part in parts], abs=0.02)
    first, last = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    text = (run / "report.md").read_text()
    assert f"went from {first:.3f} to {last:.3f} in 60 steps" in text
    assert "its mean over 3 steps" in text
    save(run / "metrics.jsonl", rows[:40])
    assert main(["-q", "report", str(run)]) == 0
    assert "its mean over 2 steps" in (run / "report.md").read_text()


def test_costs_are_of_their_side(tmp_path):
    run = write_run(tmp_path, images=4)
    for name, seconds in (("before", 0.5), ("after", 0.125)):
        save(run / "eval" / name / "timing.json", [{"questions": 8, "seconds": seconds}])
    done = {"train_loss": 0.3, "train_steps": 40, "train_runtime": 4.0, "train_questions": 1000}
    save(run / "train_results.json", [done])
    assert main(["-q", "report", str(run)]) == 0
    text = (run / "report.md").read_text().replace("\u00a0", " ")
    (line,) = [line for line in text.splitlines() if "15.6 ms" in line]
    assert re.search(r"4\.0 ms.*62\.5 ms.*15\.6 ms", line)
    assert re.search(r"62\.5 ms[^,;]*before.*15\.6 ms[^,;]*after", line, re.I)


def test_the_words_of_a_peer_do_not_hide_its_answer(tmp_path, capsys):
    """``prediction`` is what counts where words are not judged, whatever ``text`` holds."""
    row = {"image": "a.tif", "question": ROAD, "answer": "yes", "prediction": "yes"}
    rows = [{**row, "text": "It is hard to tell, but the grey line may be one."}]
    rows.append({**row, "image": "b.tif", "prediction": "unclear", "text": "yes"})
    found = scored(capsys, save(tmp_path / "a.jsonl", rows))
    right = {name: score["OA"] for name, score in found["protocols"].items()}
    assert right == {"official": 0.5, "geochat": 0.5, "raw": 0.5, "original": 0.5}
    for k, name in enumerate(("official", "raw")):
        alone = scored(capsys, save(tmp_path / "b.jsonl", [rows[k]]))["protocols"]
        assert alone[name]["OA"] == 1, name
        assert alone[("raw", "official")[k]]["OA"] == 0


def test_what_was_cut_off_is_unreadable_though_a_part_of_it_reads(tmp_path, capsys):
    row = {"image": "a.tif", "question": "How many roads are there?", "answer": "12"}
    rows = [{**row, "prediction": "1", "text": "1", "unreadable": "cut_off"}]
    rows.append({**row, "image": "b.tif", "prediction": "1", "text": "1"})  # wrong, and whole
    rows.append({**row, "image": "c.tif", "prediction": "12", "unreadable": "cut_off"})  # right
    found = scored(capsys, save(tmp_path / "a.jsonl", rows))
    assert found["unreadable"] == {"n": 1, "causes": {"cut_off": 1}}


@pytest.mark.parametrize(("sure", "n"), [([0.5, 0.5], 2), ([0.5, None], 1), ([None, None], 0)])
def test_some_answers_may_lack_a_confidence(tmp_path, capsys, sure, n):
    row = {"question": ROAD, "answer": "yes", "prediction": "yes"}
    rows = [{**row, "image": f"{k}.tif", "confidence": one} for k, one in enumerate(sure)]
    found = scored(capsys, save(tmp_path / "a.jsonl", rows))
    assert ("calibration" in found["left_out"]) is (n == 0)
    assert found["protocols"]["official"].get("calibration", {"n": 0})["n"] == n


@pytest.mark.parametrize(("n", "dataset"), [(0, "unknown"), (1, "LR"), (2, "unknown")])
def test_results_beside_predictions_count_where_they_are_of_them(tmp_path, capsys, n, dataset):
    row = {"question": "How many roads are there?", "answer": "12", "prediction": "70"}
    file = save(tmp_path / "predictions.jsonl", [row])
    save(tmp_path / "results.json", [{"n": n, "dataset": "LR", "dataset_from": "files"}])
    found = scored(capsys, file)
    assert found["dataset"] == dataset
    assert found["protocols"]["official"]["OA"] == (dataset == "LR")


def test_no_difference_is_less_than_nothing(tmp_path, capsys):
    """One of 2,200 answers was lost: −0.045 points are printed as +0.0."""
    row = {"question": ROAD, "answer": "yes", "prediction": "yes"}
    before = [{**row, "image": f"{k}.tif"} for k in range(2200)]
    after = [{**before[0], "prediction": "no"}, *before[1:]]
    files = [
        save(tmp_path / f"{name}.jsonl", run)
        for name, run in zip("ab", (after, before), strict=True)
    ]
    assert main(["score", files[0], "--against", files[1], "--protocol", "official"]) == 0
    words = ["-q", "report", "--after", files[0], "--before", files[1], "-o", str(tmp_path)]
    assert main(words) == 0
    for text in (capsys.readouterr().out, (tmp_path / "report.md").read_text()):
        assert "+0.0" in text
        assert not re.search(r"[-−]0\.0(?!\d)", text)


def test_cases_show_the_words_of_a_model(tmp_path):
    row = {"image": "a.tif", "question": ROAD, "answer": "yes"}
    before = {**row, "prediction": "no", "text": "No, sand alone."}
    after = {**row, "prediction": "yes", "text": "Yes, there is a road."}
    files = [save(tmp_path / n, [one]) for n, one in (("a.jsonl", after), ("b.jsonl", before))]
    words = ["-q", "report", "--after", files[0], "--before", files[1], "-o", str(tmp_path)]
    assert main(words) == 0
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"before No, sand alone\. .*after Yes, there is a road\.", text)


def test_a_type_that_is_all_right_counts_by_its_images(tmp_path, capsys):
    """Ten right answers about five images: what five cannot exclude adds to the spread of AA."""
    rows = lines({ROAD: "11111", FARM: "11111", MORE: "11100"})
    found = scored(capsys, save(tmp_path / "a.jsonl", rows))["protocols"]["official"]
    assert found["AA"] == pytest.approx(0.8)
    # comparison by image: 0.4/10 three times, −0.6/10 twice: se² = 5/4 · 0.012; of the other type
    # at most 1 − 0.025^(1/5) may be wrong
    variance = 0.015 + ((1 - 0.025**0.2) / T4 / 2) ** 2
    a = T4**2 * variance / (0.8 * 0.2)
    reach = (T4**2 * variance + a * a / 4) ** 0.5
    assert found["AA_ci"] == near((0.8 + a / 2 - reach) / (1 + a), (0.8 + a / 2 + reach) / (1 + a))


def test_intervals_of_counts_are_clustered_by_image(tmp_path, capsys):
    """Four questions about each of five images, right or wrong together: five cases, not twenty."""
    rows = [
        {"image": f"{image}.tif", "question": f"How many roads are there? {k}", "answer": "3",
         "type": "count", "prediction": "3" if image < 3 else "44"}
        for image in range(5) for k in range(4)
    ]  # fmt: skip
    found = scored(capsys, save(tmp_path / "a.jsonl", rows), "--dataset", "LR")
    # 0.4 · 4 by image three times and −0.6 · 4 twice: se² = 5/4 · 19.2 / 400
    a = T4**2 * 0.06 / 0.24
    reach = (T4**2 * 0.06 + a * a / 4) ** 0.5
    expected = near((0.6 + a / 2 - reach) / (1 + a), (0.6 + a / 2 + reach) / (1 + a))
    assert found["counts"]["exact_ci"] == expected
    assert found["counts"]["bucket_ci"] == expected


def test_the_printed_table_has_the_controls_of_its_rows(files, capsys):
    words = (files["after"], "--train-questions", files["train"], "--shuffled", files["shuffled"])
    controls = scored(capsys, *words)["controls"]
    assert main(["-q", "score", *words]) == 0
    table = capsys.readouterr().out.partition("\n\ngeochat")[0]
    for figure in ("AA", "OA"):
        (row,) = re.findall(rf"^{figure} .*$", table, re.M)
        shown = [
            f"{100 * controls[name]['official'][figure]:.1f}"
            for name in ("constant", "question_only", "shuffled_image")
        ]
        assert row.split()[-3:] == shown
        assert len({controls[name]["official"]["AA"] for name in controls}) > 1
