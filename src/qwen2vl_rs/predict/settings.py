"""How a model answers: the settings of evaluation, and of training where these say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import Config


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """Settings of answers, see `config.EvalConfig`; None: what suits the device.

    Attributes:
        closed: whether answers are chosen from an answer set.
        seed: of the shuffled control.
    """

    closed: bool
    max_new_tokens: int
    seed: int
    max_tokens_per_pack: int | None = None
    attention: Literal["branches", "flex"] | None = None
    bf16: bool | None = None
    fp16: bool | None = None

    @classmethod
    def of(cls, config: Config) -> AnswerSettings:
        """Those under ``eval``, and those under ``training`` where they are not set there."""
        own, other = config.eval, config.training
        # bf16 and fp16 are one choice
        numbers = other if own.bf16 is None and own.fp16 is None else own
        return cls(
            closed=own.answers == "closed",
            max_new_tokens=own.max_new_tokens,
            seed=other.seed if own.seed is None else own.seed,
            max_tokens_per_pack=own.max_tokens_per_pack or other.max_tokens_per_pack,
            attention=own.attention or other.attention,
            bf16=numbers.bf16,
            fp16=numbers.fp16,
        )
