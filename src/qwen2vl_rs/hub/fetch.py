"""Download a base model: resumable, verified by checksums, skipped if already complete.

The hubs' own clients list and transfer the files. Each file is downloaded into a hidden folder
inside the model folder, verified against the hub's checksum and only then renamed to its final
name. The manifest is written last, after all files are flushed to disk. So a file with its final
name is correct, and a folder can be recognised as complete offline, even after a power failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import HubError
from ..models.manifest import (
    INCOMING,
    FileRecord,
    Manifest,
    is_safe,
    read_manifest,
    settle,
    write_manifest,
)
from ..system.console import Progress, counted, say, warn
from ..system.disk import is_disk_full, make_folder, room_hint
from ..system.files import discard, put_in_place, sha256
from ..system.locks import lock
from ..system.named_files import ReadError, read_bytes
from ..system.oserrors import FORBIDDEN, unreadable, writing_hint
from .clients import Client, connect
from .copied import is_whole_copy
from .messages import Interrupted, Listing, RemoteFile

DEFAULT_MODEL = "Qwen/Qwen2-VL-2B-Instruct"
# pickles can run code when loaded; the others are copies of the weights
_OTHER_WEIGHTS = (
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"),
    *(".onnx", ".onnx_data", ".gguf", ".tflite", ".ot"),
)
_MB = 1_000_000
_ENOUGH = 1 << 16  # bytes of progress that justify an immediate retry


@dataclass(frozen=True, slots=True)
class Loaded:
    """A complete model folder.

    Attributes:
        folder: the model's folder.
        revision: commit of the files, or the branch or tag if the hub names no commit; empty for
            a copy of unknown origin.
        downloaded: bytes transferred by this call.
        files: names of all files of the model, relative to the folder.
        already_complete: whether nothing had to be downloaded.
    """

    folder: Path
    revision: str
    downloaded: int
    files: tuple[str, ...]
    already_complete: bool


def load(
    repo_id: str = DEFAULT_MODEL,
    *,
    hub: Literal["modelscope", "hf"],
    folder: Path,
    revision: str | None = None,
    verify: bool = False,
) -> Loaded:
    """Download a model into ``folder``; a complete folder is left unchanged, without a request.

    If the hub cannot be reached, a complete model that was copied there is used, with a warning.

    Args:
        repo_id: the model's name, ``owner/name``.
        hub: hub to download from.
        folder: target folder.
        revision: branch, tag or commit; None: the hub's default branch.
        verify: hash the files of a complete folder, instead of comparing sizes.

    Raises:
        HubError: no network, model, revision or access; a damaged download; a full disk.
        RunError: the manifest cannot be written.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise HubError(f"{repo_id!r} is not a model name", hint=f"owner/name: {DEFAULT_MODEL}")
    manifest = read_manifest(folder)
    requested = revision
    if manifest is not None:
        _require_same(manifest, repo_id, hub, revision, folder)
        if _is_whole(manifest, folder, verify=verify):
            settle(manifest, folder)
            held = manifest.commit or manifest.revision
            say(f"{folder} is complete: {_sum(manifest)}, revision {held}")
            return Loaded(folder, held, 0, tuple(manifest.files), already_complete=True)
        if manifest.hub == hub:
            requested, revision = manifest.requested, manifest.revision
    client = connect(hub, folder)
    say(f"listing the files of {repo_id} on {client.title}")
    listing = _listing(client, repo_id, revision, None if manifest or verify else folder)
    if listing is None:
        return Loaded(folder, "", 0, (), already_complete=True)
    files = _needed(listing, folder)
    with _disk_trouble_explained(folder), _sole_user_of(folder):
        downloaded = _fetch_missing(client, listing, files, folder)
        manifest = Manifest(
            hub=hub,
            repo_id=repo_id,
            requested=requested,
            revision=listing.revision,
            commit=listing.commit,
            files={file.name: _record(folder / file.name, file) for file in files},
            flushed=True,
        )
        discard(folder / INCOMING)
        write_manifest(manifest, folder)  # last: it marks the folder as complete
    held = listing.commit or listing.revision
    say(f"{folder} is complete: {_sum(manifest)}, revision {held}")
    return Loaded(folder, held, downloaded, tuple(manifest.files), already_complete=False)


