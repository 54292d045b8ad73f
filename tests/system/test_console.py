import contextlib
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from qwen2vl_rs.cli import output
from qwen2vl_rs.system import console
from qwen2vl_rs.system.console import Progress, clock, say, warn
from qwen2vl_rs.training.trackers import installed

ERASE = "\r\x1b[2K"
CURSOR = "\x1b[?25h"  # shown again
SAVED = {"saved\n", "warning: saved\n", "\x1b[33mwarning:\x1b[0m saved\n"}


def words(text: str) -> str:
    """What is drawn, without the bar and its colours."""
    return " ".join(re.sub(r"\x1b\[[?\d;]*[a-zA-Z]|[━╸╺]", "", text).split())


class Time:
    """A clock that goes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(console, "time", time)
    return time


@pytest.fixture
def terminal(monkeypatch):
    """stderr on a terminal; ``read`` gives what has appeared on it."""
    screen, end = pty.openpty()
    with os.fdopen(end, "w", encoding="utf-8") as stream:
        for module in (console, output):
            monkeypatch.setattr(module, "sys", SimpleNamespace(**vars(sys) | {"stderr": stream}))
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "100"}.items():
            monkeypatch.setenv(name, value)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)

        def read() -> str:
            stream.write("\x04")  # so that there is always something to read, and its end is known
            stream.flush()
            found = b""
            while not found.endswith(b"\x04"):
                found += os.read(screen, 4096)
            return found[:-1].decode().replace("\r\n", "\n")

        yield SimpleNamespace(read=read, close=lambda: os.close(screen))
    with contextlib.suppress(OSError):
        os.close(screen)


def test_talk_goes_to_stderr(capsys):
    say("one")
    say()
    warn("图 two")
    assert capsys.readouterr() == ("", "one\n\nwarning: 图 two\n")


def test_quiet_leaves_warnings(capsys, time):
    output.talk(quiet=True)
    say("one")
    warn("two")
    with Progress("training", 10, "steps") as bar:
        time.now += 100
        bar.advance()
        time.now += 100
        bar.advance()
    assert capsys.readouterr() == ("", "warning: two\n")
    output.talk(quiet=False)
    say("three")
    assert capsys.readouterr().err == "three\n"


def test_talk_is_not_held_back():
    code = "import os; from qwen2vl_rs.system.console import say, warn\n"
    code += "from qwen2vl_rs.cli.output import set_up\n"
    code += "set_up(); say('a'); warn('b'); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"a\nwarning: b\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (0.4, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (75, "1:15"), (3599.5, "1:00:00"),
     (3675, "1:01:15"), (360_000, "100:00:00")],
)  # fmt: skip
def test_clock(seconds, text):
    assert clock(seconds) == text


# Progress in a log file


def test_short_work_says_nothing(capsys, time):
    with Progress("reading", 100, "MB") as bar:
        for _ in range(100):
            time.now += 0.0199
            bar.advance()
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_after_ten_seconds_then_every_thirty_and_the_last(capsys, time):
    with Progress("training", 1000, "questions") as bar:
        for _ in range(100):
            time.now += 1
            bar.advance(10, note="loss 0.5")
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [
        "training: 100 of 1,000 questions, 10.0/s, 0:10, 1:30 left, loss 0.5",
        "training: 400 of 1,000 questions, 10.0/s, 0:40, 1:00 left, loss 0.5",
        "training: 700 of 1,000 questions, 10.0/s, 1:10, 0:30 left, loss 0.5",
        "training: 1,000 of 1,000 questions, 10.0/s, 1:40, loss 0.5",
    ]
    assert err.endswith("\n")


def test_the_last_line_is_not_missing_and_not_doubled(capsys, time):
    with Progress("training", 30, "steps") as bar:
        time.now += 20
        bar.advance(20)
        time.now += 5
        bar.advance(10)
    assert capsys.readouterr().err == (
        "training: 20 of 30 steps, 1.0/s, 0:20, 0:10 left\ntraining: 30 of 30 steps, 1.2/s, 0:25\n"
    )


def test_what_was_done_before_does_not_count_for_the_rate(capsys, time):
    with Progress("training", 1000, "steps", done=900) as bar:
        time.now += 10
        bar.advance(20)
    assert capsys.readouterr().err == "training: 920 of 1,000 steps, 2.0/s, 0:10, 0:40 left\n"


@pytest.mark.parametrize("total", [None, 0])
def test_without_a_total_there_is_no_time_left(capsys, time, total):
    with Progress("reading", total, "rows") as bar:
        time.now += 10
        bar.advance(5000)
    assert capsys.readouterr().err == "reading: 5,000 rows, 500.0/s, 0:10\n"


def test_no_progress_has_no_time_left_and_is_no_error(capsys, time):
    with Progress("waiting", 10, "files") as bar:
        time.now += 10
        bar.advance(0)
    assert capsys.readouterr().err == "waiting: 0 of 10 files, 0.0/s, 0:10\n"


def test_an_exception_goes_through_and_leaves_whole_lines(capsys, time):
    def fail():
        with Progress("training", 10, "steps") as bar:
            time.now += 10
            bar.advance()
            bar.advance()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    say("after")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "after"
    assert lines[-2].startswith("training: 2 of 10 steps")


# Progress on a terminal


def test_a_bar_with_rate_and_time_left_is_redrawn_in_place(terminal, time):
    with Progress("training", 30, "steps") as bar:
        for _ in range(19):
            time.now += 0.1
            bar.advance()
        assert terminal.read() == ""  # silent under two seconds
        time.now += 0.101
        bar.advance(note="loss 0.1")
        first = terminal.read()
        assert words(first) == "training 20 of 30 steps, 10.0/s, 0:02, 0:01 left, loss 0.1"
        assert "━" in first
        assert "\x1b[" in first  # colours
        time.now += 0.1
        bar.advance()
        assert terminal.read() == ""  # not more often than five times a second
        time.now += 0.101
        bar.advance()
        again = terminal.read()
        assert again.startswith(ERASE)
        assert words(again).startswith("training 22 of 30 steps")
        bar.advance(8)
    last = terminal.read()
    assert "training 30 of 30 steps" in words(last)
    assert last.endswith(f"\n{CURSOR}")
    assert last.count("\n") == 1


def test_short_work_says_nothing_on_a_terminal(terminal, time):
    with Progress("reading", 10, "MB") as bar:
        time.now += 1.9
        bar.advance(10)
    assert terminal.read() == ""


@pytest.mark.parametrize("talk", [say, warn])
def test_talk_does_not_stand_behind_the_bar(terminal, time, talk):
    with Progress("training", 10, "steps") as bar:
        time.now += 5
        bar.advance()
        assert "training 1 of 10 steps" in words(terminal.read())
        talk("saved")
        assert terminal.read().rpartition("\x1b[2K")[2] in SAVED  # the bar's line was erased
        time.now += 1
        bar.advance()
        assert "training 2 of 10 steps" in words(terminal.read())
    assert terminal.read().endswith(f"\n{CURSOR}")
    talk("saved")
    assert terminal.read() in SAVED


def test_a_bar_makes_way_for_another(terminal, time):
    with Progress("training", 10, "steps") as outer, Progress("reading", 10, "files") as inner:
        for bar in (outer, inner, outer):
            time.now += 5
            bar.advance()
            terminal.read()
        assert console._bar is outer
    assert console._bar is None


def test_a_bar_is_ended_by_an_exception(terminal, time):
    def fail():
        with Progress("training", 10, "steps") as bar:
            time.now += 5
            bar.advance()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert terminal.read().endswith(f"left\n{CURSOR}")


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TERM", "unknown")])
def test_a_terminal_that_cannot_erase_gets_lines(terminal, time, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with Progress("training", 10, "steps") as bar:
        time.now += 10
        bar.advance(9)
    assert terminal.read() == "training: 9 of 10 steps, 0.9/s, 0:10, 0:01 left\n"


def test_no_color_leaves_the_bar(terminal, time, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress("training", 2, "steps") as bar:
        time.now += 10
        bar.advance()
        warn("saved")
    found = terminal.read()
    assert "━" in found
    assert not re.search(r"\x1b\[[\d;]*m", found)


@pytest.mark.parametrize("silence", [lambda: output.talk(quiet=True), console.mute])
def test_a_bar_is_silenced_with_the_rest(terminal, time, silence):
    silence()
    with Progress("training", 2, "steps") as bar:
        time.now += 10
        bar.advance()
    assert terminal.read() == ""


def test_a_terminal_that_goes_away_ends_no_work(terminal, time):
    with contextlib.suppress(OSError), console.sys.stderr:  # what it still holds is lost
        with Progress("training", 10, "steps") as bar:
            time.now += 10
            bar.advance()
            terminal.close()
            for _ in range(3):
                time.now += 10
                bar.advance()
        assert bar.done == 4
        assert console._bar is None


# As a library


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, **environment},
    )  # fmt: skip


SAY = "from qwen2vl_rs.system.console import say, warn; say('a'); warn('b\\x1b', 'c');"


def test_who_sets_up_nothing_sees_warnings_only():
    done = python(SAY)
    assert (done.stdout, done.stderr) == ("", "b\\x1b (hint: c)\n")


@pytest.mark.parametrize("lost", ["sys.stderr.close()", "sys.stderr = None"])
def test_who_has_no_stderr_loses_messages_only(lost):
    code = f"import sys; {lost}; {SAY}\n"
    code += "from qwen2vl_rs.system import console; console._WAIT = {False: (0, 0)}\n"
    code += "with console.Progress('reading', 2, 'rows') as bar: bar.advance()\n"
    code += "sys.stderr = sys.__stderr__ = None; print('done')"
    assert python(code).stdout == "done\n"


def test_logging_alone_silences_and_redirects():
    silent = "import logging; logging.getLogger('qwen2vl_rs').setLevel('ERROR');"
    assert not python(silent + SAY).stderr
    all_of_it = "import logging, sys; logging.basicConfig(level='INFO', stream=sys.stdout);"
    done = python(all_of_it + SAY)
    assert done.stdout == "INFO:qwen2vl_rs:a\nWARNING:qwen2vl_rs:b\\x1b (hint: c)\n"
    assert not done.stderr


def test_a_record_tells_its_module_its_place_and_its_hint(caplog, tmp_path):
    assert installed(["no_such_tracker"]) == []
    (record,) = caplog.records
    assert (record.name, record.funcName) == ("qwen2vl_rs.training.trackers", "installed")
    assert record.getMessage().startswith("no_such_tracker is not installed")
    warn("two\nlines", "a hint")
    hinted = caplog.records[-1]
    assert (hinted.text, hinted.hint) == ("two\nlines", "a hint")
    assert hinted.getMessage() == r"two\nlines (hint: a hint)"
    assert hinted.module == "test_console"
