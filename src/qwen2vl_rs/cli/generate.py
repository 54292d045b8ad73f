"""``generate``: data sets of synthetic scenes, or of images and vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..library.ranges import GENERATED_TILE
from ..system import console
from .common import FILE, Number, interruptible, option, same_command
from .help import Command


@click.command(
    cls=Command,
    groups={
        "Images": "synthetic image vectors tile resolution",
        "Questions": "legacy balanced like questions split seed",
        "Output": "output workers",
    },
    examples=[
        "--synthetic 400 --balanced -o world",
        "--image scene.tif --vectors region.osm.pbf -o my-region",
    ],
)
@click.option("--synthetic", type=click.IntRange(min=1), help="Number of synthetic scenes to draw.")
@click.option("--image", type=FILE, help="Georeferenced image, or a folder of them.")
@click.option(
    "--vectors",
    type=FILE,
    help="OpenStreetMap features of its area.  [default: the file of the same name]",
)
@click.option("--legacy", is_flag=True, help="Keep the habits of the published data.")
@click.option(
    "--balanced", is_flag=True, help="Balance answers, so that no wording gives its answer away."
)
@click.option(
    "--like",
    type=click.Choice(["lr", "hr"]),
    default="lr",
    show_default=True,
    help="Question types and file names of RSVQA-LR or -HR.",
)
@click.option(
    "--questions",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Maximum questions per image.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--split", default="0.8,0.1,0.1", show_default=True, help="Shares of train, val and test."
)
@click.option(
    "--tile",
    type=click.IntRange(*GENERATED_TILE),
    default=256,
    show_default=True,
    help="Width and height of the images in pixels.",
)
@click.option(
    "--resolution",
    type=Number(0, min_open=True),
    help="Metres per pixel of synthetic scenes.  [default: varied]",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Number of processes.  [default: one per core]"
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    default=Path("rsvqa-world"),
    show_default=True,
    help="Folder of the data set.",
)
def generate(
    legacy: bool,
    balanced: bool,
    split: str,
    output: Path,
    **asked: Any,
) -> None:
    """Make an RSVQA-style data set of synthetic scenes, or of your own images and vectors.

    Write the official layout, split by region, and a summary page. Vectors are any format that
    GDAL reads, with OpenStreetMap tags. The same command resumes.
    """
    synthetic, image = asked["synthetic"], asked["image"]
    if bool(synthetic) == bool(image):
        raise click.UsageError("give --synthetic N, or --image FILE")
    if legacy and balanced:
        raise click.UsageError("give --legacy or --balanced, not both")
    if asked["vectors"] and synthetic:
        raise click.UsageError("--vectors needs --image")
    if asked["resolution"] and image:
        raise click.UsageError("--resolution is for --synthetic; images have their own")

    from ..library.imagery import Style
    from ..library.imagery import generate as make
    from ..vqa_generation.dataset import parse_split
    from ..vqa_generation.generate import first_split

    style: Style = "legacy" if legacy else "balanced" if balanced else "corrected"
    with interruptible(same_command(f"the images and questions so far, in {output}")):
        made = make(output=output, style=style, split=parse_split(split), **asked)
    console.say(f"summary: {made.page}")
    folder = option("--folder", output, "")
    if first := first_split(output):
        console.say(f"next: qwen2vl-rs data2csv{folder} --split {first} -o {first}.csv")
