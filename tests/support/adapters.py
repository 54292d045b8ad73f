"""Adapters of all kinds with values that matter, saved as checkpoints."""

import torch

from qwen2vl_rs.config import InputConfig, LoraSettings
from qwen2vl_rs.models.adapter import add_adapter
from qwen2vl_rs.models.loader import write_metadata

CPU = torch.device("cpu")
VIEW = InputConfig(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 9)
METHODS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "rsDoRA": {"use_rslora": True, "use_dora": True},
}


def adapted(base, how):
    """A model of which everything that is trained has other values than at the beginning."""
    method, tower, merger = how.split("-")
    lora = LoraSettings(r=4, lora_alpha=6, lora_dropout=0, **METHODS[method])
    torch.manual_seed(1)
    model = add_adapter(base.model, lora, tower, merger)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * weight.abs().mean().clamp(min=0.3) * torch.randn_like(weight)
    return model


def saved(base, model, folder):
    model.save_pretrained(folder)
    write_metadata(folder, base, VIEW, (None, 56))
    base.images.processor.save_pretrained(folder)
    return folder
