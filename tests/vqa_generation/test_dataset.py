"""The official layout, and splits that do not meet."""

import json
from collections import Counter

import pytest

from qwen2vl_rs.datasets import rsvqa
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.vqa_generation.dataset import (
    BESIDE,
    Generated,
    Picture,
    assign_splits,
    parse_split,
    write_lists,
)
from qwen2vl_rs.vqa_generation.questions import Question

SHARES = (0.7, 0.15, 0.15)


def picture(k):
    return Picture(f"p{k}", "synthetic", 1.5, 2.5, 0.5, (k, 0, 0))


@pytest.mark.parametrize(
    ("text", "shares"),
    [("0.8,0.1,0.1", (0.8, 0.1, 0.1)), ("1,0", (1, 0, 0)), ("0.5, 0.5", (0.5, 0.5, 0))],
)
def test_shares(text, shares):
    assert parse_split(text) == shares


@pytest.mark.parametrize("text", ["", "1", "0.5,0.4", "0.5,0.6,-0.1", "a,b", "1,0,0,0"])
def test_wrong_shares_are_refused(text):
    with pytest.raises(ConfigError) as caught:
        parse_split(text)
    assert "--split 0.8,0.1,0.1" in caught.value.hint


def test_neighbours_are_never_in_two_splits():
    tiles = [(0, r, c) for r in range(24) for c in range(24)]
    counts = Counter()
    splits = dict(zip(tiles, assign_splits(tiles, SHARES, 3, counts), strict=True))
    for (_, r, c), split in splits.items():
        around = {splits.get((0, r + a, c + b)) for a in (-1, 0, 1) for b in (-1, 0, 1)}
        assert split is None or around <= {split, None}
    kept = Counter(splits.values())
    assert kept[None] == counts[BESIDE] > 0
    assert kept["train"] > kept["test"] > 30
    assert kept["val"] > 30


@pytest.mark.parametrize(("rows", "columns"), [(1, 60), (60, 1), (2, 40), (25, 25), (5, 9)])
def test_tiles_side_by_side_are_not_in_two_splits_either(rows, columns):
    """Where a scene or its last blocks are one tile high or wide, no others lie aslant."""
    tiles = [(0, r, c) for r in range(rows) for c in range(columns)]
    for seed in range(3):
        splits = dict(
            zip(tiles, assign_splits(tiles, (0.5, 0.25, 0.25), seed, Counter()), strict=True)
        )
        for (_, r, c), split in splits.items():
            beside = {splits.get((0, r + a, c + b)) for a, b in ((0, 1), (1, 0), (1, 1), (1, -1))}
            assert split is None or beside <= {split, None}
        assert set(splits.values()) >= {"train", "val", "test"}


def test_separate_scenes_are_all_used_by_their_shares():
    scenes = [(k, 0, 0) for k in range(100)]
    counts = Counter()
    splits = assign_splits(scenes, SHARES, 0, counts)
    assert Counter(splits) == {"train": 70, "val": 15, "test": 15}
    assert not counts
    assert (
        assign_splits(scenes, SHARES, 0, counts)
        == splits
        != assign_splits(scenes, SHARES, 1, counts)
    )


def test_a_few_images_are_blocks_as_a_whole():
    tiles = [(s, r, c) for s in range(5) for r in range(2) for c in range(2)]
    counts = Counter()
    splits = assign_splits(tiles, (0.8, 0.1, 0.1), 0, counts)
    assert Counter(splits) == {"train": 12, "val": 4, "test": 4}
    assert not counts


def test_two_images_never_meet():
    tiles = [(s, 0, c) for s in range(12) for c in range(2)]
    splits = assign_splits(tiles, SHARES, 0, Counter())
    assert None not in splits
    assert splits[::2] == splits[1::2]


def test_files_are_as_published(tmp_path):
    asked = [
        [Question("count", f"How many roads are there {k} {n}?", str(k), (n,)) for n in range(3)]
        for k in range(4)
    ]
    splits = ["train", "test", "train", "val"]
    written = write_lists(tmp_path, "LR", Generated([picture(k) for k in range(4)], asked, splits))
    assert sorted(p.name for p in written) == [
        f"LR_split_{s}_{k}.json"
        for s in ("test", "train", "val")
        for k in ("answers", "images", "questions")
    ]
    records = {p.stem.removeprefix("LR_split_"): json.loads(p.read_text()) for p in written}
    train = records["train_questions"]["questions"]
    assert len(train) == 9  # up to the last active one
    assert train[3] == {"id": 3, "active": False}
    assert list(train[6]) == ["id", "date_added", "img_id", "people_id", "type", "question",
                              "answers_ids", "active"]  # fmt: skip
    assert [r["id"] for r in train] == list(range(9))
    images = records["test_images"]["images"]
    assert len(images) == 4
    assert images[0] == {"id": 0, "active": False}
    assert images[1]["questions_ids"] == [3, 4, 5]
    assert images[1]["res_x"] == "0.5m"
    answers = records["val_answers"]["answers"]
    assert (len(answers), answers[-1]["question_id"], answers[-1]["answer"]) == (12, 11, "3")


def test_an_image_between_two_splits_is_inactive_in_all(tmp_path):
    asked = [[Question("presence", "Is there a road?", "yes", ())], [], asked_last()]
    made = Generated([picture(k) for k in range(3)], asked, ["train", None, "test"])
    written = write_lists(tmp_path, "LR", made)
    images = [json.loads(p.read_text())["images"] for p in written if "images" in p.name]
    assert [[r["active"] for r in rows] for rows in images] == [
        [True, False, False], [False, False, True],
    ]  # fmt: skip


def asked_last():
    return [Question("count", "How many roads are there?", "2", ())]


def test_our_own_reader_takes_them(tmp_path):
    asked = [[Question("presence", f"Is there a road {k}?", "yes", ())] for k in range(3)]
    made = Generated([picture(k) for k in range(3)], asked, ["train", "test", "train"])
    write_lists(tmp_path, "LR", made)
    folder = tmp_path / "Images_LR"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.tif").write_bytes(b"")
    files = rsvqa.find_split(tmp_path, "train")
    counts = rsvqa.LeftOut()
    samples = list(rsvqa.read_split(files.questions, files.answers, files.images, counts=counts))
    assert [s.question for s in samples] == ["Is there a road 0?", "Is there a road 2?"]
    assert [s.type for s in samples] == ["presence"] * 2
