"""Lines and sections of the report; errors become lines, and private paths are shortened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, Qwen2VLRSError
from ..system.install import missing_module
from ..system.oserrors import explain_os_error
from ..system.terminal import printable

Mark = Literal["ok", "warning", "error"]
_SIGNS: dict[Mark, str] = {"ok": "✓", "warning": "!", "error": "✗"}


@dataclass(frozen=True, slots=True)
class Line:
    """One finding.

    Attributes:
        name: what it is about.
        text: what was found, and why.
        mark: ``ok``; ``warning`` for what may be wrong; ``error`` for what prevents a training.
        hint: the command that mends it.
    """

    name: str
    text: str
    mark: Mark = "ok"
    hint: str = ""


def warning(name: str, text: str, hint: str = "") -> Line:
    """Return a line for something that may be wrong."""
    return Line(name, text, "warning", hint)


def problem(name: str, text: str, hint: str = "") -> Line:
    """Return a line for something that prevents a training."""
    return Line(name, text, "error", hint)


@dataclass(frozen=True, slots=True)
class Section:
    """A title and its lines."""

    title: str
    lines: list[Line]


@dataclass(slots=True)
class Diagnosis:
    """The report.

    Attributes:
        sections: its sections.
        figures: numbers of the report for programs; what is unknown is missing.
    """

    sections: list[Section] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether nothing prevents a training."""
        return not self.problems

    @property
    def problems(self) -> list[Line]:
        """What prevents a training."""
        return [line for one in self.sections for line in one.lines if line.mark == "error"]

    def add(self, title: str, lines: Iterable[Line]) -> None:
        """Add a section; an error while its lines are made is its last line."""
        self.sections.append(Section(title, list(guarded(title.lower(), lines))))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in JSON."""
        sections = [
            {
                "title": section.title,
                "lines": [
                    {
                        "name": line.name,
                        "mark": line.mark,
                        "text": shortened(line.text),
                        "hint": shortened(line.hint),
                    }
                    for line in section.lines
                ],
            }
            for section in self.sections
        ]
        return {"usable": self.usable, "sections": sections, "figures": self.figures}

    def __str__(self) -> str:
        width = max((len(one.name) for s in self.sections for one in s.lines), default=0) + 2
        parts = []
        for section in self.sections:
            parts.append(f"{section.title}")
            for line in section.lines:
                parts.append(f"  {_SIGNS[line.mark]} {line.name:<{width}}{_shown(line.text)}")
                if line.hint:
                    parts.append(f"    {'':<{width}}hint: {_shown(line.hint)}")
            parts.append("")
        found = self.problems
        names = ", ".join(dict.fromkeys(line.name for line in found))
        parts.append(f"not usable: see ✗ at {names}" if found else "usable: a training can start")
        return "\n".join(parts)


def _shown(text: str) -> str:
    """Return a text as one line that cannot control a terminal."""
    return printable(shortened(text))


def guarded(name: str, lines: Iterable[Line], mark: Mark = "error") -> Iterator[Line]:
    """Yield lines; an error while they are made becomes the last line.

    Args:
        name: of that line.
        lines: made while they are read.
        mark: of that line.
    """
    try:
        yield from lines
    except DataError as error:  # training reads all questions and images
        yield problem(name, error.message, error.hint or "")
    except Qwen2VLRSError as error:
        yield Line(name, error.message, mark, error.hint or "")
    except Exception as error:  # a broken driver or library, in whatever way
        told = _explained(error)
        text = told.message if told else _first_line(error)
        yield Line(name, text, mark, (told.hint if told else "") or "")


def _explained(error: Exception) -> Qwen2VLRSError | None:
    if isinstance(error, ImportError) and (found := missing_module(error)):
        if not isinstance(error, ModuleNotFoundError):  # installed, and broken
            found.message = f"{error.name} cannot be imported: {_first_line(error)}"
            found.hint = f"install it again: {found.hint}"
        return found
    return explain_os_error(error) if isinstance(error, OSError) and error.errno else None


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def shortened(text: str) -> str:
    """Return a text with ``~`` for the user's home, so that it can be published."""
    try:
        home = str(Path.home())
    except RuntimeError:  # there is none
        return text
    if len(home) < 2:
        return text
    end = r"(?=[/\\\s'\":,;)\]]|$)"  # not the home of another user, whose name begins alike
    quoted = re.sub(rf"'{re.escape(home)}/", "~/'", text)
    return re.sub(rf"{re.escape(home)}{end}", "~", quoted)
