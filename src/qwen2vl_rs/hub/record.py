"""Files of a data set in a Zenodo record: which are wanted, and which are complete in a folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ..datasets.json_records import records
from ..datasets.rsvqa import SUFFIXES, WHOLE
from ..errors import ConfigError, HubError
from ..known_datasets import KnownDataset
from ..models.manifest import is_safe
from ..system.files import read_json, write_json
from .archives import ImageFolder, is_archive, measured
from .messages import Listing, RemoteFile

MANIFEST = ".qwen2vl-rs-data.json"
PARTS = ("questions", "images")
"""What can be downloaded alone: the lists of questions, answers and images; or the image files."""

_LIST = re.compile(r"(?P<prefix>.*?)(_split_(?P<split>\w+)_|_|)(questions|answers|images)\.json")


class DataFile(BaseModel):
    """A file of the record."""

    size: int
    md5: str | None


class DataManifest(BaseModel):
    """What of a record is complete in a folder.

    Attributes:
        record: number of the record.
        listed: all files of the record.
        complete: the verified ones that are in the folder.
        extracted: the image folder of each extracted archive.
    """

    record: str
    listed: dict[str, DataFile]
    complete: list[str] = []
    extracted: dict[str, ImageFolder] = {}

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The listed files."""
        return tuple(RemoteFile(n, f.size, md5=f.md5) for n, f in self.listed.items())

    def holds(self, folder: Path, wanted: Wanted) -> bool:
        """Whether all wanted files are in a folder, by their sizes."""
        try:
            return all(
                file.name in self.complete and (folder / file.name).stat().st_size == file.size
                for file in wanted.lists
            ) and all(
                (images := self.extracted.get(file.name)) is not None
                and measured(folder / images.folder) == (images.files, images.size)
                for file in wanted.archives
            )
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Wanted:
    """The wanted files of a record.

    Attributes:
        splits: splits whose lists are wanted.
        lists: lists of questions, answers and images.
        archives: archives of images.
    """

    splits: tuple[str, ...]
    lists: tuple[RemoteFile, ...]
    archives: tuple[RemoteFile, ...]


def read_data_manifest(folder: Path, record: str) -> DataManifest | None:
    """Read the manifest of a folder; None if there is no valid one of this record.

    Raises:
        RunError: it exists and cannot be read.
    """
    value = read_json(folder / MANIFEST, damaged=None)
    try:
        found = DataManifest.model_validate(value)
    except ValidationError:
        return None
    names = [*found.listed, *(images.folder for images in found.extracted.values())]
    return found if found.record == record and all(map(is_safe, names)) else None


def write_data_manifest(folder: Path, manifest: DataManifest) -> None:
    """Write the manifest, after everything that it names."""
    write_json(folder / MANIFEST, manifest.model_dump(), changed=True)


def wanted_files(
    known: KnownDataset,
    files: Sequence[RemoteFile],
    splits: Collection[str],
    only: str | None,
) -> Wanted:
    """Choose the wanted files of a record.

    Args:
        known: the data set.
        files: those of the record.
        splits: wanted splits; empty for all published ones.
        only: one of `PARTS`; None for both.

    Raises:
        ConfigError: the data set has no such split.
        HubError: the record does not have the files.
    """
    possible = (*known.splits, WHOLE)
    if odd := [split for split in splits if split not in possible]:
        raise ConfigError(
            f"{known.title} has no split {odd[0]!r}", hint=f"its splits: {', '.join(possible)}"
        )
    chosen = tuple(split for split in possible if split in (splits or known.splits))
    prefixes = {*known.prefixes, *known.ambiguous_prefixes, ""}
    lists = []
    for file in files:
        found = _LIST.fullmatch(file.name)
        if found and found["prefix"] in prefixes and (found["split"] or WHOLE) in chosen:
            lists.append(file)
    archives = [file for file in files if is_archive(file.name)]
    names = ", ".join(file.name for file in files) or "none"
    absent = [s for s in chosen if not any(is_questions(f.name, s) for f in lists)]
    if only != "images" and absent:
        raise HubError(
            f"the record of {known.title} has no questions of the split {absent[0]}",
            hint=f"its files: {names}",
        )
    if only != "questions" and not archives:
        raise HubError(
            f"the record of {known.title} has no images as zip or tar", hint=f"its files: {names}"
        )
    return Wanted(
        chosen,
        () if only == "images" else tuple(sorted(lists, key=lambda f: (f.size, f.name))),
        () if only == "questions" else tuple(archives),
    )


def is_questions(name: str, split: str) -> bool:
    """Whether a file has the questions of a split, by its name."""
    found = _LIST.fullmatch(name) if name.endswith("questions.json") else None
    return found is not None and (found["split"] or WHOLE) == split


def manifest_of(record: str, listing: Listing, before: DataManifest | None) -> DataManifest:
    """Return the manifest for a new listing; files that are listed as before stay complete."""
    listed = {file.name: DataFile(size=file.size, md5=file.md5) for file in listing.files}
    same = {n for n, f in listed.items() if before and before.listed.get(n) == f}
    kept = before.extracted if before else {}
    return DataManifest(
        record=record,
        listed=listed,
        extracted={name: images for name, images in kept.items() if name in same},
    )


def has_images(folder: Path, known: KnownDataset) -> bool:
    """Whether a folder has an image folder of a data set, whatever is in it."""
    return bool(_image_folders(folder, known))


def images_by_hand(
    folder: Path, known: KnownDataset, lists: Sequence[RemoteFile]
) -> ImageFolder | None:
    """Return the image folder that the user extracted; None if it lacks an image of the lists.

    Args:
        folder: folder with the lists and images.
        known: the data set.
        lists: lists in the folder; without image lists nothing can be compared.
    """
    places = _image_folders(folder, known)
    ids: set[str] = set()
    for file in lists if places else ():
        if file.name.endswith("images.json"):
            active = (r for r in records(folder / file.name, "images") if r.get("active", True))
            ids |= {str(record.get("id")) for record in active}
    for place in places if ids else ():
        if ids <= {path.stem for path in place.iterdir() if path.suffix in SUFFIXES}:
            files, size = measured(place)
            return ImageFolder(folder=place.name, files=files, size=size, verified=False)
    return None


def _image_folders(folder: Path, known: KnownDataset) -> list[Path]:
    names = dict.fromkeys(name for names in known.image_folders.values() for name in names)
    return [folder / name for name in names if (folder / name).is_dir()]
