"""Grain of the ground: noise, tree crowns, furrows.

H, W: rows and columns of the picture. Tiles repeat without a seam and are made once a process,
always the same; a scene takes its own piece of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

_SIDE = 512
_CROWN = 26.0  # pixels across, of the crowns in the tile

Plane = NDArray[np.float32]


@lru_cache(maxsize=8)
def _noise_tile(steep: float) -> Plane:
    """Periodic noise of spectrum 1/f^steep, mean 0, deviation 1; shape (512, 512)."""
    rng = np.random.default_rng(7)
    f = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None])
    f[0, 0] = 1.0
    spectrum = (rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape)) / f**steep
    spectrum[0, 0] = 0.0
    tile = np.fft.irfft2(spectrum, (_SIDE, _SIDE))
    return np.asarray(tile / tile.std(), dtype=np.float32)


@lru_cache(maxsize=8)
def _crown_tile(level: int) -> tuple[Plane, Plane]:
    """Height of a closed canopy, 0..1, and a number 0..1 for each tree.

    Both of shape (n, n), n = 512 / 2^level.
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
    """Noise over a picture, mean about 0 and deviation about 1; shape (side, side).

    Args:
        rng: chooses the piece.
        side: of the picture, in pixels.
        metres: size of the finest grain.
        resolution: metres per pixel.
        steep: the steeper, the smoother.
    """
    tile = _noise_tile(steep)
    wide = int(np.clip(side * resolution / metres, 4, _SIDE))
    (piece,) = _cut(rng, tile, wide=wide)
    return piece if wide == side else _resized(piece, side)


def _cut(rng: Generator, *tiles: Plane, wide: int) -> list[Plane]:
    """The same piece of each tile, shape (wide, wide)."""
    side = len(tiles[0])
    x, y = rng.integers(0, side, 2)
    box = np.ix_((y + np.arange(wide)) % side, (x + np.arange(wide)) % side)
    return [np.ascontiguousarray(tile[box]) for tile in tiles]


def _resized(plane: Plane, side: int, how: Any = Image.Resampling.BICUBIC) -> Plane:
    return np.asarray(Image.fromarray(plane).resize((side, side), how), dtype=np.float32)


def crowns(
    rng: Generator, side: int, metres: float, resolution: float, sun: NDArray[Any]
) -> tuple[Plane, Plane]:
    """Light and shade on a canopy (about -1..1), and a number 0..1 for each tree.

    Both of shape (side, side). Where crowns are smaller than two pixels the light fades.

    Args:
        rng: chooses the piece.
        side: of the picture, in pixels.
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
    """Waves across the direction of furrows, -1..1; all of shape (side, side).

    Args:
        side: of the picture, in pixels.
        resolution: metres per pixel.
        angle: of the furrows at each pixel, in radians.
        period: metres from furrow to furrow at each pixel.
    """
    at = (np.arange(side, dtype=np.float32) + 0.5) * np.float32(resolution)
    across = at[None, :] * np.sin(angle) + at[::-1, None] * -np.cos(angle)
    return np.asarray(np.sin(across * (2 * np.pi / period)), dtype=np.float32)


def frame(side: int, resolution: float, angle: Plane) -> tuple[Plane, Plane]:
    """Metres along and across a direction, at each pixel; both of shape (side, side)."""
    at = (np.arange(side, dtype=np.float32) + 0.5) * np.float32(resolution)
    x, y = at[None, :], at[::-1, None]
    c, s = np.cos(angle), np.sin(angle)
    return x * c + y * s, y * c - x * s


def plots(u: Plane, v: Plane, wide: float, long: float) -> Plane:
    """A number 0..1 for each small plot; shape (side, side)."""
    table = np.random.default_rng(9).random(1024, dtype=np.float32)
    a, b = np.floor(u / long).astype(np.int64), np.floor(v / wide).astype(np.int64)
    return np.asarray(table[(a * 7919 + b * 104729) & 1023], dtype=np.float32)
