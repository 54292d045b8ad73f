"""Makes the data that tests run on: images, RSVQA folders and bases, all generated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from qwen2vl_rs.records import Sample

QUESTIONS = {
    "presence": ("Is there a road?", "Is a water area present?", "Is there a building?"),
    "count": ("How many roads are there?", "What is the number of buildings in the image?"),
    "comp": ("Are there more roads than buildings?", "Are there less buildings than water areas?"),
    "rural_urban": ("Is it a rural or an urban area",),
}


def write_image(path: Path, side: int, seed: int) -> None:
    """A georeferenced 8-bit RGB GeoTIFF whose brightness depends on its seed."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 120, (3, side, side), dtype=np.uint8) + np.uint8(60 * (seed % 2))
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8",
        crs="EPSG:3857", transform=from_origin(6e5, 7e6, 10, 10),
    ) as file:  # fmt: skip
        file.write(values)


def answer_of(question: str, seed: int) -> str:
    """What a question about an image is answered with: bright images are urban and busy."""
    busy = seed % 2 == 1
    if question.startswith("Is it"):
        return "urban" if busy else "rural"
    if question.startswith(("How", "What")):
        return str(20 + seed if busy else 0)
    return "yes" if busy == ("more" in question or "building" in question) else "no"


def write_rsvqa(
    folder: Path, images: int = 6, side: int = 56, prefix: str = "", first: int = 0
) -> Path:
    """A folder in the official layout: ``[prefix]{questions,answers,images}.json`` and images."""
    pictures = folder / "rsvqa_images"
    pictures.mkdir(parents=True, exist_ok=True)
    questions, answers, records = [], [], []
    for image in range(first, first + images):
        write_image(pictures / f"{image}.tif", side, image)
        asked = [(kind, text) for kind, texts in QUESTIONS.items() for text in texts]
        ids = list(range(len(questions), len(questions) + len(asked)))
        for number, (kind, text) in zip(ids, asked, strict=True):
            questions.append(
                {
                    "id": number,
                    "img_id": image,
                    "people_id": 0,
                    "type": kind,
                    "question": text,
                    "answers_ids": [number],
                    "active": True,
                }
            )
            answers.append({"id": number, "question_id": number, "people_id": 0,
                            "answer": answer_of(text, image), "active": True})  # fmt: skip
        records.append({"id": image, "questions_ids": ids, "active": True})
    for name, rows in (("questions", questions), ("answers", answers), ("images", records)):
        text = json.dumps({name: rows})
        (folder / f"{prefix or 'rsvqa_'}{name}.json").write_text(text, encoding="utf-8")
    return folder


def make_samples(folder: Path, images: int = 4, side: int = 56) -> list[Sample]:
    """Samples about freshly written images."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for image in range(images):
        path = folder / f"{image}.tif"
        write_image(path, side, image)
        for kind, texts in QUESTIONS.items():
            for text in texts:
                name = f"rsvqa_{len(samples) + 1}"
                samples.append(Sample(name, str(path), text, answer_of(text, image), kind))
    return samples
