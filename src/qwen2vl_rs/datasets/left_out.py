"""Count skipped questions by reason, with examples."""

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
    """Skipped questions by reason, with the first few ids of each.

    Attributes:
        numbers: number of questions by reason.
        examples: ids by reason; of images if the image is missing, else of questions.
        notes: other remarks about a file, with the number of records.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[object]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, text: str, times: int = 1) -> None:
        """Add a remark about some records that are not skipped."""
        if times:
            self.notes[text] = self.notes.get(text, 0) + times

    def add(self, reason: str, example: object) -> None:
        """Count one question; ``example`` is its id or that of its image."""
        self.numbers[reason] = self.numbers.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES and example not in examples:
            examples.append(example)

    def lines(self) -> list[str]:
        """Return one line per reason, e.g. ``12 without an image (image ids 3, 17)``."""
        return [
            f"{number:,} {reason} ({_COUNTED_BY.get(reason, 'question')} ids "
            + ", ".join(map(str, self.examples[reason]))
            + (", …)" if len(self.examples[reason]) == _EXAMPLES < number else ")")
            for reason, number in self.numbers.items()
        ]
