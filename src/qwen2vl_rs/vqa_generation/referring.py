"""Resolve referring expressions such as "small buildings next to a road" to elements of an image.

There are two sets of rules: those of the published RSVQA, and corrected ones (`Rules.legacy`).
Attributes are computed once per image, as arrays of shape (n,).
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

#: Minimal area of medium and of large objects in square metres, for images finer and coarser than
#: `FINE` (Lobry et al., TGRS 2020, have one pair per data set).
LIMITS_FINE = (100.0, 500.0)
LIMITS_COARSE = (3_000.0, 10_000.0)
FINE = 3.0  # metres per pixel

_NEAR_LEGACY = 1000.0  # units of EPSG:3857
_NEAR = 0.06  # share of the image side
_BUILT_UP = 30.0  # metres around a building
_URBAN, _RURAL = 0.55, 0.4  # minimal built-up share of urban, maximal share of rural
_URBAN_LEGACY = 500  # buildings


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules for resolving phrases.

    Attributes:
        legacy: as in the published data: areas and distances in Web Mercator units, square means
            circular, roads are small, overlapping areas count twice, ``next to`` means within 1,000
            units.
        resolution: metres per pixel; selects the size limits.
        stretch: Web Mercator units per metre, 1 / cos(latitude).
        hr: whether the legacy rules use the size limits of RSVQA-HR (`LIMITS_FINE`).
    """

    legacy: bool
    resolution: float
    stretch: float = 1.0
    hr: bool = False

    @property
    def limits(self) -> tuple[float, float]:
        """Minimal area of medium and of large objects."""
        fine = self.hr if self.legacy else self.resolution < FINE
        return LIMITS_FINE if fine else LIMITS_COARSE


@dataclass(frozen=True, slots=True)
class Phrase:
    """A referring expression.

    Attributes:
        layer: layer of the objects.
        label: label of the objects, see `Element`; ``building`` includes all buildings.
        attribute: one of `SIZES` and `SHAPES`, or empty.
        relation: one of `RELATIONS`, or empty.
        other: second object of the relation.
    """

    layer: Layer
    label: str
    attribute: str = ""
    relation: str = ""
    other: Phrase | None = None


class ImageElements:
    """The elements of one image, with selection by phrase.

    Args:
        elements: the elements.
        width, height: size of the image in metres.
        rules: rules for resolving phrases.
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
        """Return the mask of the elements that a phrase refers to, shape (n,)."""
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
        """Whether the image has an element of a layer."""
        return bool((self.layers == LAYERS.index(layer)).any())

    def land(self) -> NDArray[Any]:
        """Return the labels of all land-use elements."""
        labels: NDArray[Any] = self.labels[self.layers == LAYERS.index("land")]
        return labels

    def area(self, mask: Mask) -> float:
        """Return the area covered by elements, in square metres; in legacy, in units."""
        if self.rules.legacy:
            return float(self._area[mask].sum())
        return float(shapely.union_all(self.shapes[mask]).area)

    def urban(self) -> bool | None:
        """Whether the image is urban; None if it is between urban and rural.

        An image is urban if most of it is within 30 metres of a building; in legacy, if it has more
        than 500 buildings.
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
        """Return the mask of the elements with an attribute."""
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
        """1 for circular (and so square), 2 for only rectangular, else 0."""
        single = np.asarray(shapely.get_type_id(self.shapes) == 3)
        area, perimeter = shapely.area(self.shapes), shapely.length(self.shapes)
        round_ = single & (np.abs(perimeter**2 / (4 * np.pi) - area) <= 0.1 * area)
        rings = shapely.get_num_coordinates(shapely.get_exterior_ring(self.shapes))
        corners = single & (rings < 8)
        return np.where(round_, 1, np.where(corners, 2, 0))

    @cached_property
    def _corrected_shape(self) -> NDArray[Any]:
        """1 for circular, 2 for rectangular, 3 for square, else 0."""
        area, perimeter = shapely.area(self.shapes), shapely.length(self.shapes)
        with np.errstate(divide="ignore", invalid="ignore"):
            round_ = self._solid & (4 * np.pi * area / perimeter**2 > 0.95)
            frame = shapely.minimum_rotated_rectangle(self.shapes)
            full = self._solid & (area > 0.96 * shapely.area(frame)) & ~round_
        # for a rectangle a by b: half the perimeter is a + b, the area a * b
        half, product = shapely.length(frame) / 2, shapely.area(frame)
        long = (half + np.sqrt(np.maximum(half**2 - 4 * product, 0))) / 2
        square = full & (long <= 1.12 * (half - long))
        return np.where(round_, 1, np.where(square, 3, np.where(full, 2, 0)))

    def _related(self, which: Mask, relation: str, others: Mask) -> Mask:
        """Return the mask of elements with a relation to any of some others."""
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
