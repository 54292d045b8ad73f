"""What results need in a notebook: HTML tables, embedded pages, pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from .install import missing_package


def html_table(rows: Iterable[Mapping[str, Any]], caption: str = "") -> str:
    """Rows as an HTML table with a column for every key.

    Args:
        rows: name of the column → value; floats are shown with three decimals.
        caption: text above the table.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(row.get(name)))}</td>' for name in names)}</tr>"
        for row in rows
    )
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(one)}" for key, one in value.items())
    return str(value)


def html_page(html: str, height: int) -> str:
    """A whole HTML page in a sandboxed frame, ``height`` pixels high."""
    style = f"width:100%;height:{height}px;border:0"
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(html)}"></iframe>'


def data_frame(columns: Any) -> Any:
    """A pandas DataFrame of rows or columns.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise missing_package("pandas") from error
    return pd.DataFrame(columns)
