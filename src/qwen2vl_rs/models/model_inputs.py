"""What turns questions and images into a base model's tokens, loaded without its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..config import InputConfig
from .family import Grid, family_of
from .images import ImageReader, load_image_reader
from .loader import quiet_libraries, read_base
from .prompt import PromptFormat, load_prompt_format


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """Prompt format and image reader of a base model.

    Attributes:
        folder: folder of the base model.
        prompts: the chat format as token ids.
        images: the image reader.
        token_side: side of a visual token in pixels.
    """

    folder: Path
    prompts: PromptFormat
    images: ImageReader
    token_side: int

    @property
    def fixed(self) -> int:
        """Tokens of the prompt before the question, without the image."""
        return len(self.prompts.head) + len(self.prompts.tail)

    def question(self, text: str) -> int:
        """Return the tokens of a question, up to the start of its answer."""
        return len(self.prompts.question_ids(text))

    def answer(self, text: str) -> int:
        """Return the tokens of an answer with its end token."""
        return len(self.prompts.answer_ids(text))

    def image(self, width: int, height: int) -> int:
        """Return the visual tokens of an image of this size in pixels."""
        grid = self.images.family.grid(self.images.processor, width, height)
        return math.prod(grid) // self.images.merge_size**2

    def resized(self, grid: Grid) -> tuple[int, int]:
        """Return width and height in pixels of a resized image, from its grid of patches."""
        rows, columns = (n // self.images.merge_size * self.token_side for n in grid[1:])
        return columns, rows


@quiet_libraries
def load_model_inputs(folder: Path, view: InputConfig) -> ModelInputs:
    """Read the tokenizer, chat template and image settings of a base model.

    Args:
        folder: folder of the base model.
        view: pixel bounds and instruction.

    Raises:
        ModelError: see `loader.read_base`, `prompt.load_prompt_format` and
            `images.load_image_reader`.
    """
    files, config = read_base(folder)
    prompts = load_prompt_format(files, config, view.instruction)
    side = family_of(config).token_side(config)
    return ModelInputs(folder, prompts, load_image_reader(files, config, view), side)
