"""The answers of the base and of a checkpoint, sample by sample."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ..config import Config, check_config
from ..data.sources import read_samples
from ..errors import RunError
from ..runs import newest_checkpoint
from ..scoring.pairs import Pair, pairs
from .evaluate import Evaluator, limit_by_image
from .loader import read_card


def compare(
    run: Path,
    *,
    model: Path | None = None,
    checkpoint: Path | None = None,
    test: Path | None = None,
) -> list[Pair]:
    """Every test question with both answers; asks only what the run has not asked yet.

    Args:
        run: the run folder.
        model: the base; None for the one the checkpoint was trained on.
        checkpoint: None for the newest of the run.
        test: the test questions; None for ``data_vl_test.json``.

    Raises:
        RunError: no run, or no checkpoint in it.
        Qwen2VLRSError: test file, base or images cannot be used.
    """
    if not run.is_dir():
        raise RunError(f"no run folder {run}", hint="train first: qwen2vl-rs train")
    newest = checkpoint is None
    checkpoint = checkpoint or newest_checkpoint(run)
    card = read_card(checkpoint)
    config = _config_of(run)
    samples = list(read_samples(test or Path("data_vl_test.json")))
    if test is None:
        samples = limit_by_image(samples, config.eval.max_eval)
    asked = Evaluator(model or Path(card.base), card.view, config.eval, config.training)
    folder = run / "eval"
    before = asked.run(None, samples, folder / "before")
    after = asked.run(checkpoint, samples, folder / ("after" if newest else checkpoint.name))
    return pairs(before, after)


def _config_of(run: Path) -> Config:
    path = run / "config.toml"
    if not path.is_file():
        return Config()
    return check_config(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
