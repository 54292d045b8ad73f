"""Image files that are missing, empty, damaged, or no images; what is known about the others."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factory import make_samples
from qwen2vl_rs.checking import images as module
from qwen2vl_rs.checking.images import file_faults, image_faults
from qwen2vl_rs.checking.parts import Part, Parts
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.raster import opening


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path / "images", images=6)


def faults(found):
    return {one.check: one.count for one in found if one.verdict != "ok"}


def looked_at(samples):
    return file_faults(Parts([Part("train", Dataset.of(samples))]))


def decoded(samples, **view):
    return image_faults(Parts([Part("train", Dataset.of(samples))]), InputConfig(**view))


def test_good_images_have_no_fault(samples):
    assert not faults(looked_at(samples))
    found, facts, pictures = decoded(samples)
    assert not faults(found)
    assert (facts.count, facts.decoded) == (6, 6)
    assert facts.sizes == {(56, 56): 6}
    assert facts.formats == {"TIFF": 6}
    assert len({one.digest for one in pictures.values()}) == 6


def test_what_can_be_seen_without_opening_a_file(samples):
    os.remove(samples[0].image)
    Path(samples[8].image).write_bytes(b"")
    os.remove(samples[16].image)
    os.mkdir(samples[16].image)
    os.remove(samples[24].image)
    os.mkfifo(samples[24].image)
    Path(samples[32].image).write_bytes(b"not an image")  # to be seen by decoding only
    found = {one.check: one for one in looked_at(samples)}
    assert faults(found.values()) == {"missing_images": 1, "empty_images": 1, "unusable_images": 2}
    assert found["missing_images"].text == "1 image missing, with 8 questions"
    assert found["missing_images"].examples[0].image == samples[0].image
    details = [one.detail for one in found["unusable_images"].examples]
    assert details == ["a folder", "not a regular file"]


def test_a_file_that_cannot_be_read_is_not_missing(samples, monkeypatch):
    os.remove(samples[0].image)
    os.symlink(samples[0].image, samples[0].image)  # a link to itself
    (fault,) = [one for one in looked_at(samples) if one.verdict != "ok"]
    assert fault.check == "unusable_images"
    assert "Too many levels of symbolic links" in fault.examples[0].detail

    def failing(path, mode):
        if str(path) == samples[8].image:
            raise OSError(5, "Input/output error", path)
        return opened(path, mode)

    opened = opening.open_named
    monkeypatch.setattr(opening, "open_named", failing)
    fault = next(one for one in decoded(samples[8:])[0] if one.verdict != "ok")
    assert (fault.check, fault.count) == ("unusable_images", 1)
    assert fault.examples[0].detail == "cannot be read: Input/output error"
    assert "check the disk" in fault.hint


def test_a_missing_file_says_why_it_may_be(samples):
    moved = [replace(samples[0], image=r"C:\data\1.tif"), replace(samples[1], image="no/1.tif")]
    missing = looked_at(moved)[0]
    assert [one.detail for one in missing.examples] == [
        "no such file (a Windows path)",
        "no such file (nor is its folder)",
    ]


@pytest.mark.parametrize("end", [".tif", ".png", ".jpg"])
def test_a_truncated_image_is_found_by_decoding_it(samples, end, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"half{end}"
    Image.fromarray(pixels).save(path)
    one = replace(samples[0], image=str(path))
    assert not faults(decoded([one])[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found, facts, pictures = decoded([one, *samples[8:]])
    assert faults(found) == {"unusable_images": 1}
    unusable = next(one for one in found if one.check == "unusable_images")
    assert "broken or incomplete" in unusable.examples[0].detail
    assert str(path) not in unusable.examples[0].detail  # the example names it
    assert "copy or download it again" in unusable.hint
    assert (facts.decoded, len(pictures)) == (5, 5)


def test_sizes_are_compared_with_the_pixel_bounds(samples):
    Image.new("RGB", (300, 200), "red").save(samples[0].image)
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).convert("RGB").save(samples[8].image)
    _, facts, _ = decoded(samples, min_pixels=3_136, max_pixels=50_000)
    assert (facts.upscaled, facts.downscaled) == (1, 1)
    assert next(iter(facts.sizes.items())) == ((56, 56), 4)


def test_an_image_of_one_colour_is_told_and_is_no_copy_of_another(samples):
    Image.new("RGB", (64, 64), "black").save(samples[0].image)
    found, _, pictures = decoded(samples)
    assert faults(found) == {"blank_images": 1}
    assert pictures[samples[0].image].blank


def test_copies_in_another_format_have_the_same_digest(samples, tmp_path):
    Image.open(samples[0].image).save(tmp_path / "a.png")
    shutil.copy(samples[0].image, tmp_path / "b.tif")
    names = ("a.png", "b.tif")
    more = [replace(s, image=str(tmp_path / n)) for s, n in zip(samples[:2], names, strict=True)]
    _, facts, pictures = decoded([*samples[:9], *more])
    digests = [one.digest for one in pictures.values()]
    assert len(digests) == 4
    assert len(set(digests)) == 2
    assert facts.formats == {"PNG": 1, "TIFF": 3}


def test_an_intact_image_is_decoded_once_and_again_when_it_changes(samples, monkeypatch):
    first = decoded(samples)
    read = []

    def counted(path, rule):
        read.append(path)
        return kept(path, rule)

    kept = module.read_rgb
    monkeypatch.setattr(module, "read_rgb", counted)
    assert decoded(samples)[1:] == first[1:]
    assert read == []
    shutil.copy(samples[8].image, samples[0].image)
    os.utime(samples[0].image, ns=(1, 1))
    _, _, pictures = decoded(samples)
    assert read == [samples[0].image]
    assert pictures[samples[0].image].digest == pictures[samples[8].image].digest
    read.clear()
    decoded(samples, image={"bands": (3, 2, 1)})  # other pixels
    assert len(read) == 6


def test_damaged_images_are_never_remembered_as_good(samples):
    Path(samples[0].image).write_bytes(Path(samples[0].image).read_bytes()[:3000])
    for _ in range(2):
        assert faults(decoded(samples)[0]) == {"unusable_images": 1}
