"""Training speed: question trees compared with one question per sample, same model and LoRA.

Both sides do forward and backward for the same questions about the same images with the same
adapter. The baseline is the model's own forward pass on padded batches of four, as in a Hugging
Face trainer. The optimizer is excluded on both sides. Our side includes reading the images, or the
vision cache with ``--cache`` (the default of `train`).

    python benchmarks/train.py                            small model, CPU, a few minutes
    python benchmarks/train.py --model 2b --precisions bf16 --checkpointing      requires a GPU
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    arguments,
    make_base,
    make_samples,
    matmul_peak,
    peak_memory_gb,
    plain_batch,
    plain_loss,
    reset_peak_memory,
    show,
    timed,
)

from qwen2vl_rs.config import Config
from qwen2vl_rs.engine.memory import token_budget
from qwen2vl_rs.engine.vision import encode_all
from qwen2vl_rs.models.adapter import add_adapter, recompute_activations, without_casts
from qwen2vl_rs.models.loader import Base
from qwen2vl_rs.question_tree.attention import attention_kind
from qwen2vl_rs.training.steps import Step, StepDataset, pack_loss
from qwen2vl_rs.types import Sample

PLAIN_BATCH = 4  # per_device_train_batch_size of the original


def flops(base: Base, model: Any, step: Step, computed: bool) -> float:
    """Return the FLOPs of all matrix products in forward and backward of a step.

    Frozen layers need no weight gradient: 4 FLOPs a weight and token; adapters need it: 6. The
    head runs on loss tokens, the vision tower (where it is ``computed``) forward only. Attention
    is counted for the pairs that may see each other, whatever is computed. What checkpointing
    computes again is not counted.
    """
    config = base.model.config.get_text_config()
    layers = [(n, p) for n, p in model.named_parameters() if "language_model" in n and p.ndim == 2]
    adapters = sum(p.numel() for n, p in layers if "lora_" in n)
    text = sum(p.numel() for n, p in layers if "lora_" not in n and "embed_tokens" not in n)
    fed = sum(one.size for one in step.layouts)
    pairs = sum(int(one.visible(np.arange(one.size)).sum()) for one in step.layouts)
    heads = config.num_hidden_layers * config.num_attention_heads * head_size(config)
    total = (4.0 * text + 6.0 * adapters) * fed + 12.0 * heads * pairs
    total += 4.0 * base.model.lm_head.weight.numel() * step.loss_tokens
    if computed:
        eye = base.model.model.visual
        patches = [math.prod(grid) for one in step.inputs for grid in one.grids.tolist()]
        weights = sum(p.numel() for p in eye.parameters() if p.ndim == 2)
        width = eye.config.depth * eye.config.embed_dim
        total += sum(2.0 * weights * n + 4.0 * width * n * n for n in patches)
    return total


def head_size(config: Any) -> int:
    """Return the size of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def ours(
    model: Any, base: Base, samples: list[Sample], cache: bool, bf16: bool, checkpointing: bool
) -> Any:
    """Return a function that does one step over all samples, and the sizes of the layouts."""
    settings = Config().training
    settings = settings.model_copy(
        update={
            "questions_per_image": len(samples),
            "images_per_step": len(samples),
            "num_train_epochs": 10**6,  # each call does the next, prefetched step
        }
    )
    images: Any = base.images
    if cache:
        paths = list(dict.fromkeys(s.image for s in samples))
        folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-cache-"))
        dtype = torch.bfloat16 if bf16 else torch.float32
        images = encode_all(base, paths, folder, 10**11, dtype)
    budget = token_budget(model, checkpointing=checkpointing)
    steps = StepDataset(samples, base.prompts, images, settings, budget, base.model)

    number = itertools.count()

    def run() -> None:
        step = steps[next(number)]["step"]
        with without_casts(model, bf16):
            for one in step.inputs:
                with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                    loss = pack_loss(model, one)
                (loss / step.loss_tokens).backward()
        model.zero_grad()

    return run, steps[0]["step"]


def plain(model: Any, base: Base, samples: list[Sample], bf16: bool) -> Any:
    """Return a function that does one step over all samples, one sequence per question."""

    def run() -> None:
        for start in range(0, len(samples), PLAIN_BATCH):
            part = samples[start : start + PLAIN_BATCH]
            batch = plain_batch(base, part, [base.images.read(s.image) for s in part])
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                loss = plain_loss(model, batch)
            loss.backward()
        model.zero_grad()

    return run


def main() -> None:
    """Measure every configuration and print ratios."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32"])
    parser.add_argument("--cache", action="store_true", help="use cached image features")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 4, 25, 100])
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--plain", type=int, default=8, help="questions of the baseline")
    parser.add_argument("--checkpointing", action="store_true")
    chosen = parser.parse_args()
    cuda = torch.cuda.is_available()
    rows: list[dict[str, Any]] = []
    for precision in chosen.precisions:
        bf16 = precision == "bf16"
        base = make_base(chosen.model, torch.bfloat16 if bf16 and cuda else torch.float32)
        model = add_adapter(base.model, Config().lora).train()
        if chosen.checkpointing:
            recompute_activations(model)
        for side in chosen.sides:
            rows += compare(base, model, side, bf16, chosen)
        print(f"attention: {attention_kind(base.model)}", flush=True)
        del base, model
    show(rows, chosen.json)


def compare(
    base: Base, model: Any, side: int, bf16: bool, chosen: argparse.Namespace
) -> list[dict[str, Any]]:
    """Yield the rows of one image size."""
    # The baseline's speed does not depend on the number of questions per image.
    few = make_samples(1, chosen.plain, side)
    slow = plain(model, base, few, bf16)
    reset_peak_memory()
    first = timed(slow, chosen.repeats)
    plain_memory = peak_memory_gb()
    rows = []
    for questions in chosen.questions:
        samples = make_samples(chosen.images, questions, side)
        run, step = ours(model, base, samples, chosen.cache, bf16, chosen.checkpointing)
        reset_peak_memory()
        # measured next to the step: a machine's peak varies over time
        peak = matmul_peak(torch.bfloat16 if bf16 else torch.float32)
        seconds = timed(run, chosen.repeats)
        memory = peak_memory_gb()
        per_plain = statistics.median([first, timed(slow, 1)]) / len(few)
        fed = sum(one.size for one in step.layouts)
        rows.append(
            {
                "side": side,
                "questions/image": questions,
                "images": chosen.images,
                "precision": "bf16" if bf16 else "fp32",
                "vision": "cached" if chosen.cache else "computed",
                "checkpointing": chosen.checkpointing,
                "questions/s": round(len(samples) / seconds, 2),
                "plain questions/s": round(1 / per_plain, 2),
                "ratio": round(len(samples) / seconds * per_plain, 1),
                "tokens/s": round(fed / seconds),
                "share of peak": round(
                    flops(base, model, step, not chosen.cache) / seconds / peak, 3
                ),
                "memory GB": round(memory, 2),
                "plain memory GB": round(plain_memory, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