def _listing(
    client: Client, repo_id: str, revision: str | None, copied: Path | None
) -> Listing | None:
    """List the files; None, with a warning, if the hub is unreachable and a copy is complete."""
    try:
        return client.listing(repo_id, revision)
    except Interrupted as error:
        if copied is None or revision or not is_whole_copy(copied):
            raise
        warn(
            f"{error.message}; using the complete model in {copied}, which load did not download",
            "with a network, the same command verifies it with the hub's checksums",
        )
        return None


def _require_same(
    manifest: Manifest, repo_id: str, hub: str, revision: str | None, folder: Path
) -> None:
    elsewhere = f"remove {folder} first, or choose another folder"
    if manifest.repo_id != repo_id:
        raise HubError(f"{folder} contains another model: {manifest.repo_id}", hint=elsewhere)
    known = {manifest.requested, manifest.revision, manifest.commit}
    if revision is not None and (revision not in known or manifest.hub != hub):
        held = manifest.requested or manifest.commit or manifest.revision
        raise HubError(
            f"{folder} contains revision {held} of {repo_id} from {manifest.hub}, not {revision} "
            f"from {hub}",
            hint=elsewhere,
        )


def _is_whole(manifest: Manifest, folder: Path, *, verify: bool) -> bool:
    """Compare sizes, and checksums with ``verify`` or if an older version wrote the manifest.

    A file with another checksum is removed with ``verify``, else renamed: the user may have
    changed it.
    """
    whole, rehash = True, verify or not manifest.flushed
    if rehash:
        say(f"checking {folder}: {_sum(manifest)}")
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != record.size:
            warn(f"{path} is missing or has changed: downloading it again")
            whole = False
        elif rehash and sha256(path) != record.sha256:
            # its size is right: under its name it would count as complete next time
            if verify:
                warn(f"{path} is damaged: downloading it again")
                path.unlink()
            else:
                aside = path.with_name(f"{path.name}.changed")
                warn(f"{path} was changed: kept as {aside.name}, downloading it again")
                path.replace(aside)
            whole = False
    return whole


def _needed(listing: Listing, folder: Path) -> list[RemoteFile]:
    """Return the required files of a listing, small ones first.

    Raises:
        HubError: the listing is unsafe, or has no safetensors weights.
    """
    root = folder.resolve()
    for file in listing.files:
        inside = is_safe(file.name) and (root / file.name).parent.resolve().is_relative_to(root)
        if not inside:
            raise HubError(
                f"{listing.repo_id} lists a file outside its folder: {file.name!r}",
                hint="do not use this model: its repository is broken or hostile",
            )
    skipped = {file.name for file in listing.files if file.name.lower().endswith(_OTHER_WEIGHTS)}
    files = [file for file in listing.files if file.name not in skipped]
    if skipped:
        say(f"skipped, only safetensors weights are used: {', '.join(sorted(skipped))}")
    if not any(file.name.endswith(".safetensors") for file in files):
        raise HubError(
            f"{listing.repo_id} has no weights in safetensors format",
            hint=f"choose a model that has them, such as {DEFAULT_MODEL}",
        )
    return sorted(files, key=lambda file: (file.size, file.name))


