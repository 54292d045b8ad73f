"""Images and questions in one row, as shells hand them over."""

import pytest

from factory import write_image
from qwen2vl_rs.cli.arguments import images_and_questions
from qwen2vl_rs.errors import DataError

ROAD = "Is there a road?"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiles/1.tif", "tiles/2.TIF", "other.tif", "with space.tif", "noending"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, 16, 1)
    (tmp_path / "tiles/notes.txt").write_text("not an image")
    (tmp_path / "questions.txt").write_text(ROAD)
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep/north").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "images", "questions"),
    [
        (["other.tif", ROAD], ["other.tif"], [ROAD]),
        ([ROAD, "other.tif", "有公路/铁路吗"], ["other.tif"], [ROAD, "有公路/铁路吗"]),
        (["tiles/1.tif", "tiles/2.TIF", ROAD], ["tiles/1.tif", "tiles/2.TIF"], [ROAD]),
        (["tiles", ROAD], ["tiles/1.tif", "tiles/2.TIF"], [ROAD]),
        (["tiles/*.tif", ROAD], ["tiles/1.tif"], [ROAD]),
        (["t*/[12].*", ROAD], ["tiles/1.tif", "tiles/2.TIF"], [ROAD]),
        (["other.tif", "tiles", "tiles/1.tif"], ["other.tif", "tiles/1.tif", "tiles/2.TIF"], []),
        (["with space.tif", "noending", "road"], ["with space.tif", "noending"], ["road"]),
        (["Is it wet/dry?", "rural/urban?"], [], ["Is it wet/dry?", "rural/urban?"]),
        (["tilez?", "Is there a tile"], [], ["tilez?", "Is there a tile"]),
        ([ROAD, ROAD], [], [ROAD, ROAD]),
        ([ROAD + "\0", "x" * 5000], [], [ROAD + "\0", "x" * 5000]),
    ],
)
def test_files_and_folders_are_images(here, words, images, questions):
    assert images_and_questions(words) == (images, questions)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("questions.txt", "questions.txt is a file and not an image"),
        ("tiles/notes.txt", "tiles/notes.txt is a file and not an image"),
        ("gone.tif", "gone.tif: no such file"), ("my scene.JPEG", "no such file"),
        ("*.png", r"no file matches \*.png"), ("gone/*", r"no file matches gone/\*"),
        ("./gone", "no such file"), ("gone/", "no such file"), ("empty", "folder without images"),
        ("/dev/null", "is a file and not an image"),
        ("gone/1", "gone/1: no such file or folder(\n|$)"),
        ("rural/urban", "no such file or folder(\n|$)"),
        ("tile", "tile: no such file or folder, did you mean tiles?"),
        ("tile/2.TIF", "tile/2.TIF: no such file or folder, did you mean tiles/2.TIF?"),
        ("deep/norh", "deep/norh: no such file or folder, did you mean deep/north?"),
        ("dep/north", "dep/north: no such file or folder, did you mean deep/north?"),
        ("deep\\north", "no such file or folder, did you mean deep/north?"),
        ("C:\\tiles\\1", "no such file or folder(\n|$)"), ("with space", "mean with space.tif?"),
        ("tiles/1", "tiles/1: no such file or folder, did you mean tiles/1.tif?"),
        ("deep/北面", "no such file or folder(\n|$)"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_by_name(here, word, why):
    with pytest.raises(DataError, match=why) as caught:
        images_and_questions(["other.tif", word, ROAD])
    assert caught.value.hint
