"""Notebook display of a question with its image."""

from __future__ import annotations

import base64
import io
from functools import cached_property

from markupsafe import escape
from PIL import Image

from ..config import RasterToRGB
from ..raster import read_rgb
from ..types import Sample

_WIDTH = 320  # pixels on the page, at least


class SampleFigure:
    """A question with its image.

    Args:
        sample: the question.
        rule: RGB conversion; None for the default.

    Attributes:
        image: the PIL image.
    """

    def __init__(self, sample: Sample, rule: RasterToRGB | None = None) -> None:
        self.sample, self._rule = sample, rule or RasterToRGB()

    @cached_property
    def image(self) -> Image.Image:
        """The RGB image that the model sees, before resizing."""
        return Image.fromarray(read_rgb(self.sample.image, self._rule))

    def __repr__(self) -> str:
        one = self.sample
        return f"{one.image}\n{one.question}  {one.answer}"

    def _repr_html_(self) -> str:
        memory = io.BytesIO()
        self.image.save(memory, "PNG")
        data = base64.b64encode(memory.getvalue()).decode()
        one = self.sample
        return (
            f'<figure><img width="{max(_WIDTH, self.image.width)}" alt="{escape(one.image)}" '
            f'src="data:image/png;base64,{data}" style="image-rendering:auto">'
            f"<figcaption>{escape(one.question)} <b>{escape(one.answer)}</b></figcaption></figure>"
        )
