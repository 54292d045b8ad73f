"""Evaluation of a model behind a server: the same questions, pixels, controls and files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image

from ..config import Config
from ..console import Progress, say
from ..data.raster import read_rgb
from ..data.split import group_by_image, limit_by_image
from ..errors import DataError
from ..files import appending, atomic_write, read_json, run_lock, sha256, sweep, write_json
from ..records import Prediction, Sample
from ..scoring.answers import normalise
from ..scoring.controls import shuffle_images
from ..scoring.grammar import type_of
from ..scoring.predictions import read_predictions, write_predictions
from ..scoring.score import Results, results
from .client import Client, Endpoint, Question

_IMAGES_KEPT = 16


def evaluate_endpoint(
    endpoint: Endpoint,
    test: Sequence[Sample],
    train: Iterable[Sample] | None,
    config: Config,
    output: Path,
) -> Results:
    """Evaluate a model behind a server with all controls.

    Writes ``predictions.jsonl``, ``results.json`` and the shuffled-image control, as `evaluate`
    does for a model on this machine; goes on where it was interrupted. There are no confidences.

    Args:
        endpoint: the server.
        test: the questions.
        train: training questions, for the controls; None for none.
        config: view, seed, longest answer, number of questions.
        output: folder of the evaluation.

    Raises:
        HubError: the server cannot be used.
        DataError: an image cannot.
        RunError: another process is at work in the folder, or it cannot be written to.
    """
    test = limit_by_image(test, config.eval.max_eval)
    if len({s.id for s in test}) < len(test):
        raise DataError("several questions have the same id")
    with run_lock(output):
        predictions = _run(endpoint, test, config, output)
        images = list(dict.fromkeys(s.image for s in test))
        shuffled = None
        if len(images) > 1:
            other = shuffle_images(images, config.training.seed)
            moved = [replace(s, image=other[s.image]) for s in test]
            asked = _run(endpoint, moved, config, output / "shuffled")
            own = {s.id: s.image for s in test}
            shuffled = [replace(p, image=own[p.id]) for p in asked]
        found = results(predictions, train=train, shuffled=shuffled)
        write_json(output / "results.json", found)
    say(f"predictions and all protocols: {output}/")
    return found


def folder_name(model: str) -> str:
    """A folder for a model's evaluation, by its name."""
    return "eval-" + (re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model")


def _run(
    endpoint: Endpoint, samples: Sequence[Sample], config: Config, folder: Path
) -> list[Prediction]:
    """Answers to all samples, from ``folder/predictions.jsonl`` where they are there."""
    key = _key(endpoint, samples, config)
    done, so_far = folder / "predictions.jsonl", folder / "predictions.partial.jsonl"
    if done.is_file() and read_json(folder / "inputs.json", damaged=None) == {
        "key": key,
        "sha256": sha256(done),
    }:
        say(f"{folder.name}: {done} is up to date")
        so_far.unlink(missing_ok=True)  # a kill may have come between
        return read_predictions(done)
    folder.mkdir(parents=True, exist_ok=True)
    known = _read_partial(so_far, key)
    with atomic_write(so_far) as file:  # without what was cut short
        file.write(json.dumps({"key": key}) + "\n")
        file.writelines(json.dumps(row) + "\n" for row in known.items())
    asyncio.run(_ask(endpoint, samples, config, so_far, known))
    predictions = [_predict(s, known[s.id]) for s in samples]
    sweep(folder / "timing.json")
    write_predictions(done, predictions)
    write_json(folder / "inputs.json", {"key": key, "sha256": sha256(done)})
    so_far.unlink()
    return predictions


async def _ask(
    endpoint: Endpoint,
    samples: Sequence[Sample],
    config: Config,
    so_far: Path,
    known: dict[str, str],
) -> None:
    """Ask what is not known yet; every answer is written down as it comes."""
    lead = f"{config.view.instruction}\n" if config.view.instruction else ""

    @lru_cache(_IMAGES_KEPT)
    def picture(path: str) -> str:
        memory = io.BytesIO()
        Image.fromarray(read_rgb(path, config.view.image)).save(memory, "PNG")
        return f"data:image/png;base64,{base64.b64encode(memory.getvalue()).decode()}"

    missing = [
        Question(s.id, lead + s.question.strip(), partial(picture, s.image),
                 config.eval.max_new_tokens)
        for group in group_by_image(samples) for s in group if s.id not in known
    ]  # fmt: skip
    client, start = Client(endpoint), time.monotonic()
    with (
        appending(so_far) as file,
        Progress(f"asking ({so_far.parent.name})", len(samples), "questions", len(known)) as bar,
    ):
        try:
            async for name, text in client.ask(missing):
                known[name] = text
                file.write(json.dumps((name, text)) + "\n")
                file.flush()
                bar.advance()
        finally:
            for why, times in client.again.items():
                say(f"asked again {times:,} times: {why}")
    if missing:
        seconds = round(time.monotonic() - start, 3)
        write_json(so_far.with_name("timing.json"), {"questions": len(missing), "seconds": seconds})


def _key(endpoint: Endpoint, samples: Sequence[Sample], config: Config) -> str:
    """Digest of all that decides the answers, as far as it is known from here."""
    digest = hashlib.sha256()
    parts = [endpoint.address, endpoint.model, config.view.model_dump_json()]
    parts.append(str(config.eval.max_new_tokens))
    for part in (*parts, *(json.dumps(asdict(s)) for s in samples)):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _read_partial(path: Path, key: str) -> dict[str, str]:
    """What an interrupted evaluation with the same inputs had; a torn line ends it."""
    if not path.is_file():
        return {}
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8")
    first, *lines = whole.split("\n")
    if first != json.dumps({"key": key}):
        return {}
    return dict(json.loads(line) for line in lines)


def _predict(sample: Sample, text: str) -> Prediction:
    kind = type_of(sample)
    found = normalise(text, kind)
    return Prediction(
        sample.id, sample.image, sample.question, kind, sample.answer,
        text if found is None else found, text,
    )  # fmt: skip
