"""What the command line prints, where a person looks and where nobody does."""

import io
import json
import re
import sys

import pytest

from qwen2vl_rs.cli import main, output
from qwen2vl_rs.system.console import warn


class Screen(io.StringIO):
    """What a terminal is given."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def predictions(tmp_path):
    for name, right in (("before.jsonl", 2), ("after.jsonl", 3)):
        rows = [
            {"id": n, "image": f"{n}.tif", "question": "Is there a road?", "answer": "yes",
             "prediction": "yes" if n % right else "no", "type": "presence"}
            for n in range(12)
        ]  # fmt: skip
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["score", str(tmp_path / "after.jsonl"), "--against", str(tmp_path / "before.jsonl")]


@pytest.fixture
def looked_at(monkeypatch):
    """Both streams are terminals."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    streams = Screen(), Screen()
    monkeypatch.setattr(
        output, "sys", type("Sys", (), {"stdout": streams[0], "stderr": streams[1]})
    )
    return streams


@pytest.fixture
def plain(predictions, capsys):
    assert main(predictions) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    return out


def test_tables_have_colours_on_a_terminal_and_the_same_text(
    plain, predictions, looked_at, monkeypatch
):
    monkeypatch.setattr(sys, "stdout", looked_at[0])
    assert main(predictions) == 0
    drawn = looked_at[0].getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", drawn) == plain
    assert re.search(r"\x1b\[32m\+16\.7", drawn)  # better, in green
    assert re.search(r"\x1b\[1m +n  ", drawn)  # the head of a table, in bold
    assert drawn.count("\x1b[32m") == 4  # the differences, and not the ends of their intervals
    assert not re.search(r"\x1b\[1m(left out|p:)", drawn)


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_no_colours_where_they_are_not_wanted(
    plain, predictions, looked_at, monkeypatch, name, value
):
    monkeypatch.setattr(sys, "stdout", looked_at[0])
    monkeypatch.setenv(name, value)
    assert main(predictions) == 0
    warn("careful", "do it")
    assert not re.search(r"\x1b\[(?!0m|1m)", looked_at[0].getvalue())
    assert looked_at[1].getvalue() == "warning: careful\nhint: do it\n"


def test_warnings_and_errors_have_a_colour_on_a_terminal(looked_at):
    warn("careful\x1b[2J", "do it")
    assert looked_at[1].getvalue() == (
        "\x1b[33mwarning:\x1b[0m careful\\x1b[2J\n\x1b[36mhint:\x1b[0m do it\n"
    )
    assert output.labelled("error", "red", "gone") == "\x1b[31merror:\x1b[0m gone"


def test_a_pipe_gets_no_colours_even_where_they_are_forced(plain, predictions, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(predictions) == 0
    warn("careful")
    assert capsys.readouterr() == (plain, "warning: careful\n")


def test_the_handler_is_there_once():
    output.set_up()
    output.set_up()
    assert sum(isinstance(one, output._Stderr) for one in output.ROOT.handlers) == 1
