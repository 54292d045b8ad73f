"""Write the HTML summary page of a generated data set."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ..config import RasterToRGB
from ..questions.protocols import class_order, protocol
from ..raster import read_rgb
from ..system.files import atomic_write
from .dataset import SPLITS, Generated
from .questions import Manner, Question

_EXAMPLES = 12
_QUESTIONS = 4  # shown of each example
_THUMBNAIL = 256
_MANNERS = {
    "corrected": "Questions are those of RSVQA, with its errors corrected.",
    "legacy": "Questions reproduce the published RSVQA, including its errors.",
    "balanced": "The answers of each question are balanced against language priors.",
}


def write(page: Path, images: Path, manner: Manner, like: str, made: Generated) -> None:
    """Write the page as one file without scripts.

    Args:
        page: the output file.
        images: image folder.
        manner: manner of the questions.
        like: ``lr`` or ``hr``, which defines the classes of the answers.
        made: the data set.

    Raises:
        RunError: the file cannot be written.
    """
    every = [question for mine in made.questions for question in mine]
    asked = {split for mine, split in zip(made.questions, made.splits, strict=True) if mine}
    types = sorted({question.type for question in every})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    text = environment.get_template("summary.html").render(
        title=f"{len(every):,} questions about {sum(map(bool, made.splits)):,} images",
        intro=_MANNERS[manner],
        types=types,
        splits=list(_splits(made, types)),
        first=next((split for split in SPLITS if split in asked), None),
        split_note="The splits share no region.",
        answers=list(_answers(every, types, like.upper())),
        examples=list(_examples(images, made)),
        left_out=[{"n": f"{n:,}", "reason": reason} for reason, n in made.left_out.items() if n],
    )
    with atomic_write(page) as file:
        file.write(text)


def _splits(made: Generated, types: Sequence[str]) -> Iterator[dict[str, Any]]:
    for split in SPLITS:
        mine = [asked for asked, s in zip(made.questions, made.splits, strict=True) if s == split]
        count = Counter(q.type for asked in mine for q in asked)
        yield {
            "name": split,
            "images": f"{len(mine):,}",
            "questions": f"{count.total():,}",
            "types": [f"{count[t]:,}" for t in types],
        }


def _answers(
    questions: Sequence[Question], types: Sequence[str], dataset: str
) -> Iterator[dict[str, Any]]:
    to_class = protocol("official").to_class
    count: dict[str, Counter[str]] = {t: Counter() for t in types}
    for q in questions:
        count[q.type][to_class(q.answer, q.type, dataset) or q.answer] += 1
    for type_ in types:
        total = count[type_].total()
        yield {
            "type": type_,
            "rows": [
                {
                    "label": label,
                    "n": f"{n:,}",
                    "percent": f"{100 * n / total:.1f}",
                    "width": f"{20 * n / total:.2f}",
                }
                for label, n in sorted(count[type_].items(), key=lambda row: class_order(row[0]))
            ],
        }


def _examples(images: Path, made: Generated) -> Iterator[dict[str, Any]]:
    """Yield images spread over the data set, each with a few questions."""
    asked_about = [k for k, asked in enumerate(made.questions) if asked]
    step = max(1, len(asked_about) // _EXAMPLES)
    for k in asked_about[::step][:_EXAMPLES]:
        pixels = Image.fromarray(read_rgb(images / f"{k}.tif", RasterToRGB()))
        pixels.thumbnail((_THUMBNAIL, _THUMBNAIL))
        png = io.BytesIO()
        pixels.save(png, "PNG")
        asked = made.questions[k]
        yield {
            "id": k,
            "png": base64.b64encode(png.getvalue()).decode(),
            "split": made.splits[k],
            "size": f"{made.pictures[k].resolution:g} m per pixel",
            "questions": asked[:: max(1, len(asked) // _QUESTIONS)][:_QUESTIONS],
        }
