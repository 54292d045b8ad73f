"""The five commands on real RSVQA, with a small random base: slow, and only where the data is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qwen2vl_rs.model.random_base import Size, write_random_base

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
SETTINGS = [
    "training.learning_rate=3e-3", "training.gradient_checkpointing=false",
    "training.max_steps=60", "eval.max_new_tokens=8",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "train", "test"), [("rsvqa-lr", 6402, 1601), ("rsvqa-hr", 5903, 1101)]
)
def test_after_is_better_than_before_on_the_official_split(tmp_path, name, train, test):
    if not (DATA / name).is_dir():
        pytest.skip(f"no real RSVQA data in {DATA}")
    size = Size(hidden=128, layers=3, vision_hidden=96, vision_layers=2)
    write_random_base(tmp_path / "Qwen/Qwen2-VL-2B-Instruct", size)

    def run(script, *words):
        command = [sys.executable, str(ROOT / script), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    for split, n in (("train", train), ("val", test)):
        folder = str(DATA / name)
        told = run("data2csv.py", "--folder", folder, "--split", split, "-o", f"{split}.csv")
        assert f"wrote {n:,} questions" in told.stderr
        run("csv2json.py", "--input", f"{split}.csv", "--output", f"{split}.json")
    settings = [part for s in SETTINGS for part in ("--set", s)]
    run("train.py", "--train", "train.json", "--test", "val.json", *settings)
    results = json.loads((tmp_path / "output/Qwen2-VL-2B/compare.json").read_text())
    overall = results["protocols"]["official"]["OA"]
    assert overall["n"] == test
    assert overall["ci"][0] > 0  # better by more than chance
    shown = run("compare_before_after.py", "--only", "fixed", "--json").stdout.splitlines()
    assert len(shown) == overall["wins"]
