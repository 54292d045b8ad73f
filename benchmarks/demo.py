"""The five commands on generated images and a small random base: `make demo`.

Nothing is downloaded. The base is a Qwen2-VL with random weights and the images are coloured
rectangles, so the accuracy says nothing about the real model: it shows that every step works.
A trained base and rendered scenes are to take their place.

    python benchmarks/demo.py [FOLDER]      about two minutes on two CPU cores
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from qwen2vl_rs.model.random_base import Size, write_random_base

IMAGES, SIDE = 120, 112
COLOURS = {"building": (235, 225, 215), "road": (120, 120, 120), "water area": (40, 70, 160)}
SETTINGS = [
    "training.learning_rate=3e-3", "training.num_train_epochs=10", "training.save_steps=100",
    "training.gradient_checkpointing=false", "data.test_fraction=0.25", "eval.max_new_tokens=8",
]  # fmt: skip


def draw(random: np.random.Generator) -> tuple[np.ndarray, dict[str, int]]:
    """An image (H, W, 3) of grass with objects on it, and how many there are of each kind."""
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


def questions(counts: dict[str, int]) -> list[tuple[str, str, str]]:
    """Type, question and answer of all that is asked about an image."""
    asked = [("rural_urban", "Is it a rural or an urban area",
              "urban" if counts["building"] > 6 else "rural")]  # fmt: skip
    for thing, n in counts.items():
        asked.append(("presence", f"Is there a {thing}?", "yes" if n else "no"))
        asked.append(("count", f"What is the number of {thing}s?", str(n)))
        for other, m in counts.items():
            if other != thing:
                answer = "yes" if n > m else "no"
                asked.append(("comp", f"Are there more {thing}s than {other}s?", answer))
    return asked


def write_data(folder: Path) -> None:
    """``rsvqa_questions.json``, ``rsvqa_answers.json`` and ``rsvqa_images/``."""
    random = np.random.default_rng(0)
    (folder / "rsvqa_images").mkdir()
    asked, answered = [], []
    for image in range(IMAGES):
        pixels, counts = draw(random)
        with rasterio.open(
            folder / "rsvqa_images" / f"{image}.tif", "w", driver="GTiff", width=SIDE,
            height=SIDE, count=3, dtype="uint8", crs="EPSG:3857",
            transform=Affine(10, 0, 6e5 + image * 2000, 0, -10, 7e6),
        ) as file:  # fmt: skip
            file.write(pixels.transpose(2, 0, 1))
        for kind, question, answer in questions(counts):
            n = len(asked)
            asked.append({"id": n, "img_id": image, "type": kind, "question": question,
                          "answers_ids": [n], "active": True})  # fmt: skip
            answered.append({"id": n, "question_id": n, "answer": answer, "active": True})
    (folder / "rsvqa_questions.json").write_text(json.dumps({"questions": asked}))
    (folder / "rsvqa_answers.json").write_text(json.dumps({"answers": answered}))


def main() -> None:
    """Make data and base, then run the commands, printing each."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    mark = folder / ".qwen2vl-rs-demo"
    if mark.exists():
        shutil.rmtree(folder)  # the last demo
    elif folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty and holds no demo: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    print(f"drawing {IMAGES} images and writing a base with random weights into {folder}/")
    write_data(folder)
    size = Size(hidden=128, layers=3, vision_hidden=96, vision_layers=2)
    write_random_base(folder / "Qwen/Qwen2-VL-2B-Instruct", size)
    steps = ["data2csv", "csv2json", "train", "compare --only broken --limit 3"]
    for step in steps:
        command = ["qwen2vl-rs", *step.split()]
        if step == "train":
            command += [part for s in SETTINGS for part in ("--set", s)]
        print("\n$ " + " ".join(command), flush=True)
        program = [sys.executable, "-m", "qwen2vl_rs", *command[1:]]
        subprocess.run(program, cwd=folder, check=True)
    print(f"\nAll of it lies in {folder}/. This base knows nothing: its weights are random.")
    print("With the real model: qwen2vl-rs load, then the same commands on your own data.")


if __name__ == "__main__":
    main()
