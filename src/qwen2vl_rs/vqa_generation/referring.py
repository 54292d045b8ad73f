"""Which of an image's elements a phrase such as "small buildings next to a road" means.

Two sets of rules: those under which RSVQA was published, with their habits, and corrected ones
(`Rules.legacy`). What they decide on is worked out once per image, in arrays of shape (n,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from ..questions.elements import LAYERS, Element, Layer

Mask = NDArray[np.bool_]

SIZES = ("small", "medium", "large")
SHAPES = ("circular", "rectangular", "square")
RELATIONS = ("at the top of", "on the right of", "at the bottom of", "on the left of", "next to")

#: Least area of medium and of large things, in square metres: of pictures finer and coarser than
#: `FINE` (Lobry et al., TGRS 2020, have one pair for each of their two data sets).
LIMITS_FINE = (100.0, 500.0)
LIMITS_COARSE = (3_000.0, 10_000.0)
FINE = 3.0  # metres per pixel

_NEAR_LEGACY = 1000.0  # units of EPSG:3857
_NEAR = 0.06  # of the image's side
_BUILT_UP = 30.0  # metres around a building
_URBAN, _RURAL = 0.55, 0.4  # least and greatest built-up share
_URBAN_LEGACY = 500  # buildings


@dataclass(frozen=True, slots=True)
class Rules:
    """How phrases are understood.

    Attributes:
        legacy: as in the published data: areas and distances in the units of Web Mercator, square
            means circular, roads are small, areas that overlap count twice, ``next to`` means
            within 1,000 units.
        resolution: metres per pixel: what is large on the ground is small from afar.
        stretch: units of Web Mercator per metre, 1 / cos(latitude).
        hr: whether thresholds are those of RSVQA-HR (`LIMITS_FINE`) in the legacy rules.
    """

    legacy: bool
    resolution: float
    stretch: float = 1.0
    hr: bool = False

    @property
    def limits(self) -> tuple[float, float]:
        """Least area of medium and of large things."""
        fine = self.hr if self.legacy else self.resolution < FINE
        return LIMITS_FINE if fine else LIMITS_COARSE


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a question is about.

    Attributes:
        layer: of the things meant.
        label: as of `Element`; of buildings ``building`` means all.
        attribute: one of `SIZES` and `SHAPES`, or empty.
        relation: one of `RELATIONS`, or empty.
        other: what it relates to.
    """

    layer: Layer
    label: str
    attribute: str = ""
    relation: str = ""
    other: Phrase | None = None


