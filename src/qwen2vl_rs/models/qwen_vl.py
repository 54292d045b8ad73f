"""The model families Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..question_tree.tree import Ints

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(eq=False)  # singletons
class QwenVL:
    """A Qwen-VL family, see `family.Family`; transformers is imported lazily.

    Attributes:
        model_type: as in ``config.json``.
        smallest: hub name of the smallest model.
        class_name: class in transformers.
        vision_layers, merger_layers, vision_blocks, prefixes: see `family.Family`.
    """

    model_type: str
    smallest: str
    class_name: str
    vision_layers: str = r".*visual\..*"
    # Qwen3-VL has more of them: DeepStack feeds later layers of the language model, too
    merger_layers: str = r".*visual\.(merger|deepstack_merger_list)\..*"
    vision_blocks: str = r"(.*visual\.[^.]+(?:\.\d+)?)\."
    prefixes: tuple[str, ...] = ("base_model.", "model.", "language_model.")

    def network(self) -> Any:
        import transformers

        return getattr(transformers, self.class_name)

    def depths(self, config: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        nested, vision = config.get("text_config"), config.get("vision_config")
        text = nested if isinstance(nested, dict) else config
        return {
            ("layers", "num_hidden_layers"): text.get("num_hidden_layers"),
            ("visual.blocks", "vision_config.depth"): (
                vision.get("depth") if isinstance(vision, dict) else None
            ),
        }

    def is_block(self, name: str) -> bool:
        return ".layers." in name and "visual." not in name

    def config_problem(self, config: Any) -> str:
        text = config.get_text_config()
        rope = text.rope_parameters or {}
        section, theta = rope.get("mrope_section"), rope.get("rope_theta")
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        if not (isinstance(section, list) and len(section) == 3 and 2 * sum(section) == width):
            return f"mrope_section is {section}, but a head has {width} values"
        if not isinstance(theta, int | float) or not 0 < theta < math.inf:
            return f"rope_theta is {theta}"
        if not 0 <= config.image_token_id < text.vocab_size:
            return f"image_token_id is {config.image_token_id}"
        if getattr(text, "use_sliding_window", False):
            return "use_sliding_window is true: sliding-window attention is not supported"
        return ""

    def image_token(self, config: Any) -> int:
        return int(config.image_token_id)

    def token_side(self, config: Any) -> int:
        vision = config.vision_config
        return int(vision.patch_size * vision.spatial_merge_size)

    def patches_per_token(self, config: Any) -> int:
        return int(config.vision_config.spatial_merge_size) ** 2

    def feature_shape(self, config: Any) -> tuple[int, int]:
        """One feature for the first layer; in Qwen3-VL more for later layers (DeepStack)."""
        deeper = getattr(config.vision_config, "deepstack_visual_indexes", ())
        return 1 + len(deeper), config.get_text_config().hidden_size

    def image_problems(self, settings: Mapping[str, Any], config: Any) -> list[tuple[str, Any]]:
        vision = config.vision_config
        kind = str(settings.get("image_processor_type", "Qwen2VLImageProcessor"))
        own = kind.startswith("Qwen2VLImageProcessor")
        found: list[tuple[str, Any]] = [] if own else [("image_processor_type", kind)]
        cuts = {
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "merge_size": vision.spatial_merge_size,
        }
        return found + [
            (name, f"{settings[name]!r}, but the vision tower's is {value}")
            for name, value in cuts.items()
            if settings.get(name, value) != value
        ]

    def processor(self, settings: Mapping[str, Any], low: int, high: int) -> Any:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        # these arguments, because those in the file would override ``size``
        return Qwen2VLImageProcessorPil.from_dict(dict(settings), min_pixels=low, max_pixels=high)

    def with_pixel_bounds(self, settings: Mapping[str, Any], low: int, high: int) -> dict[str, Any]:
        size = {"shortest_edge": low, "longest_edge": high}
        return {**settings, "min_pixels": low, "max_pixels": high, "size": size}

    def preprocess(
        self, processor: Any, image: Image.Image
    ) -> tuple[tuple[int, int, int], torch.Tensor]:
        out = processor(images=[image], return_tensors="pt")
        time, rows, columns = out["image_grid_thw"][0].tolist()
        return (time, rows, columns), out["pixel_values"]

    def grid(self, processor: Any, width: int, height: int) -> tuple[int, int, int]:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        size, patch = processor.size, processor.patch_size
        rows, columns = smart_resize(
            height,
            width,
            factor=patch * processor.merge_size,
            min_pixels=size["shortest_edge"],
            max_pixels=size["longest_edge"],
        )
        return 1, rows // patch, columns // patch

    def merge_size(self, processor: Any) -> int:
        return int(processor.merge_size)

    def root_positions(self, head: int, grid: tuple[int, int, int], merge: int, tail: int) -> Ints:
        """Return (3, P) rotary positions of head, image and tail, as in Qwen-VL.

        Text counts up on all three axes. An image spans its rows and columns from the end of the
        text, and the text after it continues after the longer side (Qwen2-VL, section 2.1,
        "Multimodal Rotary Position Embedding").

        Args:
            head: text tokens before the image.
            grid: patches of the image (time, rows, columns).
            merge: patches along one side of a visual token.
            tail: text tokens after the image.
        """
        t, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
        image = np.indices((t, rows, columns)).reshape(3, -1) + head
        behind = head + max(t, rows, columns) + np.arange(tail)
        text = np.broadcast_to(np.arange(head), (3, head))
        return np.concatenate([text, image, np.broadcast_to(behind, (3, tail))], axis=1)

    def encode(
        self, network: Any, patches: torch.Tensor, grids: torch.Tensor
    ) -> list[torch.Tensor]:
        import torch

        out = network.get_image_features(patches, grids)
        layers = [out.pooler_output, *(getattr(out, "deepstack_features", None) or [])]
        return [torch.stack(list(features), dim=1) for features in zip(*layers, strict=True)]

    def image_inputs(self, features: Sequence[torch.Tensor]) -> dict[str, Any]:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import (
            BaseModelOutputWithDeepstackFeatures,
        )

        first, *deeper = range(features[0].shape[1])
        out = BaseModelOutputWithDeepstackFeatures(
            pooler_output=tuple(f[:, first] for f in features),
            deepstack_features=[tuple(f[:, layer] for f in features) for layer in deeper],
        )
        return {"mm_encoder_outputs": {"image": out}}

    def head(self, network: Any) -> Any:
        return network.get_output_embeddings()

    def cache_inputs(self, cache: Any) -> dict[str, Any]:
        return {_cache_name(self.class_name): cache}


@functools.cache
def _cache_name(class_name: str) -> str:
    """Return the name of the cache argument: renamed in transformers 5.24, removed in 5.40."""
    import transformers

    takes = inspect.signature(getattr(transformers, class_name).forward).parameters
    return "cache" if "cache" in takes else "past_key_values"


QWEN2_VL = QwenVL("qwen2_vl", "Qwen/Qwen2-VL-2B-Instruct", "Qwen2VLForConditionalGeneration")
QWEN2_5_VL = QwenVL(
    "qwen2_5_vl", "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen2_5_VLForConditionalGeneration"
)
QWEN3_VL = QwenVL("qwen3_vl", "Qwen/Qwen3-VL-2B-Instruct", "Qwen3VLForConditionalGeneration")
