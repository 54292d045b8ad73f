"""A batch system stops training: a checkpoint of the last step, and the same command resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bases import SETTINGS
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.run import Run
from qwen2vl_rs.training.trainer import TreeTrainer

RUN = Path("output/Qwen2-VL-2B")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=8))
    return tmp_path


def words(base, *more):
    settings = (*SETTINGS, f"model={base}", "eval.max_eval=1", *more)
    return ["train", "--auto-resume", *(w for s in settings for w in ("--set", s))]


def state():
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]
    newest, record = Run(RUN).newest_checkpoint(), Run(RUN).validation()
    chosen = record and (record.best_step, record.count, record.since_best)
    return kept, (newest / "adapter_model.safetensors").read_bytes(), chosen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("more", [(), ("data.val_fraction=0.3",)], ids=["plain", "validated"])
def test_the_step_is_finished_and_saved_and_the_same_command_resumes(
    here, small_base, monkeypatch, capsys, number, more
):
    """Once between checkpoints and once at a planned one; the signal comes twice."""
    command = words(small_base, *more)
    assert main(command) == 0
    whole = state()
    shutil.rmtree(RUN)
    real, save = TreeTrainer.training_step, TreeTrainer._save_checkpoint
    stops = {3, 8}

    def stopped(self, model, inputs, items=None):
        if (step := self.state.global_step + 1) in stops:
            stops.discard(step)
            os.kill(os.getpid(), number)
        return real(self, model, inputs, items)

    def saved(self, model, trial):
        if self.stop.number:
            os.kill(os.getpid(), number)
        save(self, model, trial)

    monkeypatch.setattr(TreeTrainer, "training_step", stopped)
    monkeypatch.setattr(TreeTrainer, "_save_checkpoint", saved)
    before = signal.signal(signal.SIGUSR1, lambda *_: sys.exit(99))  # its usual effect
    capsys.readouterr()
    codes = []
    try:
        for newest in ("checkpoint-3", "checkpoint-8"):
            try:
                codes.append(main(command))
            except SystemExit as error:
                codes.append(error.code)
            assert Run(RUN).checkpoints()[-1].name == newest
            assert f"{number.name}: saving a checkpoint" in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert codes == [143 if number == signal.SIGTERM else 99] * 2
    assert main(command) == 0
    assert state() == whole
    assert not list(RUN.glob(".checkpoint*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("whom", ["rank", "launcher"])
def test_a_signal_to_one_of_two_processes_stops_both(here, small_base, whom):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*TORCHRUN, "-m", "qwen2vl_rs", *words(small_base, "training.num_train_epochs=20")]
    (here / "whole").mkdir()
    shutil.copy("data_vl.json", "whole")
    subprocess.run(command, cwd="whole", env=environment, check=True, capture_output=True)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not (RUN / "checkpoint-8").is_dir():
        assert process.poll() is None
        time.sleep(0.05)
    ranks = children(process.pid)
    os.kill(max(ranks) if whom == "rank" else process.pid, signal.SIGTERM)
    assert process.wait(timeout=120) != 0
    stopped = int(Run(RUN).checkpoints()[-1].name.rpartition("-")[2])
    lines = len((RUN / "metrics.jsonl").read_text().splitlines())
    assert stopped == lines < 80  # nothing is repeated
    subprocess.run(command, env=environment, check=True, capture_output=True)
    found = state()
    os.chdir("whole")
    assert found == state()


def children(parent):
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout
    return [int(one) for one in found.split()]
