"""The vision tower: several images in a pass give what each gives alone."""

import json
import shutil
from itertools import pairwise

import pytest
import torch

from factory import make_samples
from family import few
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.engine import vision
from qwen2vl_rs.engine.vision import vision_batches, with_features
from qwen2vl_rs.models.loader import load_base

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("sizes", "passes"),
    [
        ([], []),
        ([4096, 1], [[0], [1]]),
        ([4095, 1, 1], [[0, 1], [2]]),
        ([9000, 324, 324], [[0], [1, 2]]),  # one that is larger than a pass has its own
        ([324] * 13, [list(range(12)), [12]]),
    ],
)
def test_a_pass_on_a_gpu_holds_as_many_images_as_fit(sizes, passes):
    assert list(vision_batches(sizes, CUDA)) == passes


def test_a_cpu_takes_one_at_a_time():
    assert list(vision_batches([4, 4, 4], CPU)) == [[0], [1], [2]]


def test_images_in_one_pass_have_the_features_of_each_alone(family_base, tmp_path, monkeypatch):
    base = load_base(family_base, InputConfig(), CPU, torch.float32)
    names = dict.fromkeys(s.image for s in make_samples(tmp_path / "a", images=2, side=150))
    names |= dict.fromkeys(s.image for s in make_samples(tmp_path / "b", images=1, side=90))
    images = [base.images.read(name) for name in names]
    alone = with_features(base.model, images)
    monkeypatch.setitem(vision._PATCHES_AT_ONCE, "cpu", 1 << 20)
    calls = []
    real = vision.encode
    monkeypatch.setattr(vision, "encode", lambda *a: calls.append(1) or real(*a))
    together = with_features(base.model, [images[0], alone[1], images[2]])
    assert len(calls) == 1
    assert together[1] is alone[1]  # encoded before
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other.features, one.features, rtol=1e-4, atol=1e-5)
        assert other.patches is None


@pytest.fixture
def cached(small_base, tmp_path):
    """A base, five images, and where their features were written."""
    base = load_base(small_base, InputConfig(), CPU, torch.float32)
    names = dict.fromkeys(s.image for s in make_samples(tmp_path / "images", images=5))
    return base, list(names), tmp_path / "cache"


def fill(cached, dtype=torch.float32):
    """The features of all images, and how many were computed for it."""
    base, names, folder = cached
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        real = vision.encode
        patch.setattr(vision, "encode", lambda *a: calls.append(1) or real(*a))
        images = vision.encode_all(base, names, folder, 1 << 30, dtype)
    return [images.read(name).features for name in names], len(calls)


def rows(folder):
    return [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]


def overwrite(folder, row, change):
    """Change the bytes of an image in the file of features."""
    data = bytearray((folder / "features.bin").read_bytes())
    start, end = 4 * row["at"], 4 * (row["at"] + row["words"])
    data[start:end] = change(bytes(data[start:end]))
    (folder / "features.bin").write_bytes(data)


@pytest.mark.parametrize(
    "change",
    few(
        [
            lambda part: bytes(len(part)),
            lambda part: part[:-1] + bytes([part[-1] ^ 1]),
            lambda part: part[: len(part) // 2] + bytes(len(part) - len(part) // 2),
        ],
        2,
    ),
    ids=["zeros", "a bit", "zeros behind"],
)
@pytest.mark.parametrize("which", few([[0], [4], [1, 3]], 0, 1))
def test_damaged_features_are_computed_again_and_never_believed(cached, capsys, change, which):
    folder = cached[2]
    whole, n = fill(cached)
    assert n == 5
    size, index = (folder / "features.bin").stat().st_size, rows(folder)
    for i in which:
        overwrite(folder, index[i], change)
    capsys.readouterr()
    again, n = fill(cached)
    assert n == len(which)
    damaged = "1 image" if len(which) == 1 else f"{len(which)} images"
    assert f"{damaged} damaged, encoded again" in capsys.readouterr().err
    assert all(map(torch.equal, whole, again))
    assert (folder / "features.bin").stat().st_size == size  # in their old place
    assert fill(cached)[1] == 0


@pytest.mark.parametrize("which", [[0], [1], [0, 2]])
def test_new_images_are_written_behind_the_sound_ones(cached, which):
    """A damaged one is written again in its old place meanwhile."""
    base, names, folder = cached
    names[:] = [names[i] for i in (3, 0, 1, 2, 4)]
    whole, _ = fill(cached)
    shutil.rmtree(folder)
    fill((base, names[1:4], folder))
    for i in which:
        overwrite(folder, rows(folder)[i], lambda part: bytes(len(part)))
    again, n = fill(cached)
    assert n == len(which) + 2
    assert all(map(torch.equal, whole, again))
    places = sorted({row["key"]: (row["at"], row["words"]) for row in rows(folder)}.values())
    assert len(places) == 5
    assert all(at + words == then for (at, words), (then, _) in pairwise(places))
    assert fill(cached)[1] == 0


@pytest.mark.parametrize(
    ("damage", "known"),
    few(
        [
            (lambda data: b"", 0),
            (lambda data: bytes(len(data)), 0),
            (lambda data: data[:-9], 4),
            (lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2), 2),
            (lambda data: data + b"[]\n", 5),
            # as older versions wrote it: nothing tells whether the features are right
            (lambda data: b'["key", 0, 8]\n' * 5, 0),
        ],
        2,
        3,
        5,
    ),
    ids=["empty", "zeros", "cut", "zeros behind", "another value", "older"],
)
def test_a_torn_index_of_features_is_used_up_to_its_last_sound_line(cached, damage, known):
    folder = cached[2]
    whole, _ = fill(cached)
    index, size = folder / "index.jsonl", (folder / "features.bin").stat().st_size
    before = index.read_bytes()
    index.write_bytes(damage(before))
    again, n = fill(cached)
    assert n == 5 - known
    assert all(map(torch.equal, whole, again))
    assert index.read_bytes() == before
    assert (folder / "features.bin").stat().st_size == size


