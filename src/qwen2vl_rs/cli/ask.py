"""``ask``: ask a model questions about images."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UTF_8, DataError
from ..library.early import require_model
from ..system.named_files import read_text
from ..system.oserrors import ABSENT, unreadable
from ..system.streams import output_is_lost
from ..system.terminal import printable
from .common import FILE, checkpoint_option, device_option, json_text, needs_training
from .help import Command

if TYPE_CHECKING:
    from ..predict.session import ModelAnswer, Session

_HINT = 'each line is an object like {"image": "scene.tif", "question": "Is there a road?"}'


@dataclass(frozen=True, slots=True)
class _ImageQuestion:
    """One question about one image; ``id`` is kept as it was given."""

    image: str
    question: str
    id: Any = None


@click.command(
    cls=Command,
    groups={
        "Images and questions": "more batch",
        "Model": "checkpoint answers before base device",
    },
    examples=[
        'output/demo tile.tif "Is there a road?" "How many buildings are there?"',
        'output/demo tiles/ "Is it a rural or an urban area?" --answers closed --json',
    ],
)
@click.argument("model", type=FILE)
@click.argument("words", nargs=-1, metavar="[IMAGE... QUESTION...]")
@click.option("-i", "--image", "more", type=FILE, multiple=True, help="Another image file.")
@click.option(
    "--batch",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="JSON Lines with image and question; - for standard input.",
)
@click.option(
    "--answers",
    type=click.Choice(["free", "closed"]),
    default="free",
    show_default=True,
    help="closed: rank yes and no, rural and urban, or the options of the question by their exact "
    "probability.",
)
@click.option("--before", is_flag=True, help="Also show the answers of the base model.")
@checkpoint_option
@click.option("--base", type=FILE, help="Base model of a checkpoint.  [default: as in training]")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def ask(
    model: Path,
    words: Sequence[str],
    more: Sequence[Path],
    batch: str | None,
    answers: str,
    before: bool,
    checkpoint: str | None,
    base: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Ask questions about one or more images; each image is encoded once.

    MODEL is a run folder, a checkpoint or a base model. Files and folders are images, everything
    else is a question; every question is asked about every image. Answers to --batch are JSON
    Lines in the same order.
    """
    from ..datasets.image_paths import require_image
    from .arguments import images_and_questions

    if batch is not None and (words or more):
        raise click.UsageError("give --batch, or images and questions, not both")
    if not all(word.strip() for word in words):
        raise click.UsageError("a question is empty")
    few = len(words) + len(more) < 2
    images, questions = ([], []) if few else images_and_questions(words)
    images += [str(path) for path in more if str(path) not in images]
    if batch is None and not (images and questions):
        raise click.UsageError("give an image and a question, or --batch FILE")
    asked = (
        _read_batch(batch) if batch else [_ImageQuestion(i, q) for i in images for q in questions]
    )
    require_model(model, base)
    for image in dict.fromkeys(one.image for one in asked):
        require_image(image, "check the path, relative to the current folder")
    with needs_training(device):
        from ..predict.session import Session
    session = Session.open(model, base, checkpoint=checkpoint)
    if before and not session.has_adapter:
        raise click.UsageError(f"--before needs a fine-tuned model, and {model} is a base model")
    rows = takewhile(
        lambda _: not output_is_lost(), _answer(session, asked, answers == "closed", before)
    )
    if batch:
        for row in rows:
            click.echo(json_text(row))
    elif as_json:
        click.echo(json_text(list(rows), 2))
    else:
        for row in rows:
            columns = _columns(row, len(images) > 1, len(questions) > 1)
            click.echo("\t".join(map(printable, columns)))


def _columns(row: dict[str, Any], several_images: bool, several_questions: bool) -> Iterator[str]:
    if several_images:
        yield row["image"]
    if several_questions:
        yield row["question"]
    if "before" in row:
        yield " ".join(row["before"]["answer"].split())
    yield " ".join(row["answer"].split())


def _answer(
    session: Session, asked: Sequence[_ImageQuestion], closed: bool, before: bool
) -> Iterator[dict[str, Any]]:
    """Yield the answers in order; consecutive questions about one image are asked together."""
    from ..predict.job import batched

    for some in batched(list(g) for _, g in groupby(asked, key=lambda one: one.image)):
        pixels = [(session.read(group[0].image), [a.question for a in group]) for group in some]
        encoded = [(session.encode(px), questions) for px, questions in pixels]
        after = session.ask(encoded, closed=closed)
        # an adapter of the vision tower makes other features
        bare = pixels if session.adapts_vision else encoded
        base = session.ask(bare, closed=closed, use_adapter=False) if before else None
        for g, group in enumerate(some):
            for q, one in enumerate(group):
                row = {} if one.id is None else {"id": one.id}
                row |= {"image": one.image, "question": one.question, **_facts(after[g][q])}
                yield row | ({"before": _facts(base[g][q])} if base else {})


def _facts(reply: ModelAnswer) -> dict[str, Any]:
    facts: dict[str, Any] = {"answer": reply.text, "confidence": round(reply.confidence, 6)}
    if reply.shares:
        facts["probabilities"] = {word: round(share, 6) for word, share in reply.shares.items()}
    return facts


def _read_batch(name: str) -> list[_ImageQuestion]:
    """The questions of a file of JSON Lines.

    Raises:
        DataError: it cannot be read, is empty, or a line (its number is named) is no question.
    """
    try:
        text = sys.stdin.read() if name == "-" else read_text(name, "utf-8-sig")
    except (*ABSENT, IsADirectoryError) as error:
        raise DataError(f"cannot read {name}: {error.strerror}", hint=_HINT) from error
    except OSError as error:
        raise unreadable(name, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {name}: it is not UTF-8", hint=UTF_8) from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.append(_one(line, f"{name}, line {number}"))
    if not found:
        raise DataError(f"{name} holds no questions", hint=_HINT)
    return found


def _one(line: str, place: str) -> _ImageQuestion:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON", hint=_HINT) from error
    record = record if isinstance(record, dict) else {}
    image, question = record.get("image"), record.get("question")
    if not (isinstance(image, str) and isinstance(question, str) and image and question.strip()):
        raise DataError(f"{place}: image and question must be text", hint=_HINT)
    return _ImageQuestion(image, question, record.get("id"))
