"""Where a model is: its checkpoint, the base of that, and the run it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, ViewConfig, load_config
from ..run import checkpoints, holds_run
from .loader import CheckpointCard, find_base, find_checkpoint, read_card


@dataclass(frozen=True, slots=True)
class Located:
    """A model on disk.

    Attributes:
        base: folder of the base.
        run: folder of the run; of a base, its own.
        checkpoint: None for a base.
        card: of the checkpoint.
    """

    base: Path
    run: Path
    checkpoint: Path | None = None
    card: CheckpointCard | None = None

    @property
    def name(self) -> str:
        """For people: of the run, or the base."""
        return self.run.resolve().name

    @property
    def view(self) -> ViewConfig:
        """What a checkpoint was shown with every question; of a base, the default."""
        return self.card.view if self.card else ViewConfig()

    def config(
        self, settings: Sequence[str] = (), values: Mapping[str, Any] | None = None
    ) -> Config:
        """The settings of the run, others over them.

        Raises:
            ConfigError: they cannot be used.
        """
        file = self.run / "config.toml"
        own = file.is_file() and (holds_run(self.run) or bool(checkpoints(self.run)))
        return load_config(file if own else None, settings, values)


def locate(folder: Path, base: Path | None = None) -> Located:
    """Find what a folder means: a run (its newest checkpoint), a checkpoint, or a base.

    Args:
        folder: the folder.
        base: of a checkpoint; None for where it was when it was trained on.

    Raises:
        ModelError: it is not there, or could mean several.
    """
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        return Located(folder, folder)
    card = read_card(checkpoint)
    return Located(find_base(checkpoint, card, base), checkpoint.parent, checkpoint, card)
