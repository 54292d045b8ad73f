"""A model to ask: on this machine, or behind a server."""

from __future__ import annotations

import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ..errors import ConfigError, ModelError
from ..system.calls import public, require_one_of
from .ranges import CONCURRENCY, MORE_THAN_0, require_within
from .rows import Rows

if TYPE_CHECKING:
    from ..datasets.base import Dataset
    from ..models.location import ModelLocation
    from ..predict.endpoint_client import Endpoint
    from ..predict.session import Session
    from ..scoring.results import Results

AnswerMode = Literal["free", "closed"]


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """The answer to one question.

    Attributes:
        question: as it was asked.
        text: the answer as the model gave it.
        type: of the question: ``presence``, ``count``, ``comp``, ``rural_urban``, ….
        confidence: probability of ``text`` under the model, 0 to 1; None where unknown.
        probabilities: of each candidate answer; None where the answer was generated.
    """

    question: str
    text: str
    type: str
    confidence: float | None = None
    probabilities: dict[str, float] | None = None


class Answers(Rows, Sequence[QuestionAnswer]):
    """The answers to some questions about one image, in the order of the questions."""

    def __init__(self, answers: Sequence[QuestionAnswer]) -> None:
        self._answers = tuple(answers)

    @overload
    def __getitem__(self, index: int) -> QuestionAnswer: ...
    @overload
    def __getitem__(self, index: slice) -> Answers: ...
    def __getitem__(self, index: int | slice) -> QuestionAnswer | Answers:
        found = self._answers[index]
        return Answers(found) if isinstance(found, tuple) else found

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[QuestionAnswer]:
        return iter(self._answers)

    def __repr__(self) -> str:
        return "\n".join(
            f"{one.question}  {one.text}"
            + ("" if one.confidence is None else f"  ({one.confidence:.2f})")
            for one in self
        )

    def rows(self) -> list[dict[str, Any]]:
        """A row for each question."""
        return [{k: v for k, v in asdict(one).items() if v is not None} for one in self]

    to_dict = rows


