"""Results with a table: in a notebook, as a DataFrame and as plain values."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast

from ..system.notebook import data_frame, html_table

if TYPE_CHECKING:
    import pandas as pd


class Rows:
    """A result that is made of rows."""

    @abstractmethod
    def to_dict(self) -> list[dict[str, Any]] | dict[str, Any]:
        """Plain values, as in JSON."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table: name of the column → value."""

    def shown(self) -> tuple[str, list[dict[str, Any]]]:
        """What a notebook shows: a caption and the most important rows."""
        return "", self.rows()

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame.

        Raises:
            ConfigError: pandas is not installed.
        """
        return cast("pd.DataFrame", data_frame(self.rows()))

    def _repr_html_(self) -> str:
        caption, rows = self.shown()
        return html_table(rows, caption)
