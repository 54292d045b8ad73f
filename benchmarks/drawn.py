"""Simple synthetic images with exact answers, for benchmarks that need something to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from qwen2vl_rs.types import Sample

SIDE = 112  # pixels: 16 visual tokens
COLOURS = {"building": (235, 225, 215), "road": (120, 120, 120), "water area": (40, 70, 160)}


def draw(random: np.random.Generator) -> tuple[np.ndarray, dict[str, int]]:
    """Return an image (H, W, 3) of grass with objects, and the count of each kind."""
    image = random.normal((70, 110, 60), 8, (SIDE, SIDE, 3))
    counts = dict.fromkeys(COLOURS, 0)
    urban = random.random() < 0.5
    if random.random() < 0.5:
        counts["water area"] = 1
        x = int(random.integers(0, SIDE - 40))
        image[x : x + 40, :] = COLOURS["water area"]
    for _ in range(int(random.integers(1, 4)) if urban else int(random.integers(0, 2))):
        counts["road"] += 1
        at = int(random.integers(0, SIDE - 6))
        image[:, at : at + 6] = COLOURS["road"]
    for _ in range(int(random.integers(8, 25)) if urban else int(random.integers(0, 4))):
        counts["building"] += 1
        x, y = random.integers(0, SIDE - 10, 2)
        image[x : x + 10, y : y + 10] = COLOURS["building"]
    return np.clip(image, 0, 255).astype(np.uint8), counts


def questions(counts: dict[str, int]) -> list[tuple[str, str]]:
    """Yield the questions and answers about an image, in RSVQA's wordings."""
    urban = counts["building"] > 6
    asked = [("Is it a rural or an urban area", "urban" if urban else "rural")]
    for end in ("", " in the image"):
        for thing, n in counts.items():
            answer = "yes" if n else "no"
            asked += [(f"Is there a {thing}{end}?", answer),
                      (f"Is a {thing} present{end}?", answer)]  # fmt: skip
            asked += [(f"What is the number of {thing}s{end}?", str(n)),
                      (f"What is the amount of {thing}s{end}?", str(n)),
                      (f"How many {thing}s are there{end}?", str(n))]  # fmt: skip
            for other, m in counts.items():
                if other != thing:
                    asked += [
                        (f"Are there more {thing}s than {other}s{end}?", "yes" if n > m else "no"),
                        (f"Are there less {thing}s than {other}s{end}?", "yes" if n < m else "no"),
                        (f"Is the number of {thing}s equal to the number of {other}s{end}?",
                         "yes" if n == m else "no"),
                    ]  # fmt: skip
    return asked


def write_samples(folder: Path, images: int, seed: int) -> list[Sample]:
    """Write images to a folder, and return about 70 questions about each."""
    random = np.random.default_rng(seed)
    samples = []
    for image in range(images):
        pixels, counts = draw(random)
        path = folder / f"{seed}-{image}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8",
            crs="EPSG:3857", transform=Affine(10, 0, 6e5 + image * 2000, 0, -10, 7e6),
        ) as file:  # fmt: skip
            file.write(pixels.transpose(2, 0, 1))
        for question, answer in questions(counts):
            samples.append(Sample(f"{seed}-{len(samples)}", str(path), question, answer))
    return samples
