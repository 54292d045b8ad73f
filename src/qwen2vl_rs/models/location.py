"""Where a model is: its checkpoint, the base of that, and the run it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import InputConfig
from ..errors import RunError
from ..run import Run
from .loader import CheckpointMetadata, find_base, find_checkpoint, read_metadata, require_base


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """A model on disk.

    Attributes:
        base: folder of the base.
        run: the run it belongs to; of a base, its own folder.
        checkpoint: None for a base.
        metadata: of the checkpoint.
    """

    base: Path
    run: Run
    checkpoint: Path | None = None
    metadata: CheckpointMetadata | None = None

    @property
    def name(self) -> str:
        """For people: of the run, or the base."""
        return self.run.folder.resolve().name

    @property
    def view(self) -> InputConfig:
        """What a checkpoint was shown with every question; of a base, the default."""
        return self.metadata.view if self.metadata else InputConfig()

    def require_matching_base(self) -> None:
        """Make sure that the base is the one the checkpoint was trained on; see `require_base`."""
        if self.checkpoint and self.metadata:
            require_base(self.base, self.checkpoint, self.metadata)


def locate(folder: Path, base: Path | None = None) -> ModelLocation:
    """Find what a folder means: a run (its newest checkpoint), a checkpoint, or a base.

    Args:
        folder: the folder.
        base: of a checkpoint; None for where it was when it was trained on.

    Raises:
        ModelError: it is not there, or could mean several.
        RunError: the run has no checkpoint yet.
    """
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        run = Run(folder)
        if (folder / "config.toml").is_file():
            if run.damaged_checkpoints():
                run.newest_checkpoint()  # says so
            raise RunError(f"no checkpoint in {run} yet", hint="train first: qwen2vl-rs train")
        return ModelLocation(folder, run)
    return locate_checkpoint(checkpoint, base)


def locate_checkpoint(checkpoint: Path, base: Path | None = None) -> ModelLocation:
    """Find what belongs to a checkpoint: nothing else will do.

    Raises:
        ModelError: it is none, or its base is not there.
    """
    metadata = read_metadata(checkpoint)
    run = Run(checkpoint.parent)
    if checkpoint.is_symlink() or not checkpoint.name:  # a link to it, or it from inside
        run = Run(checkpoint.resolve().parent)
    return ModelLocation(find_base(checkpoint, metadata, base), run, checkpoint, metadata)
