"""Lengths in tokens, each distinct text and image size measured once."""

from qwen2vl_rs.checking.lengths import Range, lengths
from qwen2vl_rs.checking.parts import Part, Parts
from qwen2vl_rs.checking.remembered import Picture
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.types import Sample


class Letters:
    """A ruler with a token per letter, and one per 10 pixels of a side."""

    fixed = 100

    def __init__(self):
        self.measured = []

    def question(self, text):
        self.measured.append(text)
        return len(text)

    def answer(self, text):
        return len(text) + 1

    def image(self, width, height):
        self.measured.append((width, height))
        return width * height // 100


SAMPLES = [
    Sample("a", "1.tif", "12345", "yes"),
    Sample("b", "1.tif", "123", "no"),
    Sample("c", "2.tif", "12345", "yes"),
    Sample("d", "lost.tif", "1234567890", "no"),
]
PICTURES = {
    "1.tif": Picture(20, 10, "TIFF", "", False),
    "2.tif": Picture(50, 40, "TIFF", "", False),
}


def measured(limit=None, pictures=PICTURES):
    ruler = Letters()
    found = lengths(Parts([Part("train", Dataset.of(SAMPLES))]), ruler, pictures, limit)
    return *found, ruler


def test_lengths_are_over_questions_and_images():
    found, findings, ruler = measured()
    assert found.question == Range(3, 5.0, 10)
    assert found.answer == Range(3, 3.5, 4)
    assert found.image == Range(2, 11.0, 20)
    assert found.sequence == Range(100 + 2 + 3 + 3, 111.0, 100 + 20 + 5 + 4)
    assert findings == []
    assert sorted(map(str, ruler.measured)) == [
        "(20, 10)",
        "(50, 40)",
        "123",
        "12345",
        "1234567890",
    ]


def test_what_is_longer_than_a_pack_is_named_longest_first():
    _, (finding,), _ = measured(limit=110)
    assert (finding.verdict, finding.count) == ("warning", 2)
    assert [(one.id, one.detail) for one in finding.examples] == [
        ("c", "129 tokens"),
        ("a", "111 tokens"),
    ]
    assert measured(limit=129)[1][0].verdict == "ok"


def test_without_a_usable_image_only_the_texts_are_measured():
    found, (finding,), _ = measured(limit=5, pictures={})
    assert (found.image, found.sequence) == (None, None)
    assert finding.count == 0
