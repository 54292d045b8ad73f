"""Colours and textures by season, and imaging conditions (sun, haze, sensor noise)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import ImageColor

SEASONS = ("spring", "summer", "autumn", "winter")


@dataclass(frozen=True, slots=True)
class Texture:
    """Texture of a surface; amplitudes are relative to its brightness.

    Attributes:
        patches: patches of about 15 m.
        fine: fine noise of one to two metres.
        rows: furrows, vine rows, mowing stripes.
        period: row spacing in metres.
        crowns: tree crowns, 0..1.
        dots: objects on a grid, such as orchard trees; negative for bright, positive for dark.
        plots: small plots of different colours, 0..1.
    """

    patches: float = 0.06
    fine: float = 0.05
    rows: float = 0.0
    period: float = 5.0
    crowns: float = 0.0
    dots: float = 0.0
    plots: float = 0.0


TEXTURES = {
    "forest": Texture(0.05, 0.05, crowns=1.0),
    "scrub": Texture(0.14, 0.16, crowns=0.55),
    "heath": Texture(0.16, 0.14),
    "wetland": Texture(0.3, 0.08),
    "meadow": Texture(0.12, 0.07),
    "lawn": Texture(0.04, 0.025),
    "park": Texture(0.08, 0.04),
    "field": Texture(0.06, 0.04, rows=0.09, period=4.0),
    "orchard": Texture(0.07, 0.04, dots=0.5, period=7.0),
    "vineyard": Texture(0.06, 0.05, rows=0.32, period=3.0),
    "gardens": Texture(0.14, 0.1, plots=0.16),
    "allotments": Texture(0.08, 0.08, plots=0.55),
    "paved": Texture(0.05, 0.06, plots=0.12),
    "concrete": Texture(0.06, 0.04),
    "graves": Texture(0.06, 0.05, dots=-0.45, period=3.2),
    "yard": Texture(0.1, 0.07),
    "water": Texture(0.05, 0.02),
    "pitch": Texture(0.03, 0.02, rows=0.07, period=9.0),
}
PLAIN = Texture(0.03, 0.03)

#: Possible colours of ground, roofs, cars and tree crowns, by look; a tuple has one entry per
#: season (`SEASONS`).
_COLOURS: dict[str, str | tuple[str, ...]] = {
    "lawn": ("#6a8a42", "#708846 #7a8a4c", "#707c46", "#72764e"),
    "park": ("#688244", "#707e48 #7c804e", "#787446", "#747050"),
    "meadow": ("#728848 #7a8a50", "#8c8a56 #968e5c", "#8e8054 #807c4e", "#867a5a #7c7656"),
    "field": (
        "#5c7c3a #4a6c32 #8c6e54 #7a604a #c4ba4a",
        "#c6b274 #b8a464 #587238 #6a7c3e #ac9668",
        "#866850 #745c48 #967e62 #b09a70 #60743c",
        "#7a6452 #6a584a #8a7660 #627442",
    ),
    "forest": ("#466030 #3c562e", "#344e28 #2e4628", "#5c5232 #4c502e #645434", "#5c5244 #32422e"),
    "scrub": ("#747a4a", "#807850 #8a7c58", "#7e6c48", "#786a50"),
    "heath": ("#6c6052", "#786266 #705c60", "#725c52", "#6a5e54"),
    "wetland": "#545c3c #5e6040",
    "orchard": "#7c844c #868454",
    "vineyard": "#7a764c #827450",
    "gardens": ("#707a4c", "#7a7a52", "#7c704e", "#7a7058"),
    "allotments": "#74704e",
    "paved": "#92918e #868584 #9a9791",
    "concrete": "#a4a3a0 #949493 #aca8a0",
    "graves": "#707a52 #7a7c58",
    "yard": "#a4947a #968a76",
    "parking": "#626264 #6e6c6c #585a5e",
    "playground": "#dec48e #d6b882",
    "pitch": "#58863e #628c44",
    "court": "#b06048 #a86850 #466a8c",
    "water": "#2c424e #344a50 #3a4c42 #243a48",
    "road": "#747474 #68686a #807e7a",
    "track": "#b09a78 #a49274",
    "grass": "#707c48",
    "none": "#747a4c",
    "gable": "#a05844 #ac6852 #8e5042 #7e5c50 #6c6a6c #58585e #947e6a",
    "flat": "#cccac6 #b8b8b8 #a0a0a2 #d4cec0 #8c929a #7688a0 #beb09e",
    "barn": "#804238 #8c8884 #6c7078 #986854",
    "tank": "#d6d6d4 #c4c6ca",
    "crown": (
        "#4e6c32 #5c763a #3e582e",
        "#385428 #425e30 #304828",
        "#705c34 #7e6438 #565c32 #3c4c2a",
        "#685c4e #60564a #364630",
    ),
    "car": "#e4e4e4 #c4c6ca #3c3e42 #24262a #962824 #2c4678 #808286 #beb496",
}


@cache
def colours(look: str, season: str = "") -> list[tuple[int, ...]]:
    """Return the possible colours of a look, 0..255."""
    found = _COLOURS[look]
    if not isinstance(found, str):
        found = found[SEASONS.index(season)]
    return [ImageColor.getrgb(colour) for colour in found.split()]


def surface(look: str, season: str, tint: float) -> NDArray[Any]:
    """Return the colour of a surface or a roof, shape (3,), 0..255."""
    choice = colours(look, season)
    position = tint * len(choice)
    k = min(int(position), len(choice) - 1)
    # the remainder of the tint varies the brightness of fields with the same crop
    bright = 0.92 + 0.16 * (position - k)
    return np.array(choice[k], dtype=np.float32) * bright


@dataclass(frozen=True, slots=True)
class ImagingConditions:
    """Season, illumination, atmosphere and sensor of an image.

    Attributes:
        season: one of `SEASONS`.
        sun: horizontal unit vector (east, north) towards the sun.
        reach: metres of shadow per metre of height.
        shade: darkness of shadows, 0..1.
        haze: share of scattered light.
        gain: brightness of each channel, shape (3,).
        noise: standard deviation of the sensor noise, of 255.
        blur: blur of the lens, in pixels.
        pale: desaturation, 0..1.
    """

    season: str
    sun: NDArray[Any]
    reach: float
    shade: float
    haze: float
    gain: NDArray[Any]
    noise: float
    blur: float
    pale: float


def draw_conditions(rng: Generator) -> ImagingConditions:
    """Draw random imaging conditions."""
    bearing = rng.uniform(np.pi * 0.7, np.pi * 1.3)  # from south-east to south-west
    return ImagingConditions(
        season=SEASONS[int(rng.integers(4))],
        sun=np.array([np.sin(bearing), np.cos(bearing)]),
        reach=float(rng.uniform(0.4, 1.1)),
        shade=float(rng.uniform(0.35, 0.6)),
        haze=float(rng.uniform(0.0, 0.14)),
        gain=(rng.uniform(0.85, 1.12) * rng.normal(1, 0.025, 3)).astype(np.float32),
        noise=float(rng.uniform(1.0, 4.0)),
        blur=float(rng.uniform(0.3, 0.6)),
        pale=float(rng.uniform(0.08, 0.4)),
    )
