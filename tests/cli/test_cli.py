"""The command line: help, usage, exit codes, what goes to which stream."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwen2vl_rs import __version__
from qwen2vl_rs.cli import cli, main
from qwen2vl_rs.datasets import reading as sources
from qwen2vl_rs.errors import RunError

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(cli.commands)
SCRIPTS = {"load": "load", "data2csv": "data2csv", "csv2json": "csv2json", "train": "train"}
SCRIPTS["compare_before_after"] = "compare"
PROGRAM = "import sys; from qwen2vl_rs.cli import main; sys.exit(main())"


def run(*args, cwd=None, env=None):
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=cwd, env={**os.environ, **(env or {})},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files of the original description, made the current one."""
    monkeypatch.chdir(tmp_path)
    questions = [
        {"id": 0, "img_id": 1, "question": "Is there a  road?", "type": "presence",
         "answers_ids": [0], "active": True},
        {"id": 1, "img_id": 2, "question": "What is the amount of 湖?", "type": "count",
         "answers_ids": [1], "active": True},
        {"id": 2, "img_id": 9, "question": "Is there a road?", "type": "presence",
         "answers_ids": [2], "active": True},
    ]  # fmt: skip
    answers = [
        {"id": k, "question_id": k, "answer": a, "active": True}
        for k, a in enumerate(["yes", "7", "no"])
    ]
    Path("rsvqa_questions.json").write_text(json.dumps({"questions": questions}))
    Path("rsvqa_answers.json").write_text(json.dumps({"answers": answers}))
    Path("rsvqa_images").mkdir()
    for name in ("1.tif", "2.tif"):
        Path("rsvqa_images", name).write_bytes(b"")
    return tmp_path


# Help and documentation


def test_help_lists_every_command_in_the_order_of_the_work(capsys):
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    listed = re.findall(r"^  ([a-z]\w*)  +\S", out.partition("The five steps:")[2], flags=re.M)
    assert listed == list(cli.commands)
    assert listed[:5] == ["load", "data2csv", "csv2json", "train", "compare"]
    assert not err


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_says_what_it_does(capsys, name, option):
    text = cli.commands[name].help
    assert text
    assert main([name, option]) == 0
    out, err = capsys.readouterr()
    assert f"Usage: qwen2vl-rs {name}" in out
    assert text.splitlines()[0] in " ".join(out.split())
    assert not err


def generator():
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documented_commands_are_those_of_the_program():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == generator().page(), "write it again: python docs/make_cli.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name):
    section = generator().page().partition(f"\n## qwen2vl-rs {name}\n")[2].partition("\n## ")[0]
    assert cli.commands[name].help.splitlines()[0] in section
    options = [o for p in cli.commands[name].params for o in p.opts if o.startswith("-")]
    assert options
    assert not [option for option in options if option not in section]


def test_a_page_out_of_date_is_noticed_and_written_again(tmp_path, capsys):
    module = generator()
    module.PAGE = tmp_path / "cli.md"
    assert module.main(["--check"]) == 1
    assert "python docs/make_cli.py" in capsys.readouterr().err
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
    module.PAGE.write_text(module.PAGE.read_text() + "x")
    assert module.main(["--check"]) == 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"qwen2vl-rs, version {__version__}\n", "")


# Wrong usage


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["trian"], "'trian'. Did you mean 'train'?"),
        (["csv2jsn", "-o", "x"], "'csv2jsn'. Did you mean 'csv2json'?"),
        (["--quite"], "--quiet"),
        (["load", "--hbu", "hf"], "--hub"),
        (["csv2json", "--inptu", "x"], "--input"),
        (["train", "--ouptut", "x"], "--output"),
        (["compare", "--chekpoint", "x"], "--checkpoint"),
        (["load", "--hub", "github"], "'modelscope', 'hf'"),
        (["train", "--split-by", "luck"], "'image', 'question'"),
        (["train", "--split-by", "image", "--train", "a", "--test", "b"], "--split-by goes with"),
        (["train", "--max-eval", "many"], "'many' is not a valid integer"),
        (["train", "a.toml", "b.toml"], "b.toml"),
        (["compare", "--only", "best"], "'fixed', 'broken', 'wrong'"),
        (["ask", "run"], "give an image and a question, or --batch FILE"),
        (["ask", "run", "image.tif"], "give an image and a question"),
        (["ask", "run", "image.tif", "Q?", "--batch", "-"], "give --batch, or images"),
        (["ask", "run", "image.tif", " "], "a question is empty"),
        (["data2csv", "--split", "test"], "--split needs --folder"),
        (["data2csv", "--folder", "x", "--questions", "y"], "not both"),
    ],
)
def test_wrong_usage_is_named_with_the_nearest_right_one(capsys, args, said):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert not out