class ImageElements:
    """The elements of one image, ready to be asked about.

    Args:
        elements: of the image.
        width, height: of the image in metres.
        rules: how phrases are understood.
    """

    def __init__(
        self, elements: Sequence[Element], width: float, height: float, rules: Rules
    ) -> None:
        self.rules, self.width, self.height = rules, width, height
        self.shapes = np.array([e.shape for e in elements], dtype=object)
        self.labels = np.array([e.label for e in elements], dtype=object)
        self.layers = np.array([LAYERS.index(e.layer) for e in elements], dtype=np.int8)
        self._known: dict[Phrase, Mask] = {}

    def select(self, phrase: Phrase) -> Mask:
        """Which elements a phrase means, shape (n,)."""
        known = self._known.get(phrase)
        if known is None:
            known = self._known[phrase] = self._select(phrase)
        return known

    def _select(self, phrase: Phrase) -> Mask:
        if phrase.relation and phrase.other:
            plain = Phrase(phrase.layer, phrase.label, phrase.attribute)
            mask = self.select(plain)
            return mask & self._related(mask, phrase.relation, self.select(phrase.other))
        mask = self.layers == LAYERS.index(phrase.layer)
        if phrase.label != "building":
            mask &= np.asarray(self.labels == phrase.label, dtype=bool)
        return np.asarray(mask & self._has(phrase.attribute) if phrase.attribute else mask)

    def has(self, layer: Layer) -> bool:
        """Whether the image has anything of a layer."""
        return bool((self.layers == LAYERS.index(layer)).any())

    def land(self) -> NDArray[Any]:
        """The label of each land use, as often as it occurs."""
        labels: NDArray[Any] = self.labels[self.layers == LAYERS.index("land")]
        return labels

    def area(self, mask: Mask) -> float:
        """Ground covered by elements, in square metres, or in units where legacy."""
        if self.rules.legacy:
            return float(self._area[mask].sum())
        return float(shapely.union_all(self.shapes[mask]).area)

    def urban(self) -> bool | None:
        """Whether the place is urban; None where it is between the two.

        The place is urban where most of it lies within 30 metres of a building. Legacy: where
        it has more than 500 buildings.
        """
        buildings = self.shapes[self.layers == LAYERS.index("building")]
        if self.rules.legacy:
            return len(buildings) > _URBAN_LEGACY
        if not len(buildings):
            return False
        at = (np.arange(24) + 0.5) / 24
        x, y = np.meshgrid(at * self.width, at * self.height)
        points = shapely.points(x.ravel(), y.ravel())
        near = shapely.STRtree(buildings).query_nearest(
            points, max_distance=_BUILT_UP, all_matches=False
        )
        share = near.shape[1] / len(points)
        return None if _RURAL < share < _URBAN else share >= _URBAN

    @cached_property
    def _area(self) -> NDArray[Any]:
        return np.asarray(shapely.area(self.shapes), float) * self._unit**2

    @property
    def _unit(self) -> float:
        return self.rules.stretch if self.rules.legacy else 1.0

    @cached_property
    def _bounds(self) -> NDArray[Any]:
        return np.asarray(shapely.bounds(self.shapes), float).reshape(-1, 4)

    def _has(self, attribute: str) -> Mask:
        """Which elements have an attribute."""
        if attribute in SIZES:
            medium, large = self.rules.limits
            size = np.digitize(self._area, [medium, large])
            mask = size == SIZES.index(attribute)
            return np.asarray(mask if self.rules.legacy else mask & self._solid)
        if self.rules.legacy:
            shape = self._legacy_shape
            return np.asarray(shape >= 1 if attribute == "rectangular" else shape == 1)
        shape = self._corrected_shape
        if attribute == "rectangular":
            return np.asarray(shape >= 2)
        return np.asarray(shape == (1 if attribute == "circular" else 3))

    @cached_property
    def _solid(self) -> Mask:
        return np.asarray(shapely.get_dimensions(self.shapes) == 2)

    @cached_property
    def _legacy_shape(self) -> NDArray[Any]:
        """1 where circular (and so square), 2 where only rectangular, else 0."""
        single = np.asarray(shapely.get_type_id(self.shapes) == 3)
        area, perimeter = shapely.area(self.shapes), shapely.length(self.shapes)
        round_ = single & (np.abs(perimeter**2 / (4 * np.pi) - area) <= 0.1 * area)
        rings = shapely.get_num_coordinates(shapely.get_exterior_ring(self.shapes))
        corners = single & (rings < 8)
        return np.where(round_, 1, np.where(corners, 2, 0))

    @cached_property
    def _corrected_shape(self) -> NDArray[Any]:
        """1 where circular, 2 where rectangular, 3 where square too, else 0."""
        area, perimeter = shapely.area(self.shapes), shapely.length(self.shapes)
        with np.errstate(divide="ignore", invalid="ignore"):
            round_ = self._solid & (4 * np.pi * area / perimeter**2 > 0.95)
            frame = shapely.minimum_rotated_rectangle(self.shapes)
            full = self._solid & (area > 0.96 * shapely.area(frame)) & ~round_
        # of a rectangle a by b: half its perimeter is a + b, its area a * b
        half, product = shapely.length(frame) / 2, shapely.area(frame)
        long = (half + np.sqrt(np.maximum(half**2 - 4 * product, 0))) / 2
        square = full & (long <= 1.12 * (half - long))
        return np.where(round_, 1, np.where(square, 3, np.where(full, 2, 0)))

    def _related(self, which: Mask, relation: str, others: Mask) -> Mask:
        """Which of some elements stand in a relation to any of some others."""
        if not others.any():
            return np.zeros_like(which)
        x0, y0, x1, y1 = self._bounds.T
        x, y = (x0 + x1)[others] / 2, (y0 + y1)[others] / 2
        match relation:
            case "at the top of":
                return np.asarray(y0 > y.min())
            case "on the right of":
                return np.asarray(x0 > x.min())
            case "at the bottom of":
                return np.asarray(y1 < y.max())
            case "on the left of":
                return np.asarray(x1 < x.max())
        near = _NEAR * max(self.width, self.height)
        if self.rules.legacy:
            near = _NEAR_LEGACY / self.rules.stretch
        asked = np.flatnonzero(which)
        found, _ = shapely.STRtree(self.shapes[others]).query_nearest(
            self.shapes[asked], max_distance=near, all_matches=False
        )
        mask = np.zeros_like(which)
        mask[asked[found]] = True
        return mask
