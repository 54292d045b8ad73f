"""The loss without a tensor of logits, against the loss of all logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from factory import make_samples
from plain import gradients, with_adapter
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.engine import head_loss
from qwen2vl_rs.engine.forward import forward
from qwen2vl_rs.engine.head_loss import loss_of_head
from qwen2vl_rs.engine.inputs import make_inputs
from qwen2vl_rs.engine.packing import ImageQuery, pack
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.training.steps import pack_loss
from random_base import Size, write_random_base

CPU = torch.device("cpu")
ROWS, WIDTH, VOCABULARY = 40, 16, 300


@pytest.fixture(params=[1, 7, 100, 300, 8192])
def words(request, monkeypatch):
    """So many words of the vocabulary at a time."""
    monkeypatch.setitem(head_loss.WORDS, "cpu", request.param)


def head(confidence=0.0):
    """A head, hidden states and targets, the first and the last word among them."""
    torch.manual_seed(0)
    found = torch.nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)
    targets = torch.randint(0, VOCABULARY, (ROWS,))
    targets[:2] = torch.tensor([0, VOCABULARY - 1])
    own = found.weight[targets]
    hidden = torch.randn(ROWS, WIDTH) + confidence * own / own.square().sum(1, keepdim=True)
    return found, hidden, targets


def exact(one, hidden, targets):
    """Losses and gradient in float64, of all logits."""
    hidden = hidden.double().requires_grad_()
    losses = cross_entropy(hidden @ one.weight.double().T, targets, reduction="none")
    losses.sum().backward()
    return losses.detach(), hidden.grad


def fused(one, hidden, targets, scale=1.0):
    hidden = hidden.clone().requires_grad_()
    with loss_of_head(one, targets):
        losses = one(hidden[None]).squeeze(0)
    (losses.sum() * scale).backward()
    return losses.detach(), hidden.grad


@pytest.mark.parametrize("confidence", [0, 4])
def test_loss_and_gradient_are_those_of_all_logits(words, confidence):
    one, hidden, targets = head(confidence)
    for found, expected in zip(
        fused(one, hidden, targets), exact(one, hidden, targets), strict=True
    ):
        assert (found - expected).norm() < 2e-6 * expected.norm()
    found = fused(one.double(), hidden.double(), targets)
    for some, expected in zip(found, exact(one, hidden, targets), strict=True):
        torch.testing.assert_close(some, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_target_that_is_nearly_sure_keeps_its_gradient_in_16_bits(dtype):
    """With the logits given: a probability of 0.999 in bfloat16 is 1."""
    one, hidden, targets = head(confidence=18)
    one.weight.copy_(one.weight.to(dtype))
    hidden = hidden.to(dtype).float()
    # what the head computes in 16 bits, and then all in float64
    logits = (hidden.to(dtype) @ one.weight.to(dtype).T).double().requires_grad_()
    losses = cross_entropy(logits, targets, reduction="none")
    losses.sum().backward()
    sure = losses.detach() < 0.01
    assert sure.sum() > 10
    expected = logits.grad @ one.weight.double()
    with torch.autocast("cpu", dtype):
        found, gradient = fused(one, hidden, targets)
    torch.testing.assert_close(found.double(), losses.detach(), rtol=1e-4, atol=1e-6)
    wrong = (gradient.double() - expected).norm(dim=1) / expected.norm(dim=1)
    assert wrong[sure].max() < (0.02 if dtype is torch.bfloat16 else 0.003)


def test_gradients_are_scaled_in_float32_for_float16():
    """As ``GradScaler`` does; the gradient itself would be too small for float16."""
    one, hidden, targets = head(confidence=18)
    with torch.autocast("cpu", torch.float16):
        _, plain = fused(one, hidden, targets)
        _, scaled = fused(one, hidden, targets, scale=2.0**10)
        _, tiny = fused(one, hidden, targets, scale=2.0**-24)
    torch.testing.assert_close(scaled / 2**10, plain, rtol=2e-3, atol=1e-6)
    assert not tiny.any()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_packs_loss_is_that_of_its_logits(tmp_path, family, tied, monkeypatch):
    """In every family, with a tied and with a separate head."""
    monkeypatch.setitem(head_loss.WORDS, "cpu", 100)
    size = Size(64, 3, vision_hidden=64, vision_layers=3, kv_heads=1)
    base = load_base(
        write_random_base(tmp_path / "base", size, family=family, tied=tied),
        InputConfig(), CPU, torch.float32,
    )  # fmt: skip
    model = with_adapter(base)
    samples = make_samples(tmp_path, images=1)[:5]
    branches = [base.prompts.branch(s.question, s.answer) for s in samples]
    asks = [ImageQuery(base.images.read(samples[0].image), branches)]
    (one,) = (make_inputs(p, model) for p in pack(asks, base.prompts, 2, 9999))
    logits = forward(model, one)
    plain = cross_entropy(logits, one.targets, reduction="sum")
    plain.backward()
    expected = gradients(model)
    loss = pack_loss(model, one)
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    largest = max(g.abs().max() for g in expected.values())
    found = gradients(model)
    assert found.keys() == expected.keys()
    assert max((found[n] - expected[n]).abs().max() for n in found) < 1e-6 * largest
    with torch.no_grad():
        assert pack_loss(model, one).item() == pytest.approx(loss.item(), rel=1e-6)
        assert torch.equal(forward(model, one), logits)  # the head is as before


def test_the_head_is_as_before_after_an_error():
    one, hidden, targets = head()
    with pytest.raises(ValueError, match="x"), loss_of_head(one, targets):
        raise ValueError("x")
    assert one(hidden).shape == (ROWS, VOCABULARY)
