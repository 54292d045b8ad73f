"""Fixtures: small random bases in the published layout, and a run, made once a session.

What needs torch is imported where it is used: the process that only hands tests to others starts
without it.
"""

from importlib import util
from pathlib import Path
from typing import Any

import pytest

from factory import make_samples
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.tables import write_conversations

SETTINGS = [
    "training.learning_rate=0.01", "training.images_per_step=2", "training.questions_per_image=5",
    "training.num_train_epochs=2", "training.save_steps=4", "training.save_total_limit=9",
    "training.bf16=false", "training.report_to=[]", "data.test_fraction=0.3",
    "lora.r=8",
]  # fmt: skip


def configured(base, *more):
    return load_config(None, [*SETTINGS, f"model={base}", *more])


def _base(folder: Path, layers: int = 2, vision_hidden: int = 32, **more: Any) -> Path:
    from random_base import Size, write_random_base

    vision_layers = 1 if layers == 2 else layers
    size = Size(64, layers, vision_hidden=vision_hidden, vision_layers=vision_layers, kv_heads=1)
    return write_random_base(folder, size, **more)


@pytest.fixture(scope="session")
def small_base(tmp_path_factory) -> Path:
    """A base with a cut-down vocabulary, whose special-token ids differ from the published."""
    return _base(tmp_path_factory.mktemp("small") / "base", shard="100KB")


@pytest.fixture(scope="session", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def family_base(request, tmp_path_factory) -> Path:
    """A base of each family, deep enough for what is special in it (windows, DeepStack)."""
    folder = tmp_path_factory.mktemp(request.param) / "base"
    return _base(folder, layers=3, vision_hidden=64, family=request.param, shard="200KB")


def _merges() -> Path:
    found = util.find_spec("dashscope")  # not imported: only its merges file is wanted
    if found is None or found.origin is None:
        pytest.skip("the package dashscope, which carries the Qwen merges, is not installed")
    return Path(found.origin).parent / "resources" / "qwen.tiktoken"


@pytest.fixture(scope="session")
def real_base(tmp_path_factory) -> Path:
    """A base with the real vocabulary of 151,936 tokens."""
    return _base(tmp_path_factory.mktemp("real") / "base", vocabulary=_merges(), shard="20MB")


@pytest.fixture(scope="session", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def real_family_base(request, tmp_path_factory) -> Path:
    """A base of each family with the real vocabulary."""
    folder = tmp_path_factory.mktemp(request.param) / "base"
    return _base(folder, layers=3, vision_hidden=64, family=request.param, vocabulary=_merges())


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_base):
    """A finished run, not to be written to."""
    from qwen2vl_rs.training.fit import train

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_conversations(Path("data_vl.json"), make_samples(folder / "images", images=6))
        outcome = train(configured(small_base))
    return folder, outcome


@pytest.fixture
def uncompiled(monkeypatch):
    """FlexAttention uncompiled, where it also has a backward pass on a CPU."""
    import torch

    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    monkeypatch.setattr(
        "torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True
    )
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")
