"""Rows of records that hold a question each, under the names that a data set gives its fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..questions.registry import all_types, official_type
from ..system.console import counted, say
from .base import Row
from .file_opening import short
from .image_paths import beside
from .json_records import answer_of, field
from .left_out import NO_ANSWER, LeftOut


@dataclass(frozen=True, slots=True)
class Keys:
    """Under which names a data set's records hold what, and where its images lie.

    Attributes:
        dataset: its name, which begins the ids.
        image, question, answer, type: names of fields.
        folders: beside the questions, in which the images may lie.
    """

    dataset: str
    image: str
    question: str
    answer: str
    type: str
    folders: tuple[str, ...]

    def rows(
        self,
        path: Path,
        records: Iterable[tuple[str | None, dict[str, Any]]],
        with_images: bool,
        counts: LeftOut,
    ) -> Iterator[Row]:
        """The rows of a file; those without an answer are counted, types that are not known told.

        Args:
            path: the file.
            records: each with its name; None: its number, from 1.
            with_images: whether the images are looked for.
            counts: where to count what is left out.

        Raises:
            DataError: a field is missing or of another kind.
        """
        unknown: dict[str, int] = {}
        for n, (name, record) in enumerate(records, 1):
            own = str(n) if name is None else name
            image = field(path, n, record, self.image, str)
            answer = answer_of(path, n, record, self.answer)
            if answer is None:
                counts.add(NO_ANSWER, own)
                continue
            kind = field(path, n, record, self.type, str)
            if official_type(kind) not in all_types():
                unknown[kind] = unknown.get(kind, 0) + 1
            yield (
                f"{self.dataset.lower()}_{own}",
                beside(path, image, self.folders) if with_images else image,
                field(path, n, record, self.question, str),
                answer,
                kind,
                self.dataset,
                "",
            )
        for kind, times in unknown.items():
            say(
                f"{counted(times, 'question')} of a type that {self.dataset} has not, "
                f"{short(kind)!r}: compared as text"
            )
