"""Training speed: question trees against one question a sample, the same model and LoRA.

Both paths do forward and backward over the same questions of the same images with the same
adapter; the plain path is the model's own forward on padded batches of four, as a Hugging Face
trainer runs it. The optimizer is left out of both. Ours includes reading the images, or the
vision cache where ``--cache`` is given (as `train` does by default).

    python benchmarks/train.py                        small model, CPU, about 15 minutes
    python benchmarks/train.py --model 2b --bf16      full size, wants a GPU
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from common import (
    arguments,
    make_base,
    make_samples,
    matmul_peak,
    memory_gb,
    plain_batch,
    plain_loss,
    show,
    timed,
)

from qwen2vl_rs.config import Config
from qwen2vl_rs.model.adapter import add_adapter
from qwen2vl_rs.model.loader import Base
from qwen2vl_rs.model.memory import token_budget
from qwen2vl_rs.model.trainer import Steps, group_by_image, pack_loss
from qwen2vl_rs.model.vision import encode_all
from qwen2vl_rs.records import Sample

PLAIN_BATCH = 4  # per_device_train_batch_size of the original


def flops(base: Base, visual: int, questions: int, fed: int, loss_tokens: int) -> float:
    """Matrix-product FLOPs of forward and backward for one image, adapters left out.

    The frozen layers need no weight gradient: two thirds of ordinary training. The vision tower
    runs forward only.
    """
    text = sum(
        p.numel()
        for n, p in base.model.model.language_model.named_parameters()
        if p.ndim == 2 and "embed_tokens" not in n and "lora_" not in n
    )
    vision = sum(p.numel() for p in base.model.model.visual.parameters() if p.ndim == 2)
    head = base.model.lm_head.weight.numel()
    return 4.0 * (text * fed + head * loss_tokens) + 2.0 * vision * visual * 4


def ours(model: Any, base: Base, samples: list[Sample], cache: bool, bf16: bool) -> Any:
    """A function that does one step over all samples, and the layouts' sizes."""
    settings = Config().training
    settings = settings.model_copy(
        update={"questions_per_image": len(samples), "images_per_step": len(samples)}
    )
    images: Any = base.images
    if cache:
        paths = list(dict.fromkeys(s.image for s in samples))
        folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-cache-"))
        images = encode_all(base, paths, folder, 10**11, bf16)
    steps = Steps(samples, base.prompts, images, settings, token_budget(model))

    def run() -> None:
        step = steps[0]["step"]
        for batch in step.packs:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                loss = pack_loss(model, batch)
            (loss / step.loss_tokens).backward()
        model.zero_grad()

    return run, steps[0]["step"]


def plain(model: Any, base: Base, samples: list[Sample], bf16: bool) -> Any:
    """A function that does one step over all samples, one sequence a question."""

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
    """Measure every combination and print ratios."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--cache", action="store_true", help="features encoded beforehand")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 4, 25, 100])
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true")
    chosen = parser.parse_args()
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if chosen.bf16 and cuda else torch.float32
    base = make_base(chosen.model, dtype)
    model = add_adapter(base.model, Config().lora).train()
    if chosen.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    peak = matmul_peak(torch.bfloat16 if chosen.bf16 else torch.float32)
    rows = []
    for side in chosen.sides:
        # The plain path's speed does not depend on how many questions an image has.
        few = make_samples(1, 8, side)
        slow = len(few) / timed(plain(model, base, few, chosen.bf16), chosen.repeats)
        plain_memory = memory_gb() if cuda else 0.0
        for questions in chosen.questions:
            samples = make_samples(chosen.images, questions, side)
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            run, step = ours(model, base, samples, chosen.cache, chosen.bf16)
            seconds = timed(run, chosen.repeats)
            fed = sum(p.layout.size for p in step.packs)
            visual = 0 if chosen.cache else sum(i.tokens for p in step.packs for i in p.images)
            work = flops(base, visual, questions, fed, step.loss_tokens)
            rows.append(
                {
                    "side": side,
                    "questions/image": questions,
                    "images": len(group_by_image(samples)),
                    "precision": "bf16" if chosen.bf16 else "fp32",
                    "vision": "cached" if chosen.cache else "computed",
                    "questions/s": round(len(samples) / seconds, 2),
                    "plain questions/s": round(slow, 2),
                    "ratio": round(len(samples) / seconds / slow, 1),
                    "tokens/s": round(fed / seconds),
                    "share of peak": round(work / seconds / peak, 3),
                }
            )
            if cuda:  # on a CPU only the whole process can be measured, not either side
                rows[-1] |= {
                    "memory GB": round(memory_gb(), 2),
                    "plain memory GB": round(plain_memory, 2),
                }
            print(rows[-1], flush=True)
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
