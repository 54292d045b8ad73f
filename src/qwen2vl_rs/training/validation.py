"""Validation in training: answer held-out questions with the adapter as it is now.

Prompts, pixels, answers and scores are those of ``eval``; the loss is that of training, without
dropout.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..datasets.base import Dataset
from ..engine.vision import ImageSource
from ..hardware.devices import processes
from ..hardware.randomness import preserve_random_state
from ..models.adapter_weights import as_answering
from ..models.images import ImageInput
from ..models.loader import Base
from ..predict.local import LocalBase, LocalPredictor
from ..predict.predictor import bare_samples, predict_samples
from ..predict.session import Session
from ..predict.settings import answer_settings
from ..questions.class_sets import resolve_dataset
from ..run import Run
from ..scoring.results import results
from ..system.console import say
from ..system.files import remove_folder
from .steps import StepDataset, pack_loss

PROTOCOL = "official"
_FOLDER = "validation"  # of the answers, in the run's evaluations


@dataclass(eq=False, repr=False)
class _EncodedSession(Session):
    """A session that reads the features of images that are encoded already, if they are."""

    encoded: ImageSource | None = None

    def read(self, path: str | Path) -> ImageInput:
        """Read an image, or its features."""
        return self.encoded.read(str(path)) if self.encoded else super().read(path)


class _Current(LocalPredictor):
    """The model in training, identified by the digest of its trained weights."""

    def __init__(self, base: LocalBase, model: Any) -> None:
        super().__init__(base, None)
        self._model = model

    def key_parts(self, shuffled: bool) -> list[str]:
        """Return the parts of the cache key; see `LocalPredictor`."""
        digest = [_digest(self._model)]
        if self.team.num_processes > 1:  # on other hardware, weights differ by rounding
            torch.distributed.broadcast_object_list(digest)
        return [*super().key_parts(shuffled), *digest]


def _digest(model: Any) -> str:
    """Return the SHA-256 of the trained weights."""
    found = hashlib.sha256()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            found.update(name.encode())
            found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


class Validator:
    """Answers the validation questions of a run with the model in training.

    Args:
        config: settings of the run.
        run: the run; answers go to ``eval/validation-<step>``.
        samples: the validation questions.
        train: the training questions, the source of candidate answers.
        base: the base model.
        model: its network with the adapter.
        encoded: the features of the images; None to encode them each time.
        steps: the same questions as training steps, for the loss.
        autocast: returns the context in which training computes.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        samples: Dataset,
        train: Dataset,
        base: Base,
        model: Any,
        encoded: ImageSource | None,
        steps: StepDataset,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._run, self._model, self._steps, self._autocast = run, model, steps, autocast
        self._samples = bare_samples(samples, config.view)
        self._dataset = resolve_dataset(samples, config.data.dataset)
        settings = answer_settings(config)
        session = _EncodedSession(base, model, config.view, None, "", "", settings, encoded=encoded)
        taught = bare_samples(train, config.view)
        local = LocalBase(
            Path(config.model), config.view, config, taught, self._dataset, lambda: session
        )
        self._predictor = _Current(local, model)

    @preserve_random_state
    def run(self, step: int) -> dict[str, Any]:
        """Return the scores of the model as it is now.

        Args:
            step: the training step, for the name of the answers' folder.

        Returns:
            ``n``; ``OA`` and ``AA`` under the official protocol with their 95 % intervals
            ``OA_ci`` and ``AA_ci``, clustered by image; ``types``: accuracy by question type;
            ``loss``: mean cross-entropy of the answer tokens, in nats; ``seconds``.
        """
        start = time.monotonic()
        self._model.eval()
        loss = self._loss()
        folder = self.folder(self._run, step)
        with as_answering(self._model):
            answers = predict_samples(self._predictor, self._samples, folder, self._dataset)
        found = results(answers, protocols=[PROTOCOL], dataset=self._dataset)
        score = found["protocols"][PROTOCOL]
        scores: dict[str, Any] = {
            "n": score["n"],
            "OA": score["OA"],
            "OA_ci": score["OA_ci"],
            "AA": score["AA"],
            "AA_ci": score["AA_ci"],
            "types": {name: one["accuracy"] for name, one in score["types"].items()},
            "loss": loss,
            "seconds": round(time.monotonic() - start, 3),
        }
        low, high = score["OA_ci"]
        say(
            f"step {step:,}: validation OA {score['OA']:.1%} ({low:.1%} to {high:.1%}, "
            f"n = {score['n']:,}), AA {score['AA']:.1%}, loss {loss:.4f}"
        )
        return scores

    @torch.no_grad()
    def _loss(self) -> float:
        """Return the mean loss of all answer tokens, over all processes."""
        team, device = processes(), self._model.device
        total = torch.zeros(2, device=device, dtype=torch.float64)  # nats, tokens
        for index in range(team.process_index, len(self._steps), team.num_processes):
            step = self._steps[index]["step"]
            if not step.weight:
                continue
            for one in step.inputs:
                with self._autocast():
                    loss = pack_loss(self._model, one)
                total += torch.stack([loss.double(), torch.tensor(one.targets.numel()).to(loss)])
        if team.num_processes > 1:
            torch.distributed.all_reduce(total)
        return float(total[0] / total[1])

    @staticmethod
    def folder(run: Run, step: int) -> Path:
        """Return the folder of the answers at a step."""
        return run.evaluation(f"{_FOLDER}-{step}")

    @classmethod
    def discard(cls, run: Run, step: int) -> None:
        """Remove the answers at a step, whose checkpoint is removed."""
        if (folder := cls.folder(run, step)).is_dir():
            remove_folder(folder)


def flat_metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores as numbers by name, for ``metrics.jsonl`` and trackers.

    The names begin with ``eval_``, as in ``Trainer``; ``_low`` and ``_high`` are the ends of an
    interval.
    """
    found = {f"eval_{name}": scores[name] for name in ("loss", "OA", "AA")}
    for name in ("OA", "AA"):
        found |= {f"eval_{name}_low": scores[f"{name}_ci"][0]}
        found |= {f"eval_{name}_high": scores[f"{name}_ci"][1]}
    types = {f"eval_accuracy_{name}": value for name, value in scores["types"].items()}
    return {**found, **types, "eval_n": scores["n"], "eval_seconds": scores["seconds"]}
