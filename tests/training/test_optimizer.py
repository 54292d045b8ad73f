"""Learning rates of the parts of a model, also after a resume; tensors that cannot learn."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bases import SETTINGS
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig, LoraSettings, TrainingSettings
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import ConfigError, RunError
from qwen2vl_rs.models.adapter import add_adapter
from qwen2vl_rs.models.family import family_of
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.training.optimizer import check_gradients, parameter_groups
from qwen2vl_rs.training.trainer import TreeTrainer

RUN = Path("output/Qwen2-VL-2B")
PARTS = [
    "training.vision_tower=lora", "training.merger=full", "training.vision_learning_rate=0.002",
    "training.merger_learning_rate=0.0004", "lora.use_dora=true",
]  # fmt: skip


def model_of(folder, tower="frozen", merger="frozen"):
    base = load_base(folder, InputConfig(), torch.device("cpu"), torch.float32)
    return add_adapter(base.model, LoraSettings(r=2), tower, merger)


def test_each_part_has_its_rate_and_biases_do_not_decay(family_base):
    model = model_of(family_base, "full", "lora")
    settings = TrainingSettings(
        learning_rate=1e-3, vision_tower="full", merger="lora", vision_learning_rate=1e-5,
        merger_learning_rate=1e-4, weight_decay=0.5,
    )  # fmt: skip
    every = {name for name, _ in model.named_parameters()}
    groups = parameter_groups(model, family_of(model.config), settings, every)
    found = {(group["lr"], group["weight_decay"]) for group in groups}
    assert found == {(1e-3, 0.5), (1e-5, 0.5), (1e-5, 0), (1e-4, 0.5)}
    assert groups[0]["lr"] == 1e-3  # the rate in the log
    names = {id(weight): name for name, weight in model.named_parameters()}
    for group in groups:
        for weight in group["params"]:
            name = names[id(weight)]
            rate = 1e-4 if "merger" in name else 1e-5 if "visual" in name else 1e-3
            assert group["lr"] == rate, name
            assert (group["weight_decay"] > 0) == (weight.ndim > 1), name
    listed = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(listed) == sorted(id(w) for w in model.parameters() if w.requires_grad)


@pytest.mark.parametrize("part", ["vision", "merger"])
def test_a_rate_of_a_frozen_part_is_refused(part):
    with pytest.raises(ConfigError, match=f"{part}_learning_rate has no effect"):
        load_config(None, [f"training.{part}_learning_rate=0.1"])


def test_a_tensor_outside_of_the_computation_is_named(small_base):
    model = model_of(small_base)
    for name, weight in model.named_parameters():
        if weight.requires_grad and "q_proj" not in name:
            weight.grad = torch.ones_like(weight)
    check_gradients(model, 1)
    with pytest.raises(RunError, match=r"4 trained tensors of 28 cannot learn.*q_proj\.lora_A"):
        check_gradients(model, 0)


def test_a_tensor_whose_gradient_stays_zero_is_named(small_base, capsys):
    model = model_of(small_base)
    capsys.readouterr()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.grad = torch.full_like(weight, "lora_A" not in name)
    check_gradients(model, 0)
    check_gradients(model, 2)  # no step has changed B
    assert not capsys.readouterr().err
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data += 1
    check_gradients(model, 2)
    assert "14 trained tensors of 28 got no gradient in step 3" in capsys.readouterr().err


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=4))
    return tmp_path


def rates(optimizer):
    return sorted({group["lr"] for group in optimizer.param_groups})


def test_the_rates_of_the_parts_are_right_after_a_resume(here, small_base, monkeypatch, capsys):
    """As without an interruption, step by step; and the result is the same to the last bit."""
    more = [*PARTS, "training.num_train_epochs=4", "training.save_steps=3",
            "data.test_fraction=0.5", "eval.max_eval=1",
            "training.gradient_checkpointing=true"]  # fmt: skip
    seen = []
    real = TreeTrainer.training_step

    def training_step(self, *arguments):
        assert not Path(self.args.output_dir, "vision-cache").exists()
        seen.append(rates(self.optimizer))
        if stopping and self.state.global_step == 4:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(TreeTrainer, "training_step", training_step)

    def run(output, *words):
        settings = [*SETTINGS, *more, f"model={small_base}"]
        told = [w for s in settings for w in ("--set", s)]
        return main(["train", *told, "-o", output, *words])

    stopping = False
    assert run("whole") == 0
    whole, seen[:] = list(seen), []
    assert len(whole) == 8
    warm = 1 / math.ceil(0.03 * 8)
    assert whole[1] == pytest.approx([0.0004 * warm, 0.002 * warm, 0.01 * warm])
    stopping = True
    assert run("cut") == 130
    stopping = False
    seen.clear()
    assert run("cut", "--resume") == 0
    assert seen == whole[3:]
    lines = [Path(one, "metrics.jsonl").read_text().splitlines() for one in ("whole", "cut")]
    assert losses(lines[0]) == losses(lines[1])
    name = "checkpoint-8/adapter_model.safetensors"
    assert Path("whole", name).read_bytes() == Path("cut", name).read_bytes()
    assert capsys.readouterr().err.count("images are encoded in every step") == 3
    early = load_file(Path("whole/checkpoint-3/adapter_model.safetensors"))
    late = load_file(Path("whole", name))
    assert sum("visual" in tensor for tensor in late) > 12
    assert [tensor for tensor in late if torch.equal(early[tensor], late[tensor])] == []


def losses(lines):

    return [json.loads(line)["loss"] for line in lines]
