"""What a newcomer meets: a clone without packages, wrong names, moved folders."""

import contextlib
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
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.system.files import run_lock

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize("script", few(SCRIPTS, 0, 1))
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
    few(
        [
            ("torch", ["eval", "."], "[train]"),
            ("transformers", ["compare", "--run", "."], "[train]"),
            ("fastapi", ["serve", "."], "[train,serve]"),
            ("uvicorn", ["serve", "."], "[train,serve]"),
            ("pydantic", ["train"], ""),
            ("rasterio", ["report", "--after", "x.jsonl"], ""),
            ("numpy", ["score", "x.jsonl"], ""),
        ],
        3,
        4,
    ),
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
        "export --data data_vl.json --format trl -o trl",
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


def make(*words, cwd=ROOT):
    done = subprocess.run(
        ["make", "--no-print-directory", "-s", *words], cwd=cwd, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_leaves_the_packages_of_the_user_alone(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)  # as README has users make it
    assert make("bin", cwd=tmp_path) == [".venv-make/bin"]
    for target in ("demo", "test", "check"):
        steps = make("-n", target, cwd=tmp_path)
        assert any("-m venv .venv-make" in step for step in steps)
        assert not [step for step in steps if ".venv/" in step]
    assert not [step for step in make("-n", "clean", cwd=tmp_path) if ".venv " in step]
    assert ".venv-make/" in (ROOT / ".gitignore").read_text().splitlines()
    script = (ROOT / ".ci/run").read_text()
    assert ".venv" not in script
    assert script.count('"$(make -s bin)/python"') == 1


def test_the_columns_of_a_table_stand_in_its_help_and_in_the_readme(capsys):
    assert main(["csv2json", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "image_path, question and answer" in said
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "image_path,question,answer" in text
        assert "--model demo/base" in text


def test_who_comes_second_does_not_remove_the_folder_of_the_first(tmp_path, monkeypatch):
    """Both saw that there was none."""
    run = tmp_path / "run"
    with run_lock(run):
        monkeypatch.setattr(os.path, "lexists", lambda path: False)
        with pytest.raises(RunError, match="another process is using"), run_lock(run):
            pass
        assert (run / ".lock").is_file()


def test_a_folder_that_an_error_leaves_empty_is_removed(tmp_path):
    with pytest.raises(ValueError, match="no"), run_lock(tmp_path / "new"):
        raise ValueError("no")
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="no"), run_lock(tmp_path / "old"):
        raise ValueError("no")
    with contextlib.suppress(FileNotFoundError), run_lock(tmp_path / "kept"):
        shutil.copy(ROOT / "LICENSE", tmp_path / "kept")
        shutil.copy(tmp_path / "nothing", tmp_path / "kept")
    with run_lock(tmp_path / "fine"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine", "kept", "old"]


def test_csv_tables_of_a_spreadsheet_end_in_conversations_or_a_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_rsvqa(tmp_path)
    rows = [("rsvqa_images/0.tif", "Is there a road?", "yes")] * 2
    header = ("image_path", "question", "answer")

    def table(separator=",", encoding="utf-8", rows=rows, header=header):
        text = "".join(separator.join(row) + "\r\n" for row in (header, *rows))
        (tmp_path / "t.csv").write_bytes(text.encode(encoding))
        code = main(["csv2json", "-i", "t.csv", "-o", "t.json"])
        return code, capsys.readouterr().err

    assert table()[0] == 0
    assert table(encoding="utf-8-sig")[0] == 0
    assert table(header=("image_path ", " question", "answer"))[0] == 0
    assert table("\t")[0] == 0
    code, err = table(";")
    said = "hint: its columns are separated by semicolons: save it with commas"
    assert (code, said in err) == (1, True)
    code, err = table(rows=[*rows, ("rsvqa_images/0.tif", "Is there a road?", "")])
    assert (code, "t.csv, line 4: answer is empty" in err) == (1, True)
    code, err = table(encoding="utf-16")
    assert (code, "iconv -f UTF-16 -t UTF-8" in err) == (1, True)
    code, err = table(rows=[("rsvqa_images/0.tif", "有道路吗？", "是")], encoding="gbk")
    assert (code, "t.csv is not UTF-8\n" in err, "CSV UTF-8" in err) == (1, True, True)
