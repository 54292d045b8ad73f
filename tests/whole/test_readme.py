"""The README's commands are the ones that work, run as a newcomer would type them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from factory import write_rsvqa
from hubserver import HubServer
from qwen2vl_rs.cli import cli

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {"load.py", "data2csv.py", "csv2json.py", "train.py", "compare_before_after.py"}


def commands(page):
    """Every command line of a page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:], comments=True) for line in lines]


README = commands(ROOT / "README.md")
CHINESE = commands(ROOT / "README.zh-CN.md")


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")]), ids=str
)
def test_every_command_on_the_page_exists_with_its_options(page):
    for program, *words in commands(page):
        if program == "qwen2vl-rs":
            top = click.Context(cli, **cli.context_settings)
            command = cli.get_command(top, words[0])
            assert command, words
            if ">" in words:
                words = words[: words.index(">")]
            command.make_context(words[0], words[1:], parent=top)  # fails for unknown options
        elif program == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M)
        else:
            assert program in {"python", "python3", "pip", "cd", "swanlab"}, program


def test_both_readmes_begin_alike():
    first = README[: 1 + README.index(["make", "test"])]
    assert CHINESE[: len(first)] == first
    english, chinese = (
        (ROOT / name).read_text("utf-8").partition("## ")[0]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert re.findall(r"\d+ %|!\[.*\]\((.*)\)", english) == re.findall(
        r"\d+ %|!\[.*\]\((.*)\)", chinese
    )
    assert {words[1] for words in CHINESE if words[0] == "qwen2vl-rs"} >= {"ask", "report", "train"}


@pytest.mark.parametrize("page", sorted(ROOT.glob("README*.md")), ids=str)
def test_the_first_screen_is_a_sentence_a_picture_the_installation_and_the_commands(page):
    text = page.read_text(encoding="utf-8")
    assert text.index("![") < text.index("pip install") < text.index("python load.py")
    lines = text[: text.index("compare_before_after.py")].splitlines()
    assert len(lines) <= 40
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / picture).stat().st_size < 150_000
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("shown", [README, CHINESE], ids=["en", "zh"])
def test_the_readme_shows_all_five_scripts_in_order(shown):
    shown = [words[1] for words in shown if words[0] == "python"]
    assert shown == ["load.py", "data2csv.py", "csv2json.py", "train.py", "compare_before_after.py"]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_figures_of_the_demo_are_those_that_were_measured(page):
    scores = json.loads((ROOT / "docs/results/run-demo.json").read_text())["scores"]
    text = (ROOT / page).read_text(encoding="utf-8")
    start = text.index("make demo")
    said = re.findall(r"(\d+) %", text[start:])[:3]
    measured = [scores[side]["accuracy"]["OA"][0] for side in ("before", "after", "shuffled_image")]
    assert said == [f"{100 * value:.0f}" for value in measured]


@pytest.fixture(params=["small_base", "real_base"])
def hub(request):
    """A hub that serves a small base under the real model's name."""
    base = request.getfixturevalue(request.param)
    with HubServer() as server:
        files = {p.name: p.read_bytes() for p in base.iterdir()}
        server.repos["Qwen/Qwen2-VL-2B-Instruct"] = {"master": files}
        yield server


@pytest.mark.slow  # CI runs it
def test_the_commands_run_in_a_clean_folder(hub, tmp_path):
    work = write_rsvqa(tmp_path / "任务 1")
    environment = {**os.environ, "MODELSCOPE_ENDPOINT": hub.url, "HOME": str(tmp_path / "home")}

    def run(words):
        if words[0] == "python":
            words = [sys.executable, str(ROOT / words[1]), *words[2:]]
        else:
            words = [sys.executable, "-m", "qwen2vl_rs", *words[1:]]
        return subprocess.run(words, cwd=work, env=environment, text=True, capture_output=True)

    chosen = [w for w in README if w[0] == "python" or w[1] == "ask"]
    assert chosen == [w for w in CHINESE if w[0] == "python" or w[1] == "ask"]
    outputs = []
    for words in chosen:
        done = run(words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr, done.stderr
        outputs.append(done.stdout)
    assert outputs[:3] == ["", "", ""]  # files, not words
    assert "visual gain" in outputs[3]
    assert outputs[4].count("question  ") == 8  # one image in ten is tested: here one of six
    assert len(outputs[5].splitlines()) == 2
    assert {p.name for p in work.iterdir()} == {
        "Qwen", "output", "rsvqa_images", "rsvqa_questions.json", "rsvqa_answers.json",
        "rsvqa_images.json", "rsvqa-dataset.csv", "data_vl.json", "data_vl_train.json",
        "data_vl_test.json",
    }  # fmt: skip
