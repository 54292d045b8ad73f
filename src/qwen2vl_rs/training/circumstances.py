"""Environment record of a run: hardware, precision and library versions.

Floating-point sums depend on their order, which depends on the device, the number of threads and
the versions of the libraries. The same run in another environment gives an adapter that is as good
but not identical.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

from ..engine.memory import TrainingPlan
from ..hardware.devices import choose_device, processes
from ..hardware.precision import Precision
from ..version import VERSION

_NAMES = {
    "device": "device",
    "cpu": "CPU instructions",
    "dtype": "precision",
    "attention": "attention",
    "processes": "processes",
    "tokens_per_pack": "tokens per pack",
    "gradient_checkpointing": "gradient checkpointing",
}


def versions() -> dict[str, str]:
    """Return the versions of all libraries that can change a result."""
    names = ("torch", "transformers", "peft", "accelerate", "rasterio", "numpy", "pillow")
    own = {"qwen2vl-rs": VERSION, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in names}


def circumstances(precision: Precision, attention: str, plan: TrainingPlan) -> dict[str, Any]:
    """Return the environment of this process, as written to a run's manifest.

    Args:
        precision: the run's precision.
        attention: the attention implementation.
        plan: how it uses the memory.
    """
    device = choose_device()
    cuda = device.type == "cuda"
    return {
        "versions": versions(),
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or "CPU",
        "cpu": None if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "dtype": precision.name,
        "attention": attention,
        "processes": processes().num_processes,
        "tokens_per_pack": plan.tokens,
        "gradient_checkpointing": "on" if plan.checkpointing else "off",
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describe what has changed since a run was started.

    Args:
        before: its manifest; values that older versions did not record are ignored.
        now: `circumstances`.
    """
    found = []
    on_cpu = now["cpu"] is not None  # on a GPU, CPU threads only prepare the inputs
    if on_cpu and before.get("threads", now["threads"]) != now["threads"]:
        found.append(f"{before['threads']} threads then, {now['threads']} now")
    for key, name in _NAMES.items():
        both = (before.get(key), now[key])
        if None not in both and both[0] != both[1]:  # None: not applicable to the device
            found.append(f"{name} {before[key]} then, {now[key]} now")
    known = before.get("versions", {})
    for package, version in now["versions"].items():
        if known.get(package, version) != version:
            found.append(f"{package} {known[package]} then, {version} now")
    return found
