"""Ask a base, a checkpoint or a run about an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import Config, ViewConfig
from ..errors import ModelError, RunError
from .answer import Answer, answer
from .loader import attach_adapter, find_checkpoint, load_base, read_card
from .memory import explained_shortage, token_budget


def ask(
    folder: Path, image: Path, questions: Sequence[str], base_folder: Path | None = None
) -> list[Answer]:
    """Put questions to a model; the image is encoded once.

    Args:
        folder: a run (its newest checkpoint is asked), a checkpoint, or a base.
        image: an image file.
        questions: in plain words.
        base_folder: the base of a checkpoint; None for where it was when it was trained on.

    Raises:
        ModelError: the folder holds no model of ours.
        ImageError: the image cannot be used.
    """
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        if (folder / "config.toml").is_file():
            raise RunError(f"no checkpoint in {folder} yet", hint="train first: qwen2vl-rs train")
        base = load_base(folder, ViewConfig())
        model = base.model
    else:
        card = read_card(checkpoint)
        base_folder = base_folder or Path(card.base)
        if not base_folder.is_dir():
            raise ModelError(
                f"the base of {checkpoint} is no longer at {base_folder}",
                hint="say where it is: --base FOLDER",
            )
        base = load_base(base_folder, card.view)
        model = attach_adapter(base, checkpoint)
    budget = token_budget(model)
    with explained_shortage(budget, "ask about a smaller image, or fewer questions at once"):
        return answer(
            base,
            model,
            [(base.images.read(image), questions)],
            max_new_tokens=Config().eval.max_new_tokens,
            budget=budget,
        )[0]
