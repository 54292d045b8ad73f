"""Download a data set from Zenodo: resumable, verified by checksums, images extracted.

Lists of questions, answers and images are put into the folder as published; archives of images are
extracted there and then removed. The manifest is written last, so that a complete folder is
recognised without a network. Files that are in the folder already are verified and kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ConfigError
from ..known_datasets import KnownDataset, all_datasets, dataset_name
from ..models.manifest import INCOMING
from ..system.console import counted, say
from ..system.files import discard, is_there
from .archives import extract
from .messages import Listing, RemoteFile
from .record import (
    DataManifest,
    Wanted,
    has_images,
    images_by_hand,
    is_questions,
    manifest_of,
    read_data_manifest,
    wanted_files,
    write_data_manifest,
)
from .transfer import (
    Transfer,
    amount,
    disk_trouble_explained,
    require_inside,
    require_room,
    size_text,
    sole_user_of,
)
from .zenodo import Zenodo, endpoint_url

_ARCHIVES = ".archives"  # downloaded archives until they are extracted
_ZIP_RATIO = 2  # content of a zip of uncompressed GeoTIFFs: 1.6 times its size (RSVQA-LR)


@dataclass(frozen=True, slots=True)
class FetchedData:
    """A downloaded data set.

    Attributes:
        folder: its folder.
        name: its registered name.
        questions: the question file of each split that was wanted.
        images: the image folder; None if there is none.
        downloaded: bytes transferred by this call.
        already_complete: whether nothing had to be downloaded or extracted.
    """

    folder: Path
    name: str
    questions: dict[str, Path]
    images: Path | None
    downloaded: int
    already_complete: bool


def published() -> list[str]:
    """Return the names of the data sets that can be downloaded."""
    return [name for name, known in all_datasets().items() if known.zenodo]


def find_data_set(name: str) -> KnownDataset:
    """Return a data set that can be downloaded, by its name in any spelling.

    Raises:
        ConfigError: there is none.
    """
    found = all_datasets().get(dataset_name(name))
    if found is None or not found.zenodo:
        names = ", ".join(published())
        what = "is not on Zenodo" if found else "is not a known data set"
        raise ConfigError(f"{name!r} {what}", hint=f"those that can be downloaded: {names}")
    return found


def default_folder(known: KnownDataset) -> Path:
    """Return the default folder of a data set: ``RSVQA_LR``."""
    return Path(known.title.replace("-", "_"))


def fetch_data(
    name: str,
    folder: Path | None = None,
    *,
    splits: Collection[str] = (),
    only: Literal["questions", "images"] | None = None,
    endpoint: str | None = None,
) -> FetchedData:
    """Download a data set; complete files are left unchanged.

    Args:
        name: the data set, in any spelling.
        folder: target folder; None for `default_folder`.
        splits: wanted splits, ``all`` for the lists of the whole data set; empty for all
            published splits.
        only: download only the lists, or only the images.
        endpoint: see `zenodo.endpoint_url`.

    Raises:
        ConfigError: no such data set or split, or an invalid endpoint.
        HubError: no network; a damaged download; not enough disk space.
        DataError: an archive is broken.
        RunError: a file in the folder cannot be read or written.
    """
    known = find_data_set(name)
    place = folder or default_folder(known)
    client = Zenodo(place, endpoint_url(endpoint), known.zenodo)
    before = read_data_manifest(place, known.zenodo) if is_there(place) else None
    if before is not None:
        wanted = wanted_files(known, before.files, splits, only)
        if before.holds(place, wanted):
            say(f"{place} is complete: {known.title}, {_described(before, wanted)}")
            return _result(known, place, before, wanted, 0, complete=True)
    say(f"listing the files of {known.title} on {client.title} (record {known.zenodo})")
    listing = client.listing()
    require_inside(listing, place)
    wanted = wanted_files(known, listing.files, splits, only)
    say(f"licence of {known.title}: {known.licence}; cite its authors (docs/scoring.md)")
    with disk_trouble_explained(place, known.title), sole_user_of(place):
        manifest = manifest_of(known.zenodo, listing, before)
        downloaded = _complete(client, listing, known, place, wanted, manifest)
        write_data_manifest(place, manifest)
    say(f"{place} is complete: {known.title}, {_described(manifest, wanted)}")
    return _result(known, place, manifest, wanted, downloaded, complete=False)


def _complete(
    client: Zenodo,
    listing: Listing,
    known: KnownDataset,
    folder: Path,
    wanted: Wanted,
    manifest: DataManifest,
) -> int:
    """Download and extract what is missing; return the number of bytes transferred."""
    here = Transfer(client, listing, folder, keep_damaged=True)
    hidden = Transfer(client, listing, folder / _ARCHIVES, keep_damaged=True)
    missing = here.missing(wanted.lists)
    packed = [file for file in wanted.archives if not _is_extracted(folder, file, manifest)]
    given = [f for f in packed if (folder / f.name).is_file() and not here.missing([f])]

    def need(some: Sequence[RemoteFile]) -> int:
        absent = [file for file in some if file not in given]
        return _size(absent) - hidden.begun(absent) + sum(map(_content, some))

    own = _size(missing) - here.begun(missing)
    if missing or packed:
        whole = size_text(max(0, own + need(packed)))
        say(f"{known.title} needs {whole} of disk space{' (estimate)' if packed else ''}")
    # images that are extracted already can only be compared with the lists
    require_room(known.title, own if has_images(folder, known) else own + need(packed), folder)
    moved = here.download(missing)
    manifest.complete = [file.name for file in wanted.lists]
    write_data_manifest(folder, manifest)
    if packed and (found := images_by_hand(folder, known, wanted.lists)):
        say(
            f"{folder / found.folder} has all images of the lists ({counted(found.files, 'file')})"
            ": they are used, and their content is not verified"
        )
        manifest.extracted |= dict.fromkeys((file.name for file in packed), found)
        packed = []
    require_room(known.title, need(packed), folder)
    absent = hidden.missing([file for file in packed if file not in given])
    moved += hidden.download(absent) if absent else 0
    for file in packed:
        archive = (here if file in given else hidden).folder / file.name
        manifest.extracted[file.name] = extract(archive, folder)
        write_data_manifest(folder, manifest)
    for place in (hidden.folder, folder / INCOMING):
        discard(place)
    return moved


def _size(files: Sequence[RemoteFile]) -> int:
    return sum(file.size for file in files)


def _is_extracted(folder: Path, file: RemoteFile, manifest: DataManifest) -> bool:
    """Whether the images of an archive are in the folder, by an earlier call."""
    images = manifest.extracted.get(file.name)
    if images is None:
        return False
    only = Wanted((), (), (file,))
    if manifest.holds(folder, only):
        return True
    del manifest.extracted[file.name]
    return False


def _content(file: RemoteFile) -> int:
    """Estimate the size of an archive's content."""
    return file.size * (1 if file.name.lower().endswith(".tar") else _ZIP_RATIO)


def _described(manifest: DataManifest, wanted: Wanted) -> str:
    lists = amount(file.size for file in wanted.lists) if wanted.lists else "no lists"
    folders = [manifest.extracted[file.name] for file in wanted.archives]
    shown = [f", {one.folder}/ with {counted(one.files, 'file')}" for one in folders]
    return f"{lists}{''.join(shown)}"


def _result(
    known: KnownDataset,
    folder: Path,
    manifest: DataManifest,
    wanted: Wanted,
    downloaded: int,
    *,
    complete: bool,
) -> FetchedData:
    questions = {
        split: folder / file.name
        for split in wanted.splits
        for file in wanted.lists
        if is_questions(file.name, split)
    }
    images = [folder / one.folder for one in manifest.extracted.values()]
    return FetchedData(
        folder=folder,
        name=known.name,
        questions=questions,
        images=images[0] if images else None,
        downloaded=downloaded,
        already_complete=complete,
    )
