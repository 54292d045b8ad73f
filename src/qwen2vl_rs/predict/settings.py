"""How a model answers: the settings of evaluation, and of training where these say nothing."""

from __future__ import annotations

from ..config import Config, EvalConfig


def answer_settings(config: Config) -> EvalConfig:
    """The settings under ``eval``; what is not set there is as under ``training``."""
    own, names = config.eval, ["max_tokens_per_pack", "attention", "seed"]
    taken = [name for name in names if getattr(own, name) is None]
    if own.bf16 is None and own.fp16 is None:  # they are one choice
        taken += ["bf16", "fp16"]
    return own.model_copy(update={name: getattr(config.training, name) for name in taken})


def control_seed(config: Config) -> int:
    """The seed of the shuffled control."""
    return config.training.seed if config.eval.seed is None else config.eval.seed
