"""LoRA, rsLoRA and DoRA, on language model, vision tower and merger, or their own weights."""

import shutil
import weakref

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from adapters import CPU, VIEW, adapted, saved
from factory import make_samples
from family import few
from plain import gradients, plain_loss, tree_loss
from qwen2vl_rs.engine.vision import encode
from qwen2vl_rs.errors import ModelError
from qwen2vl_rs.models.adapter import recompute_activations
from qwen2vl_rs.models.adapter_weights import adapter_tensors, quiet_peft, remove_adapter
from qwen2vl_rs.models.loader import attach_adapter, load_base
from qwen2vl_rs.models.merge import merge

WAYS = [
    ("LoRA", "frozen", "frozen"),
    ("rsLoRA", "frozen", "frozen"),
    ("DoRA", "frozen", "frozen"),
    ("DoRA", "lora", "lora"),
    ("LoRA", "lora", "frozen"),
    ("rsLoRA", "frozen", "lora"),
    ("LoRA", "full", "full"),
    ("rsDoRA", "full", "lora"),
    ("LoRA", "lora", "full"),
    ("DoRA", "full", "frozen"),
    ("LoRA", "frozen", "full"),
]
HOW = ["-".join(way) for way in WAYS]


def plainly(base_folder, checkpoint):
    """The checkpoint in plain transformers and PEFT, for training."""
    plain = AutoModelForImageTextToText.from_pretrained(base_folder, dtype=torch.float32)
    with quiet_peft():
        return PeftModel.from_pretrained(plain, checkpoint, is_trainable=True)


def trained_by_hand(plain, how):
    """How many tensors PEFT is expected to train, counted in transformers' own model."""
    method, tower, merger = how.split("-")
    visual = plain.get_base_model().model.visual
    parts = {
        "tower": ([*visual.children()], tower),
        "merger": ([visual.merger, getattr(visual, "deepstack_merger_list", None)], merger),
    }
    held = {id(p) for m in parts["merger"][0] if m is not None for p in m.parameters()}
    each, total = 3 if "DoRA" in method else 2, 0
    for name, (modules, way) in parts.items():
        own = [m for m in modules if m is not None]
        own = [m for m in own if name == "merger" or not {id(p) for p in m.parameters()} & held]
        if way == "full":
            total += sum(p.requires_grad for m in own for p in m.parameters())
        if way == "lora":
            found = [n for m in own for n, _ in m.named_modules() if n.endswith("base_layer")]
            total += each * len(found)
    layers = plain.get_base_model().model.language_model.layers
    return total + each * 7 * len(layers)


@pytest.mark.parametrize("how", few(HOW, 1, 2, 3, 7, 8))
def test_losses_and_gradients_are_those_of_plain_transformers_and_peft(family_base, tmp_path, how):
    """Also where activations are computed again, in the vision tower, too."""
    samples = make_samples(tmp_path / "images", images=2, side=160)[:11]
    base = load_base(family_base, VIEW, CPU, torch.float32)
    model = adapted(base, how)
    checkpoint = saved(base, model, tmp_path / "checkpoint-1")
    plain = plainly(family_base, checkpoint)
    total, count = plain_loss(base, plain, samples)
    (total / count).backward()
    expected = gradients(plain)
    assert len(expected) == trained_by_hand(plain, how)
    assert all(gradient.any() for gradient in expected.values())
    for again in (False, True):
        if again:
            recompute_activations(model)
        model.train()
        loss, tokens = tree_loss(base, model, samples, budget=120)
        assert tokens == count
        torch.testing.assert_close(loss, total, rtol=1e-5, atol=0)
        (loss / count).backward()
        found = gradients(model)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            scale = expected[name].abs().max()
            assert (gradient - expected[name]).abs().max() < 2e-3 * scale, name


def kept(base, how, again, image):
    """Bytes that the vision tower and merger keep for the backward pass."""
    torch.manual_seed(0)
    model = adapted(base, how).train()
    if again:
        recompute_activations(model)
    held = []
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def pack(tensor):
        tensor = tensor.detach()  # an object of our own, which lives as long as the graph
        if tensor.untyped_storage().data_ptr() not in own:
            held.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = encode(model, image.patches, torch.tensor([image.grid]))
    alive = [tensor.untyped_storage() for one in held if (tensor := one()) is not None]
    size = sum({storage.data_ptr(): storage.nbytes() for storage in alive}.values())
    if again and features[0].requires_grad:
        features[0].sum().backward()
    model.activation_checkpointing_disable()
    remove_adapter(model)
    return size, features[0].requires_grad


