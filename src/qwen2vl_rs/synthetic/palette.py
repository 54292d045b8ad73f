"""Colours and grain of what is drawn, by season."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SEASONS = ("spring", "summer", "autumn", "winter")

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Grain:
    """How a surface differs from one flat colour; amplitudes are parts of its brightness.

    Attributes:
        patches: blotches of some 15 m.
        fine: grain of one to two metres.
        rows: furrows, rows of vines, stripes of a mower.
        period: metres from row to row.
        crowns: tree crowns, 0..1.
        dots: things in a grid, as trees of an orchard; below 0 bright, above 0 dark.
        plots: small plots of different colours, 0..1.
    """

    patches: float = 0.06
    fine: float = 0.05
    rows: float = 0.0
    period: float = 5.0
    crowns: float = 0.0
    dots: float = 0.0
    plots: float = 0.0


GRAIN = {
    "forest": Grain(0.05, 0.05, crowns=1.0),
    "scrub": Grain(0.14, 0.16, crowns=0.55),
    "heath": Grain(0.16, 0.14),
    "wetland": Grain(0.3, 0.08),
    "meadow": Grain(0.12, 0.07),
    "lawn": Grain(0.04, 0.025),
    "park": Grain(0.08, 0.04),
    "field": Grain(0.06, 0.04, rows=0.09, period=4.0),
    "orchard": Grain(0.07, 0.04, dots=0.5, period=7.0),
    "vineyard": Grain(0.06, 0.05, rows=0.32, period=3.0),
    "gardens": Grain(0.14, 0.1, plots=0.16),
    "allotments": Grain(0.08, 0.08, plots=0.55),
    "paved": Grain(0.05, 0.06, plots=0.12),
    "concrete": Grain(0.06, 0.04),
    "graves": Grain(0.06, 0.05, dots=-0.45, period=3.2),
    "yard": Grain(0.1, 0.07),
    "water": Grain(0.05, 0.02),
    "pitch": Grain(0.03, 0.02, rows=0.07, period=9.0),
}
PLAIN = Grain(0.03, 0.03)

#: Possible colours, by look; where the season matters, by season.
_SURFACES: dict[str, list[RGB] | dict[str, list[RGB]]] = {
    "lawn": {
        "spring": [(106, 138, 66)],
        "summer": [(112, 136, 70), (122, 138, 76)],
        "autumn": [(112, 124, 70)],
        "winter": [(114, 118, 78)],
    },
    "park": {
        "spring": [(104, 130, 68)],
        "summer": [(112, 126, 72), (124, 128, 78)],
        "autumn": [(120, 116, 70)],
        "winter": [(116, 112, 80)],
    },
    "meadow": {
        "spring": [(114, 136, 72), (122, 138, 80)],
        "summer": [(140, 138, 86), (150, 142, 92)],
        "autumn": [(142, 128, 84), (128, 124, 78)],
        "winter": [(134, 122, 90), (124, 118, 86)],
    },
    "field": {
        "spring": [(92, 124, 58), (74, 108, 50), (140, 110, 84), (122, 96, 74), (196, 186, 74)],
        "summer": [
            (198, 178, 116),
            (184, 164, 100),
            (88, 114, 56),
            (106, 124, 62),
            (172, 150, 104),
        ],
        "autumn": [(134, 104, 80), (116, 92, 72), (150, 126, 98), (176, 154, 112), (96, 116, 60)],
        "winter": [(122, 100, 82), (106, 88, 74), (138, 118, 96), (98, 116, 66)],
    },
    "forest": {
        "spring": [(70, 96, 48), (60, 86, 46)],
        "summer": [(52, 78, 40), (46, 70, 40)],
        "autumn": [(92, 82, 50), (76, 80, 46), (100, 84, 52)],
        "winter": [(92, 82, 68), (50, 66, 46)],
    },
    "scrub": {
        "spring": [(116, 122, 74)],
        "summer": [(128, 120, 80), (138, 124, 88)],
        "autumn": [(126, 108, 72)],
        "winter": [(120, 106, 80)],
    },
    "heath": {
        "spring": [(108, 96, 82)],
        "summer": [(120, 98, 102), (112, 92, 96)],
        "autumn": [(114, 92, 82)],
        "winter": [(106, 94, 84)],
    },
    "wetland": [(84, 92, 60), (94, 96, 64)],
    "orchard": [(124, 132, 76), (134, 132, 84)],
    "vineyard": [(122, 118, 76), (130, 116, 80)],
    "gardens": {
        "spring": [(112, 122, 76)],
        "summer": [(122, 122, 82)],
        "autumn": [(124, 112, 78)],
        "winter": [(122, 112, 88)],
    },
    "allotments": [(116, 112, 78)],
    "paved": [(146, 145, 142), (134, 133, 132), (154, 151, 145)],
    "concrete": [(164, 163, 160), (148, 148, 147), (172, 168, 160)],
    "graves": [(112, 122, 82), (122, 124, 88)],
    "yard": [(164, 148, 122), (150, 138, 118)],
    "parking": [(98, 98, 100), (110, 108, 108), (88, 90, 94)],
    "playground": [(222, 196, 142), (214, 184, 130)],
    "pitch": [(88, 134, 62), (98, 140, 68)],
    "court": [(176, 96, 72), (168, 104, 80), (70, 106, 140)],
    "water": [(44, 66, 78), (52, 74, 80), (58, 76, 66), (36, 58, 72)],
    "road": [(116, 116, 116), (104, 104, 106), (128, 126, 122)],
    "track": [(176, 154, 120), (164, 146, 116)],
    "grass": [(112, 124, 72)],
    "none": [(116, 122, 76)],
}
_ROOFS: dict[str, list[RGB]] = {
    "gable": [(160, 88, 68), (172, 104, 82), (142, 80, 66), (126, 92, 80), (108, 106, 108),
              (88, 88, 94), (148, 126, 106)],
    "flat": [(204, 202, 198), (184, 184, 184), (160, 160, 162), (212, 206, 192), (140, 146, 154),
             (118, 136, 160), (190, 176, 158)],
    "barn": [(128, 66, 56), (140, 136, 132), (108, 112, 120), (152, 104, 84)],
    "tank": [(214, 214, 212), (196, 198, 202)],
}  # fmt: skip
CARS: list[RGB] = [
    (228, 228, 228), (196, 198, 202), (60, 62, 66), (36, 38, 42), (150, 40, 36), (44, 70, 120),
    (128, 130, 134), (190, 180, 150),
]  # fmt: skip
CROWNS: dict[str, list[RGB]] = {
    "spring": [(78, 108, 50), (92, 118, 58), (62, 88, 46)],
    "summer": [(56, 84, 40), (66, 94, 48), (48, 72, 40)],
    "autumn": [(112, 92, 52), (126, 100, 56), (86, 92, 50), (60, 76, 42)],
    "winter": [(104, 92, 78), (96, 86, 74), (54, 70, 48)],
}


def surface(look: str, season: str, tint: float) -> NDArray[Any]:
    """Colour of a surface or a roof, shape (3,), 0..255."""
    found = _ROOFS.get(look) or _SURFACES[look]
    colours = found[season] if isinstance(found, dict) else found
    position = tint * len(colours)
    k = min(int(position), len(colours) - 1)
    # what is left of the tint makes two fields of one crop differ
    bright = 0.92 + 0.16 * (position - k)
    return np.array(colours[k], dtype=np.float32) * bright


@dataclass(frozen=True, slots=True)
class Air:
    """When and through what a picture was taken.

    Attributes:
        season: one of `SEASONS`.
        sun: unit vector, east and north, towards the sun on the ground.
        reach: metres of shadow for each metre of height.
        shade: how dark shadows are, 0..1.
        haze: share of light scattered in.
        gain: brightness of each channel, shape (3,).
        noise: standard deviation of the sensor's noise, of 255.
        blur: of the lens, in pixels.
        pale: share of colour that is lost, 0..1.
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


def draw_air(rng: Generator) -> Air:
    """A day at random."""
    bearing = rng.uniform(np.pi * 0.7, np.pi * 1.3)  # from south-east to south-west
    return Air(
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
