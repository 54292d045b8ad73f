"""Extract image archives (zip, tar) safely: into a hidden folder, which is renamed when complete.

The names in an archive are untrusted: nothing is written outside the folder, and links and special
files are left out.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shlex
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from ..errors import DataError
from ..system.console import Progress, counted, say, warn
from ..system.disk import make_folder, sync_folder
from ..system.files import discard, is_there, set_aside
from ..system.named_files import open_named
from .transfer import MB, require_room

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
    # zipfile raises these for an unknown compression, an encrypted member and a damaged header
    *(NotImplementedError, RuntimeError, UnicodeError, ValueError),
)
_BESIDE = (".aux.xml", ".ovr")
_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db")  # what file managers add


class ImageFolder(BaseModel):
    """An extracted folder.

    Attributes:
        folder: its name.
        files: number of files in it and its subfolders.
        size: their bytes.
        verified: whether they came from a verified archive.
    """

    folder: str
    files: int
    size: int
    verified: bool = True


@dataclass(frozen=True, slots=True)
class _Member:
    parts: tuple[str, ...]
    size: int
    entry: zipfile.ZipInfo | tarfile.TarInfo


_Entry = tuple[str, int, bool, zipfile.ZipInfo | tarfile.TarInfo]


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name."""
    return name.lower().endswith(ENDINGS)


def extract(archive: Path, into: Path) -> ImageFolder:
    """Extract an archive; its folder appears when it is complete.

    Files that are not in a common folder are put into one with the name of the archive. A folder
    that is already there and has the same files is left alone; one with other files is renamed.

    Args:
        archive: the file.
        into: parent of the extracted folder.

    Raises:
        DataError: the archive is broken, or names a file outside its folder.
        HubError: the disk has too little space.
        OSError: a file cannot be written.
    """
    with _explained(archive), _opened(archive) as opened:
        members = _members(archive, opened)
        name, members = _common_folder(archive, members)
        target = into / name
        total = sum(one.size for one in members)
        if is_there(target):
            if _holds(target, members):
                say(f"{target} already has the {counted(len(members), 'file')} of {archive.name}")
                return _image_folder(target)
            aside = set_aside(target)
            warn(f"{target} has other files than {archive.name}: kept as {aside.name}")
        require_room(f"the content of {archive.name}", total, into)
        staging = into / f".{name}.tmp"
        shutil.rmtree(staging, ignore_errors=True)  # of a killed call
        try:
            _extract(opened, members, staging)
            staging.rename(target)
            sync_folder(into)
        finally:
            discard(staging)
    say(f"{target}: {counted(len(members), 'file')} extracted from {archive.name}")
    return _image_folder(target)


def _image_folder(folder: Path) -> ImageFolder:
    files, size = measured(folder)
    return ImageFolder(folder=folder.name, files=files, size=size)


def measured(folder: Path) -> tuple[int, int]:
    """Return number and bytes of the files in a folder, without what GDAL and QGIS add."""
    files = size = 0
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not entry.name.endswith(_BESIDE):
                    files += 1
                    size += entry.stat().st_size
    return files, size


@contextlib.contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        why = str(error) or type(error).__name__
        raise DataError(
            f"{archive} cannot be extracted: {why}",
            hint=f"remove it and run the same command again: rm {shlex.quote(str(archive))}",
        ) from error


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as one:
            yield one
    else:
        with tarfile.open(archive) as other:
            yield other


def _members(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile) -> list[_Member]:
    """Return the regular files of an archive; the last of several with one name counts.

    Raises:
        DataError: a name is unsafe.
    """
    found: dict[tuple[str, ...], _Member] = {}
    left_out = 0
    for name, size, regular, entry in _entries(opened):
        parts = _safe(archive, name)
        if not regular or set(parts) & set(_LITTER) or parts[-1].startswith("._"):
            left_out += 1
            continue
        found[parts] = _Member(parts, size, entry)
    folders = {parts[:n] for parts in found for n in range(1, len(parts))}
    if clash := folders & found.keys():
        raise ValueError(f"{'/'.join(min(clash))} is both a file and a folder")
    if left_out:
        what = "links, special files, or files that a file manager has added"
        say(f"{archive.name}: {counted(left_out, 'member')} left out ({what})")
    if not found:
        raise ValueError("it contains no files")
    return list(found.values())


def _entries(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Entry]:
    """Yield name, size, whether it is a regular file, and the entry of all members but folders."""
    if isinstance(opened, zipfile.ZipFile):
        for one in opened.infolist():
            if not one.is_dir():
                yield one.filename, one.file_size, _is_regular(one), one
        return
    for other in opened:
        if not other.isdir():
            yield other.name, other.size, other.isreg(), other
    # tarfile takes a damaged header for the end, which is a block of zeros
    assert opened.fileobj is not None
    opened.fileobj.seek(opened.offset)
    if opened.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("a header is damaged")
    while opened.fileobj.read(1 << 20):  # the checksum of a gzip file is at its end
        pass


def _is_regular(entry: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip file is a regular file: Unix modes are in the upper 16 bits."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    return entry.create_system != 3 or kind in (0, stat.S_IFREG)


def _safe(archive: Path, name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable() or not parts:
        raise DataError(
            f"{archive} names a file outside its folder: {name!r}",
            hint="do not use this archive: it is broken or hostile",
        )
    return parts


def _common_folder(archive: Path, members: list[_Member]) -> tuple[str, list[_Member]]:
    """Return the name of the folder, and the members with their paths inside it."""
    firsts = {one.parts[0] for one in members}
    if len(firsts) == 1 and all(len(one.parts) > 1 for one in members):
        if min(firsts).startswith("."):  # hidden folders of `fetch` itself, or of the user
            raise ValueError(f"its folder is hidden: {min(firsts)}")
        inner = [_Member(one.parts[1:], one.size, one.entry) for one in members]
        return firsts.pop(), inner
    ending = next(end for end in ENDINGS if archive.name.lower().endswith(end))
    return archive.name[: -len(ending)] or "images", members


def _holds(folder: Path, members: list[_Member]) -> bool:
    """Whether a folder has all members with their sizes."""
    try:
        return all((folder.joinpath(*m.parts)).stat().st_size == m.size for m in members)
    except OSError:
        return False


def _extract(
    opened: zipfile.ZipFile | tarfile.TarFile, members: list[_Member], staging: Path
) -> None:
    """Write the members into a new folder, and flush them to disk."""
    total = sum(one.size for one in members)
    make_folder(staging)
    written, folders = 0, {staging}
    with Progress("extracting", total // MB, "MB") as progress:
        for one in members:
            path = staging.joinpath(*one.parts)
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(path.parent)
            with _reader(opened, one) as source, open_named(path, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                if file.tell() != one.size:
                    raise EOFError(f"{'/'.join(one.parts)} is incomplete")
            written += one.size
            progress.advance(written // MB - progress.done, path.name)
    if hasattr(os, "sync"):  # much faster than a flush of every file
        os.sync()


def _reader(opened: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    if isinstance(opened, zipfile.ZipFile):
        assert isinstance(member.entry, zipfile.ZipInfo)
        return opened.open(member.entry)
    assert isinstance(member.entry, tarfile.TarInfo)
    found = opened.extractfile(member.entry)
    if found is None:
        raise ValueError(f"{member.entry.name} is not a file")
    return found
