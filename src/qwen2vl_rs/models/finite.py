"""Check weights, features and scores for NaN and infinity.

Damaged weights and overflow in float16 give NaN, for which ``argmax`` silently returns the first
word of the vocabulary or the first candidate.
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
    """Refuse an answer with scores that are not finite.

    Args:
        values: log-likelihoods or probabilities of the answer.
        question: the question.
        image: name of the image; may be empty.

    Raises:
        ModelError: a score is not finite.
    """
    if not all(map(math.isfinite, values)):
        about = f" about {image}" if image else ""
        raise ModelError(
            f"the model's output for the question {question!r}{about} is not a number",
            hint="its weights are damaged, or overflow in float16: load bfloat16 or float32 "
            "weights, and fetch them again: qwen2vl-rs load --verify",
        )


def require_finite_features(features: torch.Tensor, path: str) -> None:
    """Refuse image features that are not finite.

    Raises:
        ModelError: a value is NaN or infinite.
    """
    if not _is_finite(features):
        raise ModelError(
            f"the vision features of {path} are not finite in {features.dtype}",
            hint="compute in a wider type: --set training.fp16=false",
        )


def require_finite_weights(model: Any, files: ModelFiles) -> None:
    """Refuse weights that are not finite.

    Args:
        model: the loaded network.
        files: its files.

    Raises:
        ModelError: a value is NaN or infinite; the error names the tensor and its file.
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
                        "contains NaN or infinity",
                        hint="fetch the model again: qwen2vl-rs load --verify",
                    )
    raise ModelError(
        f"the weights in {files.folder} overflow in {floats[broken].dtype}: {broken}",
        hint="use a wider type: --set training.bf16=true, or false for float32",
    )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite, in one pass without a copy (NaN propagates to min, max)."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(low) and torch.isfinite(high))
