"""Read questions about images from any supported file format, as one table.

Examples:
    >>> data = rs.datasets.RSVQA("RSVQA_LR", split="test")
    >>> len(data), data.types
    (32, ['comp', 'count', 'presence', 'rural_urban'])
    >>> data[0].question
    'Is ...'
    >>> rs.datasets.read("data.json").images
    [...]
"""

from typing import TYPE_CHECKING

from ..system.lazy import lazy_attributes

if TYPE_CHECKING:
    from .base import Dataset as Dataset
    from .folders import RSVQA as RSVQA
    from .folders import read as read

__getattr__, __dir__ = lazy_attributes(
    __name__, {"Dataset": "base", "RSVQA": "folders", "read": "folders"}
)
__all__ = ["RSVQA", "Dataset", "read"]
