"""The recipe of the embedded base takes a step of each phase, through the product's modules."""

import sys
from pathlib import Path

import pytest
import torch

from qwen2vl_rs.config import InputConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes/embedded_base"))


@pytest.mark.slow  # a hundred scenes are drawn
def test_a_step_of_each_phase(tmp_path):
    import scenes
    from language_phase import Lessons, encode, sentence_scores
    from sentences import corpus
    from vision_phase import GridHead, grid_loss, visual_tokens

    from qwen2vl_rs.models.loader import load_base
    from random_base import Size, write_random_base

    scenes.draw(tmp_path / "scenes", 1, 100, 2)
    known = scenes.load(tmp_path / "scenes")
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1, head=32)
    folder = write_random_base(tmp_path / "base", size, corpus=corpus(known.elements(0)))
    base = load_base(folder, InputConfig(instruction=""), dtype=torch.float32)

    visual, head = base.model.model.visual.requires_grad_(True), GridHead(size.hidden)
    predicted = head(visual_tokens(visual, known.pixels[:2]))
    truth = torch.from_numpy(known.targets[:2].astype("float32")).view(predicted.shape)
    grid_loss(predicted, truth).backward()
    assert all(p.grad is not None for p in head.parameters())
    visual.requires_grad_(False)

    seen = encode(base, known)
    base.model.model.language_model.requires_grad_(True)
    loss = Lessons(base, known, seen, images=2, questions=4, seed=2).loss(0)
    loss.backward()
    assert 0 < loss.item() < 20
    scores = sentence_scores(base, known, seen, 1)
    assert 0 <= scores["all"] <= 1
