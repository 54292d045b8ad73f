"""Whether a model's output is numbers: where it is not, no answer can be picked from it.

Damaged weights and overflow in float16 give NaN, of which ``argmax`` makes the first word of the
vocabulary, or the first candidate, without complaint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from safetensors import safe_open

from ..errors import ModelError
from ..system.oserrors import explain_read_errors
from .folder import ModelFiles


def require_finite_scores(values: Iterable[float], question: str, image: str) -> None:
    """Refuse an answer that was picked from what is no number.

    Args:
        values: log-likelihoods or probabilities from which it was picked.
        question: what was asked.
        image: about which image; may be empty.

    Raises:
        ModelError: one of them is not finite.
    """
    if not all(map(math.isfinite, values)):
        about = f" about {image}" if image else ""
        raise ModelError(
            f"the model's output for the question {question!r}{about} is not a number",
            hint="its weights are damaged, or overflow in float16: load bfloat16 or float32 "
            "weights, and fetch them again: qwen2vl-rs load --verify",
        )


def require_finite_features(features: torch.Tensor, path: str) -> None:
    """Refuse what the vision tower made of an image where it is not numbers.

    Raises:
        ModelError: a value is NaN or infinite.
    """
    if not _is_finite(features):
        raise ModelError(
            f"what the vision tower makes of {path} is not a number in {features.dtype}",
            hint="compute in a wider type: --set training.fp16=false",
        )


def require_finite_weights(model: Any, files: ModelFiles) -> None:
    """Refuse weights that are not all numbers.

    Args:
        model: the network as it was loaded.
        files: where from.

    Raises:
        ModelError: a value is NaN or infinite; it names the tensor and its file.
    """
    floats = {n: tensor for n, tensor in model.named_parameters() if tensor.is_floating_point()}
    broken = next((name for name, tensor in floats.items() if not _is_finite(tensor)), None)
    if broken is None:
        return
    for path in files.weights:
        with explain_read_errors(path), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not _is_finite(tensor):
                    raise ModelError(
                        f"the weights in {files.folder} are damaged: {name} in {path.name} "
                        "holds values that are not numbers",
                        hint="fetch the model again: qwen2vl-rs load --verify",
                    )
    raise ModelError(
        f"the weights in {files.folder} overflow in {floats[broken].dtype}: {broken}",
        hint="use a wider type: --set training.bf16=true, or false for float32",
    )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are: one pass that copies nothing, NaN and infinity reach the ends."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(low) and torch.isfinite(high))
