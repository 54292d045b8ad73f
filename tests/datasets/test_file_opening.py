"""How a file begins: a list, an object, or neither; and what stands first in it."""

import json

import pytest

from qwen2vl_rs.datasets.file_opening import FileStart, sniff


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"a": 1}, {"b": 2}]', FileStart("list", None, {"a": 1}, ({"b": 2},))),
        ('\ufeff \n[ {"a": [1]}', FileStart("list", None, {"a": [1]})),
        ("[]", FileStart("list")),
        ('[{"a": 1', FileStart("list")),
        (
            '{"questions": [{"id": 1}]}',
            FileStart("object", "questions", [{"id": 1}], line={"questions": [{"id": 1}]}),
        ),
        (
            '{ "0" : {"Image_ID": "6.JPG"} ,\n "1": 2, "3": [',
            FileStart("object", "0", {"Image_ID": "6.JPG"}, (2,)),
        ),
        ("[1 , 2] ", FileStart("list", None, 1, (2,))),
        ("[1 2]", FileStart("list", None, 1)),
        ('{"a"', FileStart("object", "a")),
        ("{}", FileStart("object", line={})),
        ('{"a": "' + "x" * 70_000 + '"}', FileStart("object", "a", line={"a": "x" * 70_000})),
        ('{"a": "' + "x" * 2_000_000 + '"}', FileStart("object", "a")),
        ("image_path,question,answer", FileStart("text")),
    ],
)
def test_what_stands_first_is_told(tmp_path, text, found):
    path = tmp_path / "file"
    path.write_text(text, encoding="utf-8")
    assert sniff(path) == found


def test_of_json_lines_it_is_the_first_line_s_first_value(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps({"image": f"{n}.png"}) + "\n" for n in range(3)))
    assert sniff(path) == FileStart("object", "image", "0.png", line={"image": "0.png"})
    assert sniff(path).record == {"image": "0.png"}


def test_fields_are_looked_for_in_all_records_of_the_beginning(tmp_path):
    path = tmp_path / "file"
    path.write_text(json.dumps([{"a": 1}, 3, {"a": 1, "b": 2}]))
    assert sniff(path).has("a", "b")
    assert not sniff(path).has("a", "c")
    path.write_text(json.dumps({"0.png": [], "1.png": [{"a": 1}]}))
    assert sniff(path).has("a")


def test_fields_are_looked_for_in_the_first_line_of_json_lines(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1, "b": 2}\n{"a": 1, "c": 2}\n')
    assert sniff(path).has("a", "b")
    assert not sniff(path).has("a", "c")


def test_the_first_record_of_a_list_too(tmp_path):
    path = tmp_path / "list.json"
    path.write_text('[{"a": 1}, {"b": 2}]')
    assert sniff(path).record == {"a": 1}
    path.write_text("[1]")
    assert sniff(path).record == {}
