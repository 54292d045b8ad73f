"""Charts: the right places, and well-formed SVG whatever the labels are."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen2vl_rs.reporting.charts import (
    Axis,
    Dots,
    Line,
    Mark,
    count_axis,
    even_axis,
    key,
    percent_axis,
    plot,
    strip,
)

STYLES = ("before", "after", "constant", "question_only", "shuffled_image")


def test_places():
    axis = percent_axis("x")
    assert [axis.position(v) for v in (0, 0.25, 1, 2, -1)] == [0, 25, 100, 100, 0]
    counts = count_axis(999, "n")
    assert counts.position(0) == 0
    assert counts.position(999) == 100
    assert counts.position(9) == pytest.approx(100 / 3)
    assert [label for _, label in counts.ticks] == ["0", "1", "10", "100"]


@pytest.mark.parametrize(("high", "last"), [(1, 1), (0.5, 0.5), (0.42, 0.5), (0.07, 0.1)])
def test_percent_axes_end_at_a_tick(high, last):
    axis = percent_axis("x", high)
    assert axis.high == pytest.approx(last) == pytest.approx(axis.ticks[-1][0])


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_even_axes_hold_their_range_with_few_ticks(low, width):
    axis = even_axis(low, low + width, "x")
    assert axis.low <= low + 1e-6 * width
    assert axis.high >= (low + width) * (1 - 1e-9)
    assert 3 <= len(axis.ticks) <= 9
    tight = even_axis(low, low + width, "x", tight=True)
    assert (tight.low, tight.high) == (low, low + width)
    assert all(low <= value <= low + width for value, _ in tight.ticks)


def test_a_plot_is_well_formed_and_says_what_it_is():
    hostile = '<b>&"'
    axis = Axis(0, 1, [(0, "0"), (1, "1")], hostile)
    drawn = plot(
        axis, axis, [Line([(0, 0), (1, 1)], "after"), Dots([(0.5, 1, 3)], "after")], hostile
    )
    tree = ElementTree.fromstring(drawn)
    assert tree.find("svg").get("aria-label") == hostile
    assert [span.text for span in tree.iter("span")] == [hostile, hostile]
    assert tree.find(".//path").get("d") == "M0.00 100.00 L100.00 0.00"
    circle = tree.find(".//circle")
    assert (circle.get("cx"), circle.get("cy")) == ("50.00%", "0.00%")


def test_a_strip_shows_every_mark_where_it_belongs():
    marks = [Mark(0.5, s, [0.25, 0.75] if s == "after" else None) for s in STYLES]
    drawn = strip(marks, percent_axis(""), [["before"], ["after"], STYLES[2:]])
    tree = ElementTree.fromstring(drawn)
    groups = list(tree.iter("g"))
    assert [g.get("class") for g in groups] == [f"mark {s}" for s in STYLES]
    whisker = groups[1].find("line")
    assert (whisker.get("x1"), whisker.get("x2")) == ("25.00%", "75.00%")
    assert all("50.00%" in ElementTree.tostring(g, encoding="unicode") for g in groups)
    heights = [re.search(r'y="(\d+)"', str(ElementTree.tostring(g)))[1] for g in groups]
    assert len(set(heights)) == 3  # lanes


def test_styles_differ_by_shape():
    shapes = {re.sub(r'class="[^"]*"', "", key(s)) for s in STYLES[1:]}
    assert len(shapes) == 4
