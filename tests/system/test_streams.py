"""Standard streams that are closed, full or gone: the work is done, and the exit code is true."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from family import few

PROGRAM = [sys.executable, "-m", "qwen2vl_rs"]
ROWS = "image_path,question,answer\n" + "a.tif,Is there a road?,yes\n" * 3
PREDICTIONS = [
    {"question": "Is there a road?", "answer": "yes", "prediction": "yes", "image": "a"},
    {"question": "Is there a road?", "answer": "no", "prediction": "yes", "image": "b"},
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rsvqa-dataset.csv").write_text(ROWS)
    (tmp_path / "a.tif").write_bytes(b"")
    Path("p.jsonl").write_text("\n".join(map(json.dumps, PREDICTIONS)))
    return tmp_path


def shell(line):
    """The exit code of a command, whose place ``$Q`` takes, in a shell that it writes down."""
    words = " ".join(f"'{word}'" for word in PROGRAM)
    subprocess.run(
        ["bash", "-c", f"{line.replace('$Q', words)} echo $? > code"], check=True, timeout=60
    )
    return int(Path("code").read_text())


LOST = {
    "closed at the start": "2>&-",
    "full": "2>/dev/full",
    "closed by its reader": "2> >(exec 0<&-)",
}


@pytest.mark.parametrize("lost", few(LOST.values(), 2), ids=LOST)
def test_losing_the_messages_neither_ends_nor_excuses_the_work(here, lost):
    assert shell(f"$Q csv2json {lost};") == 0
    assert len(json.loads(Path("data_vl.json").read_text())) == 3
    Path("data_vl.json").unlink()
    assert shell(f"$Q csv2json -i none.csv {lost};") == 1
    assert shell(f"$Q csv2json --none {lost};") == 2


def test_a_reader_of_everything_that_stops_leaves_the_exit_code(here):
    """What ``( … ; echo $? ) 2>&1 | head -n 1`` is: the code of the command, not of its pipe."""
    assert shell("{ sleep 0.1; $Q csv2json; echo $? > inner; } 2>&1 | head -n 0;") == 0
    assert Path("inner").read_text() == "0\n"
    assert Path("data_vl.json").is_file()


def test_messages_do_not_get_into_files_that_took_the_number_of_a_closed_stream(here):
    assert shell("$Q csv2json 0<&- 1>&- 2>&-;") == 0
    assert len(json.loads(Path("data_vl.json").read_text())) == 3
    closed = Path("data_vl.json").read_bytes()
    assert shell("$Q csv2json;") == 0
    assert Path("data_vl.json").read_bytes() == closed


@pytest.mark.parametrize("way", ["| head -n 0;", ">&-;"])
def test_a_result_whose_reader_has_gone_is_no_failure(here, way):
    assert shell(f"( $Q score p.jsonl --json; echo $? > inner ) 2> said {way}") == 0
    assert Path("inner").read_text() == "0\n"
    assert "error" not in Path("said").read_text()


def test_a_result_that_cannot_be_printed_is_a_failure(here):
    assert shell("$Q score p.jsonl > /dev/full 2> said;") == 1
    said = Path("said").read_text()
    assert said.endswith("error: cannot print the result: No space left on device\n")
    assert shell("$Q score none.jsonl > /dev/full 2> said;") == 1
    assert "cannot print" not in Path("said").read_text()


def test_a_result_is_printed_to_a_pipe_that_does_not_wait(here):
    """A reader's slowness costs neither lines nor the command (node leaves its pipes so)."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    code = "import click, sys; from qwen2vl_rs import cli, __main__\n@cli.cli.command()\n" + (
        "def lines():\n  for n in range(20_000): click.echo(f'line {n}')\n"
        "sys.exit(__main__.main(['lines']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=into) as process:
        os.close(into)
        with open(out) as pipe:
            lines = pipe.read().splitlines()
    assert process.returncode == 0
    assert lines == [f"line {n}" for n in range(20_000)]


def test_a_character_that_a_terminal_cannot_show_does_not_end_the_work(here):
    rows = [dict(row, type=name) for row, name in zip(PREDICTIONS, ("湖泊", "road"), strict=True)]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = subprocess.run(
        [*PROGRAM, "score", "p.jsonl"], capture_output=True, check=False, timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"\u6e56\u6cca" in done.stdout


def test_unbuffered_output_is_not_held_back(here):
    """As with ``python -u``: what a library prints is there though the process is killed."""
    code = "import os; from qwen2vl_rs.system import streams\n"
    code += "streams.guard(); print('said'); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.stdout == b"said\n"
