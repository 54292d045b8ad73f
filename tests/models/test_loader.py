import json
import shutil

import pytest
import torch

from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.errors import ModelError, RunError
from qwen2vl_rs.models.loader import (
    find_checkpoint,
    fingerprint,
    load_base,
    read_config,
    read_metadata,
)
from random_base import Size, write_random_base

CPU = torch.device("cpu")


@pytest.fixture
def base(small_base, tmp_path):
    return shutil.copytree(small_base, tmp_path / "base")


def edit(folder, **changes):
    path = folder / "config.json"
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


def refuse(folder, words):
    with pytest.raises(ModelError, match=words) as caught:
        load_base(folder, InputConfig(), CPU)
    assert "\n" not in caught.value.message
    return caught.value


def test_the_layout_is_the_published_one(base):
    names = {p.name for p in base.iterdir()}
    assert {"config.json", "generation_config.json", "preprocessor_config.json", "vocab.json",
            "merges.txt", "tokenizer.json", "tokenizer_config.json", "chat_template.json",
            "model.safetensors.index.json"} <= names  # fmt: skip
    weights = json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(weights.values())) > 1
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
            "model.norm.weight", "visual.patch_embed.proj.weight",
            "visual.merger.mlp.0.weight"} <= weights.keys()  # fmt: skip
    assert "text_config" not in json.loads((base / "config.json").read_text())


def test_a_base_loads_frozen_and_quiet(base, capfd):
    loaded = load_base(base, InputConfig(), CPU)
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.dtype is torch.float32
    assert capfd.readouterr() == ("", "")


def test_folders_that_are_no_base(base, tmp_path):
    refuse(tmp_path / "nothing", "does not exist")
    (tmp_path / "empty").mkdir()
    assert "qwen2vl-rs load" in refuse(tmp_path / "empty", "has no config.json").hint
    (base / "config.json").write_text("{")
    refuse(base, "unreadable")


def test_another_architecture_is_named(base):
    edit(base, model_type="llama")
    assert "llama" in refuse(base, "llama model; supported are qwen2_vl").message


def test_remote_code_is_refused(base):
    edit(base, auto_map={"AutoModel": "evil.Model"})
    refuse(base, "requires remote code")


def test_pickled_weights_are_refused(base):
    for path in base.glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    (base / "model.safetensors.index.json").unlink()
    refuse(base, "no safetensors weights .*pickled")


def test_damaged_weights(base):
    path = sorted(base.glob("*.safetensors"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuse(base, "cannot be read")
    path.unlink()
    refuse(base, "lacks the weights files")


def test_missing_weights_are_not_invented(base):
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    gone = index["weight_map"].pop("model.norm.weight")
    from safetensors.torch import load_file, save_file

    weights = load_file(base / gone)
    del weights["model.norm.weight"]
    save_file(weights, base / gone, metadata={"format": "pt"})
    path.write_text(json.dumps(index))
    refuse(base, "lacks 1 weights")


def test_fingerprints_tell_bases_apart(base, tmp_path):
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
    other = write_random_base(tmp_path / "other", size, seed=1, shard="100KB")
    same = write_random_base(tmp_path / "same", size, seed=0, shard="100KB")
    assert fingerprint(base) == fingerprint(same) != fingerprint(other)


def test_what_a_folder_means(base, tmp_path):
    assert find_checkpoint(base) is None
    run = tmp_path / "run"
    for step in (9, 10):
        (run / f"checkpoint-{step}").mkdir(parents=True)
    assert find_checkpoint(run) == run / "checkpoint-10"
    with pytest.raises(ModelError, match="not a checkpoint of this tool"):
        read_metadata(run / "checkpoint-9")


def test_config_is_read_without_weights(base):
    assert read_config(base).model_type == "qwen2_vl"


def test_runs_without_checkpoints_say_so(tmp_path):
    from qwen2vl_rs.run import Run

    with pytest.raises(RunError, match="no checkpoint in"):
        Run(tmp_path).newest_checkpoint()


def test_the_view_bounds_the_pixels(base, tmp_path):
    from factory import write_image

    write_image(tmp_path / "large.tif", 600, 0)
    write_image(tmp_path / "small.tif", 40, 0)
    view = InputConfig(min_pixels=28 * 28 * 9, max_pixels=28 * 28 * 17)
    images = load_base(base, view, CPU).images
    large, small = (images.read(tmp_path / f"{n}.tif") for n in ("large", "small"))
    assert (large.tokens, small.tokens) == (16, 9)
    assert images.grid(tmp_path / "large.tif") == large.grid
