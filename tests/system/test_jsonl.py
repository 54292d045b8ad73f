"""Growing files of JSON lines: what of them is believed."""

import json

import pytest

from qwen2vl_rs.system.jsonl import read_jsonl, to_line

ROWS = [{"key": n, "text": "道路 \u2028 \r"} for n in range(3)]
WHOLE = "".join(map(to_line, ROWS)).encode()
LINE = len(to_line(ROWS[0]).encode())


@pytest.mark.parametrize(
    ("content", "sound"),
    [
        (WHOLE, 3),
        (WHOLE[:-1], 2),  # its line break is missing, so that the next line would join it
        (WHOLE[:-2], 2),
        (WHOLE[: LINE + 1], 1),
        (WHOLE[:LINE], 1),
        (WHOLE[: LINE - 1], 0),
        (b"", 0),
        (WHOLE + b"{}\n" + WHOLE, 3),  # without the fields
        (WHOLE + b'{"key": 1}\n', 3),
        (WHOLE + b'[]\n"key"\n', 3),
        (WHOLE + b"\n" + WHOLE, 3),
        (WHOLE + b"\xff\n", 3),
        (WHOLE + bytes(50) + b"\n" + WHOLE, 3),
        (WHOLE + b"[" * 100_000 + b"\n", 3),
    ],
)
def test_lines_count_up_to_the_first_that_is_not_sound(tmp_path, content, sound):
    (tmp_path / "a.jsonl").write_bytes(content)
    assert read_jsonl(tmp_path / "a.jsonl", "key", "text") == (ROWS[:sound], sound * LINE)


def test_an_absent_file_has_no_lines_and_one_that_cannot_be_read_is_an_error(tmp_path):
    assert read_jsonl(tmp_path / "a.jsonl") == ([], 0)
    with pytest.raises(IsADirectoryError):
        read_jsonl(tmp_path)


def test_numbers_that_are_none_are_not_written():
    assert json.loads(to_line({"a": [1.5, None, "é"]})) == {"a": [1.5, None, "é"]}
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="Out of range"):
            to_line({"a": value})
