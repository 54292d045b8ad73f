"""Texts of the report in English and Chinese, and number formats."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh")


@lru_cache
def table() -> dict[str, dict[str, str]]:
    """Return all texts: key → language → text with ``{names}`` to fill in."""
    content = tomllib.loads(Path(__file__).with_name("i18n.toml").read_text(encoding="utf-8"))
    return {
        f"{section}.{key}": texts
        for section, keys in content.items()
        for key, texts in keys.items()
    }


class _Formatter(string.Formatter):
    """Adds commas to integers, and chooses singular or plural in ``{n:question|questions}``."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        if "|" in format_spec:
            return format_spec.split("|")[value != 1]
        return super().format_field(value, "," if isinstance(value, int) else format_spec)


_FORMATTER = _Formatter()


class Words:
    """The texts and the number formats of one language.

    Args:
        language: one of `LANGUAGES`.
        tuned: whether "before" and "after" mean fine-tuning; else the Chinese texts are neutral.
    """

    def __init__(self, language: str, *, tuned: bool = True) -> None:
        self.language, self._tuned = language, tuned

    def __call__(self, key: str, /, **values: object) -> str:
        """Return the text of a key, filled with values."""
        text = table()[key][self.language]
        text = text if self._tuned else re.sub("微调(?=[前后])", "之", text)
        return _FORMATTER.format(text, **values)

    def known(self, section: str, name: str) -> str:
        """Return the text of ``section.name``, or the name itself if there is none.

        It is for names from files, such as the question types of other datasets.
        """
        key = f"{section}.{name}"
        return self(key) if key in table() else name

    def percent(self, fraction: float) -> str:
        """``0.582`` → ``58.2 %``."""
        return self("form.percent", value=f"{100 * fraction:.1f}")

    def points(self, fraction: float) -> str:
        """``-0.223`` → ``−22.3 points``."""
        return self("form.points", value=self.signed(fraction))

    def amount(self, fraction: float) -> str:
        """``0.301`` → ``30.1 points``, without a sign."""
        return self("form.points", value=f"{100 * fraction:.1f}")

    def signed(self, fraction: float) -> str:
        """``-0.223`` → ``−22.3``, with a minus sign (U+2212) and never ``−0.0``."""
        # Adding zero turns the -0.0 of rounding into 0.0.
        return f"{round(100 * fraction, 1) + 0.0:+.1f}".replace("-", "−")

    def range(self, ci: Sequence[float]) -> str:
        """``[0.55, 0.61]`` → ``55.0 – 61.0``."""
        return f"{100 * ci[0]:.1f} – {100 * ci[1]:.1f}"

    def signed_range(self, ci: Sequence[float]) -> str:
        """``[-0.2, 0.1]`` → ``−20.0 to +10.0``."""
        return self("form.range", low=self.signed(ci[0]), high=self.signed(ci[1]))

    def p(self, value: float) -> str:
        """A p-value: ``0.031`` or ``<0.001``."""
        return "<0.001" if value < 0.001 else f"{value:.3f}"
