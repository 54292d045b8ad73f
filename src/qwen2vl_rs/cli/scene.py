"""Questions over large scenes."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import click

from .common import FILE, needs_training


@click.command("map")
@click.argument("model", type=FILE)
@click.argument("scene", type=FILE)
@click.argument("questions", nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, default=Path("map"), show_default=True)
@click.option(
    "--tile", type=click.IntRange(28, 4096), metavar="PIXELS",
    help="Side of a window.  [default: of the images the model was trained on, else 256]",
)  # fmt: skip
@click.option(
    "--resolution", type=click.FloatRange(0, min_open=True), metavar="METRES",
    help="Ground under a pixel of a window.  [default: likewise, else the scene's own]",
)  # fmt: skip
@click.option(
    "--overlap", type=click.FloatRange(0, 0.95), default=0.0, show_default=True,
    help="Share of a window that the next one shows too.",
)  # fmt: skip
@click.option("--base", type=FILE, help="Base of a checkpoint.  [default: where it was]")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def map_(
    model: Path,
    scene: Path,
    questions: Sequence[str],
    output: Path,
    tile: int | None,
    resolution: float | None,
    overlap: float,
    base: Path | None,
    lang: str,
    as_json: bool,
) -> None:
    """Ask questions of every window of a large georeferenced image.

    Writes map.tif (a band for each question: the probability of yes or urban, a number, or a
    class), windows.gpkg (answers and confidences) and map.html. Run it again to go on where it
    was interrupted.
    """
    questions = tuple(" ".join(q.split()) for q in questions)
    if not all(questions) or len(set(questions)) < len(questions):
        raise click.UsageError("a question is empty, or a duplicate of another")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in "".join(questions)):
        raise click.UsageError("a question holds control characters, or is not valid UTF-8")
    with needs_training():
        from ..geo.mapper import MapRequest, make_map
        from ..model.session import Session
    from ..report.mapped import write_page

    session = Session.open(model, base)
    request = MapRequest(scene, questions, output, tile, resolution, overlap)
    done = make_map(session, request)
    write_page(output / "map.html", done, scene.name, lang)
    files = [str(output / name) for name in ("map.tif", "windows.gpkg", "map.html")]
    if as_json:
        facts = {"windows": len(done.grid), "asked": done.asked, "left_out": done.left_out,
                 "rows": done.grid.rows, "columns": done.grid.columns,
                 "metres_per_pixel": done.grid.resolution, "shared": round(done.grid.shared, 4),
                 "questions": done.questions, "files": files}  # fmt: skip
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(files))
