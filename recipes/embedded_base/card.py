"""The model card of the embedded base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_CARD = """\
---
license: apache-2.0
pipeline_tag: image-text-to-text
tags: [remote-sensing, synthetic-data]
---

# The embedded base

A Qwen2-VL of {millions:.1f} million parameters that looks at drawn aerial scenes and answers in
sentences. `qwen2vl-rs demo` fine-tunes it, so that the whole way can be walked without a GPU and
without a download. Apache-2.0; nothing in it comes from another model or data set.

Architecture, weight names and file layout are those of `Qwen/Qwen2-VL-2B-Instruct`; width, depth
and vocabulary (900 words and Qwen's special tokens, whose ids differ) are its own.

## How it was trained

`python recipes/embedded_base/train.py FOLDER`, from random weights, on {scenes:,} scenes drawn by
`qwen2vl_rs.synthetic`. First the vision tower alone, {eyes:,} steps: a linear head, since thrown
away, read off each visual token what lies in its cell. Then, the tower at rest, the language model,
{words:,} steps of questions and answers in sentences: what can be seen, how many, which are more,
where, town or country. It has met neither RSVQA's question templates nor its answer forms, nor
any real image. On {threads} threads of a server processor without a GPU this took {minutes:.0f}
minutes, the drawing of the scenes (about 20 a second) not counted.

## Figures

On scenes of a seed it was not trained on:

| what | right |
|---|---|
{rows}

A token's knowledge of its cell: {shares:.0%} of the variance of land-cover shares,
{buildings:.0%} of that of the number of buildings.

## Limits

It knows drawn scenes of 0.45 to 2 metres per pixel, 256 pixels wide, and nothing of real images.
Numbers above twenty are estimates. It is there to be fine-tuned in a demonstration and in tests;
figures of runs on it say nothing about Qwen2-VL-2B.
"""

_KINDS = {
    "seen": "is something there", "counted": "exact number", "compared": "which are more",
    "halved": "is it in that half", "found": "where is it", "placed": "town or country",
    "told": "full description", "all": "all, as asked in training",
}  # fmt: skip


def write_card(path: Path, figures: dict[str, Any]) -> None:
    """Write the card.

    Args:
        path: of the card.
        figures: as ``train.py`` measured them.
    """
    right, wrong = figures["sentences"], figures["sentences_wrong_scene"]
    rows = [
        f"| {name} | {right[kind]:.1%} (shown another scene: {wrong[kind]:.1%}) |"
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
