"""How many tokens go through a model at once, and what to do when the memory does not suffice.

The estimate counts, for each token of a pack, what training keeps of every layer and the working
set of one layer; its constants are upper bounds read off the architecture, checked by
measurement (``docs/benchmarks.md``). It is made from the device's size, not from what is free at
the moment, so that a run that is resumed is packed as before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import RunError

# More tokens at once make a pass no faster: on two CPU cores an 82 M model trains as fast with
# 2,048 as with 4,096. A GPU waits for its kernels to be launched: a pack of 1,800 tokens takes
# 0.39 s in training at Qwen2-VL-2B on an H200, one of 14,500 takes 0.67 s (docs/gpu.md). The figure
# for answering there is a choice, not a measurement.
_MOST_TRAINING = {"cpu": 2048, "cuda": 16384}
_MOST_ANSWERING = {"cpu": 2048, "cuda": 4096}
_LEAST = 512
_RESERVED = 1.5e9  # bytes: libraries, fragmentation, images on their way
_HEAD_ROWS = 0.12  # tokens with a loss for each token fed: RSVQA has 2 of 18


def token_budget(
    model: Any, wanted: int | None = None, *, checkpointing: bool | None = None
) -> int:
    """Most tokens in a pack: ``wanted``, or what suits the model's device.

    Args:
        model: a base, with its adapter where it has one.
        wanted: by the settings.
        checkpointing: whether training computes the layers' values again; without it all of them
            are kept. None: for answering, which keeps less than either.
    """
    if wanted is not None:
        return wanted
    again = checkpointing is not False
    room = device_memory(model.device) - training_memory(model, 0, again)
    fits = int(room / bytes_per_token(model.config, model.dtype.itemsize, again))
    most = _MOST_ANSWERING if checkpointing is None else _MOST_TRAINING
    return max(_LEAST, min(fits // 256 * 256, most[model.device.type]))


def training_memory(model: Any, tokens: int, checkpointing: bool = True) -> float:
    """Bytes that training takes at most, with packs of so many tokens: an estimate from above."""
    each = bytes_per_token(model.config, model.dtype.itemsize, checkpointing)
    return _RESERVED + _kept_bytes(model) + tokens * each


def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device that this process may use; for the CPU, of the machine."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        # not in the oldest torch that is allowed
        share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
        return int(total * share(device))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def bytes_per_token(config: Any, size: int, checkpointing: bool = True) -> float:
    """Memory of one token of a pack in training, in bytes.

    At Qwen2-VL-2B in 16 bits 0.5 MB with checkpointing and 5.4 MB without.

    Args:
        config: of a base.
        size: bytes of a value.
        checkpointing: whether of every layer but one only the input is kept.
    """
    text = config.get_text_config()
    layers: int = text.num_hidden_layers
    kept = layers * text.hidden_size
    working = 12 * text.hidden_size + 8 * text.intermediate_size
    logits = _HEAD_ROWS * text.vocab_size * 3 * 4  # in float32: logits, their softmax, gradient
    return float(size * (kept + working * (1 if checkpointing else layers)) + logits)


def _kept_bytes(model: Any) -> int:
    """Weights, and for those that are trained their gradient and the optimizer's two moments."""
    return sum(
        p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in model.parameters()
    )


@contextlib.contextmanager
def explained_shortage(budget: int, remedy: str | None = None) -> Iterator[None]:
    """Turn running out of memory into the setting to lower, and to what.

    Args:
        budget: tokens that were to go through the model at once.
        remedy: what to do instead, where there is no such setting.

    Raises:
        RunError: the memory of the device did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # on a CPU it is a plain RuntimeError, whose text tells
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (short or "can't allocate memory" in str(error)):
            raise
        raise RunError(
            f"the device's memory does not suffice for {budget:,} tokens at once",
            hint=remedy
            or "smaller packs, with the same result: --set training.max_tokens_per_pack="
            f"{max(64, budget // 2)}",
        ) from error
