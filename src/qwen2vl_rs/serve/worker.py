"""The worker thread with the model: it answers waiting questions about an image together."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from ..errors import Qwen2VLRSError
from .api_errors import Refusal
from .metrics import Metrics

if TYPE_CHECKING:
    from ..models.images import ImageInput
    from ..predict.session import ModelAnswer, Session

WAITING = 64  # maximum jobs in the queue
CACHED_TOKENS = 20_000  # visual tokens in the cache of features; 123 MB for a 2B model in float32
_QUESTION_TOKENS = 24  # minimum of a question with its answer; `pack` counts exactly
_BYTES_OF_A_TOKEN = 2  # minimum in a question; four in English, one in rare scripts


@dataclass(slots=True, eq=False)
class WorkItem:
    """Questions about one image, to one of the two models.

    Attributes:
        key: cache key of the image or its part, see `Worker.key_for`.
        pixels: the image, with or without features.
        questions: without instruction.
        use_adapter: whether the fine-tuned model or its base model answers.
        closed: whether questions with candidate answers are answered by ranking them.
        most: maximum tokens of a generated answer; None for the default.
        peer: the client's address.
        answers: the answers to all questions, once it is done.
        said: the answers so far.
        turn: number of its turn.
        left: whether the client has disconnected.
    """

    key: str
    pixels: ImageInput
    questions: Sequence[str]
    use_adapter: bool
    closed: bool
    most: int | None = None
    peer: str = ""
    answers: Future[list[ModelAnswer]] = field(default_factory=Future)
    said: list[ModelAnswer] = field(default_factory=list)
    turn: int = 0
    left: bool = False

    def fitting(self, tokens: int) -> int:
        """Return how many of its next questions fit into about ``tokens`` tokens."""
        sizes = accumulate(map(_tokens, self.questions[len(self.said) :]))
        return sum(size <= tokens for size in sizes)


_Batch = list[tuple[WorkItem, Sequence[str]]]  # jobs, each with its questions in one pass


class Worker:
    """Owns a model and answers jobs in a thread until it is closed.

    Args:
        session: the model.
        metrics: counts what happens.
        waiting: maximum jobs in the queue.
    """

    def __init__(self, session: Session, metrics: Metrics, waiting: int = WAITING) -> None:
        self.session = session
        self._metrics, self._most = metrics, waiting
        self._queue: list[WorkItem] = []
        self._ready = threading.Condition()
        self._closed = False
        self._pace = 0.0  # recent seconds per job
        self._pass = 0  # number of the next pass
        self._turns: dict[str, int] = {}  # the last turn of each address
        self._cache: OrderedDict[str, ImageInput] = OrderedDict()
        self._held = 0  # visual tokens in the cache
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return whether the thread is running."""
        return self._thread.is_alive() and not self._closed

    def key_for(self, image: str, use_adapter: bool) -> str:
        """Return the cache key of an image's features for one of the two models.

        The models share them unless the adapter changes the vision tower or merger.
        """
        own = self.session.adapts_vision and not use_adapter
        return f"{image} without adapter" if own else image

    def cached(self, key: str) -> ImageInput | None:
        """Return a cached image with features."""
        with self._ready:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
                self._metrics.cache_hits.inc()
            return found

    def submit(self, jobs: Sequence[WorkItem]) -> None:
        """Put jobs into the queue, all of them or none.

        Raises:
            Refusal: the queue is full, or the server is stopping.
        """
        with self._ready:
            if self._closed:
                raise Refusal(503, "stopping", "the server is stopping", retry_after=10)
            self._make_room(jobs)
            turn = self._turn_of(jobs[0].peer)
            for job in jobs:
                job.turn = turn
            self._queue += jobs
            self._metrics.waiting.set(len(self._queue))
            self._ready.notify()

    def cancel(self, jobs: Sequence[WorkItem]) -> None:
        """Cancel jobs of a disconnected client; a running pass is completed."""
        with self._ready:
            for job in jobs:
                job.left = True
                if job in self._queue:
                    self._queue.remove(job)
                    job.answers.cancel()
                    self._metrics.withdrawn.inc()
            self._metrics.waiting.set(len(self._queue))

    def _make_room(self, jobs: Sequence[WorkItem]) -> None:
        """Make room for jobs of an address by refusing some of an address with more."""
        wait = min(60, max(1, round(self._pace * len(self._queue))))
        full = Refusal(
            429,
            "queue_full",
            f"{len(self._queue)} requests are waiting already",
            hint=f"try again in {wait} s",
            retry_after=wait,
        )
        while (over := len(self._queue) + len(jobs) - self._most) > 0:
            held = Counter(job.peer for job in self._queue)
            peer, most = held.most_common(1)[0] if held else ("", 0)
            newest = [job for job in reversed(self._queue) if job.peer == peer and not job.said]
            if most - over < held[jobs[0].peer] + len(jobs) or not newest:
                raise full
            self._queue.remove(newest[0])
            if not newest[0].answers.cancelled():
                newest[0].answers.set_exception(full)

    def _turn_of(self, peer: str) -> int:
        """Return the next turn of an address: after what others sent since its last."""
        turn = max(self._pass, self._turns.get(peer, -1) + 1)
        self._turns = {one: last for one, last in self._turns.items() if last >= self._pass}
        self._turns[peer] = turn
        return turn

    def close(self) -> None:
        """Answer what is in the queue, then stop."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            if not batch:
                continue
            start = time.monotonic()
            try:
                self._answer(batch)
            except Exception as error:  # any error goes to the clients; the thread continues
                for job, _ in batch:
                    if not job.answers.done():
                        job.answers.set_exception(_explained(error))
            taken = (time.monotonic() - start) / len(batch)
            self._pace = taken if not self._pace else 0.8 * self._pace + 0.2 * taken
            self._put_back([job for job, _ in batch])

    def _take(self) -> _Batch | None:
        """Wait for the next batch; None when closed and done.

        The job of the next turn determines model and answer mode. Other jobs of that kind join it
        in order of their turns, up to the tokens of a pass; an image is counted once. Questions
        that do not fit wait for another turn.
        """
        with self._ready:
            self._ready.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            taken: _Batch = []
            images: set[str] = set()
            room = self.session.budget
            first, *others = sorted(self._queue, key=lambda job: job.turn)
            for job in (first, *others):
                if (job.use_adapter, job.closed) != (first.use_adapter, first.closed):
                    continue
                image = 0 if job.key in images else job.pixels.tokens
                number = job.fitting(room - image)
                if job is first:  # a large image must not leave one question per pass
                    number = max(1, number, job.fitting(self.session.budget // 4))
                if number == 0:
                    continue
                questions = job.questions[len(job.said) :][:number]
                taken.append((job, questions))
                images.add(job.key)
                room -= image + sum(map(_tokens, questions))
            for job, _ in taken:
                self._queue.remove(job)
            self._pass += 1
            self._metrics.waiting.set(len(self._queue))
            return [
                part
                for part in taken
                if part[0].said or part[0].answers.set_running_or_notify_cancel()
            ]

    def _put_back(self, jobs: Sequence[WorkItem]) -> None:
        """Queue jobs with remaining questions for their next turn, unless the client has left."""
        with self._ready:
            for job in jobs:
                if job.answers.done():
                    continue
                if job.left:
                    job.answers.set_exception(Refusal(503, "withdrawn", "the client has left"))
                    self._metrics.withdrawn.inc()
                    continue
                job.turn = self._turn_of(job.peer)
                self._queue.append(job)
            self._metrics.waiting.set(len(self._queue))

    def _answer(self, batch: _Batch) -> None:
        """Run one pass: each image once, each of its questions once."""
        asked: dict[str, dict[str, None]] = {}
        images: dict[str, ImageInput] = {}
        for job, questions in batch:
            asked.setdefault(job.key, {}).update(dict.fromkeys(questions))
            images.setdefault(job.key, job.pixels)
        for key, pixels in images.items():
            images[key] = self._encoded(key, pixels, batch[0][0].use_adapter)
        first = batch[0][0]
        found = self.session.ask(
            [(images[key], list(of_it)) for key, of_it in asked.items()],
            closed=first.closed,
            use_adapter=first.use_adapter,
        )
        said = {
            (key, question): answer
            for (key, of_it), answers in zip(asked.items(), found, strict=True)
            for question, answer in zip(of_it, answers, strict=True)
        }
        self._metrics.passes.inc()
        self._metrics.questions.labels("tuned" if first.use_adapter else "base").inc(len(said))
        for job, questions in batch:
            job.said += [said[job.key, question] for question in questions]
            if len(job.said) < len(job.questions):
                continue
            answers = job.said
            if job.most is not None:
                answers = [self.session.shortened(answer, job.most) for answer in answers]
            job.answers.set_result(answers)

    def _encoded(self, key: str, pixels: ImageInput, use_adapter: bool) -> ImageInput:
        """Return the image with features, which are cached if there is room."""
        known = self._cache.get(key)
        if known is not None:
            return known
        if pixels.features is None:
            pixels = self.session.encode(pixels, use_adapter=use_adapter)
            self._metrics.encoded.inc()
        with self._ready:
            self._cache[key] = pixels
            self._held += pixels.tokens
            while self._held > CACHED_TOKENS and len(self._cache) > 1:
                self._held -= self._cache.popitem(last=False)[1].tokens
        return pixels


def _tokens(question: str) -> int:
    """Estimate the tokens of a question with its answer."""
    return max(_QUESTION_TOKENS, len(question.encode()) // _BYTES_OF_A_TOKEN)


def _explained(error: Exception) -> Exception:
    """Return the client's error: an expected failure with its hint, else the error itself."""
    if isinstance(error, Qwen2VLRSError):
        return Refusal(503, "model_failed", error.message, hint=error.hint)
    return error
