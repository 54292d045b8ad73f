"""The estimate for vision tower, merger and DoRA against what autograd keeps."""

import gc
import math
import weakref

import pytest
import torch

from adapters import CPU, adapted
from factory import make_samples
from family import few
from plain import tree_loss
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.engine.memory import training_memory
from qwen2vl_rs.engine.trained_memory import vision_bytes_per_token
from qwen2vl_rs.engine.vision import encode
from qwen2vl_rs.models.adapter import recompute_activations
from qwen2vl_rs.models.loader import load_base

VIEW = InputConfig(max_pixels=28 * 28 * 400)
WAYS = ["LoRA-frozen-frozen", "DoRA-frozen-frozen", "LoRA-lora-lora", "DoRA-lora-frozen",
        "LoRA-full-full", "LoRA-frozen-full", "DoRA-full-lora"]  # fmt: skip


def kept(model, run):
    """Bytes that a computation keeps for its backward pass, beyond the weights."""
    held = []
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def pack(tensor):
        tensor = tensor.detach()  # an object of our own, which lives as long as the graph
        if tensor.untyped_storage().data_ptr() not in own:
            held.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    gc.collect()
    alive = [tensor.untyped_storage() for one in held if (tensor := one()) is not None]
    del result
    return sum({storage.data_ptr(): storage.nbytes() for storage in alive}.values())


@pytest.mark.parametrize("how", few(WAYS, 2, 4, 6))
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_an_image_keeps_at_most_the_estimate(family_base, tmp_path, how, half):
    base = load_base(family_base, VIEW, CPU, torch.bfloat16 if half else torch.float32)
    (sample, *_) = make_samples(tmp_path, images=1, side=400)
    image = base.images.read(sample.image)
    model = adapted(base, how).train()
    grids = torch.tensor([image.grid])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = kept(model, lambda: encode(model, image.patches, grids)) / image.tokens
    estimate = vision_bytes_per_token(model, checkpointing=False)
    if "frozen-frozen" in how:
        assert found == estimate == 0
        return
    assert found < estimate < 12 * found
    assert vision_bytes_per_token(model, checkpointing=True) <= estimate


@pytest.mark.parametrize("how", few(WAYS, 0, 1, 6))
def test_a_step_keeps_at_most_the_estimate(family_base, tmp_path, how):
    base = load_base(family_base, VIEW, CPU, torch.float32)
    samples = make_samples(tmp_path, images=1, side=400)
    model = adapted(base, how).train()
    tokens = base.images.read(samples[0].image).tokens + 40
    for again in (False, True):
        if again:
            recompute_activations(model)
        found = kept(model, lambda: tree_loss(base, model, samples[:2], 9999))
        estimate = training_memory(model, tokens, again) - training_memory(model, 0, again)
        assert found < estimate


@pytest.mark.parametrize("how", few(WAYS, 4, 6))
def test_weights_gradients_and_moments_are_counted(small_base, tmp_path, how):
    base = load_base(small_base, InputConfig(), CPU, torch.float32)
    plain = training_memory(base.model, 0)
    model = adapted(base, how).train()
    samples = make_samples(tmp_path, images=1, side=56)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.AdamW(trained)
    tree_loss(base, model, samples, 999)[0].backward()
    adam.step()
    moments = [v for state in adam.state.values() for v in state.values() if v.numel() > 1]
    more = sum(t.nbytes for t in (*trained, *(w.grad for w in trained), *moments))
    assert more <= training_memory(model, 0) - plain
    if "DoRA" not in how:  # which has matrices of a layer's size besides
        assert training_memory(model, 0) - plain == pytest.approx(more, abs=64)


def test_a_trained_tower_of_16_bits_has_float32_weights_and_their_copies(small_base):
    base = load_base(small_base, InputConfig(), CPU, torch.bfloat16)
    frozen = training_memory(base.model, 0)
    model = adapted(base, "LoRA-full-frozen")
    whole = [w for n, w in model.named_parameters() if "modules_to_save" in n]
    assert {w.dtype for w in whole} == {torch.float32}
    size = sum(w.numel() for w in whole)
    lora = sum(w.nbytes for n, w in model.named_parameters() if "lora_" in n)
    assert training_memory(model, 0) - frozen == (4 * 4 + 2) * size + 4 * lora
    assert math.isclose(size, 43_000, rel_tol=0.5)
