"""Manifest of a downloaded model: files with sizes and checksums, written last."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from ..errors import RunError
from ..system.disk import flush
from ..system.files import HUB_MANIFEST as MANIFEST
from ..system.files import read_json, write_json

INCOMING = ".incoming"  # files whose checksums are not verified yet


class FileRecord(BaseModel):
    """One file of a complete model."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """Content of a complete model folder.

    Attributes:
        hub: hub of origin.
        repo_id: name of the model on the hub.
        requested: revision requested by the user, None for the default branch.
        revision: revision requested from the hub.
        commit: commit of the files, if the hub gives it.
        files: each file with its size and checksum.
        flushed: whether the files were flushed to disk before the manifest was written. In older
            versions they were not: after a power failure a file could be all zeros.
    """

    hub: str
    repo_id: str
    requested: str | None
    revision: str
    commit: str | None
    files: dict[str, FileRecord]
    flushed: bool = False


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a folder; None if there is no valid one.

    Raises:
        RunError: it exists and cannot be read.
    """
    value = read_json(folder / MANIFEST, damaged=None)
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError:
        return None
    return manifest if all(map(is_safe, manifest.files)) else None


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Flush all files of the manifest to disk, then write the manifest."""
    files = [folder / name for name in manifest.files]
    inside = {up for file in files for up in file.parents if up.is_relative_to(folder)}
    flush(files, inside)
    write_json(folder / MANIFEST, manifest.model_dump())


def settle(manifest: Manifest, folder: Path) -> None:
    """Mark a verified folder of an older version as flushed, to save checksums next time."""
    if not manifest.flushed:
        with contextlib.suppress(OSError, RunError):  # a read-only folder is verified every time
            write_manifest(manifest.model_copy(update={"flushed": True}), folder)


def is_safe(name: str) -> bool:
    """Whether an untrusted file name stays inside a model folder and is not reserved."""
    parts = name.split("/")
    return (
        name.isprintable()
        and "\\" not in name
        and not {"", ".", ".."} & set(parts)
        and parts[0] not in {MANIFEST, INCOMING}
        and not PurePosixPath(name).is_absolute()
    )