def test_a_frozen_tower_keeps_no_activations(family_base, tmp_path):
    """Nor with activations computed again, for which transformers hooks into every embedding."""
    base = load_base(family_base, VIEW, CPU, torch.float32)
    (sample, *_) = make_samples(tmp_path / "images", images=1, side=160)
    image = base.images.read(sample.image)
    sizes = {}
    for again in (False, True):
        for how in ("LoRA-frozen-frozen", "LoRA-frozen-lora", "LoRA-lora-lora"):
            sizes[how, again] = kept(base, how, again, image)
    for again in (False, True):
        assert sizes["LoRA-frozen-frozen", again] == (0, False)
        merger, tower = sizes["LoRA-frozen-lora", again], sizes["LoRA-lora-lora", again]
        assert merger[1]
        assert tower[1]
        assert 0 < merger[0] <= tower[0]  # inputs of a block that is computed again do not count
    assert sizes["LoRA-frozen-lora", True] == sizes["LoRA-frozen-lora", False]
    assert sizes["LoRA-lora-lora", True][0] < 0.6 * sizes["LoRA-lora-lora", False][0]


@torch.no_grad()
@pytest.mark.parametrize("how", few(HOW, 1, 2, 3, 7, 8))
def test_a_merge_and_a_loaded_checkpoint_are_the_adapted_model(family_base, tmp_path, how, capsys):
    samples = make_samples(tmp_path / "images", images=1, side=160)
    base = load_base(family_base, VIEW, CPU, torch.float32)
    untouched, _ = tree_loss(base, base.model, samples, budget=999)
    model = adapted(base, how)
    loss, _ = tree_loss(base, model.eval(), samples, budget=999)
    assert abs(loss - untouched) > 0.01
    checkpoint = saved(base, model, tmp_path / "checkpoint-1")
    tensors = len(adapter_tensors(model))
    remove_adapter(model)
    assert torch.equal(tree_loss(base, base.model, samples, budget=999)[0], untouched)

    loaded = attach_adapter(base, checkpoint)
    assert len(adapter_tensors(loaded)) == tensors
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(tree_loss(base, loaded, samples, budget=999)[0], loss)
    with loaded.disable_adapter():
        assert torch.equal(tree_loss(base, loaded, samples, budget=999)[0], untouched)
    remove_adapter(loaded)
    assert torch.equal(tree_loss(base, base.model, samples, budget=999)[0], untouched)

    (tmp_path / "merged").mkdir()
    capsys.readouterr()
    merge(checkpoint, tmp_path / "merged")
    merged = load_base(tmp_path / "merged", VIEW, CPU, torch.float32)
    found, _ = tree_loss(merged, merged.model, samples, budget=999)
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=0)
    parts = said_parts(capsys.readouterr().err)
    changed = {"language model": 0, "vision tower": 0, "merger": 0}
    old = base.model.state_dict()
    for name, weight in merged.model.state_dict().items():
        part = "merger" if "merger" in name else "vision tower" if "visual" in name else ""
        changed[part or "language model"] += not torch.equal(weight, old[name])
    assert parts == {part: n for part, n in changed.items() if n}
    assert list(parts) == ["language model"] + [
        part for part, way in zip(["vision tower", "merger"], how.split("-")[1:], strict=True)
        if way != "frozen"
    ]  # fmt: skip


def said_parts(text):
    """``merged: language model 21 weights, merger 2 weights`` as a dictionary."""
    (line,) = (line for line in text.splitlines() if line.startswith("merged: "))
    pairs = (one.rsplit(" ", 2) for one in line.removeprefix("merged: ").split(", "))
    return {part: int(number) for part, number, _ in pairs}


def test_an_adapter_of_which_a_part_is_lost_is_neither_loaded_nor_merged(small_base, tmp_path):
    base = load_base(small_base, VIEW, CPU, torch.float32)
    checkpoint = saved(base, adapted(base, "DoRA-lora-full"), tmp_path / "checkpoint-1")
    whole = load_file(checkpoint / "adapter_model.safetensors")
    for part in ("lora_magnitude_vector", "visual.blocks.0.attn.qkv.lora_B", "visual.merger.ln_q"):
        name = next(name for name in whole if part in name)
        broken = shutil.copytree(checkpoint, tmp_path / part / "checkpoint-1")
        rest = {n: w for n, w in whole.items() if n != name}
        save_file(rest, broken / "adapter_model.safetensors", {"format": "pt"})
        (tmp_path / part / "merged").mkdir()
        for use in (
            lambda broken=broken: attach_adapter(load_base(small_base, VIEW, CPU), broken),
            lambda broken=broken: merge(broken, broken.parent / "merged"),
        ):
            with pytest.raises(ModelError, match="lacks 1 weights"):
                use()
        assert not list((tmp_path / part / "merged").iterdir())
