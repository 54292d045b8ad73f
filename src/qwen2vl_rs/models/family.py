"""Interface of a model family; all other code is independent of the family.

A new family is one file that defines a `Family`, and an entry in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..question_tree.tree import Ints
from .qwen_vl import QWEN2_5_VL, QWEN2_VL, QWEN3_VL

if TYPE_CHECKING:
    import torch
    from PIL import Image

Grid = tuple[int, int, int]  # (time, rows, columns) of patches


class Family(Protocol):
    """What differs between model families.

    Shapes: N patches of an image, D values of a patch; V visual tokens, F features of each, H
    values of a feature; P tokens in front of a question.

    Attributes:
        model_type: as in ``config.json``.
        smallest: hub name of the smallest published model.
        vision_layers: pattern of names of modules and weights in the vision tower, merger included.
        merger_layers: the same for the merger alone: the layers between vision tower and language
            model.
        vision_blocks: pattern of the beginning of such a name; its group is the module of the tower
            or merger that has a forward pass of its own.
        prefixes: possible prefixes of weight names, in old and new file layouts.
    """

    model_type: str
    smallest: str
    vision_layers: str
    merger_layers: str
    vision_blocks: str
    prefixes: tuple[str, ...]

    def network(self) -> Any:
        """Return the model class in transformers."""

    def depths(self, config: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """Return depths in a config, by prefix of the layers' plain names and config key."""

    def is_block(self, name: str) -> bool:
        """Whether a module is in a decoder block of the language model."""

    def config_problem(self, config: Any) -> str:
        """Describe the value in a config that would break the network; empty if there is none."""

    def image_token(self, config: Any) -> int:
        """Return the id of the placeholder of a visual token."""

    def token_side(self, config: Any) -> int:
        """Return the side of a visual token in pixels."""

    def patches_per_token(self, config: Any) -> int:
        """Return the number of patches that the merger makes into a visual token."""

    def feature_shape(self, config: Any) -> tuple[int, int]:
        """Return (F, H)."""

    def image_problems(self, settings: Mapping[str, Any], config: Any) -> list[tuple[str, Any]]:
        """Return image settings that contradict the vision tower, with their values."""

    def processor(self, settings: Mapping[str, Any], low: int, high: int) -> Any:
        """Return the image processor, with bounds on the pixels of an image."""

    def with_pixel_bounds(self, settings: Mapping[str, Any], low: int, high: int) -> dict[str, Any]:
        """Return image settings with these bounds, under all keys that programs read."""

    def preprocess(self, processor: Any, image: Image.Image) -> tuple[Grid, torch.Tensor]:
        """Resize, normalise and patchify an image; return its grid and (N, D) patches."""

    def grid(self, processor: Any, width: int, height: int) -> Grid:
        """Return the grid of an image of this size in pixels."""

    def merge_size(self, processor: Any) -> int:
        """Return the number of patches along one side of a visual token."""

    def root_positions(self, head: int, grid: Grid, merge: int, tail: int) -> Ints:
        """Return (3, P) rotary positions of the prompt's head, image and tail."""

    def encode(
        self, network: Any, patches: torch.Tensor, grids: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return (V, F, H) features of each image, from (N, D) patches and (images, 3) grids."""

    def image_inputs(self, features: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Return the arguments of ``forward`` for images with known (V, F, H) features."""

    def head(self, network: Any) -> Any:
        """Return the language head of a network, with or without adapter.

        It is a linear layer without a bias. Its output must be the logits: a family that scales or
        caps them needs a loss of its own (see `engine.head_loss`).
        """

    def cache_inputs(self, cache: Any) -> dict[str, Any]:
        """Return the arguments of ``forward`` for a key-value cache."""


FAMILIES: dict[str, Family] = {f.model_type: f for f in (QWEN2_VL, QWEN2_5_VL, QWEN3_VL)}


def family_of(config: Any) -> Family:
    """Return the family of a model config."""
    return FAMILIES[config.model_type]
