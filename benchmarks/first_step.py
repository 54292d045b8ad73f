"""Time and memory of `train` until its first step, with many questions.

Writes conversations in RSVQA's wording about hard links to one small image, and runs `train` on
them in a separate process with a tiny base model, until ``metrics.jsonl`` has a line. Memory is the
peak of that process (``VmHWM``). A process that only imports the same modules shows the share of
torch and transformers.

    python benchmarks/first_step.py [--json docs/results/first-cpu.json]      a few minutes
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from common import NOUNS, PLACES, SIZES, arguments, show

from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.types import Sample
from random_base import write_random_base

_SIDE = 56
_LINKS = 50_000  # a file of ext4 has at most 65,000
_IMPORTS = "import qwen2vl_rs.training.fit, time; print(flush=True); time.sleep(60)"


def questions(images: list[Path], number: int) -> Iterator[Sample]:
    """Yield questions with answers, image by image."""
    random = np.random.default_rng(0)
    firsts, seconds = random.integers(0, len(NOUNS), (2, number))
    places, kinds = random.integers(0, len(PLACES), number), random.integers(0, 3, number)
    for n, kind in enumerate(kinds):
        a, b, place = NOUNS[firsts[n]], NOUNS[seconds[n]], PLACES[places[n]]
        question, answer, type = (
            (f"How many {a}s{place} are there?", str(n % 90), "count"),
            (f"Are there more {a}s than {b}s{place}?", ("no", "yes")[n % 2], "comp"),
            (f"Is there a {a}{place}?", ("no", "yes")[n % 2], "presence"),
        )[kind]
        image = images[n * len(images) // number]
        yield Sample(f"rsvqa_{n + 1}", str(image), question, answer, type, "LR")


def write_images(folder: Path, number: int) -> list[Path]:
    """Write one image under many names, as hard links."""
    folder.mkdir()
    first = folder / "0.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (3, _SIDE, _SIDE), dtype=np.uint8)
    with rasterio.open(
        first, "w", driver="GTiff", width=_SIDE, height=_SIDE, count=3, dtype="uint8",
        crs="EPSG:3857", transform=rasterio.Affine(10, 0, 6e5, 0, -10, 7e6),
    ) as file:  # fmt: skip
        file.write(pixels)
    for n in range(1, number):
        if n % _LINKS:
            os.link(folder / f"{n - n % _LINKS}.tif", folder / f"{n}.tif")
        else:
            shutil.copy(first, folder / f"{n}.tif")
    return [folder / f"{n}.tif" for n in range(number)]


def peak(process: int) -> float:
    """Return the peak memory of a process, in MB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def imports_alone() -> tuple[float, float]:
    """Return seconds and MB of a process that only imports the modules of training."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", _IMPORTS], stdout=subprocess.PIPE) as alone:
        assert alone.stdout
        alone.stdout.readline()
        found = time.perf_counter() - start, peak(alone.pid)
        alone.kill()
    return found


def until_first_step(folder: Path, base: Path) -> tuple[float, float]:
    """Return seconds and MB of `train` until its first step is done."""
    run = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "qwen2vl_rs", "train", "--data", folder / "data.json"]
    command += ["--model", base, "--output", run / "run", "--set", "training.vision_cache_gb=0"]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=run, stderr=(run / "output.txt").open("w")) as training:
        metrics = run / "run" / "metrics.jsonl"
        while not (metrics.is_file() and metrics.stat().st_size):
            if training.poll() is not None:
                raise SystemExit((run / "output.txt").read_text(encoding="utf-8"))
            time.sleep(0.05)
        found = time.perf_counter() - start, peak(training.pid)
        training.kill()
    return found


def measure(number: int, images: int) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="qwen2vl-rs-first-step-") as name:
        folder, base = Path(name), Path(name) / "base"
        write_random_base(base, SIZES["tiny"])
        write_conversations(
            folder / "data.json", questions(write_images(folder / "images", images), number)
        )
        rows = {
            "imports alone": imports_alone(),
            f"`train`, {number:,} questions about {images:,} images": until_first_step(
                folder, base
            ),
        }
    return [
        {"until the first step": what, "s": round(seconds, 1), "peak MB": round(memory)}
        for what, (seconds, memory) in rows.items()
    ]


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 77_000])
    args = parser.parse_args()
    rows = [row for images in args.images for row in measure(args.questions, images)]
    show(rows, args.json)


if __name__ == "__main__":
    main()
