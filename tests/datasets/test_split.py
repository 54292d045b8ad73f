import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen2vl_rs.datasets.split import count_shared_images, split_by_image, split_by_question
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.types import Sample


def sample(image, n=0):
    return Sample(f"rsvqa_{n}", image, f"Question {n}?", "yes")


def about(images, each):
    return [sample(f"/data/{k // each}.tif", k) for k in range(images * each)]


many = st.lists(st.sampled_from([f"/data/{k}.tif" for k in range(12)]), min_size=2, max_size=60)


@given(
    images=many.filter(lambda names: len(set(names)) > 1),
    seed=st.integers(0, 99),
    fraction=st.floats(0.01, 0.99),
)
@settings(max_examples=100)
def test_no_image_stands_on_both_sides_and_no_question_is_lost(images, seed, fraction):
    samples = [sample(image, n) for n, image in enumerate(images)]
    train, test = split_by_image(samples, fraction, seed)
    assert train
    assert test
    assert count_shared_images(train, test) == 0
    assert not {s.image for s in train} & {s.image for s in test}
    assert sorted([*train, *test], key=samples.index) == samples
    assert train == [s for s in samples if s in train]


@given(seed=st.integers(0, 999))
@settings(max_examples=30)
def test_the_choice_depends_on_seed_and_images_not_on_order(seed):
    samples = about(images=20, each=3)
    shuffled = random.Random(seed).sample(samples, len(samples))
    _, test = split_by_image(samples, 0.2, seed)
    _, again = split_by_image(shuffled, 0.2, seed)
    assert {s.id for s in test} == {s.id for s in again}


@pytest.mark.parametrize("split", [split_by_image, split_by_question])
def test_another_seed_is_another_choice(split):
    choices = {tuple(s.id for s in split(about(30, 1), 0.3, seed)[1]) for seed in range(5)}
    assert len(choices) == 5


@pytest.mark.parametrize(
    ("images", "fraction", "tested"), [(100, 0.1, 10), (2, 0.1, 1), (3, 0.99, 2), (64, 0.1, 6)]
)
def test_the_fraction_is_of_images(images, fraction, tested):
    _, test = split_by_image(about(images, 4), fraction)
    assert len({s.image for s in test}) == tested
    assert len(test) == 4 * tested


def test_one_file_by_several_names_is_one_image(tmp_path, monkeypatch):
    (tmp_path / "1.tif").touch()
    (tmp_path / "link.tif").symlink_to("1.tif")
    (tmp_path / "folder").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    names = [f"{tmp_path}/1.tif", "1.tif", "./absent/../1.tif", "link.tif", "folder/1.tif"]
    aliases = [sample(name, n) for n, name in enumerate(names)]
    with pytest.raises(DataError, match="2 images, not 5 questions about 1 image"):
        split_by_image(aliases)
    assert count_shared_images(aliases[:1], aliases[1:]) == 1
    train, test = split_by_image([*aliases, sample("2.tif", 9)], 0.5)
    assert {len(train), len(test)} == {5, 1}


def test_too_little_to_divide():
    for samples in ([], about(1, 5)):
        with pytest.raises(DataError):
            split_by_image(samples)
    for samples in ([], about(1, 1)):
        with pytest.raises(DataError):
            split_by_question(samples)


def test_division_by_question_leaks_and_says_so():
    samples = about(images=4, each=25)
    train, test = split_by_question(samples, 0.2, seed=1)
    assert (len(train), len(test)) == (80, 20)
    assert sorted([*train, *test], key=samples.index) == samples
    assert count_shared_images(train, test) == 4
    shuffled = random.Random(0).sample(samples, len(samples))
    assert {s.id for s in split_by_question(shuffled, 0.2, seed=1)[1]} == {s.id for s in test}


def test_a_split_by_question_is_the_same_for_ever():
    """Sorted by image, then by question, before it is drawn: pinned, whatever the rows' order."""
    rows = [Sample(f"{i}{q}", f"{i}.tif", q, "yes") for i in "cab" for q in ("z?", "a?", "m?")]
    _, test = split_by_question(rows, 0.4, 7)
    ordered = sorted(rows, key=lambda s: (s.image, s.question))
    drawn = random.Random(7).sample(range(9), 4)
    assert {s.id for s in test} == {ordered[k].id for k in drawn}
    other = sorted(rows, key=lambda s: (s.question, s.image))
    assert {other[k].id for k in drawn} != {s.id for s in test}  # so that the order counts
