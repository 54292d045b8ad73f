"""GPUs of this machine, and how fast a device multiplies matrices."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
import warnings
from dataclasses import dataclass

import torch

_SIDES = (512, 1024, 2048)  # of the matrices; a GPU gets larger ones, too
_LONG = 0.05  # seconds of one product after which the side is large enough


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU.

    Attributes:
        name: its name.
        capability: compute capability, such as ``9.0``.
        total, free: memory in bytes.
        bf16: whether it computes in bfloat16 without emulation.
    """

    name: str
    capability: str
    total: int
    free: int
    bf16: bool


def gpus() -> tuple[list[Gpu], str]:
    """Return the visible CUDA devices, and why CUDA does not work; empty if it works."""
    found: list[Gpu] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                for number in range(torch.cuda.device_count()):
                    facts = torch.cuda.get_device_properties(number)
                    free, total = torch.cuda.mem_get_info(number)
                    capability = f"{facts.major}.{facts.minor}"
                    found.append(Gpu(facts.name, capability, total, free, facts.major >= 8))
        except Exception as error:  # a driver that is too old, a GPU that is in use or broken
            return found, _first_line(error)
    problems = [str(one.message) for one in said if "CUDA" in str(one.message)]
    return found, _first_line(problems[0]) if problems and not found else ""


def cuda_build() -> str:
    """Return the CUDA version for which torch was built; empty for the CPU only."""
    return str(torch.version.cuda or "")


def driver() -> str:
    """Return the version of NVIDIA's driver; empty if there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout.split() or [""])[0]


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Measure the FLOP/s of a large square matrix product, the median of several.

    Args:
        device: the device.
        dtype: of the matrices.
        seconds: approximate duration of the measurement.
    """
    cuda = device.type == "cuda"
    end = time.perf_counter() + seconds
    for side in (*_SIDES, 4096, 8192) if cuda else _SIDES:
        a = torch.randn(side, side, device=device).to(dtype)
        _timed(a, cuda)  # it also starts threads and chooses a kernel
        times = [_timed(a, cuda)]
        if times[0] > _LONG or time.perf_counter() > end:
            break
    while time.perf_counter() < end:
        times.append(_timed(a, cuda))
    return float(2 * side**3 / statistics.median(times))


def _timed(a: torch.Tensor, cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    a @ a
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _first_line(text: object) -> str:
    return (str(text).strip().splitlines() or [type(text).__name__])[0]
