"""Families of models: what is true of one only stands in its file."""

import re
from pathlib import Path

import pytest

import qwen2vl_rs
from qwen2vl_rs.models.family import FAMILIES
from qwen2vl_rs.models.loader import read_base

SOURCE = Path(qwen2vl_rs.__file__).parent
FACTS = re.compile(
    r"\b(28 \* 28|visual\.|mrope\w*|deepstack\w*|image_grid_thw|get_image_features"
    r"|mm_encoder_outputs|mm_token_type_ids|spatial_merge_size|temporal_patch_size|smart_resize|image_token_id"
    r"|vision_start_token_id|qwen(2|2_5|3)_vl|Qwen\w*ForConditionalGeneration|Qwen2VLImageProcessor)"
)


def test_facts_of_a_family_stand_in_its_file_alone():
    own = {"models/qwen_vl.py", "models/qwen_vl_usage.py", "models/family.py"}
    found = [
        f"{path.relative_to(SOURCE)}, line {n}: {hit[0]}"
        for path in sorted(SOURCE.rglob("*.py"))
        if str(path.relative_to(SOURCE)) not in own
        for n, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (hit := FACTS.search(line.replace("from .qwen_vl", "").replace("qwen_vl_usage", "")))
    ]
    assert not found, "\n".join(found)


def test_a_familys_shapes_are_those_of_its_network(family_base):
    _, config = read_base(family_base)
    family = FAMILIES[config.model_type]
    assert family.network().__name__ == config.architectures[0]
    assert family.token_side(config) == config.vision_config.patch_size * 2
    features, width = family.feature_shape(config)
    assert width == config.get_text_config().hidden_size
    assert (features > 1) == (config.model_type == "qwen3_vl")


@pytest.mark.parametrize("name", FAMILIES)
def test_names_of_modules(name):
    family = FAMILIES[name]
    for inside in ("model.visual.blocks.0.mlp.up_proj", "visual.merger.mlp.0"):
        assert re.fullmatch(family.vision_layers, inside)
        assert not family.is_block(inside)
    block = "model.language_model.layers.0.mlp.up_proj"
    assert family.is_block(block)
    assert not re.fullmatch(family.vision_layers, block)
