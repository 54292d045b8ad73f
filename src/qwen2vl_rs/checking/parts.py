"""The parts of a data set (train, val, test) as one table with comparable columns.

Shapes: n questions of all parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..datasets.base import Codes, Dataset
from ..datasets.split import image_files
from ..questions.grammar import KIND
from ..questions.normal_forms import normalise
from ..questions.registry import type_named
from ..questions.wording import plain
from ..system.console import Progress
from ..types import Sample
from .findings import EXAMPLES, Example

TRAIN = "train"
"""Name of the part that is trained on; all others are for evaluation."""
NO_FORM = -1
"""Code of an answer without a normal form, in `Parts.forms`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a data set.

    Attributes:
        name: ``train``, ``val``, ``test``, …
        questions: its questions.
        file: their file; empty if they are not from a file.
        whole: all questions of that file, if the part is not the whole of it.
    """

    name: str
    questions: Dataset
    file: str = ""
    whole: Dataset | None = None


class Parts:
    """All parts, with columns that can be compared between them.

    Args:
        parts: the parts, at least one.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        tables = [part.questions.table for part in parts]
        self.all = parts[0].questions if len(parts) == 1 else Dataset(pa.concat_tables(tables))
        sizes = [len(part.questions) for part in parts]
        self.starts = np.cumsum([0, *sizes])
        #: (n,) index of the part of each question
        self.part: Codes = np.repeat(np.arange(len(sizes)), sizes)

    def __len__(self) -> int:
        return len(self.all)

    @cached_property
    def paths(self) -> list[str]:
        """The distinct image paths."""
        return self.all.distinct("image")

    @cached_property
    def _files(self) -> tuple[Codes, list[int]]:
        codes, paths = self.all.codes("image")
        known: dict[str, int] = {}
        numbers = [known.setdefault(file, len(known)) for file in image_files(paths)]
        first: dict[int, int] = {}
        for place, number in enumerate(numbers):
            first.setdefault(number, place)
        return np.array(numbers, dtype=np.int64)[codes], list(first.values())

    @property
    def images(self) -> Codes:
        """(n,) the image file of each question; spellings of a path are one file."""
        return self._files[0]

    @property
    def image_paths(self) -> list[str]:
        """The path of each image file, by its code in `images`."""
        return [self.paths[place] for place in self._files[1]]

    @cached_property
    def pairs(self) -> Codes:
        """(n,) code of image and question; case, spacing and ``in the image`` do not matter."""
        codes, questions = self.all.codes("question")
        known: dict[str, int] = {}
        wordings = [known.setdefault(plain(question), len(known)) for question in questions]
        key = self.images * max(len(known), 1) + np.array(wordings, dtype=np.int64)[codes]
        found: Codes = np.unique(key, return_inverse=True)[1]
        return found

    @cached_property
    def kinds(self) -> tuple[Codes, list[str]]:
        """(n,) the official type of each question as a code, and the types."""
        return self.all.codes(KIND)

    @cached_property
    def forms(self) -> tuple[Codes, list[str]]:
        """(n,) normal form of each answer as a code (`NO_FORM` if there is none), and the forms."""
        return self.forms_of(np.arange(len(self)))

    def forms_of(self, rows: Codes) -> tuple[Codes, list[str]]:
        """Return the normal forms of the answers of some questions only, like `forms`.

        Equal answers of a type are read once.
        """
        some = self.all if len(rows) == len(self) else self.all.take(rows)
        kinds, names = some.codes(KIND)
        answers, texts = some.codes("answer")
        asked, questions = some.codes("question")
        # options are in the question; for all other types it does not matter
        optional = np.array([type_named(name).has_options for name in names], dtype=np.bool_)
        shown = np.where(optional[kinds], asked + 1, 0).astype(np.int64) if names else asked
        key = (shown * max(len(names), 1) + kinds) * max(len(texts), 1) + answers
        _, first, back = np.unique(key, return_index=True, return_inverse=True)
        known: dict[str, int] = {}
        found = np.empty(len(first), dtype=np.int64)
        with Progress("reading answers", len(first), "answers") as progress:
            for place, row in enumerate(first.tolist()):
                form = normalise(texts[answers[row]], names[kinds[row]], questions[asked[row]])
                found[place] = NO_FORM if form is None else known.setdefault(form, len(known))
                progress.advance()
        return found[back], list(known)

    def named(self, part: int) -> str:
        """The name of a part."""
        return self.parts[part].name

    def example(self, row: int, detail: str = "") -> Example:
        """Return a question as an example."""
        part = self.parts[self.part[row]]
        sample = self.all[int(row)]
        number: int | None = None
        if part.file:
            place = int(row - self.starts[self.part[row]])
            number = 1 + (place if part.whole is None else _place(part.whole, sample))
        return Example(part.name, sample.id, sample.image, part.file, number, detail)

    def examples(self, rows: Iterable[int], detail: str = "") -> list[Example]:
        """Return the first few of some questions as examples."""
        return [self.example(row, detail) for row in list(rows)[:EXAMPLES]]

    def first_rows(self, images: NDArray[np.int64]) -> Codes:
        """Return the first question about each of some image files."""
        codes, first = np.unique(self.images, return_index=True)
        found: Codes = first[np.searchsorted(codes, images)]
        return found


def _place(whole: Dataset, sample: Sample) -> int:
    """Return the index of a question in its file, whose images may have been moved since."""
    column = whole.table.column("id")
    same = pc.indices_nonzero(pc.equal(column, sample.id)).to_pylist()
    text = (sample.question, sample.answer)
    # ids should be unique
    return int(next((k for k in same if (whole[k].question, whole[k].answer) == text), same[0]))
