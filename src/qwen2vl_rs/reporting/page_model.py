"""The parts a report is made of; HTML and Markdown show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        sub: an interval or the like, below.
        chart: a small chart; not in Markdown.
        heat: shade from 0 to 1; None for none.
    """

    text: str
    sub: str = ""
    chart: Markup | None = None
    heat: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a head; the first column names the row.

    Attributes:
        head: names of the columns.
        rows: the cells.
        caption: what it shows.
        grid: keeps its shape on a narrow screen, where other tables become lists.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    grid: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title and its legend of (sign, name)."""

    chart: Markup
    title: str = ""
    legend: Sequence[tuple[Markup, str]] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """An answer in a case: whose, the words, whether right, the confidence in words."""

    who: str
    text: str
    right: bool
    mark: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Case:
    """One question whose answer changed.

    Attributes:
        question, truth, type: the question.
        before, after: the answers.
        image: name of the image file; empty where none is named.
        alt: what stands for the picture where it cannot be seen.
        picture: data URI of the image; empty where it could not be read.
    """

    question: str
    truth: str
    type: str
    before: Said
    after: Said
    image: str
    alt: str
    picture: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Cases under a title."""

    title: str
    cases: Sequence[Case]
    none: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report under a heading.

    Attributes:
        id: its address on the page.
        title: the heading.
        lead: what to know before looking.
        figures: charts, side by side where there is room.
        facts: pairs of term and text.
        tables, galleries: what their names say.
        notes: small print.
        attachment: a title and a long text, folded away.
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
        label: what it is.
        value: the figure.
        sub: its interval.
        word: what it means.
        tone: ``good``, ``bad`` or ``flat``.
        chart: the interval, drawn.
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
        title, eyebrow: the heading, and the line above the verdict.
        claim, conclusion: the verdict's sentence in two parts.
        tiles: key figures.
        sections: all else, in order.
        remark: what has to be known before any figure is read; mostly empty.
    """

    title: str
    eyebrow: str
    claim: str
    conclusion: str
    tiles: Sequence[Tile]
    sections: Sequence[Section] = field(default_factory=list)
    remark: str = ""
