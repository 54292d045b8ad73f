"""In which floating-point numbers a device computes, and which its frozen weights are.

Trained weights are float32 everywhere. bfloat16 has the range of float32; float16 has not, so
that its loss is scaled up and steps whose gradients overflow are skipped (Micikevicius et al.,
*Mixed Precision Training*, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Precision:
    """Types of numbers.

    Attributes:
        compute: of matrix products in training.
        weights: of frozen weights, and of everything when answering.
        why: for people.
    """

    compute: torch.dtype
    weights: torch.dtype
    why: str

    @property
    def name(self) -> str:
        """As torch names it, e.g. ``bfloat16``."""
        return str(self.compute).removeprefix("torch.")


def choose_precision(
    device: torch.device,
    bf16: bool | None = None,
    fp16: bool | None = None,
    section: str = "training",
) -> Precision:
    """The precision on a device.

    Args:
        device: the device.
        bf16: wanted or not; None with ``fp16`` None too: what the device computes in.
        fp16: likewise.
        section: of the settings that say so.

    Raises:
        ConfigError: the device has no bfloat16.
    """
    cuda = device.type == "cuda"
    # not the emulation, which T4 and V100 offer and which is slower than float32
    has_bf16 = not cuda or torch.cuda.is_bf16_supported(including_emulation=False)
    if bf16 and not has_bf16:
        name = torch.cuda.get_device_name(device)
        raise ConfigError(
            f"{section}.bf16 = true: {name} does not compute in bfloat16",
            hint="leave it unset: float16 is used then",
        )
    if bf16 is None and fp16 is None and cuda:
        compute = torch.bfloat16 if has_bf16 else torch.float16
        why = "this GPU computes in it" if has_bf16 else "this GPU has no bfloat16"
    else:
        compute = torch.bfloat16 if bf16 else torch.float16 if fp16 else torch.float32
        why = f"as set by {section}.bf16 and {section}.fp16"
        if bf16 is None and fp16 is None:
            why = "the default on a CPU"
    # on a CPU the weights stay float32, from which autocast rounds as it goes
    return Precision(compute, compute if cuda else torch.float32, why)
