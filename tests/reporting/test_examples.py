"""Which cases are shown, with which pictures; which templates are worst."""

import base64
import io
import random
from dataclasses import replace

import pytest
from PIL import Image

from factory import write_image, write_run
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.reporting.evidence import from_files, from_run
from qwen2vl_rs.reporting.examples import Pictures, cases, choose_examples, templates
from qwen2vl_rs.reporting.i18n import Words
from qwen2vl_rs.scoring.pairs import Pair
from qwen2vl_rs.scoring.predictions import write_predictions
from qwen2vl_rs.types import Prediction


def pair(k, type="presence", image="a.tif"):
    return Pair(str(k), image, f"Is there a road {k}?", type, "yes", "no", "yes", False, True)


def test_cases_are_spread_over_types_and_images():
    many = [pair(k, "presence", f"{k % 40}.tif") for k in range(400)]
    many += [pair(k, "comp", f"{k % 40}.tif") for k in range(400, 500)]
    many += [pair(999, "rural_urban", "0.tif")]
    chosen = choose_examples(many)
    assert [sum(p.type == t for p in chosen) for t in ("presence", "comp", "rural_urban")] == [
        6, 5, 1,
    ]  # fmt: skip
    assert len({p.image for p in chosen}) == 12


def test_nobody_can_pick_by_the_order_of_lines():
    many = [pair(k, image=f"/somewhere/{k % 5}.tif") for k in range(60)]
    mixed = random.Random(1).sample(many, len(many))
    moved = [replace(p, image=p.image.replace("somewhere", "elsewhere")) for p in mixed]
    assert [p.id for p in choose_examples(moved)] == [p.id for p in choose_examples(many)]
    assert [p.id for p in choose_examples(many)] != [str(k) for k in range(12)]
    assert choose_examples([]) == []


def test_pictures_are_small_jpegs(tmp_path):
    write_image(tmp_path / "large.tif", 900, 1)
    pictures = Pictures(RasterToRGB())
    head, _, data = pictures.of(str(tmp_path / "large.tif")).partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (320, 320))
    (tmp_path / "torn.tif").write_bytes(b"II*\0")
    assert pictures.of(str(tmp_path / "torn.tif")) == pictures.of("gone/1.tif") == ""
    assert list(pictures.gone.values()) == [["torn.tif"], ["1.tif"]]


def test_images_are_found_in_a_folder_by_the_end_of_their_path(tmp_path):
    (tmp_path / "here" / "b").mkdir(parents=True)
    sides = {"here/1.tif": 40, "here/b/1.tif": 60}
    for name, side in sides.items():
        write_image(tmp_path / name, side, 1)
    pictures = Pictures(RasterToRGB(), tmp_path / "here")
    for path, side in (("a/1.tif", 40), ("/x/b/1.tif", 60), ("b/1.tif", 60), ("1.tif", 40)):
        data = pictures.of(path).partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (side, side), path
    for lost in ("b/2.tif", "/", "\0"):
        assert not pictures.of(lost)
    assert pictures.gone.pop("no such file") == ["2.tif"]
    assert str(tmp_path) not in str(pictures.gone)
    assert sum(map(len, pictures.gone.values())) == 2


def test_fixed_and_broken(tmp_path):
    found, pictures = from_run(write_run(tmp_path)), Pictures(RasterToRGB())
    fixed, broken = cases(found, pictures, Words("en")).galleries
    assert len(fixed.cases) == 12
    assert all(not c.before.right and c.after.right for c in fixed.cases)
    assert all(c.before.right and not c.after.right for c in broken.cases)
    assert all(c.picture for c in fixed.cases)
    assert fixed.cases[0].after.confidence.startswith("confidence ")
    assert not pictures.gone


def test_worst_templates_come_first(tmp_path):
    found = from_run(write_run(tmp_path, images=12))
    section = templates(found, Words("en"))
    (table,) = section.tables
    assert table.head == ["Question template", "Type", "Questions", "Before", "After"]
    accuracy = [float(row[4].text.split("\u00a0")[0]) for row in table.rows]
    assert accuracy == sorted(accuracy)
    assert sum(int(row[2].text) for row in table.rows) == 12 * 8
    assert table.rows[0][0].text in (
        "How many [object] are there?",
        "What is the number of [object]?",
    )
    assert not section.notes
    few = from_run(write_run(tmp_path / "few", images=4))
    assert templates(few, Words("en")) is None


@pytest.mark.parametrize("least", [9, 10, 11])
def test_templates_of_ten_questions_are_ranked_and_those_of_nine_counted(tmp_path, least):
    """Of each of three templates so many questions, of a fourth one more."""
    sizes = {"a road": least, "a park": least, "a lake": least, "a farm": least + 1}
    asked = [
        Prediction(f"{word}{k}", f"{k}.tif", f"Can you see {word} here", "", "yes", "yes")
        for word, n in sizes.items() for k in range(n)
    ]  # fmt: skip
    write_predictions(tmp_path / "a.jsonl", asked)
    section = templates(from_files(tmp_path / "a.jsonl"), Words("en"))
    ranked = sorted(int(row[2].text) for row in section.tables[0].rows)
    assert ranked == [n for n in sizes.values() if n >= 10]
    told = "3 templates with fewer questions (27 questions) are not ranked."
    assert section.notes == ([told] if least == 9 else [])


def test_one_run_alone_has_templates_and_no_cases(tmp_path):
    run = write_run(tmp_path, images=12)
    found = from_files(run / "eval" / "after" / "predictions.jsonl")
    assert cases(found, Pictures(RasterToRGB()), Words("en")) is None
    (table,) = templates(found, Words("en")).tables
    assert "Before" not in table.head
