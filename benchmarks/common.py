"""Shared code of the benchmarks: base models, generated data, plain Hugging Face, measurements."""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch.nn.functional import cross_entropy

from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.hardware.devices import choose_device
from qwen2vl_rs.models.images import ImageInput
from qwen2vl_rs.models.loader import Base, load_base, read_config
from qwen2vl_rs.question_tree.attention_check import Heads, choose_attention
from qwen2vl_rs.types import Sample

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/support"))
from random_base import Size, write_random_base

SIZES = {
    "tiny": Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1),
    "small": Size(
        hidden=384,
        layers=6,
        vision_hidden=384,
        vision_layers=6,
        kv_heads=2,
        head=64,
        intermediate=1024,
        vision_head=64,
    ),
    "2b": Size(
        hidden=1536,
        layers=28,
        vision_hidden=1280,
        vision_layers=32,
        kv_heads=2,
        head=128,
        intermediate=8960,
        vision_head=80,
    ),
}
NOUNS = ("road", "building", "water area", "grass area", "forest", "farmland", "parking", "park")
PLACES = ("", " in the image", " on the left of a  road", " at the top of a  building")


def merges() -> Path:
    """Return the merges of the real vocabulary, from the package dashscope."""
    for folder in sys.path:  # not `find_spec`: this file may be all there is of the package
        found = Path(folder) / "dashscope" / "resources" / "qwen.tiktoken"
        if found.is_file():
            return found
    raise SystemExit("the real vocabulary comes with a package: pip install dashscope")


def base_folder(model: str, dtype: torch.dtype) -> Path:
    """Write a base model with random weights and the real vocabulary, unless it exists."""
    name = str(dtype).removeprefix("torch.")
    folder = Path(tempfile.gettempdir()) / f"qwen2vl-rs-base-{model}-{name}"
    if not (folder / "chat_template.json").exists():  # written last
        write_random_base(
            folder,
            SIZES[model],
            vocabulary=merges(),
            shard="2GB",
            dtype=dtype,
            device=choose_device().type,
        )
    return folder


def make_base(model: str, dtype: torch.dtype) -> Base:
    """Load the base model of `random_base` on the best device."""
    folder, device = base_folder(model, dtype), choose_device()
    kind = choose_attention(device, dtype, Heads.of(read_config(folder)))[0]
    return load_base(folder, InputConfig(), device, dtype, kind)


def make_samples(images: int, questions: int, side: int) -> list[Sample]:
    """Return questions of RSVQA's form and length about noise; content does not affect speed."""
    folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-bench-"))
    random = np.random.default_rng(0)
    texts = [
        (f"How many {a}s{place} are there?", str(n))
        for n, (a, place) in enumerate((a, p) for a in NOUNS for p in PLACES)
    ] + [
        (f"Are there more {a}s than {b}s{place}?", "no")
        for a in NOUNS
        for b in NOUNS
        for place in PLACES
        if a != b
    ]
    samples = []
    for image in range(images):
        path = folder / f"{image}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8",
            crs="EPSG:3857", transform=rasterio.Affine(10, 0, 6e5, 0, -10, 7e6),
        ) as file:  # fmt: skip
            file.write(random.integers(0, 255, (3, side, side), dtype=np.uint8))
        for n in random.permutation(len(texts))[:questions]:
            question, answer = texts[n]
            samples.append(Sample(f"{len(samples)}", str(path), question, answer))
    return samples


def plain_batch(
    base: Base, samples: Sequence[Sample], images: Sequence[ImageInput], after: str = ""
) -> dict[str, Any]:
    """Collate questions as Hugging Face does: one padded sequence each, with masked labels.

    ``after`` is text behind the end token of each answer, with loss.
    """
    rows, labels = [], []
    for sample, pixels in zip(samples, images, strict=True):
        prompt = [
            *base.prompts.root_ids(pixels.tokens),
            *base.prompts.question_ids(sample.question),
        ]
        answer = [*base.prompts.answer_ids(sample.answer), *base.prompts.text_ids(after)]
        rows.append(torch.tensor([*prompt, *answer]))
        labels.append(torch.tensor([-100] * len(prompt) + answer))
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad(rows, batch_first=True, padding_value=base.prompts.end_id)
    device = base.model.device
    return {
        "input_ids": ids.to(device),
        "attention_mask": pad([torch.ones_like(r) for r in rows], batch_first=True).to(device),
        "mm_token_type_ids": (ids == base.prompts.image_id).int().to(device),
        "pixel_values": torch.cat([i.patches for i in images]).to(device),
        "image_grid_thw": torch.tensor([i.grid for i in images], device=device),
        "labels": pad(labels, batch_first=True, padding_value=-100).to(device),
    }


def plain_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Return the summed loss of a padded batch, from the model's own forward pass."""
    labels = batch.pop("labels")
    logits = model(**batch).logits
    return cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum"
    )


def sync() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of a call, after a warm-up call."""
    work()
    times = []
    for _ in range(repeats):
        sync()
        start = time.perf_counter()
        work()
        sync()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_peak(dtype: torch.dtype) -> float:
    """Return the FLOP/s of a large square matrix product on this machine, best of several."""
    device = choose_device()
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n**3 / min(timed(lambda: a @ a, 3) for _ in range(5))


def reset_peak_memory() -> None:
    """Reset the peak memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: see proc_pid_clear_refs(5)


def peak_memory_gb() -> float:
    """Return the peak memory since the reset, of the CUDA device or of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def machine() -> dict[str, str]:
    """Return device and versions."""
    device = choose_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    return {
        "device": name or f"CPU, {torch.get_num_threads()} threads",
        **{p: metadata.version(p) for p in ("torch", "transformers", "peft")},
    }


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    return parser


def show(rows: list[dict[str, Any]], to: Path | None) -> None:
    """Print rows as a table, and write them as JSON if a file is given."""
    record = {"machine": machine(), "rows": rows}
    names = list(rows[0])
    widths = [max(len(n), *(len(str(r.get(n, ""))) for r in rows)) for n in names]
    for row in [dict.fromkeys(names), *rows]:
        cells = names if not any(row.values()) else [str(row.get(n, "")) for n in names]
        print("  ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)))
    print(json.dumps(record["machine"]))
    if to:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps(record, indent=2) + "\n")
