"""What accelerate may switch on is refused by name, or does what the run says."""

import os

import pytest
import torch

from bases import SETTINGS
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.hardware.launch import check_precision, check_strategy
from qwen2vl_rs.hardware.precision import choose_precision
from qwen2vl_rs.models.base import FOLDER as BASE


def precision(**wanted):
    return choose_precision(torch.device("cpu"), **wanted)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in [n for n in os.environ if n.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP"),
        ({"ACCELERATE_USE_FSDP": "1"}, "FSDP"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "context"),
        (
            {
                "ACCELERATE_USE_SAGEMAKER": "true",
                "ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE": "DATA_PARALLEL",
            },
            "SageMaker",
        ),
    ],
)
def test_strategies_are_refused_before_anything_is_loaded(
    tmp_path, monkeypatch, capsys, variables, name
):
    monkeypatch.chdir(tmp_path)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    write_conversations(tmp_path / "data_vl.json", make_samples(tmp_path / "images", 1))
    there = sorted(tmp_path.rglob("*"))
    base = str(BASE)
    for words in (["train", "--model", base], ["eval", base, "--test", "data_vl.json"]):
        assert main(words) == 1
        told = capsys.readouterr().err
        assert name in told
        assert "cannot be used here" in told
        assert "torchrun --nproc-per-node gpu" in told
    assert sorted(tmp_path.rglob("*")) == there


def test_what_is_switched_off_is_no_strategy(monkeypatch):
    for variable in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        monkeypatch.setenv(variable, "false")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    check_strategy()
    check_precision(precision())
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    check_precision(precision(bf16=True))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    check_precision(precision(fp16=True))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ACCELERATE_MIXED_PRECISION", "fp16", "mixed precision fp16, but the run is in float32"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "mixed precision fp8 is not supported"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "but the run is in float32"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "torch.compile (inductor)"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "gradient accumulation over 4 steps"),
    ],
)
def test_what_contradicts_the_run_is_refused(
    tmp_path, monkeypatch, capsys, small_base, variable, value, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    write_conversations(tmp_path / "data_vl.json", make_samples(tmp_path / "images", 1))
    there = sorted(tmp_path.rglob("*"))
    words = [w for s in (*SETTINGS, f"model={small_base}", "training.bf16=false")
             for w in ("--set", s)]  # fmt: skip
    assert main(["train", *words]) == 1
    told = capsys.readouterr().err
    assert "accelerate's configuration contradicts the run" in told
    assert said in told
    assert sorted(tmp_path.rglob("*")) == there


def test_all_contradictions_are_named_at_once(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    with pytest.raises(ConfigError, match=r"fp16, .*; torch\.compile"):
        check_precision(precision())
