"""Answers: the forward pass over packs, and greedy decoding of all questions of an image at once.

Shapes: T tokens of a pack, B branches still being decoded, C tokens in the cache, V words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from .attention import prepared
from .finite import require_numbers
from .images import Pixels
from .loader import Base
from .packing import Ask, Pack, pack, put_back, sharing_order
from .vision import as_output, encode, encoded


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        ids: token ids up to the end token.
        text: the same as text, without control tokens.
        confidence: probability of these tokens, the end token included where it was reached.
    """

    ids: tuple[int, ...]
    text: str
    confidence: float


def forward(
    model: Any, batch: Pack, keep: torch.Tensor, cache: DynamicCache | None = None
) -> torch.Tensor:
    """Run a pack through the model.

    Args:
        model: a base, with or without adapter.
        batch: the pack.
        keep: (K,) indices of the tokens whose logits are wanted.
        cache: filled with the keys and values of all tokens.

    Returns:
        (K, V) logits.
    """
    inner = getattr(model, "module", model)  # behind DDP
    device = inner.device
    layout = batch.layout
    known = [image.features for image in batch.images]
    features = [f.to(device) for f in known if f is not None]
    if len(features) < len(known):
        features = encode(inner, batch.images)
    out = model(
        input_ids=torch.from_numpy(layout.ids)[None].to(device),
        position_ids=torch.from_numpy(layout.positions)[:, None].to(device),
        mm_encoder_outputs={"image": as_output(features)},
        logits_to_keep=keep.to(device),
        past_key_values=cache,
        use_cache=cache is not None,
        **prepared(inner, layout),
    )
    logits: torch.Tensor = out.logits[0]
    return logits


@torch.inference_mode()
def answer(
    base: Base,
    model: Any,
    groups: Sequence[tuple[Pixels, Sequence[str]]],
    *,
    max_new_tokens: int = 32,
    budget: int = 4096,
) -> list[list[Answer]]:
    """Answer all questions of some images, each image encoded once per pack.

    Greedy decoding: the same as ``model.generate(do_sample=False)`` on every question alone.

    Args:
        base: gives prompt format and image grid.
        model: ``base.model``, or the same with an adapter.
        groups: images with their questions.
        max_new_tokens: longest answer in tokens.
        budget: most tokens in a pack.

    Returns:
        For each image the answers in the order of its questions.

    Raises:
        ModelError: the model's output is not numbers.
    """
    asks, orders = sharing_order(
        [Ask(encoded(model, px), [base.prompts.branch(q) for q in qs]) for px, qs in groups]
    )
    answers = (
        one
        for batch in pack(asks, base.prompts, base.images.merge, budget)
        for one in _decode(base, model, batch, max_new_tokens)
    )
    found = put_back(answers, orders)
    for (pixels, questions), row in zip(groups, found, strict=True):
        for question, one in zip(questions, row, strict=True):
            require_numbers([one.confidence], question, pixels.name)
    return found


def _decode(base: Base, model: Any, batch: Pack, max_new_tokens: int) -> list[Answer]:
    """Greedy decoding of every leaf of a pack from one shared cache."""
    device = model.device
    leaves = torch.from_numpy(batch.layout.leaves)
    cache = DynamicCache(config=model.config.get_text_config())
    logits = forward(model, batch, leaves, cache)  # (B, V)
    seen = torch.from_numpy(batch.layout.visible(batch.layout.leaves)).to(device)  # (B, T)
    position = torch.from_numpy(batch.layout.positions[0, batch.layout.leaves]).to(device)
    stop = torch.tensor(sorted(base.prompts.stop_ids), device=device)
    ids: list[list[int]] = [[] for _ in leaves]
    score = torch.zeros(len(leaves), device=device)
    active = torch.arange(len(leaves), device=device)  # branches still being decoded
    owner = active[:0]  # branch of every decoded token in the cache
    for step in range(max_new_tokens):
        best, token = logits.float().max(dim=-1)  # (B,)
        score[active] += best - logits.float().logsumexp(dim=-1)
        going = ~torch.isin(token, stop)
        for branch, new in zip(active[going].tolist(), token[going].tolist(), strict=True):
            ids[branch].append(new)
        active, token = active[going], token[going]
        if not len(active) or step + 1 == max_new_tokens:
            break
        owner = torch.cat([owner, active])
        mask = torch.cat([seen[active], owner[None] == active[:, None]], dim=1)  # (B, C)
        out = model(
            input_ids=token[None],
            position_ids=(position[active] + 1 + step).expand(3, 1, -1),
            attention_mask=mask[None, None],
            past_key_values=cache,
            use_cache=True,
        )
        logits = out.logits[0]
    confidence = score.exp().tolist()
    return [
        Answer(tuple(i), base.prompts.decode(i), c) for i, c in zip(ids, confidence, strict=True)
    ]
