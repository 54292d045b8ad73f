"""Token budget of a pack from the device's memory; the hint for out-of-memory errors.

The estimate counts, for each token of a pack, what training keeps of every layer and the working
set of one layer; its constants are upper bounds read off the architecture, checked by
measurement (``docs/benchmarks.md``). It is made from the device's size, not from what is free at
the moment, so that a run that is resumed is packed as before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import RunError
from ..system.machine import memory
from .head_loss import WORDS
from .trained_memory import dora_bytes_per_token, fixed_bytes, vision_bytes_per_token

# Larger packs are not faster: on two CPU cores an 82 M model trains as fast with 2,048 tokens as
# with 4,096. On a GPU, launching kernels dominates: a pack of 1,800 tokens takes 0.39 s in training
# with Qwen2-VL-2B on an H200, one of 14,500 takes 0.67 s (docs/gpu.md). The value for answering
# on a GPU is a choice, not a measurement.
_MOST_TRAINING = {"cpu": 2048, "cuda": 16384}
_MOST_ANSWERING = {"cpu": 2048, "cuda": 4096}
_LEAST = 512
_RESERVED = 1.5e9  # bytes: libraries, fragmentation, images in transfer
# share of the memory that activations may take: a CPU's belongs to other programs, too
_SHARE = {"cpu": 0.5, "cuda": 1.0}
_HEAD_ROWS = 0.12  # loss tokens per token fed: RSVQA has 2 of 18


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How training uses the memory.

    Attributes:
        tokens: maximum tokens per pack.
        checkpointing: whether activations are recomputed (gradient checkpointing).
        why: reason for that, for messages.
    """

    tokens: int
    checkpointing: bool
    why: str


def plan_training(
    model: Any, step: int, wanted: int | None = None, checkpointing: bool | None = None
) -> TrainingPlan:
    """Plan the memory of training: without checkpointing if a step's activations fit.

    Args:
        model: a base model with its adapter.
        step: tokens of a large optimizer step of this process.
        wanted: maximum tokens per pack, if set by the user.
        checkpointing: gradient checkpointing, if set by the user.
    """
    why = "as set by training.gradient_checkpointing"
    if checkpointing is None:
        kind = model.device.type
        tokens = wanted or max(_LEAST, min(step, _MOST_TRAINING[kind]))
        needed, room = training_memory(model, tokens, False), device_memory(model.device)
        checkpointing = needed > room * _SHARE[kind]
        why = f"{needed / 1e9:.1f} of {room / 1e9:.1f} GB without it"
    return TrainingPlan(
        token_budget(model, wanted, checkpointing=checkpointing), checkpointing, why
    )


def token_budget(
    model: Any, wanted: int | None = None, *, checkpointing: bool | None = None
) -> int:
    """Return the maximum tokens per pack: ``wanted``, or what suits the model's device.

    Args:
        model: a base model, with its adapter if it has one.
        wanted: set by the user.
        checkpointing: whether training recomputes the activations (gradient checkpointing) or
            keeps all of them. None: for inference, which keeps less than either.
    """
    if wanted is not None:
        return wanted
    room = device_memory(model.device) - training_memory(model, 0)
    fits = int(room / _bytes_per_token(model, checkpointing))
    most = _MOST_ANSWERING if checkpointing is None else _MOST_TRAINING
    return max(_LEAST, min(fits // 256 * 256, most[model.device.type]))


def training_memory(model: Any, tokens: int, checkpointing: bool = True) -> float:
    """Estimate the bytes that training takes with packs of ``tokens`` tokens, from above."""
    each = _bytes_per_token(model, checkpointing)
    return _RESERVED + _kept_bytes(model) + fixed_bytes(model) + tokens * each


def device_memory(device: torch.device) -> int:
    """Return the bytes of device memory for this process.

    For the CPU, its share of the memory of the machine or container.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        # the oldest supported torch lacks it
        share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
        return int(total * share(device))
    there = memory().usable or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return there // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def bytes_per_token(config: Any, size: int, checkpointing: bool | None = True) -> float:
    """Return the memory of one token of a pack, in bytes.

    For Qwen2-VL-2B in 16 bits it is 0.32 MB with checkpointing and 5.2 MB without.

    Args:
        config: a base model's configuration.
        size: bytes per value.
        checkpointing: whether all layers but one keep only their input. None: in inference, which
            computes all logits at once.
    """
    text = config.get_text_config()
    layers: int = text.num_hidden_layers
    kept = layers * text.hidden_size
    working = 12 * text.hidden_size + 8 * text.intermediate_size
    # in float32: logits, their softmax, a copy in 16 bits
    logits = 3 * 4 * (text.vocab_size if checkpointing is None else max(WORDS.values()))
    hidden = 4 * 4 * text.hidden_size  # in float32: their gradient, sums, copies
    repeated = layers if checkpointing is False else 1
    return float(size * (kept + working * repeated) + _HEAD_ROWS * (logits + hidden))


def _bytes_per_token(model: Any, checkpointing: bool | None) -> float:
    """Return the memory of one token, whatever is trained; each may be a visual token."""
    again = checkpointing is not False
    return (
        bytes_per_token(model.config, model.dtype.itemsize, checkpointing)
        + vision_bytes_per_token(model, again)
        + dora_bytes_per_token(model, again)
    )


def _kept_bytes(model: Any) -> int:
    """Return the bytes of weights; trained ones also have a gradient and two Adam moments."""
    return sum(
        p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in model.parameters()
    )


@contextlib.contextmanager
def memory_hint(budget: int, remedy: str | None = None) -> Iterator[None]:
    """Turn an out-of-memory error into one that says which setting to lower, and to what.

    Args:
        budget: tokens in the failed pass.
        remedy: the hint, if no such setting applies.

    Raises:
        RunError: the device's memory was not sufficient.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # on a CPU it is a plain RuntimeError, recognised by its text
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (short or "can't allocate memory" in str(error)):
            raise
        raise RunError(
            f"out of memory: {budget:,} tokens at once are too many for this device",
            hint=remedy
            or "use smaller packs, the results are the same: --set training.max_tokens_per_pack="
            f"{max(64, budget // 2)}",
        ) from error
