"""Sidecar files of an image: mask (``.msk``) and nodata values (``.aux.xml``); image digests.

No other sidecar may change an image's pixels or position. GDAL would use all it finds: overviews,
world files, and references to further files, also on the network, in ``.aux.xml`` and masks. So an
image with sidecars is opened in a temporary folder with links to the image and its mask, and an
``.aux.xml`` that contains only the nodata values.
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
_SAMPLES, _SAMPLE = 64, 2**20  # samples of a large file: number, and bytes of each


def image_digest(path: str | os.PathLike[str], whole: int | None = None) -> str:
    """Return the SHA-256 of an image together with the sidecars that affect its pixels.

    Args:
        path: the image.
        whole: only samples of files larger than this many bytes are hashed, with size and mtime;
            None: all files are hashed in full.
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
    """Return size and mtime (ns) of an image and of the sidecars that may affect its pixels."""
    beside = (f"{os.fspath(path)}{end}" for end in (".msk", ".MSK", ".aux.xml"))
    files = [os.fspath(path), *filter(os.path.isfile, beside)]
    return tuple((facts.st_size, facts.st_mtime_ns) for facts in map(os.stat, files))


def _sampled(path: Path) -> str:
    """Return a digest of a large file: size, mtime, and samples spread over the content."""
    facts = path.stat()
    found = hashlib.sha256(f"{facts.st_size} {facts.st_mtime_ns}".encode())
    with open_named(path, "rb") as file:
        for number in range(_SAMPLES):
            file.seek((facts.st_size - _SAMPLE) * number // (_SAMPLES - 1))
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


@contextmanager
def with_sidecars(path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the path under which GDAL opens an image, and the GDAL options for its sidecars.

    Raises:
        ImageError: a sidecar exists and cannot be used.
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
    """Return the mask file of an image (``a.tif.msk``, as named by GDAL); None if there is none."""
    places = (path.with_name(f"{path.name}{end}") for end in (".msk", ".MSK"))
    return next(filter(is_file, places), None)


def _masks(path: Path) -> list[Path]:
    mask = mask_beside(path)
    if mask is None:
        return []
    try:
        with open_named(mask, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise unreadable_image(path, error, f"its mask {mask.name} ") from error
    if head not in _TIFF:
        raise wrong_mask(path, "is not a TIFF as GDAL writes it")
    return [mask]


def wrong_mask(path: Path, why: str) -> ImageError:
    """Return the error for a mask that cannot be used: gaps would be shown as data."""
    mask = mask_beside(path) or path.with_name(f"{path.name}.msk")
    return ImageError(
        f"{path}: its mask {mask.name} {why}",
        hint=f"copy {mask.name} again, or move it away if the image has no gaps",
    )


def _nodata(path: Path) -> str:
    """Return an ``.aux.xml`` reduced to its nodata values; empty if it has none."""
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
        raise unreadable_image(path, error, f"the nodata values in {beside.name} ") from error
    except (ValueError, ElementTree.ParseError) as error:
        raise ImageError(
            f"{path}: the nodata values in {beside.name} cannot be read: {error}",
            hint=f"copy {beside.name} again, or move it away and set the value: "
            "gdal_translate -a_nodata VALUE IN OUT.tif",
        ) from error
    return ElementTree.tostring(clean, encoding="unicode") if len(clean) else ""
