"""Fixtures: small random bases in the published layout, written once a session."""

from importlib import util
from pathlib import Path

import pytest

from qwen2vl_rs.model.random_base import Size, write_random_base


@pytest.fixture(scope="session")
def small_base(tmp_path_factory) -> Path:
    """A base with a cut-down vocabulary, whose special-token ids differ from the published."""
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
    return write_random_base(tmp_path_factory.mktemp("small") / "base", size, shard="100KB")


@pytest.fixture(scope="session", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def family_base(request, tmp_path_factory) -> Path:
    """A base of each family, deep enough for what is special in it (windows, DeepStack)."""
    size = Size(hidden=64, layers=3, vision_hidden=64, vision_layers=3, kv_heads=1)
    folder = tmp_path_factory.mktemp(request.param) / "base"
    return write_random_base(folder, size, family=request.param, shard="200KB")


@pytest.fixture(scope="session")
def real_base(tmp_path_factory) -> Path:
    """A base with the real vocabulary of 151,936 tokens."""
    found = util.find_spec("dashscope")  # not imported: only its merges file is wanted
    if found is None or found.origin is None:
        pytest.skip("the package dashscope, which carries the Qwen merges, is not installed")
    merges = Path(found.origin).parent / "resources" / "qwen.tiktoken"
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
    return write_random_base(
        tmp_path_factory.mktemp("real") / "base", size, vocabulary=merges, shard="20MB"
    )
