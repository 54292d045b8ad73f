"""Data sets and maps from Python: of synthetic scenes, and of your own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigError
from ..system.calls import public, require_one_of
from ..system.notebook import html_page
from .model import LocalModel, Model
from .ranges import GENERATED_TILE, MAP_TILE, MORE_THAN_0, OVERLAP, require_within
from .rows import Rows
from .scores import Source

if TYPE_CHECKING:
    from ..datasets.base import Dataset
    from ..maps.mapper import Mapped

Style = Literal["corrected", "legacy", "balanced"]


@dataclass(frozen=True, slots=True)
class GeneratedDataset:
    """A data set that was made.

    Attributes:
        folder: in the official layout.
        page: its summary, HTML.
    """

    folder: Path
    page: Path

    def split(self, name: str) -> Dataset:
        """The questions of ``train``, ``val`` or ``test``."""
        from ..datasets.folders import RSVQA

        return RSVQA(self.folder, split=name)


class SceneMap(Rows):
    """The answers over a scene.

    Attributes:
        files: ``map.tif``, ``windows.gpkg`` and ``map.html``.
        mapped: the windows and their answers.
    """

    def __init__(self, mapped: Mapped, files: Sequence[Path]) -> None:
        self.mapped, self.files = mapped, tuple(files)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.files))

    def to_dict(self) -> dict[str, Any]:
        """What was done, in plain values."""
        done = self.mapped
        return {
            "windows": len(done.grid),
            "asked": done.asked,
            "left_out": done.left_out,
            "rows": done.grid.rows,
            "columns": done.grid.columns,
            "metres_per_pixel": done.grid.resolution,
            "shared": round(done.grid.shared, 4),
            "questions": done.questions,
            "files": list(map(str, self.files)),
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row for each window and question that was asked."""
        return list(self._rows())

    def _rows(self) -> Iterator[dict[str, Any]]:
        for line in self.mapped.lines:
            for one, reply in zip(self.mapped.questions, line.get("replies", ()), strict=False):
                named = {"window": line["window"], "question": one["question"]}
                yield {**named, "text": reply["text"], "confidence": reply["confidence"]}

    def _repr_html_(self) -> str:
        return html_page(self.files[-1].read_text(encoding="utf-8"), 700)


@public
def generate(
    *,
    output: Source,
    synthetic: int | None = None,
    image: Source | None = None,
    vectors: Source | None = None,
    style: Style = "corrected",
    like: Literal["lr", "hr"] = "lr",
    questions: int = 100,
    seed: int = 0,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    tile: int = 256,
    resolution: float | None = None,
    workers: int | None = None,
) -> GeneratedDataset:
    """Make a data set of synthetic scenes, or of your own images and vectors.

    Args:
        output: its folder; the same call resumes in it.
        synthetic: number of scenes to draw.
        image: a georeferenced image, or a folder of them, instead.
        vectors: the features over it; None for the file of the same name.
        style: of the questions: ``corrected``; ``balanced``: no wording gives its answer away;
            ``legacy``: with the habits of the published data.
        like: question types and file names of RSVQA-LR or -HR.
        questions: most questions about each image.
        seed: of all that is random.
        split: shares of train, val and test.
        tile: side of the images in pixels.
        resolution: of synthetic scenes, metres per pixel; None varies it.
        workers: processes; None for one per core.

    Raises:
        Qwen2VLRSError: nothing can be made of this, or the folder cannot be used.

    Examples:
        >>> world = rs.generate(synthetic=3, output="world", questions=10, tile=64)
        >>> world.split("train").distinct("type")
        [...]
    """
    from ..vqa_generation.dataset import parse_split
    from ..vqa_generation.generate import Plan
    from ..vqa_generation.generate import generate as make
    from ..vqa_generation.tiles import pair_vectors

    require_one_of("style", style, "corrected", "legacy", "balanced")
    require_one_of("like", like, "lr", "hr")
    numbers = {"synthetic": synthetic, "questions": questions, "workers": workers}
    require_within({name: (value, 1, inf) for name, value in numbers.items()})
    require_within({"seed": (seed, 0, inf), "tile": (tile, *GENERATED_TILE)})
    require_within({"resolution": (resolution, MORE_THAN_0, inf)})
    if bool(synthetic) == (image is not None):
        raise ConfigError("name synthetic, a number of scenes, or an image")
    left_out: Counter[str] = Counter()
    own = Path(vectors) if vectors else None
    sources = pair_vectors(Path(image), own, left_out) if image is not None else ()
    shares = parse_split(",".join(map(str, split)))
    plan = Plan(synthetic or 0, sources, style, like, questions, seed, shares, tile, resolution)
    summary = make(plan, Path(output), workers or os.cpu_count() or 1, left_out)
    return GeneratedDataset(Path(output), summary)


@public
def map_scene(
    model: Model,
    scene: Source,
    questions: str | Sequence[str],
    *,
    output: Source = "map",
    tile: int | None = None,
    resolution: float | None = None,
    overlap: float = 0.0,
    lang: Literal["en", "zh"] = "en",
) -> SceneMap:
    """Ask questions of every window of a large georeferenced image, and map the answers.

    Args:
        model: on this machine, see `load`.
        scene: path of the image.
        questions: one or more.
        output: folder of the map; the same call resumes in it.
        tile: side of a window in pixels; None: as the model was trained, else 256.
        resolution: metres per pixel of a window; None: likewise, else the scene's own.
        overlap: share of a window that the next one shows too.
        lang: language of the page.

    Raises:
        Qwen2VLRSError: the scene or the folder cannot be used.

    Examples:
        >>> made = rs.map_scene(rs.load("output/demo"), "scene.tif", "Is there a road?", tile=64)
        >>> [file.name for file in made.files]
        ['map.tif', 'windows.gpkg', 'map.html']
        >>> len(made.rows()) == made.to_dict()["asked"]
        True
    """
    from ..maps.mapper import MapRequest, make_map
    from ..reporting.map_page import write_page

    if not isinstance(model, LocalModel):
        raise ConfigError("a map needs a model on this machine", hint='rs.load("output/demo")')
    require_one_of("lang", lang, "en", "zh")
    asked = (questions,) if isinstance(questions, str) else tuple(questions)
    windows = {"tile": (tile, *MAP_TILE), "resolution": (resolution, MORE_THAN_0, inf)}
    require_within(windows | {"overlap": (overlap, *OVERLAP)})
    if not asked:
        raise ConfigError("there is no question", hint="give at least one")
    folder = Path(output)
    request = MapRequest(Path(scene), asked, folder, tile, resolution, overlap)
    done = make_map(model.session, request)
    write_page(folder / "map.html", done, Path(scene).name, lang)
    return SceneMap(done, [folder / name for name in ("map.tif", "windows.gpkg", "map.html")])
