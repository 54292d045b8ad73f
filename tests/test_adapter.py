import pytest
import torch

from qwen2vl_rs.config import LoraSettings, ViewConfig
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.model.adapter import Dropout, add_adapter
from qwen2vl_rs.model.loader import load_base


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_dropout_drops_the_share_it_should_and_keeps_the_mean(p):
    torch.manual_seed(0)
    layer, x = Dropout(p).train(), torch.ones(1000, 401, requires_grad=True)
    y = layer(x)
    zeros = (y == 0).float()
    assert zeros.mean().item() == pytest.approx(p, abs=0.003)
    assert y.mean().item() == pytest.approx(1, abs=0.006)
    # no neighbour knows of its neighbour, in rows and columns, at all distances within a draw
    for shift in range(1, 9):
        both = (zeros.flatten()[shift:] * zeros.flatten()[:-shift]).mean().item()
        assert both == pytest.approx(p * p, abs=0.003)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())
    assert layer.eval()(x) is x


def test_dropout_repeats_itself_by_seed():
    layer, x = Dropout(0.3), torch.ones(77)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_the_adapter_sits_on_the_language_model_with_our_dropout(small_base):
    base = load_base(small_base, ViewConfig(), torch.device("cpu"))
    model = add_adapter(base.model, LoraSettings(r=2))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 2  # A and B of seven layers in two blocks
    assert all("language_model" in name for name in trained)
    drops = [m for n, m in model.named_modules() if "lora_dropout.default" in n]
    assert len(drops) == 14
    assert all(isinstance(m, Dropout) for m in drops)
    with pytest.raises(ConfigError, match="target_modules"):
        add_adapter(load_base(small_base, ViewConfig(), torch.device("cpu")).model,
                    LoraSettings(target_modules=("nothing",)))  # fmt: skip