def test_a_command_like_no_other_gets_no_guess(capsys):
    assert main(["xyzzy"]) == 2
    err = capsys.readouterr().err
    assert "No such command 'xyzzy'." in err
    assert "Did you mean" not in err


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "csv2json" in err
    assert not out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_an_unknown_option(capsys, name):
    assert main([name, "--xyzzy"]) == 2
    out, err = capsys.readouterr()
    assert "No such option" in err
    assert "--xyzzy" in err
    assert not out


# Results and conversation


def test_data_to_conversations_leaves_stdout_to_results(here, capsys):
    assert main(["data2csv"]) == 0
    out, err = capsys.readouterr()
    assert not out
    assert "wrote 2 questions about 2 images to rsvqa-dataset.csv" in err
    assert "left out: 1 without an image" in err
    assert err.endswith("next: qwen2vl-rs csv2json\n")
    assert Path("rsvqa-dataset.csv").read_text(encoding="utf-8") == (
        "image_path,question,answer\n"
        f"{here}/rsvqa_images/1.tif,Is there a  road?,yes\n"
        f"{here}/rsvqa_images/2.tif,What is the amount of 湖?,7\n"
    )
    assert main(["csv2json"]) == 0
    out, err = capsys.readouterr()
    assert not out
    assert err.endswith("next: qwen2vl-rs train\n")
    first, _ = json.loads(Path("data_vl.json").read_text(encoding="utf-8"))
    image = f"<|vision_start|>{here}/rsvqa_images/1.tif<|vision_end|>"
    assert first == {
        "id": "rsvqa_1",
        "conversations": [
            {"from": "user", "value": f"Is there a  road? {image}"},
            {"from": "assistant", "value": "yes"},
        ],
    }


def test_the_next_command_names_what_is_not_default(here, capsys):
    assert main(["data2csv", "-o", "t.csv", "--type"]) == 0
    assert capsys.readouterr().err.endswith("next: qwen2vl-rs csv2json --input t.csv\n")
    assert Path("t.csv").read_text().startswith("image_path,question,answer,type\n")
    assert main(["csv2json", "-i", "t.csv", "-o", "c.json"]) == 0
    assert capsys.readouterr().err.endswith("next: qwen2vl-rs train --data c.json\n")


def test_data2csv_takes_a_folder_or_three_names(here):
    assert main(["data2csv", "--folder", str(here), "-o", "a.csv"]) == 0
    assert main(["data2csv", "--folder", ".", "--split", "all", "-o", "b.csv"]) == 0
    Path("rsvqa_answers.json").rename("other.json")
    Path("rsvqa_images").rename("pictures")
    args = ["--questions", "rsvqa_questions.json", "--answers", "other.json"]
    assert main(["data2csv", *args, "--images", "pictures", "-o", "c.csv"]) == 0
    a, b, c = (Path(f"{name}.csv").read_text() for name in "abc")
    assert a == b == c.replace("/pictures/", "/rsvqa_images/")


