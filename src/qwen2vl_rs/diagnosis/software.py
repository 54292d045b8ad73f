"""Versions of this package, Python and the libraries, and what is missing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator

from ..system.install import Package, install_command, packages
from ..version import VERSION
from .lines import Line, guarded, problem, warning

_NAMED = ("torch", "transformers", "peft", "accelerate", "safetensors", "rasterio", "numpy")
_BESIDE = ("bitsandbytes", "triton", "flash-attn", "deepspeed", "torchvision")
# environment variables that are shown: none of them holds a secret, a name or an address
_SHOWN = (
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF"),
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "HF_HUB_OFFLINE", "SWANLAB_MODE", "WANDB_MODE"),
)
# of these only that they are set
_SET = ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "ZENODO_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY")


def software() -> Iterator[Line]:
    """Yield lines about the installed software."""
    system = f"{platform.system()} {platform.machine()}"
    yield Line("qwen2vl-rs", f"{VERSION}, Python {platform.python_version()}, {system}")
    known = packages()
    for name in _NAMED:
        if found := known.get(name):
            yield _package(found)
    if "torch" in known and known["torch"].version:
        yield from guarded("torch's build", _build(), "error")
    others = [one for one in known.values() if one.name not in _NAMED and one.extra != "dev"]
    for one in others:
        if one.extra in ("", "train") and not (one.version and one.fits):
            yield _package(one)
    rest = [f"{one.name} {one.version}" for one in others if one.version and one.fits]
    if rest:
        yield Line("other packages", ", ".join(rest))
    beside = [f"{name} {version}" for name in _BESIDE if (version := packages(name)[name].version)]
    if beside:
        yield Line("also installed", ", ".join(beside))
    optional = {one.extra for one in others if one.extra not in ("", "train") and not one.version}
    for extra in sorted(optional):
        absent = ", ".join(one.name for one in others if one.extra == extra and not one.version)
        yield Line(f"[{extra}]", f"optional, without {absent}: {install_command(extra)}")
    shown = [f"{name}={os.environ[name]!r}" for name in _SHOWN if name in os.environ]
    shown += [f"{name} is set" for name in _SET if os.environ.get(name)]
    yield Line("environment", ", ".join(shown) or "no variable that matters here is set")


def _package(found: Package) -> Line:
    command = install_command(found.extra)
    if found.version is None:
        return problem(found.name, f"not installed; training needs {found.need}", command)
    if not found.fits:
        text = f"{found.version}, but {found.need} is needed"
        return warning(found.name, text, f"{sys.executable} -m pip install '{found.need}'")
    return Line(found.name, found.version)


def _build() -> Iterator[Line]:
    from ..hardware.gpus import cuda_build

    built = cuda_build()
    yield Line("torch's build", f"for CUDA {built}" if built else "for the CPU only")
