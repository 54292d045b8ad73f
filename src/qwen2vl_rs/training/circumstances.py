"""What a run is computed with: beside its settings, all that its numbers depend on.

Sums of floats depend on the order in which they are taken, and that on the device, the number of
threads and the versions of the libraries. The same run in other circumstances gives an adapter that
is as good, and not the same.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

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
}


def versions() -> dict[str, str]:
    """Versions of everything that can change a result."""
    names = ("torch", "transformers", "peft", "accelerate", "rasterio", "numpy", "pillow")
    own = {"qwen2vl-rs": VERSION, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in names}


def circumstances(precision: Precision, attention: str, tokens: int) -> dict[str, Any]:
    """What this process computes with, as it stands in a run's manifest.

    Args:
        precision: of the run.
        attention: the kind in force.
        tokens: most tokens in a pack.
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
        "tokens_per_pack": tokens,
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is other than when a run was started, for people.

    Args:
        before: its manifest; what older versions did not write down is not compared.
        now: `circumstances`.
    """
    found = []
    on_cpu = now["cpu"] is not None  # elsewhere threads only prepare what is computed
    if on_cpu and before.get("threads", now["threads"]) != now["threads"]:
        found.append(f"{before['threads']} threads then, {now['threads']} now")
    for key, name in _NAMES.items():
        both = (before.get(key), now[key])
        if None not in both and both[0] != both[1]:  # None: of another kind of device
            found.append(f"{name} {before[key]} then, {now[key]} now")
    known = before.get("versions", {})
    for package, version in now["versions"].items():
        if known.get(package, version) != version:
            found.append(f"{package} {known[package]} then, {version} now")
    return found