def test_quiet_is_silent_and_only_for_one_call(here, capsys):
    assert main(["--quiet", "data2csv"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["-q", "csv2json", "-i", "missing.csv"]) == 1
    assert "error: no file missing.csv" in capsys.readouterr().err
    assert main(["csv2json"]) == 0
    assert "wrote 2 questions" in capsys.readouterr().err


@pytest.mark.parametrize(("script", "command"), SCRIPTS.items())
def test_the_five_scripts_are_the_commands(script, command):
    done = run(ROOT / f"{script}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: qwen2vl-rs {command} ")


def test_the_scripts_work_on_the_names_in_the_current_folder(here):
    done = run(ROOT / "data2csv.py", "--type", cwd=here)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = run(ROOT / "csv2json.py", cwd=here)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(json.loads((here / "data_vl.json").read_text())) == 2
    done = run(ROOT / "csv2json.py", "-i", "missing.csv", cwd=here)
    assert (done.returncode, done.stdout) == (1, "")


# Failures


def test_an_expected_failure_is_two_lines_and_exit_code_1(here, capsys):
    assert main(["csv2json"]) == 1
    out, err = capsys.readouterr()
    assert not out
    error, hint = err.splitlines()
    assert error == "error: no file rsvqa-dataset.csv"
    assert re.fullmatch("hint: .+", hint)
    assert not Path("data_vl.json").exists()


def test_without_a_hint_there_is_no_hint_line(here, capsys, monkeypatch):
    def fail(*_):
        raise RunError("so it is")

    monkeypatch.setattr(sources, "csv2json", fail)
    assert main(["csv2json"]) == 1
    assert capsys.readouterr() == ("", "error: so it is\n")


def test_the_traceback_is_shown_for_debugging(here, capsys, monkeypatch):
    monkeypatch.setenv("QWEN2VL_RS_DEBUG", "1")
    assert main(["csv2json"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("Traceback (most recent call last):\n")
    assert "qwen2vl_rs.errors.DataError: no file" in err
    assert re.search(r"\nerror: no file .+\nhint: .+\n$", err)
    assert not out


def test_a_bug_of_ours_is_not_hidden(here, monkeypatch):
    monkeypatch.setattr(sources, "csv2json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["csv2json"])


def test_names_that_are_not_utf_8_can_be_complained_about(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "csv2json", "-i", b"\xff.csv"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: no file ")
    assert b"Traceback" not in done.stderr


INTERRUPTED = """
import sys, time
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets import tables

def slow(path):
    yield from read(path)
    print("half", flush=True)
    time.sleep(60)

read, tables.read_csv = tables.read_csv, slow
sys.exit(main(["csv2json"]))
"""


def test_ctrl_c_ends_with_130_and_leaves_no_half_file(here):
    assert main(["-q", "data2csv"]) == 0
    Path("data_vl.json").write_text("old")
    before = sorted(os.listdir())
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a job in the background inherits that the signal is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "half\n"
        assert sorted(os.listdir()) != before, "the new file is not being written"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err.strip()) == ("", "interrupted")
    assert sorted(os.listdir()) == before
    assert Path("data_vl.json").read_text() == "old"


@pytest.mark.slow
def test_figures_do_not_follow_the_order_of_sets(tmp_path):
    """Strings hash anew in every process; where there are ties, something else must decide."""
    count, presence, colour = "How many roads are there?", "Is there a road?", "What colour is it?"
    area = "What is the area covered by roads?"
    asked = [(count, str(k), str(k + 1)) for k in range(40)] + [(presence, "yes", "I can't tell")]
    asked += [(area, f"{k}m2", ["", "x", "many"][k % 3]) for k in range(20)]
    asked += [(colour, f"c{k}", f"d{k}") for k in range(20)]
    taught = [(count, str(k)) for k in range(12)] + [(presence, "yes"), (presence, "no")]
    taught += [(colour, f"c{k % 5}") for k in range(10)] + [(area, f"{k}m2") for k in range(9)]
    keys = ("question", "answer", "prediction")
    before = [(question, answer, answer) for question, answer, _ in asked[:-30]]
    for name, rows in (("asked", asked), ("before", before), ("taught", taught)):
        lines = [dict(zip(keys, row, strict=False), id=f"{k}") for k, row in enumerate(rows)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    words = ["-m", "qwen2vl_rs", "score", "asked.jsonl", "--train-questions", "taught.jsonl",
             "--against", "before.jsonl", "--dataset", "HR", "--json"]  # fmt: skip
    one, two = (run(*words, cwd=tmp_path, env={"PYTHONHASHSEED": seed}) for seed in "12")
    assert one.returncode == 0, one.stderr
    assert json.loads(one.stdout)["controls"]["question_only"]
    assert one.stdout == two.stdout
    assert one.stderr == two.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--lr", "use training.learning_rate; --set KEY=VALUE"),
        ("--num-train-epochs", "It is a setting: --set training.num_train_epochs=VALUE"),
        ("--split-dataset-ratio", "use data.val_fraction"),
        ("--deepspeed", "torchrun --nproc-per-node gpu"),
        ("--gpu", "the option --device"),
    ],
)
def test_a_setting_that_is_typed_as_an_option_is_answered(capsys, option, said):
    assert main(["train", option, "1"]) == 2
    assert said in capsys.readouterr().err