class Model(ABC):
    """A model that answers questions about images; see `load`.

    Examples:
        >>> model = rs.load("output/demo")
        >>> model.name, isinstance(model, rs.Model)
        ('demo', True)
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """For people."""

    @public
    def ask(
        self,
        image: Any,
        questions: str | Sequence[str],
        *,
        answers: AnswerMode = "free",
        use_adapter: bool = True,
    ) -> Answers:
        """Ask questions about an image, which is encoded once.

        Args:
            image: path of an image file, PIL image, or array of shape (height, width) or (height,
                width, bands). 8-bit values are used as they are, other types are stretched to their
                2nd and 98th percentile, as in files (docs/settings.md, view.image).
            questions: one or more.
            answers: ``free``: generated; ``closed``: the most probable of yes and no, of rural and
                urban, or of the options in the question, with exact probabilities; other questions
                get generated answers.
            use_adapter: whether a fine-tuned model answers, or its base.

        Raises:
            ImageError: the image cannot be used.
            ConfigError: the model cannot do this.

        Examples:
            >>> model = rs.load("output/demo")
            >>> found = model.ask("tile.tif", ["Is there a road?", "How many roads are there?"])
            >>> [one.type for one in found]
            ['presence', 'count']
            >>> (closed,) = model.ask("tile.tif", "Is there a road?", answers="closed")
            >>> sorted(closed.probabilities)
            ['no', 'yes']
        """
        asked = [questions] if isinstance(questions, str) else list(questions or ())
        if not asked or not all(isinstance(q, str) and q.strip() for q in asked):
            hint = 'ask(image, "Is there a road?")'
            raise ConfigError("a question is missing, empty or not text", hint=hint)
        require_one_of("answers", answers, "free", "closed")
        return Answers(self._answers(image, asked, answers == "closed", use_adapter))

    @abstractmethod
    def _answers(
        self, image: Any, asked: Sequence[str], closed: bool, use_adapter: bool
    ) -> list[QuestionAnswer]:
        """The answers to questions, see `ask`."""

    @abstractmethod
    def evaluated(
        self,
        test: Path | Dataset | None,
        train: Path | Dataset | None,
        values: Mapping[str, Any],
        output: Path | None,
        settings: Sequence[str] = (),
    ) -> tuple[Results, Path]:
        """Answer and score questions; what ``results.json`` holds, and its folder."""


class LocalModel(Model):
    """A base, or a checkpoint on its base; its weights are loaded when they are first needed.

    Attributes:
        found: where it is.
        device: name of the device; None for the first GPU, else the CPU.
    """

    def __init__(self, found: ModelLocation, device: str | None = None) -> None:
        self.found, self.device = found, device

    def __repr__(self) -> str:
        what = self.found.checkpoint.name if self.found.checkpoint else "base"
        return f"<Model {self.name}: {what}>"

    @property
    def name(self) -> str:
        """For people: of the run, or the base."""
        return self.found.name

    @cached_property
    def session(self) -> Session:
        """The loaded model."""
        from ..predict.session import Session

        return Session.of(self.found, self.device)

    def _answers(
        self, image: Any, asked: Sequence[str], closed: bool, use_adapter: bool
    ) -> list[QuestionAnswer]:
        from ..raster import image_to_rgb

        session = self.session
        if _is_path(image):
            pixels = session.read(image)
        else:
            pixels = session.preprocess(image_to_rgb(image, session.view.image))
        (found,) = session.ask([(pixels, asked)], closed=closed, use_adapter=use_adapter)
        return [
            QuestionAnswer(q, r.text, r.type, r.confidence, dict(r.shares) if r.shares else None)
            for q, r in zip(asked, found, strict=True)
        ]

    def evaluated(
        self,
        test: Path | Dataset | None,
        train: Path | Dataset | None,
        values: Mapping[str, Any],
        output: Path | None,
        settings: Sequence[str] = (),
    ) -> tuple[Results, Path]:
        """See `Model.evaluated`."""
        from ..predict.evaluation import evaluate

        questions: Any = {"test": test, "train": train}
        found, folder = evaluate(
            self.found, settings, values, output=output, opened=lambda: self.session, **questions
        )
        assert found  # the library is used by one process
        return found, folder


class RemoteModel(Model):
    """A model behind an OpenAI-compatible server.

    Attributes:
        endpoint: the server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def __repr__(self) -> str:
        return f"<Model {self.name} at {self.endpoint.url}>"

    @property
    def name(self) -> str:
        """Its name there."""
        return self.endpoint.model

    def _answers(
        self, image: Any, asked: Sequence[str], closed: bool, use_adapter: bool
    ) -> list[QuestionAnswer]:
        from ..config import Config
        from ..predict.endpoint import EndpointPredictor
        from ..questions.grammar import question_type
        from ..types import Sample

        if closed or not use_adapter:
            raise ConfigError(
                "a server generates its answers, with the model that it has",
                hint="leave answers and use_adapter as they are, or load the model itself",
            )
        with tempfile.TemporaryDirectory() as folder:
            path = _file_of(image, Path(folder))
            samples = [Sample(str(i), path, q, "?") for i, q in enumerate(asked)]
            predictor = EndpointPredictor(self.endpoint, Config())
            with predictor.answer_batches([[one] for one in samples]) as replies:
                texts = {s.id: reply.text for some in replies for s, reply in some}
        return [QuestionAnswer(q, texts[str(i)], question_type(q)) for i, q in enumerate(asked)]

    def evaluated(
        self,
        test: Path | Dataset | None,
        train: Path | Dataset | None,
        values: Mapping[str, Any],
        output: Path | None,
        settings: Sequence[str] = (),
    ) -> tuple[Results, Path]:
        """See `Model.evaluated`."""
        from ..config_file import load_config
        from ..datasets.reading import read_samples
        from ..predict.endpoint import evaluate_endpoint, folder_name
        from ..questions.class_sets import require_one_dataset

        if test is None:
            raise ConfigError("a server's model has no questions", hint="name them: data=")
        config = load_config(None, settings, values)
        if config.eval.answers == "closed":
            raise ConfigError("a server generates its answers", hint="leave answers as it is")
        whose, named = (
            config.data.dataset,
            test if isinstance(test, Path) else Path("the questions"),
        )
        asked = read_samples(test, dataset=whose) if isinstance(test, Path) else test
        if isinstance(train, Path):
            train = read_samples(train, with_images=False, dataset=whose)
        if not whose:
            require_one_dataset(named, asked, "or name one for all: --set data.dataset=LR")
        folder = output or Path("output") / folder_name(self.name)
        return evaluate_endpoint(self.endpoint, asked, train, config, folder), folder


