"""Choose the precision (dtype) of computation and of frozen weights.

Trained weights are always float32. On a CPU all weights and inference are float32, and training
computes in bfloat16 if the processor multiplies in it (``avx512_bf16``; processors with AMX have
it, too). bfloat16 has the range of float32. float16 has not: its loss is
scaled, and steps with overflowing gradients are skipped (Micikevicius et al., *Mixed Precision
Training*, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Precision:
    """Precision of a run.

    Attributes:
        compute: dtype of matrix products in training.
        weights: dtype of frozen weights, and of inference.
        why: reason for the choice, for messages.
    """

    compute: torch.dtype
    weights: torch.dtype
    why: str

    @property
    def name(self) -> str:
        """Torch's name of the dtype, e.g. ``bfloat16``."""
        return str(self.compute).removeprefix("torch.")


def choose_precision(
    device: torch.device,
    bf16: bool | None = None,
    fp16: bool | None = None,
    section: str = "training",
) -> Precision:
    """Choose the precision on a device.

    Args:
        device: the device.
        bf16: whether to use bfloat16; if ``bf16`` and ``fp16`` are None, the device decides.
        fp16: whether to use float16.
        section: section of these settings, for messages.

    Raises:
        ConfigError: the device does not support bfloat16.
    """
    cuda = device.type == "cuda"
    # without emulation (T4, V100), which is slower than float32
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _cpu_has_bf16()
    if bf16 and cuda and not has_bf16:
        name = torch.cuda.get_device_name(device)
        raise ConfigError(
            f"{section}.bf16 = true: {name} does not support bfloat16",
            hint="leave it unset: float16 is used then",
        )
    if bf16 is None and fp16 is None:
        name = "GPU" if cuda else "processor"
        compute = torch.bfloat16 if has_bf16 else torch.float16 if cuda else torch.float32
        why = f"supported by this {name}" if has_bf16 else f"this {name} has no bfloat16"
    else:
        compute = torch.bfloat16 if bf16 else torch.float16 if fp16 else torch.float32
        why = f"as set by {section}.bf16 and {section}.fp16"
    # on a CPU the weights stay float32, and autocast rounds them when used
    return Precision(compute, compute if cuda else torch.float32, why)


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16, rather than converting to float32 and back."""
    known = getattr(torch.cpu, "get_capabilities", None)  # older versions of torch lack it
    return bool(known().get("avx512_bf16") if known else torch.cpu._is_avx512_bf16_supported())
