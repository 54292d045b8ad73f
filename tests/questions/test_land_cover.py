"""xBEN's land covers: lists that are compared whole, and member by member beside it."""

import json

import pytest

from qwen2vl_rs.cli import main
from qwen2vl_rs.questions.protocols import f1_of, scores_of
from qwen2vl_rs.questions.registry import type_named

MOORS = "moors, heathland and sclerophyllous vegetation"  # of BigEarthNet-19, as GRASS
GRASS = "natural grassland and sparsely vegetated areas"
LONG = "land principally occupied by agriculture, with significant areas of natural vegetation"


@pytest.mark.parametrize(
    ("normal", "members"),
    [
        ("none", {"none"}),
        ("mixed forest", {"mixed forest"}),
        ("mixed forest and water bodies", {"mixed forest", "water bodies"}),
        ("pastures, peatbogs and forests", {"pastures", "peatbogs", "forests"}),
        ("pastures, peatbogs, and forests", {"pastures", "peatbogs", "forests"}),
        (f"{LONG} and moors and heathland", {LONG, "moors and heathland"}),
        (f"{MOORS} and {GRASS}", {MOORS, GRASS}),
        (f"pastures, {LONG} and forests", {"pastures", LONG, "forests"}),
        (
            "road and rail networks and associated land",
            {"road and rail networks and associated land"},
        ),
        ("moors and heathlands and sea", {"moors", "heathlands", "sea"}),
        (
            "scrub and/or herbaceous vegetation associations",
            {"scrub and/or herbaceous vegetation associations"},
        ),
    ],
)
def test_members_of_a_list(normal, members):
    assert type_named("LC").parts(normal) == members


@pytest.mark.parametrize(
    ("gold", "said", "f1", "score"),
    [
        ("a and b", "a and b", 1, 1),
        ("a and b", "b and a", 1, 0),
        ("a and b", "a", 2 / 3, 0),
        ("a and b", "a, b and c", 4 / 5, 0),
        ("a", "b", 0, 0),
        ("none", "none", 1, 1),
        ("a", None, 0, 0),
        (None, "a", 0, 0),
        (None, None, 0, 0),
    ],
)
def test_f1_does_not_go_by_the_order(gold, said, f1, score):
    assert f1_of(["LC"], [gold], [said]) == pytest.approx([f1])
    assert scores_of(["LC"], [gold], [said]).tolist() == [score]


def test_it_stands_in_results_tables_and_report_and_moves_nothing_else(tmp_path, capsys):
    truth = ["Mixed forest and Water bodies", "pastures, peatbogs and forests", "None", "yes"]
    said = ["water bodies and mixed forest", "pastures", "none", "yes"]  # 1, 1/2, 1
    kinds = ["LC", "LC", "LC", "presence"]
    path, train = tmp_path / "predictions.jsonl", tmp_path / "train.jsonl"
    lines = [
        {"image": f"{n}.tif", "question": f"{kind}?", "type": kind, "answer": a, "prediction": p}
        for n, (kind, a, p) in enumerate(zip(kinds, truth, said, strict=True))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    taught = [
        {"image": "z", "question": "LC?", "type": "LC", "answer": "Pastures and Forests"},
        {"image": "z", "question": "presence?", "type": "presence", "answer": "no"},
    ]
    train.write_text("".join(json.dumps(line) + "\n" for line in taught))
    command = ["score", str(path), "--train-questions", str(train), "--dataset", "xBEN"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    types = found["protocols"]["official"]["types"]
    assert types["LC"]["accuracy"] == pytest.approx(1 / 3)
    assert types["LC"]["f1"]["value"] == pytest.approx(2.5 / 3)
    assert types["LC"]["f1"]["se"] == pytest.approx(1 / 6)
    low, high = types["LC"]["f1"]["ci"]
    assert low < 2.5 / 3 < high
    assert "f1" not in types["presence"]
    assert found["protocols"]["official"]["OA"] == 0.5
    blind = found["controls"]["question_only"]["official"]["types"]["LC"]
    assert blind["f1"]["value"] == pytest.approx((0 + 4 / 5 + 0) / 3)
    assert main(command) == 0
    assert "LC: F1 83.3 (" in capsys.readouterr().out
    assert main(["report", "--after", str(path), "-o", str(tmp_path), "--dataset", "xBEN"]) == 0
    page = (tmp_path / "report.md").read_text("utf-8").replace("\xa0", " ")
    assert "Land cover: mean F1 of the listed items, in any order: 83.3 %" in page
