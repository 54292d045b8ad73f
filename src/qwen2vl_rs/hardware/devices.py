"""Choose the device; start and split work across processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from accelerate import PartialState

from ..errors import ConfigError
from ..system.console import mute
from .launch import check_environment

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def processes() -> PartialState:
    """Return the process group of ``torchrun`` or ``accelerate launch``, or this process alone.

    Only the main process logs messages.

    Raises:
        ConfigError: see `launch.check_environment`.
    """
    check_environment()
    # long: the others wait while one process encodes all images or answers the last questions
    team = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(hours=12))
    if not team.is_main_process:
        mute()
    return team


def split_work(sizes: Sequence[int], world: int) -> list[list[int]]:
    """Balance work across processes: largest piece first, each to the least loaded process."""
    shares: list[list[int]] = [[] for _ in range(world)]
    loads = [0] * world
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        least = loads.index(min(loads))
        shares[least].append(i)
        loads[least] += sizes[i]
    return [sorted(share) for share in shares]


def use_device(name: str | None) -> None:
    """Restrict this process to one device, for all libraries.

    Call it before any computation.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:N``, counted as in CUDA_VISIBLE_DEVICES; None: any.

    Raises:
        ConfigError: there is no such device, or a launcher started several processes.
    """
    if name is None:
        return
    if name == "cpu":
        os.environ[_VISIBLE] = ""
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"--device {name} is for one process, but a launcher started several",
            hint=f"omit --device and choose their GPUs: {_VISIBLE}=0,1",
        )
    before = os.environ.get(_VISIBLE)
    number = int(name.partition(":")[2] or 0)
    listed = [one for one in before.split(",") if one] if before is not None else None
    if listed is None or number < len(listed):
        os.environ[_VISIBLE] = str(number) if listed is None else listed[number]
        if torch.cuda.is_available():
            return
        os.environ.pop(_VISIBLE) if before is None else os.environ.update({_VISIBLE: before})
    raise ConfigError(f"there is no device {name}: {_devices()}", hint=_device_hint())


def _devices() -> str:
    found = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    limit = f" ({_VISIBLE} is {os.environ[_VISIBLE]!r})" if _VISIBLE in os.environ else ""
    return f"available: cpu{''.join(f', {name}' for name in found)}{limit}"


def _device_hint() -> str:
    if torch.version.cuda is None:
        return "this torch was built for the CPU only; one for CUDA: see https://pytorch.org"
    if not torch.cuda.device_count() and not os.environ.get(_VISIBLE, "0"):
        return f"all GPUs are hidden: unset {_VISIBLE}"
    return "to list the driver's devices: nvidia-smi; or omit --device"


def choose_device(name: str | None = None) -> torch.device:
    """Return a device by its name; None: the CUDA device of this process, else the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if name is not None:
        device = torch.device(name)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(f"there is no device {name}: {_devices()}", hint=_device_hint())
        return device
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
