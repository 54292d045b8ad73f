"""Makes the data that tests run on: images, RSVQA folders and bases, all generated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from qwen2vl_rs.config import Config
from qwen2vl_rs.config_file import write_config
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.scoring.predictions import write_predictions
from qwen2vl_rs.scoring.results import results
from qwen2vl_rs.system.files import sha256, write_checksums, write_json
from qwen2vl_rs.types import Prediction, Sample

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


def write_run(folder: Path, images: int = 6) -> Path:
    """The files of a finished run on generated images, as training leaves them; no model.

    Before, everything is answered "no"; after, the truth but for counts and the contrary to every
    seventh question; shown a wrong image, "yes".
    """
    samples = [replace(s, dataset="LR") for s in make_samples(folder / "pictures", images)]
    training = [replace(s, id=f"t{s.id}", image=f"elsewhere/{s.id}.tif") for s in samples]
    run = folder / "output" / "small"
    contrary = {"yes": "no", "no": "yes"}
    said = {
        "before": lambda k, s: "no",
        "after": lambda k, s: (
            "3" if s.type == "count" else contrary.get(s.answer, "no") if k % 7 == 3 else s.answer
        ),
        "shuffled": lambda k, s: "yes",
    }
    answered = {
        name: [
            Prediction(
                s.id,
                s.image,
                s.question,
                s.type,
                s.answer,
                say(k, s),
                "",
                0.5 + k % 5 / 10,
                dataset="LR",
            )
            for k, s in enumerate(samples)
        ]
        for name, say in said.items()
    }
    for name, predictions in answered.items():
        file = run / "eval" / name / "predictions.jsonl"
        write_predictions(file, predictions)
        seconds = {"before": 0.25, "after": 0.125, "shuffled": 0.5}[name]
        write_json(file.with_name("timing.json"), {"questions": 8, "seconds": seconds})
    before = results(answered["before"], train=training)
    after = results(answered["after"], train=training, shuffled=answered["shuffled"])
    write_json(run / "eval" / "before" / "results.json", before)
    write_json(run / "eval" / "after" / "results.json", after)
    write_config(run / "config.toml", Config(output=str(run)))
    steps = [{"step": k, "loss": 3 / k, "questions": 25, "seconds": 0.1 * k} for k in range(1, 41)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    done = {"train_loss": 0.3, "train_steps": 40, "train_runtime": 4.0, "train_questions": 1000}
    write_json(run / "train_results.json", done)
    files = {"data_vl_train.json": training, "data_vl_test.json": samples}
    for name, part in files.items():
        write_conversations(folder / name, part)
    data = {
        name: {"sha256": sha256(folder / name), "questions": len(part), "images": images}
        for name, part in files.items()
    }
    write_json(run / "manifest.json", {
        "versions": {"qwen2vl-rs": "0.1", "torch": "2.13"}, "device": "CPU", "threads": 2,
        "dtype": "float32", "seed": 42, "data": data,
        "dataset": {"name": "LR", "from": "files", "manner": ""},
        "base": {"folder": "/models/Qwen/Qwen2-VL-2B-Instruct", "fingerprint": "ab" * 32},
    })  # fmt: skip
    checkpoint = run / "checkpoint-40"
    checkpoint.mkdir()
    for name in ("adapter_model.safetensors", "optimizer.pt"):
        (checkpoint / name).write_bytes(b"weights")
    name = {"base_model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct", "r": 64}
    write_json(checkpoint / "adapter_config.json", name)
    write_json(checkpoint / "qwen2vl_rs.json", {"base": "x"})
    write_checksums(checkpoint)
    write_json(run / "compare.json", {"checkpoint": checkpoint.name})
    return run


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
