"""A sample of `make torture`; all of it with ``-m slow``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[1] / "faults"


def tried(script: str, *words: str) -> None:
    # the same bytes are promised on a CPU, and with the same number of threads
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, FAULTS / script, *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow  # CI runs it
def test_stages_that_are_killed_end_as_if_they_had_not_been():
    tried("kill.py", "--points", "1", "--stages", "data2csv", "eval", "map", "generate", "report")


@pytest.mark.slow  # CI runs it
def test_broken_files_are_read_or_refused():
    tried("fuzz.py", "--inputs", "300")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("script", ["kill.py", "fuzz.py", "api.py", "load.py"])
def test_torture(script):
    tried(script)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_full_and_read_only_disks():
    tried("kill.py", "--disk")