WRONG_PLACES = {
    "begins in another": {3: lambda index: {"at": index[1]["at"] + 5}},
    "goes over the next": {3: lambda index: {"words": index[3]["words"] + 5}},
    "ends in another": {3: lambda index: {"at": index[4]["at"] - 5}},
    "is another's": {3: lambda index: {"at": index[1]["at"]}},
    "is a damaged one's": {0: lambda _: {"sha256": "x"}, 3: lambda index: {"at": index[0]["at"]}},
    "is shorter": {3: lambda index: {"words": index[3]["words"] - 7}},
    "is empty": {3: lambda index: {"at": index[1]["at"], "words": 0}},
    "is right": {3: lambda _: {"sha256": "x"}},
}


@pytest.mark.parametrize("wrong", few(WRONG_PLACES.values(), 0, 3, 5), ids=WRONG_PLACES)
def test_a_wrong_place_in_the_index_does_not_cost_another_image(cached, wrong):
    folder = cached[2]
    whole, _ = fill(cached)
    index = rows(folder)
    for i, change in wrong.items():
        index[i] |= change(index)
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in index))
    again, n = fill(cached)
    assert n == len(wrong)
    assert all(map(torch.equal, whole, again))
    assert fill(cached)[1] == 0


@pytest.mark.parametrize("part", [0, 0.4, 1])
def test_half_of_the_free_disk_is_used_at_most_and_own_features_count_as_free(
    cached, monkeypatch, capsys, part
):
    """Of which an interrupted call has written a part."""
    fill(cached)
    data = cached[2] / "features.bin"
    size = data.stat().st_size
    held, disk = int(part * size), shutil.disk_usage(cached[2])
    for free, fits in ((2 * size - held, True), (2 * size - held - 1, False)):
        if part:
            with data.open("r+b") as file:
                file.truncate(held)
        else:
            shutil.rmtree(cached[2], ignore_errors=True)
        usage = disk._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        images = vision.encode_all(*cached, 1 << 30, torch.float32)
        assert (images is not None) is fits
        assert ("exceed half of the free disk space" in capsys.readouterr().err) is not fits


@pytest.mark.parametrize("content", [b"", b"\0" * 40, None])
def test_features_that_are_cut_short_or_gone_are_computed_again(cached, content):
    whole, _ = fill(cached)
    data = cached[2] / "features.bin"
    size = data.stat().st_size
    data.unlink()
    if content is not None:
        data.write_bytes(content)
    again, n = fill(cached)
    assert (n, data.stat().st_size) == (5, size)
    assert all(map(torch.equal, whole, again))


def test_features_longer_than_listed_are_cut(cached):
    whole, _ = fill(cached)
    data = cached[2] / "features.bin"
    size = data.stat().st_size
    with data.open("ab") as file:
        file.write(b"\0" * 4096)
    again, n = fill(cached)
    assert (n, data.stat().st_size) == (0, size)
    assert all(map(torch.equal, whole, again))
    # what an interrupted call holds counts as room: no more is needed for it
    assert vision.encode_all(*cached, size, torch.float32) is not None
    assert vision.encode_all(*cached, size - 1, torch.float32) is None


def test_features_of_other_pixels_are_others(small_base, tmp_path):
    """Bounds that make the same number of tokens, but not the same pixels."""
    names = list(dict.fromkeys(s.image for s in make_samples(tmp_path / "images", 1, side=90)))
    found = {}
    for most in (90 * 90, 28 * 28 * 9, 28 * 28 * 4):
        base = load_base(small_base, InputConfig(max_pixels=most), CPU, torch.float32)
        expected = with_features(base.model, [base.images.read(names[0])])[0].features
        (features,), n = fill((base, names, tmp_path / "cache"))
        assert n == 1
        assert torch.equal(features, expected)
        found[most] = features
    assert len(rows(tmp_path / "cache")) == 3
