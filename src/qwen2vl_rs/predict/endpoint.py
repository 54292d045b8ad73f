"""Evaluate a model behind an OpenAI-compatible server, like one on this machine."""

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
    Batch,
    EvaluationSet,
    Replies,
    Reply,
    SingleProcess,
    bare_samples,
    eval_samples,
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
    """Evaluate a model behind a server with all baselines.

    Writes ``predictions.jsonl``, ``results.json`` and the shuffled-image baseline, like `evaluate`
    for a model on this machine. Resumes. There are no confidences.

    Args:
        endpoint: the server.
        test: the questions.
        train: training questions for the baselines, if any.
        config: input settings, seed, maximum tokens, number of questions, images' folder.
        output: the evaluation's folder.

    Raises:
        HubError: the server is not usable.
        DataError: an image is not usable.
        RunError: another process uses the folder, or it is not writable.
    """
    test, seed = eval_samples(test, config.view, config), control_seed(config)
    train = None if train is None else bare_samples(train, config.view)
    questions = EvaluationSet(test, train, resolve_dataset(test, config.data.dataset), seed)
    predictor = EndpointPredictor(endpoint, config)
    found = evaluate_into(predictor, questions, output, config.eval.max_new_tokens)
    assert found  # this is the only process
    return found


def folder_name(model: str) -> str:
    """Return a folder name for the evaluation of a model."""
    return "eval-" + (re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model")


class EndpointPredictor:
    """A `Predictor` over HTTP.

    Args:
        endpoint: the server.
        config: input settings and maximum tokens.
    """

    checkpoint = ""

    def __init__(self, endpoint: Endpoint, config: Config) -> None:
        self._endpoint, self._view = endpoint, config.view
        self._most = config.eval.max_new_tokens
        self.team = SingleProcess()

    def key_parts(self, shuffled: bool) -> list[str]:
        """Return the parts of the cache key; only the model's name is known."""
        whose = [self._endpoint.address, self._endpoint.model]
        return [*whose, self._view.model_dump_json(), str(self._most)]

    def batches(self, samples: Sequence[Sample]) -> list[Batch]:
        """Return batches of one question each, with the questions of an image in sequence."""
        return [[s] for group in group_by_image(samples) for s in group]

    @contextlib.contextmanager
    def answer_batches(self, batches: Sequence[Batch]) -> Iterator[Replies]:
        """Yield the replies as they arrive; an error ends all requests."""
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
                    say(f"repeated {counted(times, 'request')}: {why}")


@contextlib.contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run coroutines in a thread of their own, as a notebook already has a running event loop.

    Unfinished coroutines are cancelled at the end.
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
