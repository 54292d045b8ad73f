"""Archives: whatever is in them, nothing is written outside the folder, and nothing is lost."""

from __future__ import annotations

import io
import os
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from qwen2vl_rs.errors import DataError
from qwen2vl_rs.hub.archives import extract, measured


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def tar_of(path: Path, entries: list[tarfile.TarInfo | tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for entry in entries:
            if isinstance(entry, tuple):
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
            else:
                archive.addfile(entry)
    return path


def kind(name: str, type_: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, target
    return info


def held(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("make", [zip_of, lambda p, f: tar_of(p, list(f.items()))])
@pytest.mark.parametrize("top", ["Images/", "./Images/", ""])
def test_the_folder_of_an_archive_or_one_with_its_name(tmp_path, make, top):
    ending = ".zip" if make is zip_of else ".tar.gz"
    archive = make(tmp_path / f"Images{ending}", {f"{top}1.tif": b"a", f"{top}sub/2.tif": b"bc"})
    found = extract(archive, tmp_path)
    assert (found.folder, found.files, found.size) == ("Images", 2, 3)
    assert held(tmp_path / "Images") == {"1.tif": b"a", "sub/2.tif": b"bc"}


OUTSIDE = ["../evil", "/etc/evil", "a/../../evil", "C:\\evil", "a/\nb", "a/\x1b[2J"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_outside_the_folder_are_refused(tmp_path, form, name):
    files = {"Images/1.tif": b"a", name: b"b"}
    if form == "zip":
        archive = zip_of(tmp_path / "Images.zip", files)
    else:
        archive = tar_of(tmp_path / "Images.tar", list(files.items()))
    with pytest.raises(DataError, match="outside its folder"):
        extract(archive, tmp_path)
    assert os.listdir(tmp_path) == [archive.name]


def test_links_and_special_files_are_left_out_and_counted(tmp_path, capsys):
    archive = tar_of(
        tmp_path / "Images.tar",
        [
            ("Images/1.tif", b"a"),
            kind("Images/2.tif", tarfile.SYMTYPE, "/etc/passwd"),
            kind("Images/3.tif", tarfile.LNKTYPE, "../../secret"),
            kind("Images/4.tif", tarfile.FIFOTYPE),
            kind("Images/5.tif", tarfile.CHRTYPE),
        ],
    )
    extract(archive, tmp_path)
    assert held(tmp_path / "Images") == {"1.tif": b"a"}
    assert sorted(os.listdir(tmp_path / "Images")) == ["1.tif"]
    assert "4 members left out (links," in capsys.readouterr().err


def test_a_link_to_a_folder_is_not_written_through(tmp_path):
    """First a link, then a file below it: the known way out of an archive."""
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tar_of(
        tmp_path / "Images.tar",
        [kind("Images/sub", tarfile.SYMTYPE, str(outside)), ("Images/sub/1.tif", b"a")],
    )
    extract(archive, tmp_path)
    assert not list(outside.iterdir())
    assert held(tmp_path / "Images") == {"sub/1.tif": b"a"}


def test_links_in_a_zip_are_left_out(tmp_path):
    link = zipfile.ZipInfo("Images/2.tif")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive = zip_of(tmp_path / "Images.zip", {"Images/1.tif": b"a"})
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    extract(archive, tmp_path)
    assert held(tmp_path / "Images") == {"1.tif": b"a"}


def test_what_file_managers_add_is_left_out(tmp_path):
    files = {"Images/1.tif": b"a", "__MACOSX/Images/._1.tif": b"x", "Images/.DS_Store": b"x"}
    extract(zip_of(tmp_path / "Images.zip", files), tmp_path)
    assert held(tmp_path / "Images") == {"1.tif": b"a"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 and no more",
        b"<html>not found</html>",
        pytest.param("empty", id="no files"),
        pytest.param("damaged", id="another content than its checksum"),
        pytest.param("cut", id="cut off"),
        pytest.param("both", id="a file that is a folder, too"),
    ],
)
@pytest.mark.parametrize("name", ["Images.zip", "Images.tar", "Images.tar.gz"])
def test_broken_archives_are_named(tmp_path, name, content):
    archive = tmp_path / name
    pixels = random.Random(1).randbytes(4000)
    files = {"Images/1.tif": pixels, "Images/2.tif": pixels}
    if content == "empty":
        files = {}
    if content == "both":
        files = {"Images/1": pixels, "Images/1/2.tif": pixels}
    if isinstance(content, bytes):
        archive.write_bytes(content)
    else:
        if name.endswith("zip"):
            zip_of(archive, files)
        else:
            tar_of(archive, list(files.items()))
        data = archive.read_bytes()
        if content == "cut":
            archive.write_bytes(data[: len(data) // 2])
        if content == "damaged":  # in a tar: the second header, as its content has no checksum
            at = 512 + 4096 if name == "Images.tar" else 2000
            archive.write_bytes(data[:at] + b"x" * 100 + data[at + 100 :])
    with pytest.raises(DataError, match=name) as caught:
        extract(archive, tmp_path)
    assert caught.value.hint
    assert os.listdir(tmp_path) == [name]


def test_what_is_there_and_the_same_is_left_alone(tmp_path):
    archive = zip_of(tmp_path / "Images.zip", {"Images/1.tif": b"a"})
    extract(archive, tmp_path)
    (tmp_path / "Images/notes.txt").write_text("mine")
    extract(archive, tmp_path)
    assert held(tmp_path / "Images") == {"1.tif": b"a", "notes.txt": b"mine"}


def test_the_measure_of_a_folder_leaves_out_what_gdal_adds(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("1.tif", "sub/2.tif", "1.tif.aux.xml", "1.tif.ovr"):
        (tmp_path / name).write_bytes(b"abc")
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        measured(tmp_path)
    (tmp_path / "gone.tif").unlink()
    assert measured(tmp_path) == (2, 6)
