"""A model behind a server: the same questions, pixels, controls and files as one at hand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from PIL import Image

from ..config import Config
from ..datasets.split import group_by_image
from ..questions.class_sets import resolve_dataset
from ..raster import read_rgb
from ..scoring.results import Results
from ..system.console import counted, say
from ..types import Sample
from .endpoint_client import ChatRequest, Endpoint, EndpointClient
from .predictor import (
    Alone,
    Batch,
    EvaluationSet,
    Replies,
    Reply,
    asked_samples,
    bare_samples,
    evaluate_into,
)
from .settings import control_seed

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
    does for a model on this machine; resumes. There are no confidences.

    Args:
        endpoint: the server.
        test: the questions.
        train: training questions, for the baselines; None for none.
        config: view, seed, longest answer, number of questions, place of the images.
        output: folder of the evaluation.

    Raises:
        HubError: the server cannot be used.
        DataError: an image cannot.
        RunError: another process is at work in the folder, or it cannot be written to.
    """
    test, seed = asked_samples(test, config.view, config), control_seed(config)
    train = None if train is None else bare_samples(train, config.view)
    questions = EvaluationSet(test, train, resolve_dataset(test, config.data.dataset), seed)
    predictor = EndpointPredictor(endpoint, config)
    found = evaluate_into(predictor, questions, output, config.eval.max_new_tokens)
    assert found  # this is the only process
    return found


def folder_name(model: str) -> str:
    """A folder for a model's evaluation, by its name."""
    return "eval-" + (re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model")


class EndpointPredictor:
    """A `Predictor` over HTTP.

    Args:
        endpoint: the server.
        config: view and longest answer.
    """

    checkpoint = ""

    def __init__(self, endpoint: Endpoint, config: Config) -> None:
        self._endpoint, self._view = endpoint, config.view
        self._most = config.eval.max_new_tokens
        self.team = Alone()

    def made_by(self, shuffled: bool) -> list[str]:
        """Of the model nothing but its name is known from here."""
        whose = [self._endpoint.address, self._endpoint.model]
        return [*whose, self._view.model_dump_json(), str(self._most)]

    def batches(self, samples: Sequence[Sample]) -> list[Batch]:
        """Every question by itself, those of one image together."""
        return [[s] for group in group_by_image(samples) for s in group]

    @contextlib.contextmanager
    def answering(self, batches: Sequence[Batch]) -> Iterator[Replies]:
        """The replies, one by one as they come; what fails ends them all."""
        asked = {s.id: s for batch in batches for s in batch}
        lead = f"{self._view.instruction}\n" if self._view.instruction else ""

        @lru_cache(_IMAGES_KEPT)
        def picture(path: str) -> str:
            memory = io.BytesIO()
            Image.fromarray(read_rgb(path, self._view.image)).save(memory, "PNG")
            return f"data:image/png;base64,{base64.b64encode(memory.getvalue()).decode()}"

        def request(s: Sample) -> ChatRequest:
            return ChatRequest(
                s.id, lead + s.question.strip(), partial(picture, s.image), self._most
            )

        client = EndpointClient(self._endpoint)
        with _loop() as run:
            coming = client.ask([request(s) for s in asked.values()])

            def replies() -> Replies:
                while (one := run(_next(coming))) is not None:
                    yield [(asked[one[0]], one[1])]

            try:
                yield replies()
            finally:
                for why, times in client.again.items():
                    say(f"asked again {counted(times, 'time')}: {why}")


@contextlib.contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs coroutines in a thread of its own: the caller's, as in a notebook, may have a loop.

    On leaving, what is still running is ended.
    """
    loops: SimpleQueue[asyncio.AbstractEventLoop] = SimpleQueue()
    over = asyncio.Event()

    async def until_over() -> None:
        loops.put(asyncio.get_running_loop())
        await over.wait()

    thread = Thread(target=lambda: asyncio.run(until_over()), daemon=True)
    thread.start()
    loop = loops.get()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


async def _next(coming: AsyncGenerator[tuple[str, Reply]]) -> tuple[str, Reply] | None:
    return await anext(coming, None)
