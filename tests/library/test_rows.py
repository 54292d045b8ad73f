"""Results as tables."""

import sys

import pytest

from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.library.rows import Rows


class Two(Rows):
    def rows(self):
        return [{"a": 1.23456, "b": None}, {"a": "<i>", "c": {"yes": 0.5}}]

    to_dict = rows


def test_every_column_of_any_row_is_shown():
    html = Two()._repr_html_()
    assert html.count("<th>") == 3
    assert "<td>1.235</td><td></td><td></td>" in html
    assert "<td>&lt;i&gt;</td>" in html
    assert "yes: 0.500" in html


def test_without_pandas_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pandas") as caught:
        Two().to_pandas()
    assert "notebook" in caught.value.hint
