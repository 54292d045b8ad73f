"""A model ready to be asked: a base, or a checkpoint on its base."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import Config, ViewConfig
from ..engine.candidates import choose
from ..engine.decoding import answer
from ..engine.memory import explained_shortage, token_budget
from ..engine.vision import encoded
from ..errors import RunError
from ..models.adapter_files import ADAPTER
from ..models.images import Pixels
from ..models.loader import (
    Base,
    CheckpointCard,
    attach_adapter,
    find_base,
    find_checkpoint,
    load_base,
    read_card,
)
from ..questions.grammar import question_type
from ..questions.registry import OFFICIAL
from ..system.files import sha256

# Types whose two words everybody uses; what a model was taught to write as numbers, or as other
# words, a checkpoint does not say.
_WORDS = {one.name: tuple(sorted(one.words)) for one in OFFICIAL if one.words}


Asked = Sequence[tuple[Pixels, Sequence[tuple[str, str]]]]  # images, questions with their types


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        text: as the model gave it.
        type: of the question, see `questions.grammar.question_type`.
        confidence: probability of ``text``, among ``shares`` where they are there.
        prompt_tokens: tokens of the prompt, the image's among them.
        ids: tokens of a written answer, without the end token.
        whole: whether it ended by itself, and not by the bound on its length.
        shares: probability of each word to choose from; None where the answer was written.
    """

    text: str
    type: str
    confidence: float
    prompt_tokens: int
    ids: tuple[int, ...] = ()
    whole: bool = True
    shares: Mapping[str, float] | None = None


class Session:
    """Answers questions about images, each image encoded once.

    Args:
        base: the base.
        model: its network, with or without adapter.
        view: how images and questions are shown.
        card: of the checkpoint; None for a base, which has no adapter.
        name: of the model, for people.
        digest: tells models apart.

    Attributes:
        budget: most tokens of one pass.
        max_new_tokens: longest written answer in tokens.
    """

    def __init__(
        self,
        base: Base,
        model: Any,
        view: ViewConfig,
        card: CheckpointCard | None,
        name: str,
        digest: str,
    ) -> None:
        self.base, self.view, self.card, self.name, self.digest = base, view, card, name, digest
        self._model, self.budget = model, token_budget(model)
        self.max_new_tokens = Config().eval.max_new_tokens

    @property
    def tuned(self) -> bool:
        """Whether there is an adapter that can be taken off."""
        return self.card is not None

    @classmethod
    def open(cls, folder: Path, base_folder: Path | None = None) -> Self:
        """Load a model.

        Args:
            folder: a run (its newest checkpoint), a checkpoint, or a base.
            base_folder: the base of a checkpoint; None for where it was when it was trained on.

        Raises:
            ModelError: the folder holds no model of ours.
            RunError: the run has no checkpoint yet.
        """
        checkpoint = find_checkpoint(folder)
        if checkpoint is None:
            if (folder / "config.toml").is_file():
                raise RunError(
                    f"no checkpoint in {folder} yet", hint="train first: qwen2vl-rs train"
                )
            view = ViewConfig()
            base = load_base(folder, view)
            return cls(base, base.model, view, None, folder.resolve().name, base.fingerprint)
        card = read_card(checkpoint)
        base_folder = find_base(checkpoint, card, base_folder)
        base = load_base(base_folder, card.view)
        model = attach_adapter(base, checkpoint)
        digest = f"{base.fingerprint} {sha256(checkpoint / ADAPTER)}"
        name = checkpoint.resolve().parent.name
        return cls(base, model, card.view, card, name, digest)

    def read(self, path: str | Path) -> Pixels:
        """Read an image file.

        Raises:
            ImageError: it cannot be used.
        """
        return self.base.images.read(path)

    def cut(self, rgb: NDArray[np.uint8]) -> Pixels:
        """An image of shape (height, width, 3), ready to be encoded; any thread may call this."""
        return self.base.images.cut(rgb)

    def shortened(self, reply: Reply, most: int) -> Reply:
        """An answer as it is where only so many tokens may be written: decoding is greedy."""
        if reply.shares or len(reply.ids) < most:
            return reply
        ids = reply.ids[:most]
        return replace(reply, text=self.base.prompts.decode(list(ids)), ids=ids, whole=False)

    @torch.inference_mode()
    def encode(self, pixels: Pixels) -> Pixels:
        """The image as the vision tower sees it, to be asked about again without its cost."""
        with self._explained():
            return encoded(self._model, [pixels])[0]

    def ask(
        self,
        groups: Sequence[tuple[Pixels, Sequence[str]]],
        *,
        closed: bool = False,
        untouched: bool = False,
    ) -> list[list[Reply]]:
        """Ask questions about some images.

        Args:
            groups: images with their questions.
            closed: choose between yes and no, rural and urban, where the question asks for that,
                with exact probabilities.
            untouched: ask the base without its adapter.

        Returns:
            For each image the replies in the order of its questions.
        """
        bare = self._model.disable_adapter() if untouched and self.tuned else None
        with bare or contextlib.nullcontext(), self._explained():
            images = encoded(self._model, [px for px, _ in groups])
            asked = [
                (px, [(q, question_type(self.view.bare(q))) for q in questions])
                for px, (_, questions) in zip(images, groups, strict=True)
            ]
            chosen = self._choose(asked) if closed else iter(())
            written = self._write(asked, all_of_them=not closed)
            return [
                [next(chosen if closed and kind in _WORDS else written) for _, kind in questions]
                for _, questions in asked
            ]

    def _choose(self, asked: Asked) -> Iterator[Reply]:
        """The replies to the questions that have words to choose from, in order."""
        groups = [(px, [(q, _WORDS[k]) for q, k in row if k in _WORDS]) for px, row in asked]
        found = choose(self.base, self._model, groups, budget=self.budget)
        kept = ((px, q, k) for px, row in asked for q, k in row if k in _WORDS)
        for (px, question, kind), one in zip(kept, chain(*found), strict=True):
            shares = _shares(one.logs)
            by_word = dict(zip(_WORDS[kind], shares, strict=True))
            fed = self._fed(px, question)
            yield Reply(one.text, kind, max(shares), fed, shares=by_word)

    def _write(self, asked: Asked, all_of_them: bool) -> Iterator[Reply]:
        """The replies to the other questions, in order."""
        kept = [[(q, k) for q, k in row if all_of_them or k not in _WORDS] for _, row in asked]
        groups = [(px, [q for q, _ in row]) for (px, _), row in zip(asked, kept, strict=True)]
        found = answer(
            self.base, self._model, groups, max_new_tokens=self.max_new_tokens, budget=self.budget
        )
        flat = ((px, q, k) for (px, _), row in zip(asked, kept, strict=True) for q, k in row)
        for (px, question, kind), one in zip(flat, chain(*found), strict=True):
            fed, whole = self._fed(px, question), len(one.ids) < self.max_new_tokens
            yield Reply(one.text, kind, one.confidence, fed, one.ids, whole)

    def _fed(self, pixels: Pixels, question: str) -> int:
        """Tokens of a prompt."""
        prompts = self.base.prompts
        text = len(prompts.head) + len(prompts.tail) + len(prompts.question_ids(question))
        return text + pixels.tokens

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        remedy = "ask about a smaller image, or fewer questions at once"
        return explained_shortage(self.budget, remedy)


def _shares(logs: Sequence[float]) -> list[float]:
    weights = [math.exp(log - max(logs)) for log in logs]
    return [weight / sum(weights) for weight in weights]
