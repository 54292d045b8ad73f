"""Questions that are left out: how many, why, and which."""

from __future__ import annotations

from dataclasses import dataclass, field

INACTIVE = "inactive"
NO_ANSWER = "without an answer"
NO_TEXT = "with an empty question or answer"
NO_IMAGE = "without an image"
_COUNTED_BY = dict.fromkeys((INACTIVE, NO_ANSWER, NO_TEXT), "question") | {NO_IMAGE: "image"}
_EXAMPLES = 3


@dataclass
class LeftOut:
    """Questions that were left out, by reason, with the first few ids of each.

    Attributes:
        numbers: number of questions by reason.
        examples: ids by reason, of questions or, where the image is missing, of images.
        notes: what else is to be said of a file, with how often it is so.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[object]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, text: str, times: int = 1) -> None:
        """Count what is true of some records, and no reason to leave them out."""
        if times:
            self.notes[text] = self.notes.get(text, 0) + times

    def add(self, reason: str, example: object) -> None:
        """Count one question; ``example`` is its id, or its image's."""
        self.numbers[reason] = self.numbers.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES and example not in examples:
            examples.append(example)

    def lines(self) -> list[str]:
        """One line a reason, e.g. ``12 without an image (image ids 3, 17)``."""
        return [
            f"{number:,} {reason} ({_COUNTED_BY.get(reason, 'question')} ids "
            + ", ".join(map(str, self.examples[reason]))
            + (", …)" if len(self.examples[reason]) == _EXAMPLES < number else ")")
            for reason, number in self.numbers.items()
        ]
