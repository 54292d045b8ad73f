import pytest
import torch
from peft.tuners.lora import LoraLayer

from adapters import VIEW, adapted, saved
from factory import make_samples
from plain import tree_loss
from qwen2vl_rs.config import InputConfig, LoraSettings
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.models.adapter import add_adapter, without_casts
from qwen2vl_rs.models.loader import attach_adapter, load_base


def test_the_adapter_sits_on_the_language_model(family_base):
    """Vision towers, too, have layers named ``up_proj``, or ``qkv`` and ``proj``."""
    base = load_base(family_base, InputConfig(), torch.device("cpu"))
    model = add_adapter(base.model, LoraSettings(r=2))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 3  # A and B of seven layers in three blocks
    assert all("language_model" in name for name in trained)
    drops = [m for n, m in model.named_modules() if "lora_dropout.default" in n]
    assert len(drops) == 21
    assert {m.p for m in drops} == {LoraSettings().lora_dropout}


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["q_prj", "v_proj"], "there is no layer q_prj, did you mean q_proj?"),
        (["nothing"], "there is no layer nothing"),
        (["q_proj", "all-linear"], "there is no layer all-linear"),
        (["self_attn.q_prj"], "there is no layer self_attn.q_prj, did you mean self_attn.q_proj?"),
        ([".*q_proj"], "there is no layer .*q_proj, did you mean"),
        (["proj"], "proj is in the vision tower"),
        (["q_proj", "fc1"], "fc1 is in the vision tower (see training.vision_tower"),
        (["lm_head"], "lm_head is not a linear layer of a decoder block"),
        (["embed_tokens"], "embed_tokens is not a linear layer of a decoder block"),
        (["input_layernorm"], "input_layernorm is not a linear layer of a decoder block"),
        (["Q_proj", "k_pro"], "did you mean q_proj?; there is no layer k_pro, did you mean k_proj"),
        ([], "target_modules is empty"),
    ],
)
def test_names_that_match_nothing_are_refused(bare, targets, said):
    with pytest.raises(ConfigError) as caught:
        add_adapter(bare, LoraSettings(r=2, target_modules=tuple(targets)))
    assert said in caught.value.message
    assert "q_proj, k_proj, v_proj" in caught.value.hint or not targets
    assert not any("lora_" in name for name, _ in bare.named_modules())


@pytest.fixture(scope="module")
def bare(small_base):
    return load_base(small_base, InputConfig(), torch.device("cpu")).model


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (("q_proj", "down_proj"), "LoRA r 2 on 4 layers of 2 kinds: q_proj 2, down_proj 2"),
        (("self_attn.v_proj",), "LoRA r 2 on 2 layers of 1 kind: v_proj 2"),
        (("layers.1.mlp.up_proj",), "LoRA r 2 on 1 layer of 1 kind: up_proj 1"),
    ],
)
def test_what_was_matched_is_said(small_base, capsys, targets, said):
    base = load_base(small_base, InputConfig(), torch.device("cpu"))
    add_adapter(base.model, LoraSettings(r=2, target_modules=targets))
    assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize("dora", [False, True])
def test_dora_computes_lengths_in_float32(small_base, monkeypatch, dora):
    """With 16-bit inputs PEFT would compute them in 16 bits, unlike at inference."""
    base = load_base(small_base, InputConfig(), torch.device("cpu"))
    model = add_adapter(base.model, LoraSettings(r=2, use_dora=dora))
    monkeypatch.setattr(type(base.model), "device", torch.device("cuda"))
    with without_casts(model, mixed=True):
        casts = {m.cast_input_dtype_enabled for m in model.modules() if isinstance(m, LoraLayer)}
    assert casts == {dora}


@torch.no_grad()
@pytest.mark.parametrize("how", ["DoRA-lora-full", "rsLoRA-full-lora"])
def test_a_16_bit_base_takes_an_adapter_of_float32(small_base, tmp_path, how):
    base = load_base(small_base, VIEW, torch.device("cpu"), torch.float32)
    saved(base, adapted(base, how), tmp_path / "checkpoint-1")
    samples = make_samples(tmp_path / "images", images=1, side=160)
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        base = load_base(small_base, VIEW, torch.device("cpu"), dtype)
        model = attach_adapter(base, tmp_path / "checkpoint-1")
        whole = {w.dtype for n, w in model.named_parameters() if "modules_to_save" in n}
        assert whole == {dtype}
        losses[dtype] = tree_loss(base, model, samples, 999)[0].item()
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.01)
