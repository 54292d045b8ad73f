"""What lies beside an image and says which of its values count.

That is a mask (``.msk``), and nodata values in ``.aux.xml`` (GDAL's PAM). Nothing else beside it
may change what is shown or where it lies. GDAL would take all it finds there: overviews, positions,
and in ``.aux.xml`` and masks names of further files, also in the network. An image with such
sidecars is therefore opened through a folder of its own, which holds links to it and its mask, and
an ``.aux.xml`` with the nodata values alone.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from ..errors import ImageError
from ..system.files import sha256
from ..system.named_files import open_named, read_bytes
from ..system.oserrors import is_file
from .image_errors import unreadable_image

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NODATA = "NoDataValue"
_SAMPLES, _SAMPLE = 64, 2**20  # of a large file: how many, and bytes of each


def image_digest(path: str | os.PathLike[str], whole: int | None = None) -> str:
    """SHA-256 of an image; with sidecars that decide its pixels, of all of them together.

    Args:
        path: of the image.
        whole: files of more bytes are looked at in samples only, with size and time of change;
            None: none.
    """
    files = [Path(path), *_masks(Path(path))]
    nodata = _nodata(Path(path))
    parts = [
        sha256(file) if whole is None or file.stat().st_size <= whole else _sampled(file)
        for file in files
    ]
    parts += [nodata] if nodata else []
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def image_facts(path: str | os.PathLike[str]) -> tuple[tuple[int, int], ...]:
    """Size and time of change (ns) of an image and of what lies beside it and may decide pixels."""
    beside = (f"{os.fspath(path)}{end}" for end in (".msk", ".MSK", ".aux.xml"))
    files = [os.fspath(path), *filter(os.path.isfile, beside)]
    return tuple((facts.st_size, facts.st_mtime_ns) for facts in map(os.stat, files))


def _sampled(path: Path) -> str:
    """Digest of a large file: its size, when it was changed, and pieces spread over all of it."""
    facts = path.stat()
    found = hashlib.sha256(f"{facts.st_size} {facts.st_mtime_ns}".encode())
    with open_named(path, "rb") as file:
        for number in range(_SAMPLES):
            file.seek((facts.st_size - _SAMPLE) * number // (_SAMPLES - 1))
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


@contextmanager
def with_sidecars(path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The name under which an image is opened, and GDAL's options for its sidecars.

    Raises:
        ImageError: a sidecar is there and cannot be used.
    """
    masks, nodata = _masks(path), _nodata(path)
    if not masks and not nodata:
        yield path, {}
        return
    with tempfile.TemporaryDirectory(prefix="qwen2vl-rs-") as name:
        folder = Path(name)
        (folder / path.name).symlink_to(path)
        for mask in masks:
            (folder / f"{path.name}.msk").symlink_to(mask)
        if nodata:
            (folder / f"{path.name}.aux.xml").write_text(nodata, encoding="utf-8")
        yield (
            folder / path.name,
            {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE", "GDAL_PAM_ENABLED": "YES"},
        )


def mask_beside(path: Path) -> Path | None:
    """The mask beside an image, by GDAL's naming (``a.tif.msk``)."""
    places = (path.with_name(f"{path.name}{end}") for end in (".msk", ".MSK"))
    return next(filter(is_file, places), None)  # none where a name is too long to exist


def _masks(path: Path) -> list[Path]:
    mask = mask_beside(path)
    if mask is None:
        return []
    try:
        with open_named(mask, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise unreadable_image(path, error, f"its mask, {mask.name} beside it, ") from error
    if head not in _TIFF:
        raise wrong_mask(path, "is not the TIFF that GDAL makes")
    return [mask]


def wrong_mask(path: Path, why: str) -> ImageError:
    """The refusal of an image whose mask cannot be used: its gaps would be shown as data."""
    mask = mask_beside(path) or path.with_name(f"{path.name}.msk")
    return ImageError(
        f"{path}: its mask, {mask.name} beside it, {why}",
        hint=f"copy {mask.name} again, or move it away if the image has no gaps",
    )


def _nodata(path: Path) -> str:
    """The nodata values of an ``.aux.xml`` as one with nothing else; empty where it has none."""
    beside = path.with_name(f"{path.name}.aux.xml")
    if not is_file(beside):
        return ""
    try:
        text = read_bytes(beside)
        if _NODATA.encode() not in text:  # statistics, histograms
            return ""
        if b"<!DOCTYPE" in text:
            raise ValueError("it declares a document type")
        clean = ElementTree.Element("PAMDataset")
        for band in ElementTree.fromstring(text).iterfind("PAMRasterBand"):
            value = band.find(_NODATA)
            if value is None or not (value.text or "").strip():
                continue
            float(value.text or "")
            number = str(int(band.get("band", 1)))
            kept = ElementTree.SubElement(clean, "PAMRasterBand", band=number)
            ElementTree.SubElement(kept, _NODATA, value.attrib).text = value.text
    except OSError as error:
        raise unreadable_image(
            path, error, f"its nodata values, in {beside.name} beside it, "
        ) from error
    except (ValueError, ElementTree.ParseError) as error:
        raise ImageError(
            f"{path}: its nodata values, in {beside.name} beside it, cannot be read: {error}",
            hint=f"copy {beside.name} again, or move it away and set the value: "
            "gdal_translate -a_nodata VALUE IN OUT.tif",
        ) from error
    return ElementTree.tostring(clean, encoding="unicode") if len(clean) else ""
