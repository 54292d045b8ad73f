import pytest

from qwen2vl_rs.models.family import FAMILIES, family_of
from qwen2vl_rs.models.loader import read_base
from qwen2vl_rs.models.parts import PARTS, blocks_of, part_of
from qwen2vl_rs.models.shapes import meta_network, plain_name


@pytest.mark.parametrize("prefix", ["", "base_model.model.model.", "model."])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_name_tells_its_part_in_every_layout(family, prefix):
    names = {
        "visual.blocks.0.attn.qkv.lora_A": "vision tower",
        "visual.patch_embed.proj.weight": "vision tower",
        "visual": "vision tower",
        "visual.merger": "merger",
        "visual.merger.modules_to_save.default.mlp.0.weight": "merger",
        "layers.0.mlp.up_proj.weight": "language model",
        "lm_head.weight": "language model",
    }
    assert {name: part_of(family, prefix + name) for name in names} == names


def test_blocks_hold_every_weight_of_their_part_once(family_base):
    _, config = read_base(family_base)
    family, network = family_of(config), meta_network(config)
    weights = [name for name, _ in network.named_parameters()]
    found = {part: blocks_of(family, part, weights) for part in PARTS}
    assert found["language model"] == []
    inside = network.model.visual
    mergers = [inside.merger, *getattr(inside, "deepstack_merger_list", [])]
    assert [network.get_submodule(name) for name in found["merger"]] == mergers
    blocks = [network.get_submodule(name) for name in found["vision tower"]]
    assert {*inside.blocks} < {*blocks}
    held = [id(p) for block in (*blocks, *mergers) for p in block.parameters()]
    assert sorted(held) == sorted(id(p) for p in inside.parameters())
    assert all(plain_name(name) != name for part in found.values() for name in part)
