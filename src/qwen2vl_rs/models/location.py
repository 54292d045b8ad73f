"""Resolve a folder to a model: checkpoint, base model and run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import InputConfig
from ..errors import RunError
from ..run import Run
from .loader import CheckpointMetadata, find_base, find_checkpoint, read_metadata, require_base


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """Location of a model on disk.

    Attributes:
        base: folder of the base model.
        run: the run it belongs to; for a base model, its own folder.
        checkpoint: the checkpoint; None for a base model.
        metadata: metadata of the checkpoint.
    """

    base: Path
    run: Run
    checkpoint: Path | None = None
    metadata: CheckpointMetadata | None = None

    @property
    def name(self) -> str:
        """Display name: that of the run or base model."""
        return self.run.folder.resolve().name

    @property
    def view(self) -> InputConfig:
        """Input settings of the checkpoint; for a base model, the defaults."""
        return self.metadata.view if self.metadata else InputConfig()

    def require_matching_base(self) -> None:
        """Check that the base model is that of the checkpoint; see `require_base`."""
        if self.checkpoint and self.metadata:
            require_base(self.base, self.checkpoint, self.metadata)


def locate(folder: Path, base: Path | None = None, which: str | None = None) -> ModelLocation:
    """Resolve a run (to one of its checkpoints), a checkpoint, or a base model.

    Args:
        folder: the folder.
        base: base model of a checkpoint; None: the folder at training time.
        which: the checkpoint of a run, see `Run.choose_checkpoint`.

    Raises:
        ModelError: it does not exist or is ambiguous.
        RunError: the run has no checkpoint yet.
    """
    checkpoint = find_checkpoint(folder, which)
    if checkpoint is None:
        run = Run(folder)
        if (folder / "config.toml").is_file():
            if run.damaged_checkpoints():
                run.newest_checkpoint()  # raises
            raise RunError(f"no checkpoint in {run} yet", hint="train first: qwen2vl-rs train")
        return ModelLocation(folder, run)
    return locate_checkpoint(checkpoint, base)


def locate_checkpoint(checkpoint: Path, base: Path | None = None) -> ModelLocation:
    """Resolve a checkpoint folder.

    Raises:
        ModelError: it is not a checkpoint, or its base model does not exist.
    """
    metadata = read_metadata(checkpoint)
    run = Run(checkpoint.parent)
    if checkpoint.is_symlink() or not checkpoint.name:  # a link, or "."
        run = Run(checkpoint.resolve().parent)
    return ModelLocation(find_base(checkpoint, metadata, base), run, checkpoint, metadata)
