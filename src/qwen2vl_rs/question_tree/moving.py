"""Tensors of nested values moved together, between the host and a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def moved(value: T, change: Callable[[torch.Tensor], torch.Tensor]) -> T:
    """``value`` with every tensor in it, at any depth of dataclasses, lists and tuples, changed."""
    found: Any = value
    if isinstance(value, torch.Tensor):
        found = change(value)
    elif isinstance(value, list | tuple):
        found = type(value)(moved(one, change) for one in value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: moved(getattr(value, f.name), change) for f in dataclasses.fields(value)}
        found = dataclasses.replace(value, **parts)
    return found
