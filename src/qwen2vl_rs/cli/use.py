"""Using a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from .common import FILE, needs_training


@click.command()
@click.argument("model", type=FILE)
@click.argument("image", type=FILE)
@click.argument("questions", nargs=-1, required=True)
@click.option("--base", type=FILE, help="Base of a checkpoint.  [default: where it was]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def ask(
    model: Path, image: Path, questions: Sequence[str], base: Path | None, as_json: bool
) -> None:
    """Ask questions about one image; the image is encoded once.

    MODEL is a run folder, a checkpoint or a base.
    """
    with needs_training():
        from ..model.ask import ask as put

    if not all(q.strip() for q in questions):
        raise click.UsageError("a question is empty")
    answers = put(model, image, questions, base)
    if as_json:
        rows = [
            {"question": q, "answer": a.text, "confidence": round(a.confidence, 6)}
            for q, a in zip(questions, answers, strict=True)
        ]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif len(questions) == 1:
        click.echo(answers[0].text)
    else:
        for question, one in zip(questions, answers, strict=True):
            click.echo(f"{question}\t{' '.join(one.text.split())}")
