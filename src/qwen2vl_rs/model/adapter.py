"""The adapter: LoRA on the language model, from PEFT."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer

from ..config import LoraSettings
from ..errors import ConfigError
from .loader import quiet_peft

_LANES = 4  # 16-bit lanes in a 64-bit random number
_STEPS = 1 << 16


class Dropout(torch.nn.Module):
    """`torch.nn.Dropout` for a CPU, with four decisions to a random number.

    There a decision costs torch 5 ns, all in one thread: with one draw for each of seven layers
    a block, a twelfth of a training step. Here the probability is rounded to 1/65,536.

    Args:
        p: probability of a zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.zeros = round(p * _STEPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of ``x`` set to zero at random, the others scaled up; of its shape."""
        if not self.training:
            return x
        draws = torch.empty(-(-x.numel() // _LANES), dtype=torch.int64)
        lanes = draws.random_(-(1 << 63), None).view(torch.int16)[: x.numel()]
        scale = _STEPS / (_STEPS - self.zeros)
        kept = torch.where(lanes >= self.zeros - _STEPS // 2, scale, 0.0).to(x.dtype)
        return x * kept.view(x.shape)


def add_adapter(model: Any, lora: LoraSettings) -> PeftModel:
    """Put a fresh adapter on the language model, ready for training.

    Raises:
        ConfigError: a target module does not exist.
    """
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=list(lora.target_modules),
        exclude_modules=r".*visual\..*",  # where the vision tower names layers alike
        task_type="CAUSAL_LM",
    )
    try:
        with quiet_peft():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(
            f"lora.target_modules: {str(error).splitlines()[0]}",
            hint="names of layers, such as q_proj, v_proj",
        ) from error
    if model.device.type == "cpu" and lora.lora_dropout:
        for layer in adapted.modules():
            if isinstance(layer, LoraLayer):
                layer.lora_dropout.update({n: Dropout(lora.lora_dropout) for n in layer.r})
    return adapted
