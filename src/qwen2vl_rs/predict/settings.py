"""Settings of inference: ``eval``, with fallbacks to ``training``."""

from __future__ import annotations

from ..config import Config, EvalConfig


def answer_settings(config: Config) -> EvalConfig:
    """Return the settings of ``eval``; unset ones are taken from ``training``."""
    own, names = config.eval, ["max_tokens_per_pack", "attention", "seed"]
    taken = [name for name in names if getattr(own, name) is None]
    if own.bf16 is None and own.fp16 is None:  # one setting in two keys
        taken += ["bf16", "fp16"]
    return own.model_copy(update={name: getattr(config.training, name) for name in taken})


def control_seed(config: Config) -> int:
    """Return the seed of the shuffled-image baseline."""
    return config.training.seed if config.eval.seed is None else config.eval.seed
