"""Report sections with examples: a gallery of changed answers, and question templates."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import RasterToRGB
from ..datasets.image_paths import find_in_folder
from ..errors import ImageError
from ..questions.grammar import template, type_of
from ..questions.protocols import judge, protocol
from ..questions.reply import extract_answer
from ..raster import read_rgb
from ..scoring.metrics import cluster_codes, type_order
from ..scoring.pairs import Pair, pairs
from ..scoring.statistics import overall
from ..types import Prediction
from .charts import Mark, percent_axis, strip
from .evidence import ReportInputs
from .i18n import Words
from .page_model import Case, CaseAnswer, Cell, Gallery, Section, Table
from .verdict import OFFICIAL

NO_FILE = "no such file"  # as in `raster`
SHOWN = 12  # cases per kind
LEAST = 10  # minimum questions of a ranked template
_WORST = 10
_SIDE = 320  # pixels of a picture: twice its size on the page
_LONGEST = 240  # maximum characters of a text in a case


@dataclass
class Pictures:
    """Thumbnails of image files as JPEG data URIs; unreadable files are recorded.

    Attributes:
        rule: conversion of files to RGB.
        folder: the folder of moved images; the longest end of a path that is a file there is used.
        gone: reason → names of files without a thumbnail.
        unnamed: number of cases without an image name.
    """

    rule: RasterToRGB
    folder: Path | None = None
    gone: dict[str, list[str]] = field(default_factory=dict)
    unnamed: int = 0

    def of(self, path: str) -> str:
        """Return the data URI of an image, or an empty text."""
        if not path:
            self.unnamed += 1
            return ""
        file = find_in_folder(self.folder, path) if self.folder else path
        try:
            pixels = read_rgb(file, self.rule)
        except ImageError as error:
            # the reason is shown without the folder, which is private
            why = error.message
            for name in (file, repr(file), ascii(file)):
                why = why.removeprefix(f"{name}: ").replace(name, os.path.basename(path))
            self.gone.setdefault(why, []).append(os.path.basename(path))
            return ""
        picture = Image.fromarray(pixels)
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def choose_examples(changed: Iterable[Pair], most: int = SHOWN) -> list[Pair]:
    """Choose at most ``most`` pairs, from every type in turn and from different images.

    Within a type they are in the order of a hash of their names, so nobody picks them.
    """
    waiting: dict[str, list[Pair]] = {}
    for pair in sorted(changed, key=_digest):
        waiting.setdefault(pair.type, []).append(pair)
    used: Counter[str] = Counter()
    chosen: list[Pair] = []
    while waiting and len(chosen) < most:
        for kind in type_order(waiting):
            queue = waiting[kind]
            pair = min(queue, key=lambda p: used[p.image])  # the first of the least used image
            queue.remove(pair)
            if not queue:
                del waiting[kind]
            used[pair.image] += 1
            chosen.append(pair)
    return chosen[:most]


def _digest(pair: Pair) -> bytes:
    name = "\0".join((pair.id, os.path.basename(pair.image), pair.question))
    return hashlib.sha256(name.encode("utf-8", "replace")).digest()


def cases(found: ReportInputs, pictures: Pictures, w: Words) -> Section | None:
    """Return the section of fixed and broken answers, if there is a comparison."""
    if found.both is None:
        return None
    results = found.after.results
    rows = pairs(*found.both, results["dataset"])
    kinds = {kind: [row for row in rows if row.change == kind] for kind in ("fixed", "broken")}
    lead = "cases.lead_alone" if results["clustered_by"] == "question" else "cases.lead"
    numbers = {kind: len(some) for kind, some in kinds.items()}
    galleries = [
        Gallery(
            w(f"cases.{kind}"),
            [_case(pair, pictures, w) for pair in choose_examples(some)],
            w(f"cases.none_{kind}"),
        )
        for kind, some in kinds.items()
    ]
    told = w(lead, most=SHOWN, **numbers)
    return Section("cases", w("cases.title"), told, galleries=galleries)


def _case(pair: Pair, pictures: Pictures, w: Words) -> Case:
    return Case(
        question=_cut(pair.question),
        truth=_cut(pair.answer),
        type=w.known("type", pair.type),
        before=_said("before", pair.before, pair.before_right, pair.before_confidence, w),
        after=_said("after", pair.after, pair.after_right, pair.after_confidence, w),
        image=os.path.basename(pair.image),
        alt=w("cases.picture", name=os.path.basename(pair.image)) if pair.image else "",
        picture=pictures.of(pair.image),
    )


def _said(who: str, text: str, right: bool, sure: float | None, w: Words) -> CaseAnswer:
    return CaseAnswer(
        who=w(f"cases.{who}"),
        text=_cut(extract_answer(text).text or text) or w("cases.nothing"),
        right=right,
        mark=w("cases.right" if right else "cases.wrong"),
        confidence="" if sure is None else w("cases.confidence", value=w.percent(sure)),
    )


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"


def templates(found: ReportInputs, w: Words) -> Section | None:
    """Return the section of templates with the lowest accuracy, if any has enough questions."""
    after = found.after.predictions
    right = _right(after, found)
    clusters, _ = cluster_codes(after)
    groups: dict[str, list[int]] = {}
    for i, p in enumerate(after):
        groups.setdefault(template(p.question), []).append(i)
    ranked = {name: mine for name, mine in groups.items() if len(mine) >= LEAST}
    if not ranked:
        return None
    was = _right(found.both[0], found) if found.both else None
    axis = percent_axis("")
    scored = sorted((float(right[mine].mean()), name) for name, mine in ranked.items())
    rows = []
    for _, name in scored[:_WORST]:
        mine = ranked[name]
        one = overall(right[mine], clusters[mine])
        marks = [Mark(one.value, "after", one.ci)]
        if was is not None:
            old = overall(was[mine], clusters[mine])
            marks.insert(0, Mark(old.value, "before"))
        kind = w.known("type", type_of(after[mine[0]]))
        cells = [Cell(_cut(name[:1].upper() + name[1:])), Cell(kind), Cell(f"{len(mine):,}")]
        if was is not None:
            cells.append(Cell(f"{100 * old.value:.1f}", w.range(old.ci)))
        drawn = strip(marks, axis, [["before", "after"]])
        cells.append(Cell(f"{100 * one.value:.1f}", w.range(one.ci), drawn))
        rows.append(cells)
    columns = ["template", "type", "n", *(["before"] if was is not None else []), "after"]
    few = [len(mine) for mine in groups.values() if len(mine) < LEAST]
    rest = w("templates.rest", n=len(few), questions=sum(few))
    return Section(
        id="templates",
        title=w("templates.title"),
        lead=w("templates.lead", least=LEAST),
        tables=[Table([w(f"head.{c}") for c in columns], rows)],
        notes=[rest] if few else [],
    )


def _right(run: Sequence[Prediction], found: ReportInputs) -> np.ndarray:
    return judge(run, protocol(OFFICIAL), found.after.results["dataset"]).scores
