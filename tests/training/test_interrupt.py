"""Training that is interrupted, and trackers that meddle with it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bases import SETTINGS
from factory import make_samples
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.cli.common import Stopped, interruptible
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.training.fit import train
from qwen2vl_rs.training.steps import StepDataset
from qwen2vl_rs.training.trackers import tracking

TRACKED = [s for s in SETTINGS if "report_to" not in s]
RUN = Path("output/Qwen2-VL-2B")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=6))
    return tmp_path


def words(base, *more):
    settings = (*TRACKED, f"model={base}", "eval.max_eval=1", *more)
    return ["train", *(w for s in settings for w in ("--set", s))]


def start(*command, **more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def wait_for(steps: int, process) -> None:
    metrics = RUN / "metrics.jsonl"
    while process.poll() is None:
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= steps:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def test_signals_that_end_a_process_are_told_what_is_kept():
    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.signal(number, signal.SIG_DFL)
        try:
            with pytest.raises(Stopped) as caught, interruptible(lambda: ["kept: all"]):
                signal.raise_signal(number)
            assert caught.value.number == number
            assert caught.value.__notes__ == ["kept: all"]
            assert signal.getsignal(number) is signal.SIG_DFL
        finally:
            signal.signal(number, before)


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible(list):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def is_told(err: str) -> None:
    *_, first, kept, hint = err.splitlines()
    newest = max(RUN.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    done = json.loads((RUN / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    since = done - int(newest.name[11:])
    again = f"; the {since} steps since then are repeated" if since else ""
    assert (first, kept) == ("interrupted", f"kept: {newest}{again}")
    assert hint == f"hint: resume: qwen2vl-rs train {RUN}/config.toml --resume"
    assert "Traceback" not in err


@pytest.mark.parametrize("number", few([signal.SIGINT, signal.SIGTERM], 0))
def test_an_interrupted_training_says_what_is_kept_and_how_to_go_on(
    here, small_base, monkeypatch, capsys, number
):
    made = StepDataset._make

    def interrupting(self, index):
        if index == 7:  # in the thread that prepares the steps
            os.kill(os.getpid(), number)
            time.sleep(0.5)
        return made(self, index)

    before = signal.getsignal(number)
    if number == signal.SIGINT:  # it is ignored where the tests run in the background of a script
        signal.signal(number, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(StepDataset, "_make", interrupting)
            code = main(words(small_base, "training.report_to=[]", "training.num_train_epochs=9"))
    finally:
        signal.signal(number, before)
    told = capsys.readouterr()
    assert (code, told.out) == (128 + number, "")
    is_told(told.err)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_process_that_is_interrupted(here, small_base, number):
    command = words(small_base, "training.num_train_epochs=999")
    process = start(
        sys.executable, "-m", "qwen2vl_rs", *command,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for(6, process)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (128 + number, ""), err
    is_told(err)


@pytest.mark.slow
def test_training_in_the_background_of_a_script_takes_no_notice_of_an_interrupt(here, small_base):
    """A shell without job control starts what ends in & with SIGINT ignored."""
    command = " ".join([sys.executable, "-m", "qwen2vl_rs", *words(small_base)])
    shell = start("sh", "-c", f"{command} & trap '' INT; wait $!", start_new_session=True)
    wait_for(3, shell)
    os.killpg(shell.pid, signal.SIGINT)
    out, err = shell.communicate()
    assert shell.returncode == 0, err
    assert "official (" in out
    assert "is disabled" not in err
    assert (RUN / "compare.json").is_file()


@pytest.mark.parametrize("mode", ["disabled", "local", "offline"])
def test_a_mode_of_the_tracker_that_was_chosen_is_kept(tmp_path, monkeypatch, capsys, mode):
    swanlab = pytest.importorskip("swanlab")
    monkeypatch.setenv("SWANLAB_MODE", mode)
    monkeypatch.setattr("qwen2vl_rs.training.trackers._started", lambda run, folder, mode, *_: mode)
    monkeypatch.setattr(swanlab, "finish", lambda **_: None)
    with tracking(["swanlab"], tmp_path / "run"):
        pass
    assert f"SwanLab: {mode}" in capsys.readouterr().err


def test_a_tracker_does_not_take_the_signals(tmp_path):
    swanlab = pytest.importorskip("swanlab")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with tracking(["swanlab"], tmp_path / "run"):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGINT)
            swanlab.log({"loss": 1.0})  # it is still there
        assert not swanlab.has_run()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_tracker_that_fails_does_not_end_training(here, small_base, monkeypatch, capsys):
    swanlab = pytest.importorskip("swanlab")
    log, calls = swanlab.log, []

    def ending(*args, **more):
        calls.append(args)
        if len(calls) == 3:
            raise RuntimeError("no space left\nfor more")
        return log(*args, **more)

    monkeypatch.setattr(swanlab, "log", ending)
    settings = [*TRACKED, f"model={small_base}", "eval.max_eval=1"]
    train(load_config(None, settings))
    told = capsys.readouterr()
    assert told.err.count("swanlab is disabled (no space left): training continues") == 1
    assert len(calls) == 3
    assert len((RUN / "metrics.jsonl").read_text().splitlines()) == 8
    assert told.out == ""


@pytest.mark.slow
def test_what_libraries_print_when_they_are_imported_is_no_data(here):
    command = [sys.executable, "-m", "qwen2vl_rs", "train", "--model", "nowhere", "--json"]
    environment = {**os.environ, "WANDB_MODE": "offline"}  # transformers prints a line then
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nowhere is not a model" in done.stderr
