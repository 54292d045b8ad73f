"""Convert records with one question each to rows, given the field names of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

from ..questions.registry import all_types, official_type
from ..system.console import counted, say
from .base import Row
from .file_opening import short
from .image_paths import find_beside
from .json_records import answer_of, field
from .left_out import NO_ANSWER, LeftOut


@dataclass(frozen=True, slots=True)
class Keys:
    """Field names and image folders of a data set.

    Attributes:
        dataset: name of the data set, which is also the prefix of the ids.
        image, question, answer, type: field names.
        folders: image folders beside the question file.
        types: question types by published category, in any case; other categories keep their name.
    """

    dataset: str
    image: str
    question: str
    answer: str
    type: str
    folders: tuple[str, ...]
    types: Mapping[str, str] = dataclass_field(default_factory=dict)

    def rows(
        self,
        path: Path,
        records: Iterable[tuple[str | None, dict[str, Any]]],
        with_images: bool,
        counts: LeftOut,
    ) -> Iterator[Row]:
        """Yield the rows of a file; count missing answers and report unknown question types.

        Args:
            path: the file.
            records: names and records; the name None stands for the number, from 1.
            with_images: whether to search for the images.
            counts: counter of skipped questions.

        Raises:
            DataError: a field is missing or of another type.
        """
        unknown: dict[str, int] = {}
        types = {name.lower(): kind for name, kind in self.types.items()}
        for n, (name, record) in enumerate(records, 1):
            own = str(n) if name is None else name
            image = field(path, n, record, self.image, str)
            answer = answer_of(path, n, record, self.answer)
            if answer is None:
                counts.add(NO_ANSWER, own)
                continue
            kind = field(path, n, record, self.type, str)
            kind = types.get(kind.lower(), kind)
            if official_type(kind) not in all_types():
                unknown[kind] = unknown.get(kind, 0) + 1
            yield (
                f"{self.dataset.lower()}_{own}",
                find_beside(path, image, self.folders) if with_images else image,
                field(path, n, record, self.question, str),
                answer,
                kind,
                self.dataset,
                "",
            )
        for kind, times in unknown.items():
            say(
                f"{counted(times, 'question')} of a type unknown in {self.dataset}, "
                f"{short(kind)!r}: compared as text"
            )