@public
def load(
    path: str | Path | None = None,
    *,
    checkpoint: str | None = None,
    base: str | Path | None = None,
    device: str | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    concurrency: int = 8,
    rate: float | None = None,
) -> Model:
    """A model to ask and to evaluate.

    Args:
        path: a run, a checkpoint, or a base model.
        checkpoint: of a run: ``"best"`` by validation, ``"last"``, or a name; None: the best if
            there was validation, else the last.
        base: of a checkpoint; None for where it was when the checkpoint was trained.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None for the first GPU, else the CPU.
        endpoint: address of an OpenAI-compatible server, instead of a path; its key is read from
            the environment variable OPENAI_API_KEY.
        model: its name on the server.
        concurrency: most requests at a time.
        rate: most requests per second; None for no limit.

    Raises:
        ModelError: there is no model at this path.
        RunError: the run has no checkpoint yet.
        ConfigError: neither a path nor a server is named, or both.

    Examples:
        >>> rs.load("output/demo")
        <Model demo: checkpoint-...>
        >>> rs.load(endpoint="http://127.0.0.1:8000/v1", model="qwen2-vl")
        <Model qwen2-vl at http://127.0.0.1:8000/v1>
    """
    if endpoint is not None:
        if path or base or device or checkpoint or not model:
            raise ConfigError(
                "a server is named by endpoint and model alone, without path, base and device",
                hint='rs.load(endpoint="http://127.0.0.1:8000/v1", model="name")',
            )
        return _remote(endpoint, model, concurrency, rate)
    if model:
        raise ConfigError("model names one of a server", hint="name the server too: endpoint=...")
    if path is None:
        raise ConfigError("no model is named", hint='rs.load("output/demo")')
    from .early import MODEL_FILES, require_model

    folder, of = Path(path), Path(base) if base else None
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        hint = 'use "cpu", "cuda" or "cuda:1"'
        raise ConfigError(f"device={device!r} is not possible", hint=hint)
    require_model(folder, of)  # before torch is imported
    if not any((folder / name).exists() for name in MODEL_FILES):
        hint = "a model has config.json; a run, config.toml"
        raise ModelError(f"{folder} is not a model", hint=hint)
    from ..models.location import locate

    return LocalModel(locate(folder, of, checkpoint), device)


def _remote(url: str, model: str, concurrency: int, rate: float | None) -> RemoteModel:
    from ..predict.endpoint_client import Endpoint

    require_within({"concurrency": (concurrency, *CONCURRENCY)})
    require_within({"rate": (rate, MORE_THAN_0, inf)})
    endpoint = Endpoint(url, model, os.environ.get("OPENAI_API_KEY"), concurrency, rate)
    _ = endpoint.address, endpoint.headers  # refuse what is no URL or key
    return RemoteModel(endpoint)


def _is_path(image: Any) -> bool:
    return isinstance(image, str | os.PathLike)


def _file_of(image: Any, folder: Path) -> str:
    """The path of an image; one in memory is written as PNG, which keeps its pixels."""
    if _is_path(image):
        return str(os.fspath(image))
    from PIL import Image

    from ..config import RasterToRGB
    from ..raster import image_to_rgb

    Image.fromarray(image_to_rgb(image, RasterToRGB())).save(folder / "image.png")
    return str(folder / "image.png")
