"""``generate``: data sets of drawn scenes, or of an image and vectors."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click

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
@click.option("--synthetic", type=click.IntRange(min=1), help="Number of scenes to draw.")
@click.option("--image", type=FILE, help="Georeferenced image, or a folder of them.")
@click.option(
    "--vectors",
    type=FILE,
    help="OpenStreetMap's features over it.  [default: the file of the same name]",
)
@click.option("--legacy", is_flag=True, help="Ask with the habits of the published data.")
@click.option("--balanced", is_flag=True, help="Ask so that no question gives its answer away.")
@click.option(
    "--like",
    type=click.Choice(["lr", "hr"]),
    default="lr",
    show_default=True,
    help="Types of questions and names of files: RSVQA-LR's or -HR's.",
)
@click.option(
    "--questions",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Questions about each image, at most.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--split", default="0.8,0.1,0.1", show_default=True, help="Shares of train, val and test."
)
@click.option(
    "--tile",
    type=click.IntRange(min=64, max=2048),
    default=256,
    show_default=True,
    help="Side of the images in pixels.",
)
@click.option(
    "--resolution",
    type=Number(0, min_open=True),
    help="Of scenes, metres per pixel.  [default: varied]",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option(
    "-o",
    "--output",
    type=FILE,
    default=Path("rsvqa-world"),
    show_default=True,
    help="Folder of the data set.",
)
def generate(
    synthetic: int | None,
    image: Path | None,
    vectors: Path | None,
    legacy: bool,
    balanced: bool,
    split: str,
    resolution: float | None,
    workers: int | None,
    output: Path,
    **asked: Any,
) -> None:
    """Make an RSVQA of drawn scenes, or of your own images and vectors.

    Writes the official layout, split by region, and a summary page. Vectors are whatever GDAL
    reads, with OpenStreetMap's tags. Run again, it goes on where it was interrupted.
    """
    if bool(synthetic) == bool(image):
        raise click.UsageError("give --synthetic N, or --image FILE")
    if legacy and balanced:
        raise click.UsageError("give --legacy or --balanced, not both")
    if vectors and synthetic:
        raise click.UsageError("--vectors needs --image")
    if resolution and image:
        raise click.UsageError("--resolution is for --synthetic; images have their own")

    from ..vqa_generation.dataset import parse_split
    from ..vqa_generation.generate import Plan, first_split
    from ..vqa_generation.generate import generate as make
    from ..vqa_generation.tiles import pair_vectors

    left_out: Counter[str] = Counter()
    sources = pair_vectors(image, vectors, left_out) if image else ()
    plan = Plan(
        synthetic=synthetic or 0,
        sources=sources,
        manner="legacy" if legacy else "balanced" if balanced else "corrected",
        split=parse_split(split),
        resolution=resolution,
        **asked,
    )
    with interruptible(same_command(f"the images and questions so far, in {output}")):
        page = make(plan, output, workers or os.cpu_count() or 1, left_out)
    console.say(f"look at {page}")
    folder = option("--folder", output, "")
    if first := first_split(output):
        console.say(f"next: qwen2vl-rs data2csv{folder} --split {first} -o {first}.csv")
