"""The report itself: marks, errors as lines, and nothing private in it."""

from __future__ import annotations

import errno
import json

import pytest

from qwen2vl_rs.diagnosis.lines import Diagnosis, Line, guarded, problem, shortened, warning
from qwen2vl_rs.errors import ConfigError


def failing(error: BaseException):
    yield Line("first", "is kept")
    raise error


@pytest.mark.parametrize(
    ("error", "text", "hint"),
    [
        (ConfigError("wrong", hint="do this"), "wrong", "do this"),
        (ModuleNotFoundError("no torch", name="torch"), "needs torch", "[train]"),
        (
            ImportError("libcudart.so.12: cannot open", name="torch"),
            "libcudart",
            "install it again",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied", ""),
        (OSError("a library's, without a number"), "OSError: a library's", ""),
        (RuntimeError("CUDA error\nsecond line"), "RuntimeError: CUDA error", ""),
        (RuntimeError(), "RuntimeError", ""),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError", ""),
        (AssertionError(), "AssertionError", ""),
    ],
)
def test_any_error_becomes_the_last_line(error, text, hint):
    first, last = guarded("name", failing(error))
    assert first == Line("first", "is kept")
    assert last.name == "name"
    assert last.mark == "error"
    assert text in last.text
    assert "second line" not in last.text
    assert hint in last.hint


def test_an_interruption_is_none_of_them():
    with pytest.raises(KeyboardInterrupt):
        list(guarded("name", failing(KeyboardInterrupt())))


def test_only_problems_make_it_unusable():
    report = Diagnosis()
    report.add("One", [Line("a", "fine"), warning("b", "odd", "mend it")])
    assert report.usable
    assert str(report) == (
        "One\n  ✓ a  fine\n  ! b  odd\n       hint: mend it\n\nusable: a training can start"
    )
    report.add("Two", [problem("c", "broken"), problem("c", "again")])
    assert not report.usable
    assert str(report).endswith("not usable: see ✗ at c")
    assert json.loads(json.dumps(report.to_dict()))["sections"][0]["lines"][1] == {
        "name": "b", "mark": "warning", "text": "odd", "hint": "mend it",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/x: no", "~/x: no"),
        ("in /home/ann", "in ~"),
        ("/home/anna/x", "/home/anna/x"),
        ("pip install -e '/home/ann/my code[train]'", "pip install -e ~/'my code[train]'"),
        ("/data/home/x", "/data/home/x"),
        ("'/home/ann' and /home/ann,", "'~' and ~,"),
    ],
)
def test_the_home_is_shortened_everywhere(monkeypatch, text, shown):
    monkeypatch.setenv("HOME", "/home/ann")
    assert shortened(text) == shown


@pytest.mark.parametrize("home", ["/", ""])
def test_a_home_that_is_no_folder_of_a_user_shortens_nothing(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    assert shortened("/x/y") == "/x/y"
