import pytest
import torch
from transformers import Qwen2VLConfig

from qwen2vl_rs.engine import memory
from qwen2vl_rs.engine.memory import (
    bytes_per_token,
    memory_hint,
    plan_training,
    token_budget,
    training_memory,
)
from qwen2vl_rs.errors import RunError

GB = 10**9


class Model:
    """As much of a model as is looked at: Qwen2-VL-2B with its adapter."""

    device = torch.device("cuda")
    dtype = torch.bfloat16
    config = Qwen2VLConfig(
        text_config={"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
                     "vocab_size": 151936},
    )  # fmt: skip

    def named_modules(self):
        return iter(())

    def named_parameters(self):
        return (("model.layers.0.q_proj.lora_A.default.weight", p) for p in self.parameters())

    def parameters(self):
        with torch.device("meta"):
            yield torch.nn.Parameter(torch.empty(2_209_000_000, dtype=self.dtype), False)
            yield torch.nn.Parameter(torch.empty(74_000_000, dtype=torch.float32))


@pytest.mark.parametrize(
    ("card", "tokens"), [(80 * GB, 16384), (12 * GB, 15360), (8 * GB, 2816), (4 * GB, 512)]
)
def test_the_budget_follows_the_memory_of_the_card(monkeypatch, card, tokens):
    monkeypatch.setattr(memory, "device_memory", lambda device: card)
    found = token_budget(Model(), checkpointing=True)
    assert found % 256 == 0
    assert found == tokens
    # for answers, all logits are computed at once
    assert token_budget(Model()) == {80 * GB: 4096, 12 * GB: 4096, 8 * GB: 1792, 4 * GB: 512}[card]
    assert token_budget(Model(), 777) == 777


def test_the_2b_model_is_estimated_below_10_gb_at_the_default_questions_a_step():
    assert training_memory(Model(), 4096) < 10 * GB


def test_without_checkpointing_a_token_takes_what_all_layers_keep(monkeypatch):
    assert bytes_per_token(Model.config, 2) == pytest.approx(0.32e6, rel=0.02)
    assert bytes_per_token(Model.config, 2, checkpointing=False) == pytest.approx(5.2e6, rel=0.02)
    monkeypatch.setattr(memory, "device_memory", lambda device: 16 * GB)
    assert token_budget(Model(), checkpointing=True) == 16384
    assert token_budget(Model(), checkpointing=False) == 1536


@pytest.mark.parametrize(
    ("card", "step", "wanted", "tokens", "checkpointing"),
    [(80 * GB, 1622, None, 13824, False),  # as large packs as fit
     (24 * GB, 1622, None, 3072, False),  # a whole step fits
     (24 * GB, 3 * 1622, None, 16384, True),
     (12 * GB, 1622, None, 15360, True),
     (24 * GB, 1622, 8192, 8192, True),  # the pack that is asked for does not
     (80 * GB, 1622, 8192, 8192, False)],
)  # fmt: skip
def test_what_fits_is_kept(monkeypatch, card, step, wanted, tokens, checkpointing):
    monkeypatch.setattr(memory, "device_memory", lambda device: card)
    plan = plan_training(Model(), step, wanted)
    assert (plan.tokens, plan.checkpointing) == (tokens, checkpointing)
    needed = training_memory(Model(), wanted or step, checkpointing=False)
    assert plan.why == f"{needed / GB:.1f} of {card / GB:.1f} GB without it"
    assert plan.checkpointing is (needed > card)
    for given in (True, False):
        plan = plan_training(Model(), step, wanted, given)
        assert plan.checkpointing is given
        assert plan.tokens == token_budget(Model(), wanted, checkpointing=given)
        assert plan.why == "as set by training.gradient_checkpointing"


def test_a_cpu_shares_its_memory_with_others(monkeypatch):
    class Small(Model):
        device = torch.device("cpu")

    needed = training_memory(Small(), 2048, checkpointing=False)
    for room, checkpointing in ((2.1 * needed, False), (1.9 * needed, True)):
        monkeypatch.setattr(memory, "device_memory", lambda device, room=room: room)
        assert plan_training(Small(), 9999).checkpointing is checkpointing


def test_a_process_that_may_use_a_part_of_its_card_plans_with_that_part(monkeypatch):
    class Card:
        total_memory = 80 * GB

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: Card)
    monkeypatch.setattr("torch.cuda.get_per_process_memory_fraction", lambda device: 0.1)
    assert memory.device_memory(torch.device("cuda")) == 8 * GB
    assert token_budget(Model()) == 1792


def test_the_machine_has_memory():
    assert GB < memory.device_memory(torch.device("cpu")) < 10**14


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_shortage_names_the_setting_and_its_half(error):
    with pytest.raises(RunError, match="2,048 tokens") as caught, memory_hint(2048):
        raise error
    assert caught.value.hint.endswith("training.max_tokens_per_pack=1024")


def test_other_failures_pass():
    # a RuntimeError, as a shortage on a CPU is, but one that does not speak of memory
    with pytest.raises(NotImplementedError), memory_hint(2048):
        raise NotImplementedError("x")
