"""Results that show themselves as a table, in a notebook and elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from markupsafe import escape

if TYPE_CHECKING:
    import pandas as pd


class Rows:
    """Something made of rows: a table in a notebook, a DataFrame, plain values."""

    @abstractmethod
    def to_dict(self) -> list[dict[str, Any]] | dict[str, Any]:
        """Plain values, as JSON has them."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table: name of a column → value."""

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            from ..system.install import missing_package

            raise missing_package("pandas") from error
        return pd.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        names = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_shown(row.get(name)))}</td>' for name in names)}</tr>"
            for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(one)}" for key, one in value.items())
    return str(value)


def page(html: str, height: int) -> str:
    """A whole page of HTML inside another, cut off from it."""
    style = f"width:100%;height:{height}px;border:0"
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(html)}"></iframe>'
