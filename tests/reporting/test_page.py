"""The whole report: HTML and Markdown with the same figures, safe, small and quick."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from factory import make_samples, write_run
from qwen2vl_rs.cli import main
from qwen2vl_rs.reporting.evidence import from_files, from_run
from qwen2vl_rs.reporting.i18n import LANGUAGES, Words
from qwen2vl_rs.reporting.page import build, write_report
from qwen2vl_rs.reporting.scores import answers
from qwen2vl_rs.scoring.predictions import read_predictions, write_predictions
from qwen2vl_rs.types import Prediction

ALL = ["types", "cases", "templates", "answers", "counts", "confidence", "loss", "protocols", "run"]
EMPTY = {"meta", "link", "img", "br", "circle", "path", "line"}


class Reader(HTMLParser):
    """Tags in balance, with what a browser would fetch or run, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.said = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.said.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), images=12)


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_is_there(run, tmp_path, language):
    page = build(from_run(run), Words(language))
    assert [s.id for s in page.sections] == [*ALL, "terms"]  # nothing is missing
    written = write_report(from_run(run), tmp_path, language)
    text = " ".join(read(written.html).said)
    markdown = written.markdown.read_text(encoding="utf-8")
    for section in page.sections:
        assert section.title in text
        assert f"\n## {section.title}\n" in markdown
    # 1,000 questions trained on in 4 s, 8 asked in 0.125 s
    assert re.search(r"4\.0.(ms|毫秒)", text)
    assert re.search(r"15\.6.(ms|毫秒)", text)
    assert re.search(r"Qwen/Qwen2-VL-2B-Instruct( \(|（)abababababab[)）]", text)
    assert "/models" not in text


def test_nothing_is_fetched_or_run(run, tmp_path):
    reader = read(write_report(from_run(run), tmp_path).html)
    assert not {"script", "iframe", "object", "form"} & set(reader.tags)
    assert {link.partition(":")[0].partition("#")[0] for link in reader.links} == {"", "data"}
    assert "http" not in " ".join(reader.said)


