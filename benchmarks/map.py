"""Question maps: speed compared with `generate`, memory for a large scene, agreement with vectors.

    python benchmarks/map.py RUN [--json docs/results/map.json]

RUN is a fine-tuned model, such as ``demo/output/demo``. Takes about six minutes on two CPU cores.

Speed: 20 yes/no questions per window, with a small base model with random weights and the real
vocabulary. The baseline reads the same windows and calls `generate` for each question, two tokens
each (a word and the end token), on four windows. Memory: RUN on a scene of 10,000 × 10,000 pixels,
minus the memory for a scene of 512 × 512. Agreement: RUN on a mosaic of synthetic scenes with
windows that overlap by half, so that most windows contain parts of several scenes. Ground truth:
whether a building's polygon covers at least nine pixels of the window. AUC: how often a window with
a building gets a higher P(yes) than one without.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import torch
from common import NOUNS, machine, make_base
from eval import one_by_one
from PIL import Image
from rasterio.transform import from_origin

from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.maps.mapper import MapRequest, make_map
from qwen2vl_rs.maps.windows import lay_grid
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.raster.scenes import open_scene
from qwen2vl_rs.synthetic.scene import make_scene
from qwen2vl_rs.types import Sample

SIDE, TILES, METRES = 256, 12, 0.75
BUILDING = "Is there a building?"
LEAST = 9 * METRES**2  # square metres of a visible building
QUESTIONS = tuple(
    f"Is there a {noun}{place}?" for place in ("", " next to a road", " at the top of a building")
    for noun in NOUNS
)[:20]  # fmt: skip


def write_scene(path: Path, pixels: np.ndarray) -> Path:
    """Write a tiled GeoTIFF of (height, width, 3) pixels."""
    height, width, _ = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8",
        crs="EPSG:32631", transform=from_origin(5e5, 5.8e6, METRES, METRES), tiled=True,
        compress="deflate", zlevel=1,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, 2, 0))
    return path


def speed(folder: Path, side: int) -> dict[str, Any]:
    """Return windows per second of `map`, and of `generate` on each question."""
    base = make_base("small", torch.float32)
    session = Session(base, base.model, InputConfig(), None, "small", base.fingerprint)
    noise = np.random.default_rng(0).integers(0, 255, (4 * side, 5 * side, 3), dtype=np.uint8)
    scene = write_scene(folder / f"noise-{side}.tif", noise)
    make_map(session, MapRequest(scene, QUESTIONS[:2], folder / f"warm-{side}", side))
    start = time.perf_counter()
    done = make_map(session, MapRequest(scene, QUESTIONS, folder / f"timed-{side}", side))
    ours = len(done.grid) / (time.perf_counter() - start)
    with open_scene(scene, InputConfig().image) as opened:
        grid = lay_grid(opened, side, None, 0.0)
        samples = []
        for i in range(4):
            rgb, _ = opened.read_resized(*grid.corner(i), grid.across, grid.down, side)
            Image.fromarray(rgb).save(folder / f"{i}.png")
            samples += [Sample("", str(folder / f"{i}.png"), q, "yes") for q in QUESTIONS]
    one_by_one(base, samples[:2], 2)
    start = time.perf_counter()
    one_by_one(base, samples, 2)
    plain = 4 / (time.perf_counter() - start)
    return {
        "side": side, "questions a window": len(QUESTIONS), "windows/s": round(ours, 2),
        "generate windows/s": round(plain, 3), "ratio": round(ours / plain, 1),
    }  # fmt: skip


def memory(run: Path, folder: Path) -> dict[str, Any]:
    """Return the peak memory for a large and a small scene, each in its own process."""
    found = {}
    for name, side in (("small", 512), ("large", 10_000)):
        rng = np.random.default_rng(1)
        coarse = rng.integers(0, 255, (side // 8 + 1, side // 8 + 1, 3), dtype=np.uint8)
        pixels = coarse.repeat(8, 0).repeat(8, 1)[:side, :side]
        scene = write_scene(folder / f"{name}.tif", pixels)
        code = (
            "import resource, sys; from qwen2vl_rs.cli import main; main(sys.argv[1:]);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", code, "map", str(run), str(scene), BUILDING,
                   "How many roads are there?", "-o", str(folder / name), "--tile", str(SIDE),
                   "--resolution", str(METRES)]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = int(done.stdout.split()[-1]) / 2**20, time.perf_counter() - start
    windows = (folder / "large/windows.jsonl").read_text().count("\n") - 1
    return {
        "pixels": "10,000 × 10,000", "windows": windows, "questions a window": 2,
        "peak GiB": round(found["large"][0], 2),
        "beyond a scene of 512 × 512, GiB": round(found["large"][0] - found["small"][0], 2),
        "seconds": round(found["large"][1]),
    }  # fmt: skip


def agreement(run: Path, folder: Path) -> dict[str, Any]:
    """Return the AUC of P("Is there a building?") on a mosaic, with its vectors as ground truth."""
    mosaic = np.zeros((TILES * SIDE, TILES * SIDE, 3), dtype=np.uint8)
    shapes = []
    for number in range(TILES**2):
        row, column = divmod(number, TILES)
        scene = make_scene(77_001, number, side=SIDE, resolution=METRES)
        mosaic[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = scene.draw()
        across = TILES * SIDE * METRES
        right, up = column * SIDE * METRES, across - (row + 1) * SIDE * METRES
        shapes += [
            shapely.transform(e.shape, lambda p, by=(right, up): p + np.array(by))
            for e in scene.elements if e.layer == "building"
        ]  # fmt: skip
    path = write_scene(folder / "mosaic.tif", mosaic)
    session = Session.open(run)
    request = MapRequest(path, (BUILDING,), folder / "mosaic", SIDE, METRES, overlap=0.5)
    start = time.perf_counter()
    done = make_map(session, request)
    seconds = time.perf_counter() - start
    tree = shapely.STRtree(shapes)
    truth, predicted = [], []
    for line in (line for line in done.lines if "replies" in line):
        corners = np.array(done.grid.corners(line["window"])) * METRES
        x, y = corners[:, 0], TILES * SIDE * METRES - corners[:, 1]
        window = shapely.box(x.min(), y.min(), x.max(), y.max())
        areas = [shapes[k].intersection(window).area for k in tree.query(window)]
        truth.append(max(areas, default=0.0) >= LEAST)
        predicted.append(line["replies"][0]["shares"]["yes"])
    return {
        "windows": len(truth), "with a building": int(sum(truth)),
        "AUC": round(auc(np.array(truth), np.array(predicted)), 4),
        "accuracy at 0.5": round(float(np.mean(np.array(truth) == (np.array(predicted) > 0.5))), 4),
        "seconds": round(seconds),
    }  # fmt: skip


def auc(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the area under the ROC curve: the share of correctly ordered pairs, ties as half."""
    high, low = predicted[truth][:, None], predicted[~truth][None]
    return float(((high > low) + 0.5 * (high == low)).mean())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = {
            "machine": {**machine(), "cores": os.cpu_count()},
            "agreement": agreement(args.run, folder),
            "speed": [speed(folder, side) for side in (256, 512)],
            "memory": memory(args.run, folder),
        }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
