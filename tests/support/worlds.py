"""Worlds of the tests: scenes, and maps as OpenStreetMap had them where RSVQA was made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from rasterio.warp import transform

from qwen2vl_rs.questions.protocols import protocol
from qwen2vl_rs.raster import write_geotiff
from qwen2vl_rs.raster.scenes import Georeference
from qwen2vl_rs.scoring import baselines as controls
from qwen2vl_rs.synthetic.scene import CLASSES, Scene, make_scene, write_vectors
from qwen2vl_rs.types import Prediction, Sample
from qwen2vl_rs.vqa_generation.balance import SURPLUS, balance
from qwen2vl_rs.vqa_generation.dataset import assign_splits
from qwen2vl_rs.vqa_generation.questions import AnnotatedImage, Question, QuestionGenerator
from qwen2vl_rs.vqa_generation.referring import Phrase

#: Measured on the published data, 62 images of each: shares of types, of suffix, of elements with
#: a relation or an attribute, and of yes.
PUBLISHED = {
    "lr": {"presence": 0.298, "count": 0.294, "comp": 0.399, "rural_urban": 0.010,
           "relation": 0.0482, "attribute": 0.3243, "suffix": 0.102,
           "yes presence": 0.731, "yes less": 0.478, "yes more": 0.503, "yes equal": 0.024},
    "hr": {"presence": 0.262, "count": 0.262, "comp": 0.329, "area": 0.146,
           "relation": 0.1135, "attribute": 0.3115, "suffix": 0.105,
           "yes presence": 0.393, "yes less": 0.409, "yes more": 0.402, "yes equal": 0.162},
}  # fmt: skip

STARTS = ("Is there ", "Is the number ", "Is a", "How many ", "What is the number ",
          "What is the amount ", "Are there less ", "Are there more ")  # fmt: skip


def write_scene(place: Scene, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a scene as ``NAME.tif`` and ``NAME.geojson``."""
    image, vectors = folder / f"{name}.tif", folder / f"{name}.geojson"
    write_geotiff(image, place.draw(), place.crs, place.transform)
    write_vectors(place, vectors)
    return image, vectors


@dataclass
class Placed:
    """What vectors are read by: where an image lies, and how large it is."""

    reference: Georeference
    width: int
    height: int


def view_of(seed: int, number: int, **options) -> AnnotatedImage:
    place = make_scene(seed, number, **options)
    return AnnotatedImage(
        place.elements, place.side, place.side, place.resolution, place.top / 111_200
    )


def published_view(like: str, number: int) -> AnnotatedImage:
    """A map as RSVQA's: of the Netherlands and Belgium (LR), of New York and New Jersey (HR).

    OpenStreetMap is not complete: land uses are missing or called grass, and mappers write
    ``building=yes``, which RSVQA takes for residential.
    """
    rng = np.random.default_rng([number, 11])
    if like == "hr":
        setting = ("suburb", "city", "industry", "park", "village")[number % 5]
        view = view_of(5, number, side=512, resolution=0.1524, setting=setting)
        dropped = rng.random() < 0.4
        kept = [e for e in view.elements if not (dropped and e.layer == "land")]
        return replace(view, elements=kept, latitude=40.6)
    setting = ("suburb", "city", "village")[number % 3]
    view = view_of(6, number, side=1280, resolution=2.0, setting=setting)
    land = {e.label for e in view.elements if e.layer == "land"}
    dropped = {label for label in sorted(land - {"grass", "forest", "farmland", "meadow"})
               if rng.random() < 0.75}  # fmt: skip
    kept = []
    for e in view.elements:
        if e.label in ("meadow", "farmland") and rng.random() < 0.67:
            kept.append(replace(e, label="grass"))
        elif e.layer == "building" and rng.random() < 0.3:
            kept.append(replace(e, label="residential building"))
        elif e.label not in dropped:
            kept.append(e)
    return replace(view, elements=kept, latitude=51.8)


def legacy(like: str, images: int) -> Iterator[list[Question]]:
    asker = QuestionGenerator("legacy", like == "hr")
    for number in range(images):
        rng = np.random.default_rng([number, 12])
        yield asker.questions(rng, published_view(like, number))


