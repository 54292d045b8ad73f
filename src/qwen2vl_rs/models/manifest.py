"""The manifest of a fetched model: what a complete folder holds, written last of all files."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from ..errors import RunError
from ..system.disk import flush
from ..system.files import HUB_MANIFEST as MANIFEST
from ..system.files import read_json, write_json

INCOMING = ".incoming"  # holds files until their checksums are known to be right


class FileRecord(BaseModel):
    """One file of a complete model."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a complete model folder holds; written last.

    Attributes:
        hub: where the files came from.
        repo_id: the model's name there.
        requested: the revision asked for, None for the default branch.
        revision: what the hub was asked for to get these files.
        commit: the commit they belong to, where the hub tells.
        files: each file with its size and checksum.
        flushed: whether they stood on disk before this was written. Older versions did not see
            to it: after a power cut a file of the right size could be all zeros.
    """

    hub: str
    repo_id: str
    requested: str | None
    revision: str
    commit: str | None
    files: dict[str, FileRecord]
    flushed: bool = False


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, None where there is none that can be believed.

    Raises:
        RunError: it cannot be read: then it is not known whose files the folder holds.
    """
    value = read_json(folder / MANIFEST, damaged=None)
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError:
        return None
    return manifest if all(map(is_safe, manifest.files)) else None


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest once all that it names stands on disk, and under its name."""
    files = [folder / name for name in manifest.files]
    inside = {up for file in files for up in file.parents if up.is_relative_to(folder)}
    flush(files, inside)
    write_json(folder / MANIFEST, manifest.model_dump())


def settle(manifest: Manifest, folder: Path) -> None:
    """Spare the next call the checksums of a folder that an older version filled, and these fit."""
    if not manifest.flushed:
        with contextlib.suppress(OSError, RunError):  # a folder that is only read is checked again
            write_manifest(manifest.model_copy(update={"flushed": True}), folder)


def is_safe(name: str) -> bool:
    """Whether a name from outside is that of a file inside a model folder, and none of ours."""
    parts = name.split("/")
    return (
        name.isprintable()
        and "\\" not in name
        and not {"", ".", ".."} & set(parts)
        and parts[0] not in {MANIFEST, INCOMING}
        and not PurePosixPath(name).is_absolute()
    )
