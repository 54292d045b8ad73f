"""Ground textures: noise, tree crowns, furrows, plots.

H, W: rows and columns of the image. Tiles are seamless, fixed, and computed once per process; each
scene uses a random piece of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

_SIDE = 512
_CROWN = 26.0  # crown diameter in the tile, in pixels

Plane = NDArray[np.float32]


@lru_cache(maxsize=8)
def _noise_tile(steep: float) -> Plane:
    """Return periodic noise with spectrum 1/f^steep, mean 0, deviation 1; shape (512, 512)."""
    rng = np.random.default_rng(7)
    f = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None])
    f[0, 0] = 1.0
    spectrum = (rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape)) / f**steep
    spectrum[0, 0] = 0.0
    tile = np.fft.irfft2(spectrum, (_SIDE, _SIDE))
    return np.asarray(tile / tile.std(), dtype=np.float32)


@lru_cache(maxsize=8)
def _crown_tile(level: int) -> tuple[Plane, Plane]:
    """Return the height of a closed canopy, 0..1, and a random number 0..1 per tree.

    Both have shape (n, n), n = 512 / 2^level.
    """
    if level:
        height, tree = _crown_tile(level - 1)
        quarters = height.reshape(len(height) // 2, 2, -1, 2)
        return quarters.mean(axis=(1, 3)), np.ascontiguousarray(tree[::2, ::2])
    rng = np.random.default_rng(8)
    height = np.zeros((_SIDE, _SIDE), np.float32)
    tree = np.zeros((_SIDE, _SIDE), np.float32)
    reach = int(_CROWN)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    turn = np.arctan2(dy, dx)
    for _ in range(int(2.4 * (_SIDE / _CROWN) ** 2)):
        x, y = rng.uniform(0, _SIDE, 2)
        radius = _CROWN / 2 * rng.uniform(0.65, 1.3)
        rough = 1 + 0.12 * np.sin(turn * rng.integers(4, 8) + rng.uniform(0, 6))
        inside = 1 - (np.hypot(dx, dy) / (radius * rough)) ** 2
        crown = np.sqrt(np.maximum(inside, 0)) * rng.uniform(0.7, 1.0)
        rows = (int(y) + np.arange(-reach, reach + 1)) % _SIDE
        cols = (int(x) + np.arange(-reach, reach + 1)) % _SIDE
        box = np.ix_(rows, cols)
        higher = crown > height[box]
        height[box] = np.where(higher, crown, height[box])
        tree[box] = np.where(higher, rng.random(), tree[box])
    return height, tree


def noise(rng: Generator, side: int, metres: float, resolution: float, steep: float) -> Plane:
    """Return noise with mean about 0 and deviation about 1; shape (side, side).

    Args:
        rng: random generator, which selects the piece.
        side: side of the image, in pixels.
        metres: size of the finest detail.
        resolution: metres per pixel.
        steep: spectral exponent; larger values are smoother.
    """
    tile = _noise_tile(steep)
    wide = int(np.clip(side * resolution / metres, 4, _SIDE))
    (piece,) = _cut(rng, tile, wide=wide)
    return piece if wide == side else _resized(piece, side)


def _cut(rng: Generator, *tiles: Plane, wide: int) -> list[Plane]:
    """Cut the same random piece from each tile, shape (wide, wide)."""
    side = len(tiles[0])
    x, y = rng.integers(0, side, 2)
    box = np.ix_((y + np.arange(wide)) % side, (x + np.arange(wide)) % side)
    return [np.ascontiguousarray(tile[box]) for tile in tiles]


def _resized(plane: Plane, side: int, how: Any = Image.Resampling.BICUBIC) -> Plane:
    return np.asarray(Image.fromarray(plane).resize((side, side), how), dtype=np.float32)


def crowns(
    rng: Generator, side: int, metres: float, resolution: float, sun: NDArray[Any]
) -> tuple[Plane, Plane]:
    """Return light and shade on a canopy (about -1..1), and a random number 0..1 per tree.

    Both have shape (side, side). The light fades for crowns smaller than two pixels.

    Args:
        rng: random generator, which selects the piece.
        side: side of the image, in pixels.
        metres: diameter of a crown.
        resolution: metres per pixel.
        sun: unit vector (east, north) towards the sun.
    """
    across = max(metres / resolution, 2.4)
    level = int(np.clip(np.log2(_CROWN / across), 0, 3))
    height, tree = _crown_tile(level)
    wide = int(np.clip(side * _CROWN / 2**level / across, 8, 4 * _SIDE))
    h, t = _cut(rng, height, tree, wide=wide)
    h = _resized(h, side)
    t = _resized(t, side, Image.Resampling.NEAREST)
    down, right = np.gradient(h)
    slope = (-right * sun[0] + down * sun[1]) * min(across, 14.0) * 0.28
    light = np.clip(slope, -0.7, 0.7) + (h - 0.62) * 0.9
    fade = np.float32(min(1.0, metres / resolution / 2.4) ** 0.8)
    return (light * fade).astype(np.float32), t


def rows(side: int, resolution: float, angle: Plane, period: Plane) -> Plane:
    """Return waves across the direction of furrows, -1..1; all of shape (side, side).

    Args:
        side: side of the image, in pixels.
        resolution: metres per pixel.
        angle: angle of the furrows at each pixel, in radians.
        period: furrow spacing at each pixel, in metres.
    """
    at = (np.arange(side, dtype=np.float32) + 0.5) * np.float32(resolution)
    across = at[None, :] * np.sin(angle) + at[::-1, None] * -np.cos(angle)
    return np.asarray(np.sin(across * (2 * np.pi / period)), dtype=np.float32)


def frame(side: int, resolution: float, angle: Plane) -> tuple[Plane, Plane]:
    """Return metres along and across a direction at each pixel; both of shape (side, side)."""
    at = (np.arange(side, dtype=np.float32) + 0.5) * np.float32(resolution)
    x, y = at[None, :], at[::-1, None]
    c, s = np.cos(angle), np.sin(angle)
    return x * c + y * s, y * c - x * s


def plots(u: Plane, v: Plane, wide: float, long: float) -> Plane:
    """Return a random number 0..1 per small plot; shape (side, side)."""
    table = np.random.default_rng(9).random(1024, dtype=np.float32)
    a, b = np.floor(u / long).astype(np.int64), np.floor(v / wide).astype(np.int64)
    return np.asarray(table[(a * 7919 + b * 104729) & 1023], dtype=np.float32)
