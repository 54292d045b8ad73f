"""Write the model card of the bundled base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_CARD = """\
---
license: apache-2.0
pipeline_tag: image-text-to-text
tags: [remote-sensing, synthetic-data]
---

# The bundled base model

A Qwen2-VL of {millions:.1f} million parameters, trained on synthetic aerial scenes, that answers in
sentences. `qwen2vl-rs demo` fine-tunes it, so that all steps can be tried without a GPU and without
a download. Apache-2.0; it uses no other model and no other data set.

Architecture, weight names and file layout are those of `Qwen/Qwen2-VL-2B-Instruct`. Width, depth
and vocabulary (900 tokens and Qwen's special tokens, with different ids) differ.

## How it was trained

`python recipes/embedded_base/train.py FOLDER`, from random weights, on {scenes:,} scenes drawn by
`qwen2vl_rs.synthetic`. First the vision tower alone, {eyes:,} steps: a linear head, discarded
afterwards, predicted the content of each visual token's cell. Then, with the tower frozen, the
language model, {words:,} steps of questions and answers in sentences: presence, counts,
comparisons, positions, town or country. It was not trained on RSVQA's question templates and answer
formats, nor on real images. On {threads} threads of a server processor without a GPU this took
{minutes:.0f} minutes, without the drawing of the scenes (about 20 per second).

## Results

On scenes of another seed than in training:

| question | correct |
|---|---|
{rows}

Explained variance in a token's cell: {shares:.0%} for land-cover shares, {buildings:.0%} for the
number of buildings.

## Limits

It is trained on synthetic scenes of 0.45 to 2 metres per pixel, 256 pixels wide, and not on real
images. Numbers above twenty are estimates. It is meant for fine-tuning in a demonstration and in
tests; results of runs with it say nothing about Qwen2-VL-2B.
"""

_KINDS = {
    "seen": "presence", "counted": "exact count", "compared": "comparison",
    "halved": "in that half of the image", "found": "position", "placed": "town or country",
    "told": "full description", "all": "all, in the proportions of training",
}  # fmt: skip


def write_card(path: Path, figures: dict[str, Any]) -> None:
    """Write the card.

    Args:
        path: the file to write.
        figures: the measurements of ``train.py``.
    """
    right, wrong = figures["sentences"], figures["sentences_wrong_scene"]
    rows = [
        f"| {name} | {right[kind]:.1%} (with another scene: {wrong[kind]:.1%}) |"
        for kind, name in _KINDS.items()
        if kind in right and kind in wrong
    ]
    grid = figures["grid"]
    card = _CARD.format(
        millions=figures["parameters"] / 1e6,
        scenes=figures["scenes"],
        eyes=figures["eyes_steps"],
        words=figures["words_steps"],
        threads=figures["threads"],
        minutes=figures["seconds_of_this_call"] / 60,
        rows="\n".join(rows),
        shares=grid["shares_r2"],
        buildings=grid["buildings_r2"],
    )
    path.write_text(card, encoding="utf-8")