@pytest.mark.parametrize("language", LANGUAGES)
def test_markdown_has_the_figures_of_the_page(run, tmp_path, language):
    written = write_report(from_run(run), tmp_path, language)
    figures = re.compile(r"[+−]?\d+(?:[.,]\d+)*")
    page, markdown = build(from_run(run), Words(language)), written.markdown.read_text()
    cells = [c for s in page.sections for t in s.tables for row in t.rows for c in row]
    assert len(cells) > 150
    wanted = {n for c in cells for n in figures.findall(c.text + " " + c.sub)}
    wanted |= set(figures.findall(page.claim))
    assert wanted <= set(figures.findall(markdown))
    assert wanted <= set(figures.findall(" ".join(read(written.html).said)))
    (wide,) = [t for s in page.sections for t in s.tables if s.id == "types"]
    cell = wide.rows[0][2]
    assert {"en": f"{cell.text} ({cell.sub})", "zh": f"{cell.text}（{cell.sub}）"}[
        language
    ] in markdown
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.M):  # every table is rectangular
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=a()>{{7*7}}|`$a$`\u202e\x00]("


def test_hostile_texts_are_only_text(tmp_path):
    samples = make_samples(tmp_path / "p", images=4)
    nasty = [
        Prediction(
            f"{s.id}{HOSTILE}", f"/x/{HOSTILE}.tif", f"{s.question} {HOSTILE}", HOSTILE,
            f"yes {HOSTILE}", f"yes {HOSTILE}" if after else "no", HOSTILE * after, 0.5,
        )
        for after in (0, 1) for s in samples
    ]  # fmt: skip
    half = len(nasty) // 2
    files = tmp_path / f"before{HOSTILE[:8].replace('/', '')}.jsonl", tmp_path / "after.jsonl"
    write_predictions(files[0], nasty[:half])
    write_predictions(files[1], nasty[half:])
    written = write_report(from_files(files[1], files[0]), tmp_path)
    reader = read(written.html)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    shown = HOSTILE.replace("\0", "\ufffd").replace("\u202e", "\ufffd")
    assert shown in " ".join(reader.said)
    markdown = written.markdown.read_text()
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "49" not in markdown + " ".join(reader.said)


def test_what_is_absent_is_named_with_its_reason(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    short = tmp_path / "run"
    for name in ("metrics.jsonl", "manifest.json", "train_results.json", "config.toml"):
        (short / name).unlink()
    for place in ("before", "shuffled"):
        shutil.rmtree(short / "eval" / place)
    (short / "eval/after/timing.json").unlink()
    (short / "eval/after/results.json").unlink()
    file = short / "eval/after/predictions.jsonl"
    plain = [replace(p, confidence=None) for p in read_predictions(file) if p.type != "count"]
    write_predictions(file, plain)
    page = build(from_run(short), Words("en"))
    assert [s.id for s in page.sections] == [
        "types", "templates", "answers", "protocols", "run", "absent", "terms",
    ]  # fmt: skip
    (table,) = page.sections[-2].tables
    found = {row[0].text: row[1].text for row in table.rows}
    untrained = "no training questions were given (--train-questions FILE)"
    assert found == {
        "Comparison with before": "there is only one set of predictions",
        "Majority baseline": untrained,
        "Question-only baseline": untrained,
        "Gain over question-only baseline": untrained,
        "Shuffled images": "the model did not answer about shuffled images",
        "Cost of shuffled images": "the model did not answer about shuffled images",
        "Confidence": "the predictions contain no confidence",
        "Counting": "no counting question has a number as its ground truth",
        "Loss curve": "metrics.jsonl is missing or empty",
        "Versions, device, seed, checksums of data": "manifest.json is missing or empty",
        "Time per answer": "the evaluation did not record its time",
    }
    write_report(from_run(short), tmp_path)


def test_images_that_are_gone_are_named(tmp_path):
    run = write_run(tmp_path)
    (tmp_path / "pictures" / "1.tif").unlink()
    page = build(from_run(run), Words("en"))
    (table,) = next(s for s in page.sections if s.id == "absent").tables
    (row,) = [[c.text for c in row] for row in table.rows if row[0].text.startswith("Images of")]
    assert re.fullmatch(r"Images of \d+ cases", row[0])
    assert row[1] == "no such file: 1.tif (--images FOLDER names the folder of the images)"
    assert "image not shown" in " ".join(read(write_report(from_run(run), tmp_path).html).said)


def test_figures_are_of_the_questions_in_both_runs(tmp_path):
    """Beside a comparison stand n, accuracy and interval of the same questions."""
    run = write_run(tmp_path, images=12)
    files = [run / "eval" / name / "predictions.jsonl" for name in ("after", "before")]
    after, before = map(read_predictions, files)
    odd = [replace(p, id=f"odd{p.id}", type="odd") for p in after[:4]]
    old = [replace(p, id=f"old{p.id}", type="old") for p in before[:2]]
    write_predictions(files[0], [*after[8:], *odd])
    write_predictions(files[1], [*before[:-16], *old])
    found = from_files(*files)
    n = 12 * 8 - 8 - 16
    page = build(found, Words("en"))
    assert f"{n} questions about 9 images" in page.eyebrow
    sections = {s.id: s for s in page.sections}
    (types,) = sections["types"].tables
    rows = {row[0].text: row for row in types.rows}
    assert list(rows) == ["Presence", "Counting", "Comparison", "Rural / urban", "AA", "OA"]
    assert {len(row) for row in types.rows} == {len(types.head)} == {8}
    compared = found.comparison["protocols"]["official"]
    for name, change in (("Presence", compared["types"]["presence"]), ("OA", compared["OA"])):
        cells = [cell.text for cell in rows[name]]
        assert cells[1] == str(change["n"])
        assert cells[2:4] == [f"{100 * change[side]:.1f}" for side in ("before", "after")]
    assert rows["OA"][1].text == str(n)
    assert rows["OA"][3].sub == page.tiles[0].sub.partition(" → ")[2]
    (protocols,) = sections["protocols"].tables
    assert protocols.rows[0][1].text == str(n)
    (templates,) = sections["templates"].tables
    assert sum(int(row[2].text) for row in templates.rows) <= n
    said = "10 questions before and 20 after are left out"
    assert any(said in note for note in sections["types"].notes)
    assert any(said in text for _, text in sections["run"].facts)


@pytest.mark.parametrize(("before", "after"), [(8, 0), (0, 5), (1, 0), (8, 5)])
def test_questions_of_one_run_only_are_in_no_figure_and_that_is_told(run, tmp_path, before, after):
    """Whichever run has them, and however many the other has."""
    sides, common = [], []
    for side, alone in (("after", after), ("before", before)):
        answered = read_predictions(run / "eval" / side / "predictions.jsonl")
        only = [replace(p, id=f"{side}-{p.id}") for p in answered[:alone]]
        for paths, lines in ((common, answered[8:]), (sides, only + answered[8:])):
            paths.append(tmp_path / f"{side}{len(paths)}{len(lines)}.jsonl")
            write_predictions(paths[-1], lines)
    found, wanted = from_files(*sides), from_files(*common)
    assert found.before.results == wanted.before.results
    assert found.after.results == wanted.after.results
    assert found.comparison["protocols"] == wanted.comparison["protocols"]
    sections = {s.id: s for s in build(found, Words("en")).sections}
    plural = "question" if before == 1 else "questions"
    said = f"{before} {plural} before and {after} after are left out"
    assert any(said in note for note in sections["types"].notes)
    assert any(said in text for _, text in sections["run"].facts)
    (types,) = sections["types"].tables
    bare = {s.id: s for s in build(wanted, Words("en")).sections}
    assert types == bare["types"].tables[0]
    assert not any("are left out, as" in note for note in bare["types"].notes)


def test_why_answers_cannot_be_read_is_told_of_each_run(run, tmp_path):
    files = []
    for side, causes in (("after", ["", "", "so"]), ("before", ["cut_off"] * 4 + ["", "so"])):
        answered = read_predictions(run / "eval" / side / "predictions.jsonl")
        answered = [replace(p, prediction=p.answer) for p in answered]
        for k, cause in enumerate(causes):
            said = "what?" if cause == "so" else ""
            unreadable = cause.removesuffix("so")
            answered[k] = replace(answered[k], prediction=said, unreadable=unreadable)
        files.append(tmp_path / f"{side}.jsonl")
        write_predictions(files[-1], answered)
    sections = {s.id: s for s in build(from_files(*files), Words("en")).sections}
    before, after = "cut off: 4, empty: 1, no clear answer: 1", "empty: 2, no clear answer: 1"
    facts = [(name, text) for name, text in sections["run"].facts if name.startswith("Unreadable")]
    assert facts == [("Unreadable answers (Before)", before), ("Unreadable answers (After)", after)]
    assert sections["types"].notes[-2:] == [
        f"Before: unreadable answers: 6 ({before})", f"After: unreadable answers: 3 ({after})",
    ]  # fmt: skip


def test_runs_that_name_a_type_differently_have_no_row_of_it_in_common(tmp_path):
    run = write_run(tmp_path)
    files = [run / "eval" / name / "predictions.jsonl" for name in ("after", "before")]
    after = read_predictions(files[0])
    changed = [replace(p, type="versus") if p.type == "comp" else p for p in after]
    write_predictions(files[0], changed)
    sections = {s.id: s for s in build(from_files(*files), Words("en")).sections}
    (table,) = sections["types"].tables
    (row,) = [row for row in table.rows if row[0].text == "versus"]
    score = from_files(*files).after.results["protocols"]["official"]["types"]["versus"]
    shown = f"{100 * score['accuracy']:.1f}"
    assert [c.text for c in row] == ["versus", "12", "–", shown, "–", "–", "–", "–"]


def test_every_accuracy_has_its_interval(run):
    page = build(from_run(run), Words("en"))
    (table,) = next(s for s in page.sections if s.id == "types").tables
    kinds = [
        table.head.index(h) for h in ("Before", "After", "Majority baseline", "Shuffled images")
    ]
    for row in table.rows:
        assert all(re.fullmatch(r"[\d.]+ – [\d.]+", row[k].sub) for k in kinds)


def test_predictions_without_images(run, tmp_path):
    files = []
    for name in ("after", "before"):
        lines = read_predictions(run / "eval" / name / "predictions.jsonl")
        files.append(tmp_path / f"{name}.jsonl")
        write_predictions(files[-1], [replace(p, image="") for p in lines])
    page = build(from_files(*files), Words("en"))
    written = write_report(from_files(*files), tmp_path)
    text = " ".join(read(written.html).said)
    assert "different images" not in text
    assert "questions about one image" not in text
    assert "image not shown" not in text
    assert "Image " not in written.markdown.read_text().partition("## Confusion")[0]
    (table,) = next(s for s in page.sections if s.id == "absent").tables
    (row,) = [[c.text for c in row] for row in table.rows if row[0].text.startswith("Images of")]
    assert row[1] == "the predictions name no image"


def test_a_single_question(tmp_path):
    one = Prediction("", "a.tif", "Is there a road?", "", "yes", "yes")
    write_predictions(tmp_path / "one.jsonl", [one])
    write_report(from_files(tmp_path / "one.jsonl", tmp_path / "one.jsonl"), tmp_path)
    text = " ".join(read(tmp_path / "report.html").said)
    assert "1 question about 1 image" in text
    assert not re.findall(r"\b1 (?:questions|images|answers|templates|cases)\b", text)


def test_settings_tell_no_places(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    config = (copy / "config.toml").read_text()
    assert str(run) in config
    config = config.replace('"Qwen/', '"/secret/Qwen/').replace('"data_vl', '"/secret/data_vl')
    (copy / "config.toml").write_text(config)
    section = next(s for s in build(from_run(copy), Words("en")).sections if s.id == "run")
    text = section.attachment[1]
    assert "secret" not in text
    assert str(run.parent) not in text
    for line in ('model = "Qwen2-VL-2B-Instruct"', 'conversations = "data_vl.json"'):
        assert f"{line}\n" in text


def test_chinese_markdown_has_chinese_punctuation(run, tmp_path):
    text = write_report(from_run(run), tmp_path, "zh").markdown.read_text()
    assert not re.findall("[\u4e00-\u9fff][,;:(]|[,;:)][\u4e00-\u9fff]", text)


def test_odd_runs_have_reports(run, tmp_path):
    """One image, nothing right, answers that are no numbers, one step of training."""
    file = run / "eval/after/predictions.jsonl"
    odd = [replace(p, prediction="many", confidence=0.0) for p in read_predictions(file)[:8]]
    write_predictions(tmp_path / "odd.jsonl", odd)
    write_report(from_files(tmp_path / "odd.jsonl", tmp_path / "odd.jsonl"), tmp_path)
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert "loss" not in {s.id for s in build(from_run(copy), Words("zh")).sections}
    (copy / "metrics.jsonl").write_text('{"step": 1, "loss": 0.0}\n{"step": 2, "loss": 0.0}\n')
    assert "loss" in {s.id for s in build(from_run(copy), Words("zh")).sections}


@pytest.mark.slow
def test_ten_thousand_predictions_in_ten_seconds_and_five_mebibytes(tmp_path):
    samples = make_samples(tmp_path / "p", images=30, side=256)
    many = [replace(s, id=f"{k}-{s.id}") for k in range(42) for s in samples]
    assert len(many) > 10_000
    start = time.process_time()
    for name, step in (("before", 2), ("after", 3)):
        write_predictions(tmp_path / f"{name}.jsonl", [
            Prediction(s.id, s.image, s.question, s.type, s.answer,
                       str(k % 3000) if s.type == "count" else s.answer if k % step else "no",
                       "", (k % 997) / 997)
            for k, s in enumerate(many)
        ])  # fmt: skip
    found = from_files(tmp_path / "after.jsonl", tmp_path / "before.jsonl")
    written = write_report(found, tmp_path)
    assert time.process_time() - start < 10
    assert written.html.stat().st_size < 5 * 2**20
    assert written.html.read_text().count("data:image/jpeg") == 24


# At the command line


def test_the_command(run, tmp_path, capsys, monkeypatch):
    assert main(["report", str(run), "-o", str(tmp_path / "en")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'en' / 'report.html'}\n"
    assert "report.md" in err
    assert main(["report", str(run), "-o", str(tmp_path / "zh"), "--lang", "zh"]) == 0
    assert '<html lang="zh-CN">' in (tmp_path / "zh" / "report.html").read_text()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "output/Qwen2-VL-2B")
    assert main(["-q", "report"]) == 0
    assert (tmp_path / "output/Qwen2-VL-2B/report.html").is_file()
    after = str(run / "eval/after/predictions.jsonl")
    assert main(["report", "--after", after, "--before", after, "--dataset", "HR"]) == 0
    assert "RSVQA-HR" in (tmp_path / "report.md").read_text()
    assert main(["report", "--after", after, "--before", after]) == 0
    assert "not significant" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["report", "nothing"], 1, "no run folder"),
        (["report", "--before", "x"], 2, "--after"),
        (["report", "run", "--after", "x"], 2, "not both"),
        (["report", "--lang", "de"], 2, "'en', 'zh'"),
        (["report", "--images", "nothing"], 1, "no folder nothing"),
    ],
)
def test_wrong_usage(args, code, said, capsys):
    assert main(args) == code
    assert said in capsys.readouterr().err


