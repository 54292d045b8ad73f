"""Greedy decoding of all questions of an image at once.

Shapes: T tokens of a pack, B branches still being decoded, C tokens in the cache, V words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from ..models.family import family_of
from ..models.finite import require_finite_scores
from ..models.images import ImageInput
from ..models.loader import Base
from .forward import forward
from .inputs import make_inputs
from .packing import ImageQuery, Pack, pack, prefix_order, unsort
from .vision import with_features


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer.

    Attributes:
        ids: token ids up to the end token.
        text: the decoded ids, without control tokens.
        confidence: probability of these tokens, with the end token if the answer has one.
    """

    ids: tuple[int, ...]
    text: str
    confidence: float


@torch.inference_mode()
def answer(
    base: Base,
    model: Any,
    groups: Sequence[tuple[ImageInput, Sequence[str]]],
    *,
    max_new_tokens: int = 32,
    budget: int = 4096,
) -> list[list[Answer]]:
    """Answer all questions of some images, each image encoded once per pack.

    Decoding is greedy: the same as ``model.generate(do_sample=False)`` for every question alone.

    Args:
        base: provides prompt format and image grid.
        model: ``base.model``, possibly with an adapter.
        groups: images with their questions.
        max_new_tokens: maximum tokens per answer.
        budget: maximum tokens per pack.

    Returns:
        For each image the answers in the order of its questions.

    Raises:
        ModelError: the model's output contains NaN or infinity.
    """
    images = with_features(model, [px for px, _ in groups])
    asks, orders = prefix_order(
        [
            ImageQuery(px, [base.prompts.branch(q) for q in qs])
            for px, (_, qs) in zip(images, groups, strict=True)
        ]
    )
    answers = (
        one
        for batch in pack(asks, base.prompts, base.images.merge_size, budget)
        for one in _decode(base, model, batch, max_new_tokens)
    )
    found = unsort(answers, orders)
    for (pixels, questions), row in zip(groups, found, strict=True):
        for question, one in zip(questions, row, strict=True):
            require_finite_scores([one.confidence], question, pixels.name)
    return found


def _decode(base: Base, model: Any, batch: Pack, max_new_tokens: int) -> list[Answer]:
    """Decode all leaves of a pack greedily, from one shared cache.

    The host waits for the device once per token, to learn which branches continue.
    """
    leaves, device = batch.layout.leaves, model.device
    cache = DynamicCache(config=model.config.get_text_config())
    logits = forward(model, make_inputs(batch, model, leaves), cache)  # (B, V)
    seen = torch.from_numpy(batch.layout.visible(leaves)).to(device)  # (B, T)
    axes, position = len(batch.layout.positions), batch.layout.positions[0, leaves]
    position = torch.from_numpy(position).to(device)
    stop = torch.tensor(sorted(base.prompts.stop_ids), device=device)
    said = torch.full((len(leaves), max_new_tokens), -1, device=device)  # token ids
    score = torch.zeros(len(leaves), device=device)
    active = torch.arange(len(leaves), device=device)  # branches still being decoded
    owner = active[:0]  # branch of every decoded token in the cache
    for step in range(max_new_tokens):
        best, token = logits.float().max(dim=-1)  # (B,)
        score[active] += best - logits.float().logsumexp(dim=-1)
        going = (~torch.isin(token, stop)).nonzero().squeeze(1)  # the host waits here
        active, token = active[going], token[going]
        said[active, step] = token
        if not len(active) or step + 1 == max_new_tokens:
            break
        owner = torch.cat([owner, active])
        mask = torch.cat([seen[active], owner[None] == active[:, None]], dim=1)  # (B, C)
        out = model(
            input_ids=token[None],
            position_ids=(position[active] + 1 + step).expand(axes, 1, -1),
            attention_mask=mask[None, None],
            **family_of(model.config).cache_inputs(cache),
            use_cache=True,
        )
        logits = out.logits.squeeze(0)
    rows, confidence = said.tolist(), score.exp().tolist()
    found = []
    for row, sure in zip(rows, confidence, strict=True):
        ids = [one for one in row if one >= 0]
        found.append(Answer(tuple(ids), base.prompts.decode(ids), sure))
    return found
