"""The vision tower: several images in a pass give what each gives alone."""

import pytest
import torch

from factory import make_samples
from qwen2vl_rs.config import ViewConfig
from qwen2vl_rs.model import vision
from qwen2vl_rs.model.loader import load_base
from qwen2vl_rs.model.vision import encoded, in_passes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("sizes", "passes"),
    [
        ([], []),
        ([4096, 1], [[0], [1]]),
        ([4095, 1, 1], [[0, 1], [2]]),
        ([9000, 324, 324], [[0], [1, 2]]),  # one that is larger than a pass has its own
        ([324] * 13, [list(range(12)), [12]]),
    ],
)
def test_a_pass_on_a_gpu_holds_as_many_images_as_fit(sizes, passes):
    assert list(in_passes(sizes, CUDA)) == passes


def test_a_cpu_takes_one_at_a_time():
    assert list(in_passes([4, 4, 4], CPU)) == [[0], [1], [2]]


def test_images_in_one_pass_have_the_features_of_each_alone(family_base, tmp_path, monkeypatch):
    base = load_base(family_base, ViewConfig(), CPU, torch.float32)
    names = dict.fromkeys(s.image for s in make_samples(tmp_path / "a", images=2, side=150))
    names |= dict.fromkeys(s.image for s in make_samples(tmp_path / "b", images=1, side=90))
    images = [base.images.read(name) for name in names]
    alone = encoded(base.model, images)
    monkeypatch.setitem(vision._PATCHES_AT_ONCE, "cpu", 1 << 20)
    calls = []
    real = vision.encode
    monkeypatch.setattr(vision, "encode", lambda *a: calls.append(1) or real(*a))
    together = encoded(base.model, [images[0], alone[1], images[2]])
    assert len(calls) == 1
    assert together[1] is alone[1]  # encoded before
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other.features, one.features, rtol=1e-4, atol=1e-5)
        assert other.patches is None
