"""What is said of GPUs, with and without one, and the measured speed of a device."""

from __future__ import annotations

import subprocess
import warnings
from types import SimpleNamespace

import pytest
import torch

from qwen2vl_rs.hardware import gpus as module
from qwen2vl_rs.hardware.gpus import Gpu, driver, gpus, matmul_rate

GPU = "cuda" if torch.cuda.is_available() else None


@pytest.mark.skipif(GPU is not None, reason="there is one")
def test_without_a_gpu_there_is_none_and_nothing_is_wrong():
    assert gpus() == ([], "")


def test_each_gpu_is_described(monkeypatch):
    facts = [
        SimpleNamespace(name="T4", major=7, minor=5),
        SimpleNamespace(name="A", major=8, minor=0),
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: facts[n])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda n: (10, 16 + n))
    assert gpus() == ([Gpu("T4", "7.5", 16, 10, False), Gpu("A", "8.0", 17, 10, True)], "")


def test_a_driver_that_does_not_work_is_a_reason_and_no_crash(monkeypatch):
    def old() -> bool:
        warnings.warn("CUDA initialization: the driver is too old\nsecond line", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", old)
    assert gpus() == ([], "CUDA initialization: the driver is too old")

    def broken() -> bool:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors …")

    monkeypatch.setattr(torch.cuda, "is_available", broken)
    assert gpus() == ([], "CUDA error: out of memory")


@pytest.mark.parametrize(
    ("found", "version"),
    [
        (None, ""),
        (subprocess.TimeoutExpired("nvidia-smi", 10), ""),
        (subprocess.CalledProcessError(9, "nvidia-smi"), ""),
        (PermissionError(13, "no"), ""),
        ("", ""),
        ("580.1\n580.1\n", "580.1"),
    ],
)
def test_the_driver_is_asked_for_its_version(monkeypatch, found, version):
    def run(*_: object, **__: object) -> object:
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(stdout=found)

    monkeypatch.setattr(module.shutil, "which", lambda name: None if found is None else name)
    monkeypatch.setattr(module.subprocess, "run", run)
    assert driver() == version


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_speed_of_products_is_positive_in_every_type(dtype):
    assert matmul_rate(torch.device("cpu"), dtype, 0.05) > 1e6
