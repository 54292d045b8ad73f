"""Stages killed at random points; see `kill`. All of it: ``pytest -m slow tests/faults``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = ["data2csv", "csv2json", "eval", "generate", "report"]


def tried(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_sample():
    tried("--points", "1", "--stages", *QUICK)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_stage_at_fifty_points():
    tried("--points", "50")
