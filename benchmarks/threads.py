"""Speed on a busy machine, by the wait policy of OpenMP threads.

The threads of an operation wait for each other at its end. OpenMP lets them spin, which is fastest
on an idle machine. If another process occupies a core, they spin until they are interrupted, at
every operation. Each wait policy runs in its own process, in turn, on an idle machine and next to
as many busy processes as there are cores. Results are medians of all rounds.

    python benchmarks/threads.py [--json docs/results/threads-cpu.json]      about 20 minutes
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAYS = {
    "unset": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
NAMES = {name for way in WAYS.values() for name in way}
JOBS = ("ask: questions/s", "map: windows/s", "eval: questions/s", "train: steps/s")


@contextmanager
def busy_processes(processes: int) -> Iterator[None]:
    """Run a number of busy processes."""
    count = "while True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", count]) for _ in range(processes)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def work(model: str) -> list[tuple[Callable[[], Any], int]]:
    """Return for each job a function, and the number of units per call."""
    import torch
    from common import make_base, make_samples
    from train import ours

    from qwen2vl_rs.config import Config, InputConfig
    from qwen2vl_rs.models.adapter import add_adapter
    from qwen2vl_rs.models.base import FOLDER
    from qwen2vl_rs.predict.session import Session

    def session() -> Session:
        if model == "embedded":
            return Session.open(FOLDER)
        base = make_base(model, torch.float32)
        return Session(base, base.model, InputConfig(), None, model, base.fingerprint)

    engine = session()
    engine.max_new_tokens = 2
    samples = make_samples(4, 25, 64 if model == "embedded" else 256)
    images = list(dict.fromkeys(sample.image for sample in samples))
    questions = [sample.question for sample in samples[:25]]
    yes_no = [f"Is there a {noun}?" for noun in ("road", "building")]
    known, number = engine.encode(engine.read(images[0])), itertools.count()

    def ask() -> None:
        engine.ask([(known, [questions[next(number) % 25]])])

    def window() -> None:
        pixels = engine.read(images[next(number) % 4])
        engine.ask([(engine.encode(pixels), yes_no)], closed=True)

    def evaluate() -> None:
        engine.ask([(engine.encode(engine.read(images[0])), questions)])

    trained = session().base
    adapted = add_adapter(trained.model, Config().lora)
    step, _ = ours(adapted, trained, samples, True, False, False)
    return list(zip((ask, window, evaluate, step), (1, 1, 25, 1), strict=True))


def worker(model: str, seconds: float) -> None:
    """Print the rates of all jobs, idle and busy, as a line of JSON."""
    jobs = work(model)
    found = []
    for load in (0, os.cpu_count() or 1):
        with busy_processes(load):
            found.append([rate(call, units, seconds) for call, units in jobs])
    print(json.dumps(found))


def rate(call: Callable[[], Any], units: int, seconds: float) -> float:
    """Return units per second."""
    call()
    start, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return calls * units / spent


def run(model: str, way: dict[str, str], seconds: float) -> list[list[float]]:
    """Return the rates of one process with a wait policy: idle, then busy."""
    environment = {k: v for k, v in os.environ.items() if k not in NAMES} | way
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--model", model, "--seconds", str(seconds), "--worker"],
            env={**environment, "TMPDIR": folder} if model == "embedded" else environment,
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(model: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return one row per wait policy and load: rates, and ratios to the first policy."""
    found: dict[str, list[list[list[float]]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way, variables in WAYS.items():
            found[way].append(run(model, variables, seconds))
            print(f"round {number + 1}, {way}: {found[way][-1]}", file=sys.stderr)
    rows = []
    for load, name in enumerate(("quiet", "busy")):
        for way in WAYS:
            row: dict[str, Any] = {"model": model, "machine": name, "waiting threads": way}
            for job, title in enumerate(JOBS):
                mine = statistics.median(one[load][job] for one in found[way])
                ratio = statistics.median(
                    one[load][job] / first[load][job]
                    for one, first in zip(found[way], found["unset"], strict=True)
                )
                row[title] = f"{mine:.3g} ({ratio:.2f}×)"
            rows.append(row)
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=["embedded", "small"], help="[default: one, then other]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="time per measurement")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        worker(chosen.model, chosen.seconds)
        return
    from common import show

    models = [chosen.model] if chosen.model else ["embedded", "small"]
    rows = [row for m in models for row in measure(m, chosen.rounds, chosen.seconds)]
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
