"""A data set is a table that behaves as a sequence of records."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.split import (
    group_by_image,
    limit_by_image,
    split_by_image,
    split_by_question,
)
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.class_sets import resolve_dataset
from qwen2vl_rs.questions.grammar import type_of
from qwen2vl_rs.types import Sample

TEXTS = ("Is there a road?", "How many roads are there?", "  an odd\nquestion 北 ", "no words?")


def records(n: int, seed: int = 0) -> list[Sample]:
    draw = random.Random(seed)
    return [
        Sample(
            f"id-{k}", f"/im/{draw.randrange(7)}.tif", draw.choice(TEXTS), draw.choice("a12"),
            draw.choice(("", "Presence", "count", "odd")), draw.choice(("", "LR")),
            draw.choice(("", "legacy")),
        )
        for k in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("n", [0, 1, 50, 20_000])
def test_a_table_is_the_sequence_of_its_records(n):
    asked = records(n)
    data = Dataset.of(asked)
    assert Dataset.of(data) is data
    assert (len(data), list(data), data) == (n, asked, asked)
    assert all(data[k] == asked[k] for k in range(-min(n, 9), min(n, 9)))
    for part in (slice(3, 9), slice(None, None, -2), slice(-4, None), slice(5, 2)):
        assert list(data[part]) == asked[part]
    with pytest.raises(IndexError):
        data[n]
    assert data.distinct("image") == list(dict.fromkeys(s.image for s in asked))


def test_rows_that_were_taken_have_their_own_distinct_values():
    asked = records(60)
    data = Dataset.of(asked).take(np.array([7, 3, 3, 20]))
    chosen = [asked[7], asked[3], asked[3], asked[20]]
    assert data == chosen == data.compact()
    for name in ("image", "question", "answer", "type", "dataset", "manner"):
        values = [getattr(s, name) for s in chosen]
        codes, distinct = data.codes(name)
        assert [distinct[c] for c in codes] == values
        assert distinct == data.distinct(name) == list(dict.fromkeys(values))


def test_columns_are_counted_as_records_are():
    asked = records(500)
    counted = Dataset.of(asked).counts("kind", "answer", "image")
    expected = Counter((type_of(s), s.answer, s.image) for s in asked)
    assert list(counted.items()) == list(expected.items())  # in the same order


def test_a_value_that_is_changed_may_become_another_that_is_there():
    asked = records(80)
    data = Dataset.of(asked).changed("image", lambda image: image.replace("3", "2"))
    assert data == [replace(s, image=s.image.replace("3", "2")) for s in asked]
    assert len(data.groups) == len(set(data.distinct("image"))) == 6


def test_groups_hold_the_rows_of_each_image():
    asked = records(200)
    data = Dataset.of(asked)
    by_image: dict[str, list[Sample]] = {}
    for sample in asked:
        by_image.setdefault(sample.image, []).append(sample)
    assert [list(data.take(rows)) for rows in data.groups] == list(by_image.values())
    assert group_by_image(asked) == list(by_image.values())
    assert list(data.groups[-1]) == list(data.groups[len(data.groups) - 1])
    assert limit_by_image(asked, 1) == next(iter(by_image.values()))[:1]


def test_answer_sets_and_data_set_are_those_of_the_records():
    asked = records(300)
    assert answer_sets(Dataset.of(asked), "LR") == answer_sets(asked, "LR")
    for part in (asked, [s for s in asked if s.dataset]):
        assert resolve_dataset(Dataset.of(part), old=True) == resolve_dataset(part, old=True)


def test_one_question_is_no_plural():
    one = Sample("a", "1.tif", "Is there a road?", "yes")
    assert repr(Dataset.of([one])).startswith("<1 question about 1 image: ")
    with pytest.raises(DataError, match="2 images, not 1 question about 1 image"):
        split_by_image([one])
    with pytest.raises(DataError, match=r"^1 question cannot be split"):
        split_by_question([one])


def test_a_name_that_is_not_utf8_is_said():
    with pytest.raises(DataError, match="sample b cannot be encoded as UTF-8"):
        Dataset.of([Sample("a", "1.tif", "q", "a"), Sample("b", "\udcff.tif", "q", "a")])


@pytest.mark.parametrize(
    ("ids", "blank", "said"),
    [
        ("abcbd", None, "the id 'b' is a duplicate"),
        ("abcde", 2, "the question of 'c' is empty"),
        ("abcbd", 1, "the question of 'b' is empty"),
        ("aacbd", 4, "the id 'a' is a duplicate"),
        ("abcbd", 3, "the id 'b' is a duplicate"),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_of_several_faults_the_first_is_said(tmp_path, ids, blank, said, broken):
    asked = [Sample(id, "1.tif", " " if k == blank else "q?", "a") for k, id in enumerate(ids)]
    path = tmp_path / "data.json"
    write_conversations(path, asked)
    if broken:
        path.write_text(path.read_text()[:-3])  # the last record is cut
    with pytest.raises(DataError, match=said):
        read_samples(path)