def test_the_folder_of_the_images_can_be_said(run, tmp_path, monkeypatch):
    files = []
    for name in ("after", "before"):
        lines = read_predictions(run / "eval" / name / "predictions.jsonl")
        files.append(str(tmp_path / f"{name}.jsonl"))
        moved = [replace(p, image=f"gone/{p.image.rpartition('/')[2]}") for p in lines]
        write_predictions(tmp_path / f"{name}.jsonl", moved)
    monkeypatch.chdir(tmp_path)
    asked = ["-q", "report", "--after", files[0], "--before", files[1]]
    pictures = run.parents[1] / "pictures"
    for more, shown in (([], 0), (["--images", str(pictures)], 13)):
        assert main([*asked, *more]) == 0
        assert (tmp_path / "report.html").read_text().count("data:image/jpeg") >= shown
        assert ("no such file" in (tmp_path / "report.md").read_text()) is (shown == 0)


@pytest.mark.slow
def test_a_report_needs_no_torch(run, tmp_path):
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft', 'safetensors', 'accelerate'):\n"
        "    sys.modules[name] = None\n"
        "from qwen2vl_rs.cli import main\n"
        f"sys.exit(main(['-q', 'report', {str(run)!r}, '-o', {str(tmp_path)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_same_evidence_gives_the_same_bytes(run, tmp_path):
    one, two = (write_report(from_run(run), tmp_path / n).html.read_bytes() for n in ("a", "b"))
    assert one == two


@pytest.mark.parametrize("said", ["no", "urban", "7 lakes", ""])
def test_a_row_of_the_confusion_adds_up_whatever_was_answered(tmp_path, said):
    """Also where no question has the class that was answered."""
    rows = [{"question": "Is there a road?", "answer": "yes", "prediction": said}] * 3
    rows += [{"question": "How many roads are there?", "answer": "0", "prediction": said}] * 2
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables = answers(from_files(tmp_path / "p.jsonl"), Words("en")).tables
    assert [row[0].text for table in tables for row in table.rows]
    for table in tables:
        for total, *cells in ([c.sub or c.text for c in row] for row in table.rows):
            assert sum(int(n) for n in cells if n != "·") == int(total), table