def statistics(asked: Iterator[list[Question]]) -> dict[str, float]:
    """The figures of `PUBLISHED`; and how far a template's share is from its type's mean."""
    types, yes, templates = Counter(), defaultdict(list), defaultdict(Counter)
    relation, attribute, suffix = [], [], []
    for question in (q for questions in asked for q in questions):
        types[question.type] += 1
        kind = question.key[1] if question.type == "comp" else question.type
        yes[f"yes {kind}"].append(question.answer == "yes")
        start = next((s for s in STARTS if question.text.startswith(s)), "")
        templates[question.type][start] += 1
        if question.type != "rural_urban":
            suffix.append(question.text.endswith(" in the image?"))
        for phrase in question.key:
            if isinstance(phrase, Phrase):
                relation.append(bool(phrase.relation))
                attribute.append(bool(phrase.attribute))
    found = {t: n / types.total() for t, n in types.items()}
    found |= {name: float(np.mean(answers)) for name, answers in yes.items()}
    found |= {"relation": np.mean(relation), "attribute": np.mean(attribute)}
    found["templates"] = max(
        abs(n / shares.total() - 1 / len(shares)) for shares in templates.values()
        for n in shares.values()
    )  # fmt: skip
    return {**found, "suffix": float(np.mean(suffix))}


def question_only(manner: str, images: int, number: int, like: str = "lr") -> dict[str, float]:
    """What the question-only table scores on scenes it has not seen, by type and in all."""
    asker = QuestionGenerator(manner, like == "hr", CLASSES[5:])
    wanted = number * (SURPLUS if manner == "balanced" else 1)
    pools = [
        asker.questions(np.random.default_rng([k, 13]), view_of(9, k), wanted)
        for k in range(images)
    ]
    splits = assign_splits([(k, 0, 0) for k in range(images)], (0.7, 0.0, 0.3), 0, Counter())
    sides: dict[str, list[Sample]] = {"train": [], "test": []}
    for split, samples in sides.items():
        mine = [k for k, s in enumerate(splits) if s == split]
        chosen = [pools[k] for k in mine]
        if manner == "balanced":
            chosen = balance(np.random.default_rng(1), chosen, number, like.upper())
        for k, questions in zip(mine, chosen, strict=True):
            samples += [Sample("", str(k), q.text, q.answer, q.type) for q in questions]
    scored = [Prediction("", s.image, s.question, s.type, s.answer, "") for s in sides["test"]]
    by = protocol("official")
    table = controls.question_only_baseline(
        controls.count_training(sides["train"], [p.image for p in scored]), by, like.upper()
    )
    right = defaultdict(list)
    for s in sides["test"]:
        answer = table.answer(s.question, s.type)
        right[s.type].append(answer == by.to_class(s.answer, s.type, like.upper()))
    everything = [r for rights in right.values() for r in rights]
    return {
        **{t: float(np.mean(r)) for t, r in right.items()},
        "OA": float(np.mean(everything)),
        "per image": len(everything) / splits.count("test"),
    }


def write_layer(path, rows, crs="EPSG:4326", *, said=True, layer=None, **options):
    """A vector file of (shape, tags)."""
    columns = sorted({key for _, tags in rows for key in tags})
    shapes = [at(shape, crs) if shape is not None else None for shape, _ in rows]
    kinds = {s.geom_type for s in shapes if s is not None}
    pyogrio.raw.write(
        path, np.array([shapely.to_wkb(s) if s is not None else None for s in shapes]),
        [np.array([tags.get(c) for _, tags in rows], dtype=object) for c in columns], columns,
        crs=crs if said else None, layer=layer,
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown", **options,
    )  # fmt: skip
    return path


def at(shape, crs="EPSG:32631"):
    """A shape in metres from the image's lower left corner, in a reference system."""

    def move(points):
        x, y = points[:, 0] + 640_000, points[:, 1] + 5_770_000
        return np.column_stack(transform("EPSG:32631", crs, x, y))

    return shapely.transform(shape, move)
