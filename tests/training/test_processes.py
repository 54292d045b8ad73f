"""Several processes do the work of one: the same losses, the same answers, none lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory import make_samples
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.hardware.devices import split_work

SCRIPT = Path(__file__).parents[2] / "configs/slurm.sh"
SETTINGS = [
    "training.learning_rate=0.01", "training.images_per_step=3", "training.questions_per_image=5",
    "training.num_train_epochs=1", "training.save_steps=3", "training.report_to=[]",
    "training.bf16=false", "lora.lora_dropout=0.0", "lora.r=8",
    "training.max_tokens_per_pack=150", "data.test_fraction=0.3", "eval.max_new_tokens=6",
]  # fmt: skip


@given(st.lists(st.integers(1, 99), max_size=20), st.integers(1, 6))
def test_work_is_shared_out_whole_and_evenly(sizes, world):
    shares = split_work(sizes, world)
    assert len(shares) == world
    assert sorted(i for share in shares for i in share) == list(range(len(sizes)))
    loads = [sum(sizes[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def start(folder, base, launcher, *more):
    words = [*launcher, "-m", "qwen2vl_rs", "train", "--model", str(base), "--json", *more]
    words += [part for s in SETTINGS for part in ("--set", s)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ACCELERATE = [
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launch", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_are_one(tmp_path, small_base, launch):
    runs = {}
    # three images a step over two processes: their shares are never equal
    for name, launcher in (("one", [sys.executable]), ("two", launch)):
        folder = tmp_path / name
        folder.mkdir()
        samples = make_samples(tmp_path / "images", images=7)
        write_conversations(folder / "data_vl.json", samples)
        done = start(folder, small_base, launcher, "--val-fraction", "0.3")
        run = folder / "output/Qwen2-VL-2B"
        lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
        answers = [
            json.loads(x)["text"]
            for x in (run / "eval/after/predictions.jsonl").read_text().splitlines()
        ]
        printed = done.stdout[done.stdout.index("{\n") :]  # gloo may greet on stdout
        runs[name] = (lines, answers, json.loads(printed), sorted(os.listdir(run)))
        assert not list(run.rglob("*.partial*"))
        assert done.stderr.count("data_vl_train.json:") == 1  # said once
    (lines, answers, comparison, files), (lines_2, answers_2, comparison_2, files_2) = (
        runs["one"],
        runs["two"],
    )
    assert [x["questions"] for x in lines] == [x["questions"] for x in lines_2]
    for a, b in zip(lines, lines_2, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
    assert [x.get("eval_OA") for x in lines] == [x.get("eval_OA") for x in lines_2]
    validated = [x["eval_loss"] for x in lines if "eval_loss" in x]
    others = [x["eval_loss"] for x in lines_2 if "eval_loss" in x]
    assert others == pytest.approx(validated, rel=1e-4)
    assert validated
    assert answers == answers_2
    assert comparison == comparison_2
    assert files == files_2
    checkpoint = Path(tmp_path / "two/output/Qwen2-VL-2B").glob("checkpoint-*")
    assert {p.name for p in next(checkpoint).iterdir()} >= {"rng_state_0.pth", "rng_state_1.pth"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_job_script_starts_and_resumes(tmp_path, small_base):
    """With Slurm's two commands replaced: the node's name, and the start of a process on it."""
    write_conversations(tmp_path / "data_vl.json", make_samples(tmp_path / "images", images=6))
    programs = {"scontrol": "echo localhost", "srun": 'exec "$@"'}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    own = Path(sys.executable).parent
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{own}:{os.environ['PATH']}", "SLURM_NNODES": "1",
        "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1", "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    words = [str(SCRIPT), "--model", str(small_base)]
    words += [part for s in SETTINGS for part in ("--set", s)]
    for said in ("data_vl_train.json: 32 questions", "before: output/Qwen2-VL-2B/eval/before"):
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_vision_tower_and_merger_as_one(tmp_path, small_base):
    """Their images are encoded in every step, before the distributed model is called."""
    more = ["training.vision_tower=lora", "training.merger=full", "lora.use_dora=true",
            "training.gradient_checkpointing=true", "eval.max_eval=2"]  # fmt: skip
    told = [word for setting in more for word in ("--set", setting)]
    lines = {}
    samples = make_samples(tmp_path / "images", images=7)
    for name, launcher in (("one", [sys.executable]), ("two", TORCHRUN)):
        folder = tmp_path / name
        folder.mkdir()
        write_conversations(folder / "data_vl.json", samples)
        start(folder, small_base, launcher, *told)
        file = folder / "output/Qwen2-VL-2B/metrics.jsonl"
        lines[name] = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines["one"]) > 2
    for a, b in zip(lines["one"], lines["two"], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
