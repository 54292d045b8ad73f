"""``map``: questions over large scenes."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import ImageError, Qwen2VLRSError, RunError
from ..library.early import require_model
from ..library.ranges import MAP_TILE, OVERLAP
from ..system.console import warn
from ..system.terminal import printable_lines
from .common import (
    FILE,
    Number,
    checkpoint_option,
    device_option,
    interruptible,
    json_text,
    needs_training,
    same_command,
)
from .help import Command


@click.command(
    "map",
    cls=Command,
    groups={
        "Windows": "tile resolution overlap",
        "Model": "checkpoint base device",
        "Output": "output lang as_json",
    },
    examples=[
        'output/demo scene.tif "Is there a building?" "How many roads are there?"',
        'output/demo scenes/*.tif "Is there water?" --tile 256 --resolution 0.3 -o maps',
    ],
)
@click.argument("model", type=FILE)
@click.argument("words", nargs=-1, required=True, metavar="SCENE... QUESTION...")
@click.option(
    "-o",
    "--output",
    type=FILE,
    default=Path("map"),
    show_default=True,
    help="Folder of the map; of several scenes, one folder each in it.",
)
@click.option(
    "--tile",
    type=click.IntRange(*MAP_TILE),
    metavar="PIXELS",
    help="Width and height of a window.  [default: as the training images, else 256]",
)
@click.option(
    "--resolution",
    type=Number(0, min_open=True),
    metavar="METRES",
    help="Metres per pixel of a window.  [default: as the training images, else as the scene]",
)
@click.option(
    "--overlap",
    type=Number(*OVERLAP),
    default=0.0,
    show_default=True,
    help="Share of a window that overlaps with the next one.",
)
@checkpoint_option
@click.option("--base", type=FILE, help="Base model of a checkpoint.  [default: as in training]")
@device_option
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def map_(
    model: Path,
    words: Sequence[str],
    output: Path,
    checkpoint: str | None,
    base: Path | None,
    device: str | None,
    as_json: bool,
    **windows: Any,
) -> None:
    """Map the answers to questions over large georeferenced images, window by window.

    Files and folders are scenes, everything else is a question.

    Write map.tif (one band per question: the probability of yes or urban, a number, or a class),
    windows.gpkg (answers and confidences) and map.html. The same command resumes.
    """
    from .arguments import images_and_questions

    scenes, asked = images_and_questions(words)
    questions = tuple(" ".join(q.split()) for q in asked)
    if not (scenes and questions):
        raise click.UsageError("give a scene and a question")
    if not all(questions) or len(set(questions)) < len(questions):
        raise click.UsageError("a question is empty, or a duplicate of another")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in "".join(questions)):
        raise click.UsageError("a question holds control characters, or is not valid UTF-8")
    require_model(model, base)
    with needs_training(device):
        from ..library.imagery import map_scene
        from ..library.model import load

        opened = load(model, checkpoint=checkpoint, base=base)
    made: list[dict[str, Any]] = []
    for scene, folder in _folders(scenes, output).items():
        try:
            with interruptible(same_command(f"the answers so far, in {folder}")):
                done = map_scene(opened, scene, questions, output=folder, **windows)
        except (ImageError, RunError) as error:
            made.append(_without(scene, error, alone=len(scenes) == 1))
            continue
        made.append({"scene": scene, **done.to_dict()})
        if not as_json:
            click.echo(printable_lines(made[-1]["files"]))
    if as_json:
        click.echo(json_text(made if len(made) > 1 else made[0], 2))
    _refuse_without(made)


def _without(scene: str, error: Qwen2VLRSError, *, alone: bool) -> dict[str, Any]:
    """Warn that a scene has no map; the other scenes are mapped all the same.

    Raises:
        Qwen2VLRSError: the scene is the only one.
    """
    if alone:
        raise error
    said = error.message if scene in error.message else f"{scene}: {error.message}"
    warn(f"no map: {said}", error.hint)
    return {"scene": scene, "error": said, "hint": error.hint}


def _refuse_without(made: Sequence[dict[str, Any]]) -> None:
    failed = [one["scene"] for one in made if "error" in one]
    if failed:
        raise RunError(
            f"{len(failed):,} of {len(made):,} scenes have no map: {', '.join(failed)}",
            hint="why stands above; mend them or leave them out, then run the same command again: "
            "it asks only what is missing",
        )


def _folders(scenes: Sequence[str], output: Path) -> dict[str, Path]:
    """The folder of each scene's map: the output itself for one scene, else one folder each."""
    if len(scenes) == 1:
        return {scenes[0]: output}
    folders: dict[str, Path] = {}
    taken: set[str] = set()
    for scene in scenes:
        stem = Path(scene).stem
        names = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
        name = next(one for one in names if _alike(one) not in taken)
        taken.add(_alike(name))
        folders[scene] = output / name
    return folders


def _alike(name: str) -> str:
    """A key that is the same for names that some file systems do not tell apart."""
    return unicodedata.normalize("NFC", name).casefold()
