"""What the report says, in English and Chinese, and how it writes figures."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh")


@lru_cache
def table() -> dict[str, dict[str, str]]:
    """All texts: key → language → text with ``{names}`` to fill in."""
    content = tomllib.loads(Path(__file__).with_name("i18n.toml").read_text(encoding="utf-8"))
    return {
        f"{section}.{key}": texts
        for section, keys in content.items()
        for key, texts in keys.items()
    }


class _Formatter(string.Formatter):
    """Whole numbers get commas; ``{n:question|questions}`` is the word that suits the number."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        if "|" in format_spec:
            return format_spec.split("|")[value != 1]
        return super().format_field(value, "," if isinstance(value, int) else format_spec)


_FORMATTER = _Formatter()


class Words:
    """The texts and the spelling of figures in one language.

    Args:
        language: one of `LANGUAGES`.
    """

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, key: str, /, **values: object) -> str:
        """The text of a key, with values filled in; numbers that are counted as whole numbers."""
        return _FORMATTER.format(table()[key][self.language], **values)

    def known(self, section: str, name: str) -> str:
        """The text of ``section.name`` where there is one, else the name itself.

        For names that come from outside, such as the types of a foreign data set.
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
        """``0.301`` → ``30.1 points``, for what is lost or won by its verb."""
        return self("form.points", value=f"{100 * fraction:.1f}")

    def signed(self, fraction: float) -> str:
        """``-0.223`` → ``−22.3``, with a true minus and never ``−0.0``."""
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
