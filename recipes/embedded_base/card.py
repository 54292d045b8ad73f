"""The model card of the embedded base."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_card(path: Path, figures: dict[str, Any]) -> None:
    """Write the card.

    Args:
        path: of the card.
        figures: as ``train.py`` measured them.
    """
    path.write_text("# The embedded base\n", encoding="utf-8")
