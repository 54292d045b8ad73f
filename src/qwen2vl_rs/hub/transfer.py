"""Transfer files of a hub into a folder: resumed, verified, and only then under their final name.

Models and data sets use the same transfer. Each file is downloaded into a hidden folder, verified
against the hub's checksum and then renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import HubError
from ..models.manifest import INCOMING, is_safe
from ..system.console import Progress, counted, say, warn
from ..system.disk import is_disk_full, make_folder, room_hint
from ..system.files import put_in_place, sha256
from ..system.locks import lock
from ..system.named_files import ReadError, open_named, read_bytes
from ..system.oserrors import FORBIDDEN, unreadable, writing_hint
from .messages import Interrupted, Listing, RemoteFile

MB = 1_000_000
_ENOUGH = 1 << 16  # bytes of progress that justify an immediate retry


class Source(Protocol):
    """A hub's client."""

    @property
    def title(self) -> str:
        """The hub's name."""

    def fetch(
        self, listing: Listing, file: RemoteFile, into: Path, moved: Callable[[int], None]
    ) -> None:
        """Download a file to ``into / file.name``, resuming ``<name>.incomplete`` there."""

    def damaged(self, file: RemoteFile, repo_id: str, kept: str = "") -> HubError:
        """Return the error for a file that was damaged twice."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The files of one repository, on their way into a folder.

    Attributes:
        client: the hub's client.
        listing: the repository's files.
        folder: the target.
        keep_damaged: whether damaged files are renamed, instead of replaced.
    """

    client: Source
    listing: Listing
    folder: Path
    keep_damaged: bool = False

    def missing(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Return the files that are not yet in the folder, or differ from the listing there."""
        here = [file for file in files if (self.folder / file.name).is_file()]
        if here:
            say(f"checking existing files in {self.folder}: {amount(f.size for f in here)}")
        right = {file.name for file in here if matches(self.folder / file.name, file)}
        for file in here if self.keep_damaged else ():
            if file.name not in right:
                self._set_aside(self.folder / file.name, f"is not the file on {self.client.title}")
        return [file for file in files if file.name not in right]

    def begun(self, files: Sequence[RemoteFile]) -> int:
        """Return the number of bytes of files that are downloaded already."""
        return sum(self._begun(file) for file in files)

    def download(self, missing: Sequence[RemoteFile]) -> int:
        """Download some files; return the number of bytes transferred.

        Raises:
            HubError: a file cannot be downloaded.
        """
        unchecked = [file.name for file in missing if not file.has_checksum]
        if unchecked:
            names = ", ".join(unchecked)
            warn(f"{self.client.title} has no checksum for {names}: only the size is compared")
        begun, total = self.begun(missing), sum(file.size for file in missing)
        if missing:
            resumed = f", {size_text(begun)} already downloaded" if begun else ""
            each = amount(file.size for file in missing)
            say(f"downloading from {self.client.title} into {self.folder}: {each}{resumed}")
        with Progress("downloading", total // MB, "MB", done=begun // MB) as progress:
            meter = _Meter(progress, begun)
            for file in missing:
                self._fetch(file, meter)
        return meter.received

    def _fetch(self, file: RemoteFile, meter: _Meter) -> None:
        """Download one file, verify its checksum and move it to its final name.

        Raises:
            HubError: the connection is lost, or the file was damaged twice.
        """
        arrived = self.folder / INCOMING / file.name
        arrived.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / file.name).parent.mkdir(parents=True, exist_ok=True)
        if not file.has_checksum:
            self._partial(file).unlink(missing_ok=True)  # a mix of two files would go unnoticed
        kept = ""
        for attempt in (1, 2):
            meter.open(file.name, self._begun(file))
            self._transfer(file, meter)
            if matches(arrived, file):
                put_in_place(arrived, self.folder / file.name)
                return
            if self.keep_damaged:
                kept = f"; what arrived is in {self._set_aside(arrived, 'is damaged')}"
            else:
                arrived.unlink()
            if attempt == 1:
                meter.moved(0)
        raise self.client.damaged(file, self.listing.repo_id, kept)

    def _transfer(self, file: RemoteFile, meter: _Meter) -> None:
        """Transfer a file; retry while each attempt makes enough progress."""
        enough = min(_ENOUGH, file.size // 10 + 1)
        while True:
            before = meter.furthest
            try:
                return self.client.fetch(self.listing, file, self.folder / INCOMING, meter.moved)
            except Interrupted:
                if meter.furthest < before + enough:
                    raise
                say(f"the connection broke in {file.name}: resuming")

    def _set_aside(self, path: Path, problem: str) -> Path:
        """Rename a file that does not match the listing; one from an earlier call is replaced."""
        aside = path.with_name(f"{path.name}.damaged")
        warn(f"{path} {problem}: kept as {aside.name}")
        path.replace(aside)
        return aside

    def _partial(self, file: RemoteFile) -> Path:
        return self.folder / INCOMING / f"{file.name}.incomplete"

    def _begun(self, file: RemoteFile) -> int:
        partial = self._partial(file)
        return min(partial.stat().st_size, file.size) if partial.is_file() else 0


def require_room(what: str, need: int, folder: Path) -> None:
    """Check that the disk has enough free space.

    Raises:
        HubError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if need > free:
        raise HubError(
            f"{what} needs {size_text(need)} more in {folder}, but {size_text(free)} is free",
            hint="free some disk space, or choose a folder on another disk",
        )


class _Meter:
    """Counts received bytes and shows them as megabytes."""

    def __init__(self, progress: Progress, begun: int) -> None:
        self._progress, self._total = progress, begun
        self.received = 0
        self.furthest = self._at = 0
        self._name = ""

    def open(self, name: str, at: int) -> None:
        """Start a file with ``at`` bytes already downloaded."""
        self._name, self._at, self.furthest = name, at, at

    def moved(self, at: int) -> None:
        """Note that the first ``at`` bytes of the file are downloaded."""
        if at < self._at:
            warn(f"{self._name} is damaged or cannot be resumed: downloading it again")
            self.received += at
        else:
            self.received += at - self._at
        self._total += at - self._at
        self._at = at
        self.furthest = max(self.furthest, at)
        self._progress.advance(self._total // MB - self._progress.done, self._name)


def matches(path: Path, file: RemoteFile) -> bool:
    """Whether a file matches the hub's listing."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        return sha256(path) == file.sha256
    if file.blob:  # git's object name of the content
        content = b"blob %d\0" % file.size + read_bytes(path)
        return hashlib.sha1(content, usedforsecurity=False).hexdigest() == file.blob
    if file.md5:
        with open_named(path, "rb") as opened:
            found = hashlib.file_digest(opened, partial(hashlib.md5, usedforsecurity=False))  # type: ignore[arg-type]
        return found.hexdigest() == file.md5
    return True


def require_inside(listing: Listing, folder: Path) -> None:
    """Check the names of a listing, which are untrusted.

    Raises:
        HubError: a file is outside the folder.
    """
    root = folder.resolve()
    for file in listing.files:
        inside = is_safe(file.name) and (root / file.name).parent.resolve().is_relative_to(root)
        if not inside:
            raise HubError(
                f"{listing.repo_id} lists a file outside its folder: {file.name!r}",
                hint="do not use it: its repository is broken or hostile",
            )


@contextlib.contextmanager
def sole_user_of(folder: Path) -> Iterator[None]:
    """Lock the folder, so that two downloads do not write to the same file."""
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not lock(handle, folder):
            raise HubError(
                f"another process is downloading into {folder}", hint="wait until it is done"
            )
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_trouble_explained(folder: Path, what: str) -> Iterator[None]:
    """Explain errors of the target's disk; ``what`` is transferred, e.g. ``the model``."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise HubError(
                f"the disk is full: no space for the rest of {what} in {folder}",
                hint=f"{room_hint(folder)} and start again: downloaded data are kept",
            ) from error
        place = Path(os.fsdecode(error.filename or folder))
        if isinstance(error, ReadError):
            raise unreadable(place, error) from error
        hint = "choose a folder you may write to"
        if error.errno not in FORBIDDEN:
            hint = f"{writing_hint(place, error)}, then start again: downloaded data are kept"
        why = error.strerror or error
        raise HubError(f"cannot write to {place}: {why}", hint=hint) from error


def amount(sizes: Iterable[int]) -> str:
    """Return number and size of some files: ``5 files, 3.5 MB``."""
    each = list(sizes)
    return f"{counted(len(each), 'file')}, {size_text(sum(each))}"


def size_text(size: int) -> str:
    """Return a size in bytes with its unit."""
    for unit, name in ((1000 * MB, "GB"), (MB, "MB"), (1000, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
