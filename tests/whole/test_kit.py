"""What is ready for a GPU works on a CPU: packed, unpacked elsewhere, run with torch alone."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KIT = Path(os.environ.get("KIT", ROOT / ".kit"))
NEED_CUDA = {"attention", "memory_cap"}  # a CPU has no backward of FlexAttention, and no cap
MOST = 64 * 2**20  # bytes, of the archive and the tree together


def run(*command, **more):
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def packed(name):
    """One of the archives that ``make kit`` packs."""
    if not (KIT / name).is_file():
        pytest.skip(f"no {KIT / name}: make kit")
    return KIT / name


@pytest.fixture(scope="module")
def python_alone(tmp_path_factory):
    """This Python, without any package."""
    folder = tmp_path_factory.mktemp("alone")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    return folder / "bin" / "python"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_kit_runs_on_a_cpu_from_its_archive_alone(tmp_path, python_alone):
    place = tmp_path / "there"
    place.mkdir()
    run("tar", "-xJf", packed("whole.tar.xz"), "-C", place)
    run(
        place / "project/benchmarks/gpu/run.sh", "--device", "cpu", "--model", "tiny",
        "--python", python_alone, "--torch", sysconfig.get_paths()["purelib"], "-o", "results",
        cwd=place, env={"PATH": "/usr/bin:/bin", "HOME": str(place), "TMPDIR": str(place)},
    )  # fmt: skip
    record = json.loads((place / "results/gpu.json").read_text())
    status = {name: step["status"] for name, step in record["steps"].items()}
    assert {name for name, one in status.items() if one == "needs CUDA"} == NEED_CUDA
    assert {one for name, one in status.items() if name not in NEED_CUDA} == {"done"}
    assert len(status) == 8
    steps = record["steps"]
    assert all(row["questions/s"] > 0 and row["ratio"] > 0 for row in steps["training"]["rows"])
    assert all(row["same answers"] == "10 of 10" for row in steps["evaluation"]["rows"])
    assert steps["train_command"]["largest_difference_of_losses_computed_twice"] == 0
    assert steps["train_command"]["steps_before_the_kill"] >= 6
    assert steps["train_command"]["validation_answers_as_eval"] == "10 of 10"
    assert [one["step"] for one in steps["train_command"]["validations"]] == [4, 8, 12]
    for row in steps["head_loss"]["rows"]:  # as exact as all logits at once
        for name in ("loss", "gradient"):
            error, plain = (row[f"{way}: {name} error"] for way in ("chunks", "all logits"))
            assert error < max(1e-6, 1.1 * plain), row
    assert len(steps["profile"]["largest"]) == 10
    assert steps["embedded_base"]["log"][-1]["step"] == 4


@pytest.mark.slow
def test_the_archive_for_a_gpu_is_small():
    archive = packed("gpu.tar.xz")
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    tree = sum((ROOT / n).stat().st_size for n in names if n and (ROOT / n).is_file())
    assert archive.stat().st_size + tree < MOST
    held = run("tar", "-tJf", archive)
    needed = ["transformers/models/qwen2_vl/", "pydantic_core/", "qwen.tiktoken"]
    needed += ["project/src/qwen2vl_rs/training/fit.py", "project/tests/question_tree/test_flex.py"]
    assert not [name for name in needed if name not in held]
    assert "transformers/models/llama/modeling" not in held
    assert "site/numpy/" not in held
