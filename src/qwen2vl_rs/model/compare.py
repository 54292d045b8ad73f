"""The answers of the base and of a checkpoint, sample by sample."""

from __future__ import annotations

from pathlib import Path

from ..config import Config, load_config
from ..data.sources import read_samples
from ..errors import RunError
from ..records import Sample
from ..runs import TEST_FILE, newest_checkpoint, read_json, run_lock, sha256
from ..scoring.pairs import Pair, pairs
from .evaluate import Evaluator, limit_by_image
from .loader import read_card, require_base


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
    settings = run / "config.toml"
    config = load_config(settings) if settings.is_file() else Config()
    place = run / "eval"
    if test is None:
        samples = limit_by_image(_own_questions(run), config.eval.max_eval)
    else:
        samples = list(read_samples(test))
        place = place / f"{test.stem}-{sha256(test)[:8]}"
    folder = model or Path(card.base)
    require_base(folder, checkpoint, card)
    asked = Evaluator(folder, card.view, config.eval, config.training)
    with run_lock(run):
        before = asked.run(None, samples, place / "before")
        after = asked.run(checkpoint, samples, place / ("after" if newest else checkpoint.name))
    return pairs(before, after)


def _own_questions(run: Path) -> list[Sample]:
    """The test questions of the run, from the current folder.

    Raises:
        RunError: the file there is another run's: the run may have trained on its images.
    """
    path = Path(TEST_FILE)
    known = (read_json(run / "manifest.json") or {}).get("data", {}).get(TEST_FILE, {})
    if known and not (path.is_file() and sha256(path) == known["sha256"]):
        problem = "is not the one of this run" if path.is_file() else "is not here"
        raise RunError(
            f"{run}: {TEST_FILE} {problem}",
            hint="go to the folder the run was started in, or name the questions: --test FILE",
        )
    return list(read_samples(path))
