"""The estimate of a training's work, against what training computes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from factory import make_samples
from qwen2vl_rs.config import Config
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.engine.estimate import (
    cache_size,
    planned_model,
    step_flops,
    step_values,
    training_time,
)
from qwen2vl_rs.engine.memory import token_budget, training_memory
from qwen2vl_rs.engine.vision import encode_all
from qwen2vl_rs.models.adapter import add_adapter
from qwen2vl_rs.models.loader import load_base, read_base
from qwen2vl_rs.training.steps import StepDataset, pack_loss

CPU = torch.device("cpu")


@pytest.fixture
def samples(tmp_path: Path) -> Dataset:
    return Dataset.of(make_samples(tmp_path / "images", images=5))


def settings(**more: object) -> Config:
    training = {"images_per_step": 2, "questions_per_image": 3, **more}
    return Config.model_validate({"training": training, "lora": {"r": 8}})


def test_parameters_and_memory_are_those_of_the_real_model(family_base):
    base = load_base(family_base, Config().view, CPU)
    planned = planned_model(base.model.config, Config(), CPU, torch.float32)
    real = add_adapter(base.model, Config().lora)
    assert planned.sizes == real.get_nb_trainable_parameters()
    for again in (False, True):
        assert training_memory(planned, 1000, again) == training_memory(real, 1000, again)
        assert token_budget(planned, checkpointing=again) == token_budget(real, checkpointing=again)
    assert {p.device.type for p in planned.parameters()} == {"meta"}


def test_trained_weights_are_counted_in_float32(small_base):
    config = read_base(small_base)[1]
    planned = planned_model(config, Config(), CPU, torch.bfloat16)
    assert {p.dtype for p in planned.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in planned.parameters() if not p.requires_grad} == {torch.bfloat16}


@pytest.mark.parametrize("again", [False, True])
def test_the_work_of_a_step_is_what_is_counted(family_base, samples, again):
    """FLOPs of all matrix products that torch does in forward and backward."""
    config = settings(gradient_checkpointing=again)
    base = load_base(family_base, config.view, CPU)
    model = add_adapter(base.model, config.lora).train()
    if again:
        model.activation_checkpointing_enable({"use_reentrant": False})
    folder = Path(samples.images[0]).parent / "cache"
    images = encode_all(base, samples.images, folder, 10**9, torch.float32)
    steps = StepDataset(samples, base.prompts, images, config.training, 2048, base.model)
    step = steps[0]["step"]
    with FlopCounterMode(display=False) as counter:
        for one in step.inputs:
            (pack_loss(model, one) / step.loss_tokens).backward()
    planned = planned_model(base.model.config, config, CPU, torch.float32)
    found = step_flops(planned.network, step.layouts, step.loss_tokens, checkpointing=again)
    assert found == pytest.approx(counter.get_total_flops(), rel=0.2)


def test_questions_and_steps_are_those_of_the_training(small_base, samples):
    base = load_base(small_base, Config().view, CPU)
    for more in ({}, {"max_steps": 1}, {"max_steps": 50}, {"num_train_epochs": 1}):
        config = settings(**more)
        planned = planned_model(base.model.config, config, CPU, torch.float32)
        found = training_time(
            planned, samples, base.prompts, base.images, config.training,
            budget=2048, checkpointing=True, peak=1e9, cached=True,
        )  # fmt: skip
        steps = StepDataset(samples, base.prompts, base.images, config.training, 2048, base.model)
        assert found.steps == steps.steps
        if "max_steps" not in more:  # else the turns of a later epoch are not known
            assert found.questions == sum(map(steps.questions, range(steps.steps)))
        made = [sum(layout.size for layout in steps[k]["step"].layouts) for k in range(len(steps))]
        assert found.tokens == pytest.approx(sum(made) / len(made), rel=0.25)
        assert found.rate == pytest.approx(found.questions / (found.seconds - found.encoding))
        assert 0 < found.encoding < found.seconds


def test_what_makes_a_training_faster(small_base, samples):
    base = load_base(small_base, Config().view, CPU)

    def seconds(device: str = "cpu", cached: bool = True, world: int = 1, peak: float = 1e9,
                again: bool = True, **more: object) -> float:  # fmt: skip
        config = settings(**more)
        planned = planned_model(base.model.config, config, torch.device(device), torch.float32)
        return training_time(
            planned, samples, base.prompts, base.images, config.training,
            budget=2048, checkpointing=again, peak=peak, cached=cached, world=world,
        ).seconds  # fmt: skip

    usual = seconds()
    assert seconds(peak=2e9) == pytest.approx(usual / 2)
    assert seconds(world=2) == pytest.approx(usual / 2)
    assert seconds(cached=False) > usual
    assert seconds(again=False) < usual
    assert seconds(num_train_epochs=6) > 1.5 * usual
    # on a fast GPU only launching the layers of each pack is left
    launches = seconds("cuda", peak=1e30, images_per_step=1)
    assert launches == pytest.approx(seconds("cuda", peak=1e20, images_per_step=1))
    assert seconds("cuda", peak=1e30, images_per_step=5) < launches


def test_the_cache_has_the_estimated_size(family_base, samples, tmp_path):
    files, model_config = read_base(family_base)
    config = settings().model_copy(update={"output": str(tmp_path / "output")})
    base = load_base(family_base, config.view, CPU)
    size, free = cache_size(files, model_config, config, samples, torch.float32)
    encode_all(base, samples.images, tmp_path / "cache", 10**9, torch.float32)
    assert size == (tmp_path / "cache/features.bin").stat().st_size
    assert free > 0


def test_values_grow_with_tokens_and_what_is_computed_again(small_base):
    config = read_base(small_base)[1]
    text = config.get_text_config()
    layout = type("Layout", (), {"size": 10})()
    each = text.num_hidden_layers * (12 * text.hidden_size + 8 * text.intermediate_size)
    assert step_values(config, [layout], checkpointing=False) == 10 * each
    assert math.isclose(step_values(config, [layout] * 3, checkpointing=True), 40 * each)
