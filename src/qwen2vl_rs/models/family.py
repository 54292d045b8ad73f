"""What a family of models has to say for itself; everything else works for all of them.

A new family is one file that defines a `Family`, and its place in `FAMILIES`.
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
    """What differs between families.

    Shapes: N patches of an image, D values of a patch; V visual tokens, F features of each, H
    values of a feature; P tokens in front of a question.

    Attributes:
        model_type: as in ``config.json``.
        smallest: name on the hub of the smallest model that was published.
        vision_layers: pattern of the names of modules in the vision tower.
        prefixes: what may stand before a weight's own name, in old and new layouts of files.
    """

    model_type: str
    smallest: str
    vision_layers: str
    prefixes: tuple[str, ...]

    def network(self) -> Any:
        """Its class in transformers."""

    def depths(self, config: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """By the prefix of the layers' plain names and the key, the depth that a config tells."""

    def is_block(self, name: str) -> bool:
        """Whether a module lies in a decoder block of the language model."""

    def config_problem(self, config: Any) -> str:
        """What in a configuration would build a network that fails or answers nonsense."""

    def image_token(self, config: Any) -> int:
        """The id of the token that stands for one visual token."""

    def token_side(self, config: Any) -> int:
        """Pixels along one side of a visual token."""

    def feature_shape(self, config: Any) -> tuple[int, int]:
        """(F, H)."""

    def image_setting_problems(
        self, settings: Mapping[str, Any], config: Any
    ) -> list[tuple[str, Any]]:
        """Image settings that are not those of the vision tower, with their values."""

    def processor(self, settings: Mapping[str, Any], low: int, high: int) -> Any:
        """The image processor, with bounds on the pixels of an image."""

    def with_pixel_bounds(self, settings: Mapping[str, Any], low: int, high: int) -> dict[str, Any]:
        """Image settings with these bounds, in each form in which programs read them."""

    def preprocess(self, processor: Any, image: Image.Image) -> tuple[Grid, torch.Tensor]:
        """An image resized, normalised and cut: its grid, and (N, D) patches."""

    def grid(self, processor: Any, width: int, height: int) -> Grid:
        """The grid of an image of so many pixels."""

    def merge_size(self, processor: Any) -> int:
        """Patches along one side of a visual token."""

    def root_positions(self, head: int, grid: Grid, merge: int, tail: int) -> Ints:
        """(3, P) rotary positions of header, image and what stands behind it."""

    def encode(
        self, network: Any, patches: torch.Tensor, grids: torch.Tensor
    ) -> list[torch.Tensor]:
        """(V, F, H) features of each image, from (N, D) patches and (images, 3) grids."""

    def image_inputs(self, features: Sequence[torch.Tensor]) -> dict[str, Any]:
        """What ``forward`` is given of images whose features, (V, F, H) each, are known."""

    def cache_inputs(self, cache: Any) -> dict[str, Any]:
        """What ``forward`` is given of a cache of keys and values."""


FAMILIES: dict[str, Family] = {f.model_type: f for f in (QWEN2_VL, QWEN2_5_VL, QWEN3_VL)}


def family_of(config: Any) -> Family:
    """The family of a configuration, or of a network's."""
    return FAMILIES[config.model_type]
