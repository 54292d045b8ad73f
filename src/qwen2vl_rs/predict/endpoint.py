"""Evaluation of a model behind a server: the same questions, pixels, controls and files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image

from ..config import Config
from ..datasets.split import group_by_image, limit_by_image
from ..questions.class_sets import Dataset, settle
from ..raster import read_rgb
from ..scoring.results import Results, results
from ..system.console import counted, say
from ..system.files import run_lock, write_json
from ..types import Prediction, Sample
from .endpoint_client import Client, Endpoint, Question
from .job import Job, bare_samples, predict, say_cut_off, with_other_images, with_own_images

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
    test = bare_samples(limit_by_image(test, config.eval.max_eval), config.view)
    train = None if train is None else bare_samples(train, config.view)
    dataset = settle(test, config.data.dataset)
    with run_lock(output):
        predictions = _run(endpoint, test, config, output, dataset)
        moved = with_other_images(test, config.training.seed)
        shuffled = None
        if moved is not None:
            told = _run(endpoint, moved, config, output / "shuffled", dataset)
            shuffled = with_own_images(told, test)
        found = results(predictions, train=train, shuffled=shuffled, dataset=dataset)
        write_json(output / "results.json", found)
    say(f"predictions and all protocols: {output}/")
    say_cut_off(found, config.eval.max_new_tokens)
    return found


def folder_name(model: str) -> str:
    """A folder for a model's evaluation, by its name."""
    return "eval-" + (re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model")


def _run(
    endpoint: Endpoint, samples: Sequence[Sample], config: Config, folder: Path, dataset: Dataset
) -> list[Prediction]:
    """Answers to all samples, from ``folder/predictions.jsonl`` where they are there."""
    # of the model nothing but its name is known from here
    made_by = [endpoint.address, endpoint.model, config.view.model_dump_json()]
    made_by.append(str(config.eval.max_new_tokens))
    job = Job(samples, folder, made_by, dataset.written)
    if (found := job.ready()) is not None:
        job.keep(found)
        return found
    asyncio.run(_ask(endpoint, config, job))
    return job.finish()


async def _ask(endpoint: Endpoint, config: Config, job: Job) -> None:
    """Ask what is not known yet; every answer is written down as it comes."""
    lead = f"{config.view.instruction}\n" if config.view.instruction else ""

    @lru_cache(_IMAGES_KEPT)
    def picture(path: str) -> str:
        memory = io.BytesIO()
        Image.fromarray(read_rgb(path, config.view.image)).save(memory, "PNG")
        return f"data:image/png;base64,{base64.b64encode(memory.getvalue()).decode()}"

    def question(s: Sample) -> Question:
        text = lead + s.question.strip()
        return Question(s.id, text, partial(picture, s.image), config.eval.max_new_tokens)

    client, asked = Client(endpoint), {s.id: s for s in job.samples}
    with job.asking(len(job.samples)) as log:
        ordered = [s for group in group_by_image(job.samples) for s in group]
        try:
            left = [question(s) for s in ordered if s.id not in log.known]
            async with contextlib.aclosing(client.ask(left)) as replies:
                async for name, reply in replies:
                    log.add([predict(asked[name], reply)])
        finally:
            for why, times in client.again.items():
                say(f"asked again {counted(times, 'time')}: {why}")
