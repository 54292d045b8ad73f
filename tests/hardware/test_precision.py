"""Which numbers a device computes in."""

import pytest
import torch

from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.hardware.precision import choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=[True, False], ids=["A100", "T4"])
def card(request, monkeypatch):
    """A GPU that has bfloat16, or one that only emulates it."""

    def supported(including_emulation=True):
        return request.param or including_emulation

    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Tesla T4")
    return request.param


def test_a_gpu_computes_in_what_it_has(card):
    found = choose_precision(CUDA)
    assert found.compute is found.weights is (torch.bfloat16 if card else torch.float16)
    assert ("no bfloat16" in found.why) is not card


@pytest.mark.parametrize(
    ("bf16", "fp16", "compute"),
    [(False, None, torch.float32), (None, False, torch.float32), (False, False, torch.float32),
     (None, True, torch.float16), (False, True, torch.float16)],
)  # fmt: skip
def test_what_is_set_counts(card, bf16, fp16, compute):
    found = choose_precision(CUDA, bf16, fp16)
    assert found.compute is found.weights is compute
    assert "as set by" in found.why


def test_emulated_bfloat16_is_refused_by_name(card):
    if card:
        assert choose_precision(CUDA, True).compute is torch.bfloat16
        return
    with pytest.raises(ConfigError, match="Tesla T4 does not support bfloat16") as caught:
        choose_precision(CUDA, True)
    assert "float16" in caught.value.hint


@pytest.mark.parametrize(
    ("bf16", "fp16", "compute"),
    [(False, None, torch.float32), (True, None, torch.bfloat16), (None, True, torch.float16)],
)
def test_a_cpu_keeps_weights_in_float32(bf16, fp16, compute):
    found = choose_precision(CPU, bf16, fp16)
    assert (found.compute, found.weights) == (compute, torch.float32)
    assert found.name == str(compute).split(".")[1]


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("old", [True, False], ids=["old torch", "new torch"])
def test_a_cpu_trains_in_bfloat16_if_it_multiplies_in_it(monkeypatch, has, old):
    if old:
        monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has)
    else:
        known = {"avx512_bf16": has, "avx512_f": True}
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: known, raising=False)
    found = choose_precision(CPU)
    assert found.compute is (torch.bfloat16 if has else torch.float32)
    assert found.weights is torch.float32  # also of evaluation
    assert ("no bfloat16" in found.why) is not has
    assert choose_precision(CPU, True).compute is torch.bfloat16  # slow without, but not refused


def test_what_torch_says_of_this_processor_is_understood():
    assert isinstance(torch.cpu._is_avx512_bf16_supported(), bool)
    has = torch.cpu._is_avx512_bf16_supported()
    assert choose_precision(CPU).compute is (torch.bfloat16 if has else torch.float32)