def _fetch_missing(client: Client, listing: Listing, files: list[RemoteFile], folder: Path) -> int:
    """Download missing files; return the number of bytes transferred."""
    here = [file for file in files if (folder / file.name).is_file()]
    if here:
        say(f"checking existing files in {folder}: {_amount(f.size for f in here)}")
    right = {file.name for file in here if _matches(folder / file.name, file)}
    missing = [file for file in files if file.name not in right]
    unchecked = [file.name for file in missing if not file.sha256 and not file.blob]
    if unchecked:
        names = ", ".join(unchecked)
        warn(f"{client.title} has no checksum for {names}: only the size is compared")
    begun = sum(_begun(folder, file) for file in missing)
    need = sum(file.size for file in missing) - begun
    free = shutil.disk_usage(folder).free
    if need > free:
        raise HubError(
            f"{listing.repo_id} needs {_size(need)} more in {folder}, but {_size(free)} is free",
            hint="free some disk space, or choose a folder on another disk",
        )
    if missing:
        resumed = f", {_size(begun)} already downloaded" if begun else ""
        amount = _amount(file.size for file in missing)
        say(f"downloading from {client.title} into {folder}: {amount}{resumed}")
    total = sum(file.size for file in missing)
    with Progress("downloading", total // _MB, "MB", done=begun // _MB) as progress:
        meter = _Meter(progress, begun)
        for file in missing:
            _fetch(client, listing, file, folder, meter)
    return meter.received


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
        self._progress.advance(self._total // _MB - self._progress.done, self._name)


def _fetch(client: Client, listing: Listing, file: RemoteFile, folder: Path, meter: _Meter) -> None:
    """Download one file, verify its checksum and move it to its final name.

    Raises:
        HubError: the connection is lost, or the file was damaged twice.
    """
    arrived = folder / INCOMING / file.name
    arrived.parent.mkdir(parents=True, exist_ok=True)
    (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
    if not file.sha256 and not file.blob:
        _partial(folder, file).unlink(missing_ok=True)  # a mix of two files would go unnoticed
    for attempt in (1, 2):
        meter.open(file.name, _begun(folder, file))
        _transfer(client, listing, file, folder / INCOMING, meter)
        if _matches(arrived, file):
            put_in_place(arrived, folder / file.name)
            return
        arrived.unlink()
        if attempt == 1:
            meter.moved(0)
    raise HubError(
        f"{file.name} of {listing.repo_id} was damaged twice when downloaded from {client.title}",
        hint=f"try again later, or use the other hub: --hub {client.other}",
    )


def _transfer(
    client: Client, listing: Listing, file: RemoteFile, incoming: Path, meter: _Meter
) -> None:
    """Transfer a file; retry while each attempt makes enough progress."""
    enough = min(_ENOUGH, file.size // 10 + 1)
    while True:
        before = meter.furthest
        try:
            return client.fetch(listing, file, incoming, meter.moved)
        except Interrupted:
            if meter.furthest < before + enough:
                raise
            say(f"the connection broke in {file.name}: resuming")


def _partial(folder: Path, file: RemoteFile) -> Path:
    return folder / INCOMING / f"{file.name}.incomplete"


def _begun(folder: Path, file: RemoteFile) -> int:
    partial = _partial(folder, file)
    return min(partial.stat().st_size, file.size) if partial.is_file() else 0


def _matches(path: Path, file: RemoteFile) -> bool:
    """Whether a file matches the hub's listing."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        return sha256(path) == file.sha256
    if file.blob:  # git's object name of the content
        content = b"blob %d\0" % file.size + read_bytes(path)
        return hashlib.sha1(content, usedforsecurity=False).hexdigest() == file.blob
    return True


def _record(path: Path, file: RemoteFile) -> FileRecord:
    return FileRecord(size=file.size, sha256=file.sha256 or sha256(path))


@contextlib.contextmanager
def _sole_user_of(folder: Path) -> Iterator[None]:
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
def _disk_trouble_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise HubError(
                f"the disk is full: no space for the rest of the model in {folder}",
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


def _sum(manifest: Manifest) -> str:
    return _amount(record.size for record in manifest.files.values())


def _amount(sizes: Iterable[int]) -> str:
    each = list(sizes)
    return f"{counted(len(each), 'file')}, {_size(sum(each))}"


def _size(size: int) -> str:
    for unit, name in ((1000 * _MB, "GB"), (_MB, "MB"), (1000, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
