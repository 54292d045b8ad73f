"""The web page of a question map: the scene with the answers on top, in one file."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageColor

from ..maps.values import Band
from ..maps.windows import LEAST_DATA
from ..system.files import atomic_write
from .i18n import Words
from .page import render

if TYPE_CHECKING:  # making a map needs torch, its page does not
    from ..maps.mapper import Mapped

# Dark to bright and safe for colour blindness: nine colours of viridis (Smith & van der Walt).
_RAMP = "#440154 #472c7a #3b518b #2c718e #21908d #27ad81 #5cc863 #aadc32 #fde725"
# For classes: Okabe & Ito's eight colours, then greys.
_CLASSES = [
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#000000"),
    *("#555555", "#777777", "#999999", "#bbbbbb", "#dddddd"),
]


@dataclass(frozen=True, slots=True)
class Layer:
    """One question on the page.

    Attributes:
        question: the question.
        picture: data URL of the coloured values.
        legend: (colour, text) of classes; empty for a colour ramp.
        ends: labels of the ends of the ramp; empty for classes.
        summary: a summary of the answers.
        values: for display at the pointer, row by row; None for no value.
        value_names: names of the values: of each class, or one for all.
    """

    question: str
    picture: str
    legend: list[tuple[str, str]]
    ends: tuple[str, str] | None
    summary: str
    values: list[float | None]
    value_names: list[str]


def write_page(path: Path, done: Mapped, name: str, language: str) -> None:
    """Write the page.

    Args:
        path: file of the page.
        done: the map.
        name: name of the scene.
        language: ``en`` or ``zh``.

    Raises:
        RunError: the file is not writable.
    """
    w = Words(language)
    grid = done.grid
    left, top, width, height = grid.frame
    place = {
        "left": 100 * left / grid.width,
        "top": 100 * top / grid.height,
        "width": 100 * width / grid.width,
        "height": 100 * height / grid.height,
    }
    layers = [_layer(one, w) for one in done.bands]
    known = {
        "rows": grid.rows,
        "columns": grid.columns,
        "place": place,
        "layers": [{"values": one.values, "names": one.value_names} for one in layers],
        "none": w("map.none"),
    }
    facts = w(
        "map.facts",
        asked=done.asked,
        windows=len(grid),
        side=grid.side,
        metres=f"{grid.resolution:.3g}",
    )
    if grid.shared > 0:
        facts += w("map.shared", share=w.percent(grid.shared))
    if done.left_out:
        facts += w("map.left_out", n=done.left_out, least=w.percent(LEAST_DATA))
    html = render(
        "map.html",
        w=w,
        name=name,
        model=done.model,
        layers=layers,
        place=place,
        scene=_url(Image.fromarray(done.preview), "JPEG"),
        facts=facts,
        # "<" could let a question close the script element
        known=Markup(json.dumps(known, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")),
    )
    with atomic_write(path) as file:
        file.write(html)


def _layer(one: Band, w: Words) -> Layer:
    good = np.isfinite(one.values)
    inside = one.values[good].astype(np.float64)
    values = [None if math.isnan(v) else round(float(v), 3) for v in one.values.ravel()]
    if one.kind == "class":
        shares = np.bincount(inside.astype(np.intp), minlength=len(one.classes))
        total = max(1, len(inside))
        names = [
            w("map.share", word=word, share=w.percent(n / total))
            for word, n in zip(one.classes, shares.tolist(), strict=True)
        ]
        colours = _rgb(_CLASSES)
        picture = _picture(colours[np.where(good, one.values, 0).astype(np.intp)], good)
        legend = list(zip(_CLASSES, names, strict=False))
        return Layer(one.question, picture, legend, None, "", values, list(one.classes))
    low, high = (0.0, 1.0) if one.kind == "probability" else _limits(inside)
    scaled = np.clip((np.where(good, one.values, low) - low) / (high - low), 0, 1)
    picture = _picture(_ramp(scaled), good)
    if one.kind == "probability":
        ends = (w.percent(0), w.percent(1))
        summary = (
            w("map.likely", word=one.of, share=w.percent(float((inside > 0.5).mean())))
            if inside.size
            else ""
        )
        return Layer(one.question, picture, [], ends, summary, values, [f"P({one.of})"])
    ends = (f"{low:,.0f}", f"{high:,.0f}")
    summary = (
        w("map.mean", mean=f"{inside.mean():,.1f}", most=f"{inside.max():,.0f}")
        if inside.size
        else ""
    )
    return Layer(one.question, picture, [], ends, summary, values, [""])


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    high = float(np.percentile(values, 98)) if values.size else 1.0
    return 0.0, max(1.0, high)


def _ramp(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map (rows, columns) of 0..1 to colours (rows, columns, 3)."""
    colours = _rgb(_RAMP.split())
    at, steps = scaled * (len(colours) - 1), np.arange(len(colours))
    return np.stack([np.interp(at, steps, channel) for channel in colours.T], axis=2)


def _picture(colours: NDArray[Any], good: NDArray[np.bool_]) -> str:
    alpha = np.where(good, 255, 0)[:, :, None]
    rgba = np.concatenate([colours, alpha], axis=2).round().astype(np.uint8)
    return _url(Image.fromarray(rgba, "RGBA"), "PNG")


def _url(image: Image.Image, form: str) -> str:
    memory = io.BytesIO()
    image.save(memory, form, quality=82)
    data = base64.b64encode(memory.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{data}"


def _rgb(colours: Sequence[str]) -> NDArray[np.float64]:
    return np.array([ImageColor.getrgb(colour) for colour in colours], dtype=np.float64)
