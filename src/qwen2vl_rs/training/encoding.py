"""Encode the images of a training once for all epochs, each process its share of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import TrainingSettings
from ..engine.vision import EncodedImages, ImageSource, encode_all
from ..hardware.devices import processes
from ..models.images import ImageInput
from ..models.loader import Base


@dataclass(frozen=True, slots=True)
class SharedImages:
    """Images that several processes have encoded, each in a file of its own.

    Attributes:
        merge_size: patches along one side of a visual token.
        owners: the process's share that holds an image, by path.
    """

    merge_size: int
    owners: Mapping[str, EncodedImages]

    def tokens(self, path: str) -> int:
        """Return the number of visual tokens of an image."""
        return self.owners[path].tokens(path)

    def read(self, path: str) -> ImageInput:
        """Read the features of one image."""
        return self.owners[path].read(path)


def encode_once(
    base: Base, paths: Sequence[str], folder: Path, settings: TrainingSettings, dtype: torch.dtype
) -> ImageSource | None:
    """Encode images for all epochs, if they do not change and their features are small enough.

    All processes have to call this, and to see the same folder.

    Args:
        base: the base model.
        paths: the images.
        folder: folder of the cache.
        settings: the settings of training.
        dtype: of the encoder and the cached features.
    """
    if not settings.vision_tower == settings.merger == "frozen":
        return None
    team, budget = processes(), int(settings.vision_cache_gb * 1e9)
    world, rank = team.num_processes, team.process_index
    if world == 1:
        return encode_all(base, paths, folder, budget, dtype)
    place = folder / f"process-{rank}-of-{world}"
    own = encode_all(base, paths[rank::world], place, budget // world, dtype)
    shares: list[Any] = [None] * world
    torch.distributed.all_gather_object(shares, own)
    if any(share is None for share in shares):  # all or none: they train on the same images
        return None
    owners = {path: share for share in shares for path in share.entries}
    return SharedImages(base.images.merge_size, owners)
