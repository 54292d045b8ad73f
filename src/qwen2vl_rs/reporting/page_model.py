"""Building blocks of a report, shared by HTML and Markdown: sections, tables, figures, cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: the content.
        sub: small text below, such as an interval.
        chart: a small chart; not in Markdown.
        heat: shade from 0 to 1; None for none.
    """

    text: str
    sub: str = ""
    chart: Markup | None = None
    heat: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a header; the first column names the row.

    Attributes:
        head: names of the columns.
        rows: the cells.
        caption: the caption.
        grid: keeps its shape on a narrow screen, where other tables become lists.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    grid: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title and its legend of (marker, name)."""

    chart: Markup
    title: str = ""
    legend: Sequence[tuple[Markup, str]] = ()


@dataclass(frozen=True, slots=True)
class CaseAnswer:
    """An answer in a case: source, text, whether right, confidence as text."""

    who: str
    text: str
    right: bool
    mark: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Case:
    """A question with a changed answer.

    Attributes:
        question, truth, type: the question.
        before, after: the answers.
        image: name of the image file; may be empty.
        alt: text in place of the picture.
        picture: data URI of the image; empty if it was not readable.
    """

    question: str
    truth: str
    type: str
    before: CaseAnswer
    after: CaseAnswer
    image: str
    alt: str
    picture: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Cases with a title."""

    title: str
    cases: Sequence[Case]
    none: str


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report.

    Attributes:
        id: its anchor on the page.
        title: the heading.
        lead: the introduction.
        figures: charts, side by side if there is room.
        facts: pairs of term and text.
        tables, galleries: tables and examples.
        notes: small print.
        attachment: a title and a long text, folded.
    """

    id: str
    title: str
    lead: str = ""
    figures: Sequence[Figure] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    galleries: Sequence[Gallery] = ()
    notes: Sequence[str] = ()
    attachment: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure.

    Attributes:
        label: its name.
        value: the number.
        sub: its interval.
        word: the interpretation.
        tone: ``good``, ``bad`` or ``flat``.
        chart: the interval as a chart.
    """

    label: str
    value: str
    sub: str = ""
    word: str = ""
    tone: str = "flat"
    chart: Markup | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Attributes:
        title, eyebrow: the heading, and the line above it.
        claim, conclusion: the headline in two parts.
        tiles: key figures.
        sections: the other sections, in order.
        remark: a warning about the results; usually empty.
    """

    title: str
    eyebrow: str
    claim: str
    conclusion: str
    tiles: Sequence[Tile]
    sections: Sequence[Section] = field(default_factory=list)
    remark: str = ""
