"""Processor, memory, disks and GPUs of this machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..system.machine import cpu_model, instruction_sets, memory, usable_cores
from .lines import Line, guarded, warning

_LITTLE_DISK = 5e9  # bytes
_LITTLE_MEMORY = 2e9


def hardware(output: Path, figures: dict[str, Any]) -> Iterator[Line]:
    """Yield lines about this machine.

    Args:
        output: folder of the run, whose disk is looked at.
        figures: cores and memory are added.
    """
    cores, quota = usable_cores()
    sets = ", ".join(instruction_sets())
    figures["cores"] = cores
    yield Line("processor", f"{cpu_model()}{f' ({sets})' if sets else ''}")
    limit = f", limited to {quota:g} by the container" if quota and quota < cores else ""
    text = f"{cores} for this process{limit}"
    hint = f"use as many threads: OMP_NUM_THREADS={max(1, int(quota))}" if limit and quota else ""
    yield warning("cores", text, hint) if limit else Line("cores", text)
    yield from guarded("memory", _memory(figures), "warning")
    for name, place in (("output disk", output), ("temporary disk", Path(tempfile.gettempdir()))):
        yield from guarded(name, _disk(name, place), "warning")
    yield from guarded("GPU", _gpus(figures), "warning")


def _memory(figures: dict[str, Any]) -> Iterator[Line]:
    found = memory()
    parts = [f"{gigabytes(found.total)} in total" if found.total else "size unknown"]
    if found.limit:
        parts.append(f"limited to {gigabytes(found.limit)} by the container")
    if found.available is not None:
        parts.append(f"{gigabytes(found.available)} available")
    if found.usable:
        figures["memory_bytes"] = found.usable
    little = found.available is not None and found.available < _LITTLE_MEMORY
    text = ", ".join(parts)
    yield warning("memory", text, "end other programs") if little else Line("memory", text)


def _disk(name: str, place: Path) -> Iterator[Line]:
    there = next(one for one in (place, *place.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    text = f"{gigabytes(free)} free in {place}"
    if free < _LITTLE_DISK:
        hint = "choose another: --set output=FOLDER" if name == "output disk" else "set TMPDIR"
        yield warning(name, text, hint)
    else:
        yield Line(name, text)


def _gpus(figures: dict[str, Any]) -> Iterator[Line]:
    from ..hardware.gpus import cuda_build, driver, gpus

    found, why = gpus()
    version = driver()
    shown = f", driver {version}" if version else ""
    figures["gpus"] = [one.name for one in found]
    for number, one in enumerate(found):
        bf16 = "bfloat16" if one.bf16 else "no bfloat16: float16 is used"
        memory_ = f"{gigabytes(one.total)}, {gigabytes(one.free)} free"
        text = f"{one.name}, compute capability {one.capability}, {memory_}, {bf16}{shown}"
        used = one.free < one.total / 2
        hint = "another program uses it: nvidia-smi"
        yield warning(f"cuda:{number}", text, hint) if used else Line(f"cuda:{number}", text)
    if found:
        return
    if version and not cuda_build():
        hint = "install torch for CUDA: https://pytorch.org"
        yield warning("GPU", f"driver {version} is there, but torch is built for the CPU", hint)
    elif why or version:
        hint = "check the driver: nvidia-smi; and CUDA_VISIBLE_DEVICES"
        yield warning("GPU", f"CUDA does not work: {why or 'no visible device'}{shown}", hint)
    else:
        yield Line("GPU", "none: training runs on the CPU")


def gigabytes(size: float) -> str:
    """Return a size in bytes as gigabytes: ``23.5 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
