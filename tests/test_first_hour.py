"""What a newcomer meets: a clone without packages, wrong names, moved folders."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from factory import write_rsvqa

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("load", "data2csv", "csv2json", "train", "compare_before_after")
HIDDEN = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
sys.modules.update(dict.fromkeys({nothing!r}))
from qwen2vl_rs.__main__ import main
sys.exit(main({args!r}))
"""


def run(*words, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, text=True, capture_output=True, timeout=120,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def without(names, args, cwd=None, nothing=(), **environment):
    """A command in a Python where some packages cannot be imported."""
    program = HIDDEN.format(names=set(names), args=list(args), nothing=nothing)
    return run("-c", program, cwd=cwd, **environment)


@pytest.mark.parametrize("script", SCRIPTS)
def test_in_a_clone_without_any_package_a_script_says_what_to_type(script, tmp_path):
    here = run("-S", "-s", ROOT / f"{script}.py", "--help", cwd=ROOT, PYTHONPATH="")
    away = run("-S", "-s", ROOT / f"{script}.py", "--help", cwd=tmp_path, PYTHONPATH="")
    for done, place in ((here, "."), (away, str(ROOT))):
        assert (done.returncode, done.stdout) == (1, "")
        error, hint = done.stderr.splitlines()
        assert error == "error: this command needs click, which is not installed"
        assert hint.endswith(f"pip install -e {place}")


def test_the_scripts_need_only_the_dependencies(tmp_path):
    done = run("-c", "import sys; print(*sys.path, sep=chr(10))", PYTHONPATH="")
    packages = next(line for line in done.stdout.splitlines() if line.endswith("site-packages"))
    for script in SCRIPTS:  # without site, no .pth file of an editable install is read
        done = run("-S", ROOT / f"{script}.py", "--help", cwd=tmp_path, PYTHONPATH=packages)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Usage: qwen2vl-rs ")


@pytest.mark.parametrize(
    ("module", "command", "wanted"),
    [
        ("torch", ["eval", "."], "[train]"),
        ("transformers", ["compare", "--run", "."], "[train]"),
        ("fastapi", ["serve", "."], "[train,serve]"),
        ("uvicorn", ["serve", "."], "[train,serve]"),
        ("pydantic", ["train"], ""),
        ("rasterio", ["report", "--after", "x.jsonl"], ""),
        ("numpy", ["score", "x.jsonl"], ""),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(module, command, wanted, tmp_path):
    rows = '{"question": "Is there a road?", "answer": "yes", "prediction": "yes"}\n'
    (tmp_path / "x.jsonl").write_text(rows)
    done = without({module}, command, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    name = module.replace("_", "-")
    assert error == f"error: this command needs {name}, which is not installed"
    assert re.search(rf"pip install -e '?{re.escape(str(ROOT) + wanted)}'?$", hint)
    assert "Traceback" not in done.stderr
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in filter(None, wanted.strip("[]").split(",")):
        assert extra in project["optional-dependencies"]


def test_without_a_clone_the_packages_are_named_and_not_a_name_that_no_index_knows(tmp_path):
    source = ROOT / "src" / "qwen2vl_rs"
    shutil.copytree(source, tmp_path / "qwen2vl_rs", ignore=shutil.ignore_patterns("base"))
    done = without({"peft"}, ["eval", "."], cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(" install peft")
    assert "qwen2vl-rs[" not in done.stderr


def test_requirements_are_the_project_with_what_training_needs():
    text = (ROOT / "requirements.txt").read_text()
    assert [line for line in text.splitlines() if line[:1] != "#"] == ["-e .[train]"]


POSIX = ("fcntl", "resource", "pwd", "grp", "termios")


def test_the_light_parts_need_nothing_of_posix(tmp_path):
    write_rsvqa(tmp_path)
    rows = '{"question": "Is there a road?", "answer": "yes", "prediction": "yes"}\n'
    (tmp_path / "x.jsonl").write_text(rows)
    steps = (
        "data2csv",
        "csv2json",
        "score x.jsonl",
        "report --after x.jsonl",
        "generate --synthetic 2 --questions 5 --workers 1",
        "export --data data_vl.json --form trl -o trl",
    )
    program = HIDDEN.format(names={"torch"}, nothing=POSIX, args=["--version"])
    program = program.replace("sys.exit(main(['--version']))", "codes = [main(a.split()) for a in ")
    program += f"{steps!r}]\nimport signal; assert codes == [0] * len(codes), codes"
    done = run("-c", program.replace("for a in \n", "for a in "), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    made = ("rsvqa-dataset.csv", "data_vl.json", "report.html", "rsvqa-world", "trl")
    assert all((tmp_path / name).exists() for name in made)


def test_what_is_interrupted_says_what_is_kept_and_how_to_go_on(tmp_path):
    words = ["generate", "--synthetic", "2000", "--workers", "1", "-o", "w"]
    with subprocess.Popen(
        [sys.executable, "-m", "qwen2vl_rs", *words], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # a job in the background inherits that the signal is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        while process.poll() is None and len(list(tmp_path.glob("w/**/*.tif"))) < 3:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    said = err.splitlines()
    assert said[-2:] == [
        "kept: the images and questions so far, in w",
        "hint: the same command resumes",
    ]
