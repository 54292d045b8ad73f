"""Facts of this machine: processor, cores, memory, with the limits of containers (cgroups)."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
# instruction sets that decide the speed of matrix products
_WANTED = (
    *("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"),
    *("asimd", "sve", "bf16", "i8mm"),
)
_UNLIMITED = 1 << 60  # bytes; cgroup v1 writes a number of this size


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the machine in bytes; None: unknown.

    Attributes:
        total: of the machine.
        available: without swapping.
        limit: of this process's container; None for no limit.
    """

    total: int | None
    available: int | None
    limit: int | None

    @property
    def usable(self) -> int | None:
        """What this process may use at most."""
        return min((one for one in (self.total, self.limit) if one), default=None)


def cpu_model(root: Path = _ROOT) -> str:
    """Return the name of the processor."""
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=5, check=True
            ).stdout.strip()
    return platform.processor() or platform.machine() or "unknown"


def instruction_sets(root: Path = _ROOT) -> list[str]:
    """Return the instruction sets that matter here; empty if the system does not list them."""
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            found = set(value.split())
            return [one for one in _WANTED if one in found]
    return []


def usable_cores(root: Path = _ROOT) -> tuple[int, float | None]:
    """Return the cores on which this process may run, and the limit of its container.

    The limit counts cores; None for no limit.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limits = []
    for folder in _cgroups(root, "cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            limits.append(int(quota) / int(period))
    return cores, min(limits, default=None)


def memory(root: Path = _ROOT) -> Memory:
    """Return the memory of this machine and the limit of this process's container."""
    total = available = None
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        amount = value.split()[0] if value.split() else ""
        if name == "MemAvailable" and amount.isdecimal():
            available = int(amount) * 1024
    limits = []
    for folder in _cgroups(root, "memory"):
        for name, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, now = _text(folder / name), _text(folder / used)
            if most.isdecimal() and int(most) < _UNLIMITED:
                limits.append(int(most))
                if available is not None and now.isdecimal():
                    available = min(available, max(0, int(most) - int(now)))
    limit = min(limits, default=None)
    return Memory(total, available, limit if limit and (not total or limit < total) else None)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and those above it, for both versions."""
    mount = root / "sys/fs/cgroup"
    places = [mount, mount / controller]
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names:
            places.append(mount / path.strip().lstrip("/"))
        elif controller in names.split(","):
            places.append(mount / controller / path.strip().lstrip("/"))
    seen: set[Path] = set()
    for place in places:
        for one in (place, *place.parents):
            if one.is_relative_to(mount) and one not in seen:
                seen.add(one)
                yield one


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    """Return the text of a small file of the kernel; empty if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except (OSError, ValueError):
        return ""
