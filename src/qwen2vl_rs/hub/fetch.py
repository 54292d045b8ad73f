"""Download a base model: resumable, verified by checksums, skipped if already complete.

The hubs' own clients list and transfer the files. Each file is downloaded into a hidden folder
inside the model folder, verified against the hub's checksum and only then renamed to its final
name. The manifest is written last, after all files are flushed to disk. So a file with its final
name is correct, and a folder can be recognised as complete offline, even after a power failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import HubError
from ..models.manifest import (
    INCOMING,
    FileRecord,
    Manifest,
    read_manifest,
    settle,
    write_manifest,
)
from ..system.console import say, warn
from ..system.files import discard, sha256
from .clients import Client, connect
from .copied import is_whole_copy
from .messages import Interrupted, Listing, RemoteFile
from .transfer import (
    Transfer,
    amount,
    disk_trouble_explained,
    require_inside,
    require_room,
    sole_user_of,
)

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
    with disk_trouble_explained(folder, "the model"), sole_user_of(folder):
        downloaded = _fetch_missing(Transfer(client, listing, folder), files)
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
    require_inside(listing, folder)
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


def _fetch_missing(transfer: Transfer, files: list[RemoteFile]) -> int:
    """Download missing files; return the number of bytes transferred."""
    missing = transfer.missing(files)
    need = sum(file.size for file in missing) - transfer.begun(missing)
    require_room(transfer.listing.repo_id, need, transfer.folder)
    return transfer.download(missing)


def _record(path: Path, file: RemoteFile) -> FileRecord:
    return FileRecord(size=file.size, sha256=file.sha256 or sha256(path))


def _sum(manifest: Manifest) -> str:
    return amount(record.size for record in manifest.files.values())
