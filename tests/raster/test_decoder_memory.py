"""Small files that declare huge units of decoding are refused before a decoder sees them."""

import resource
import struct
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.errors import ImageError
from qwen2vl_rs.raster import image_size, read_rgb
from qwen2vl_rs.raster.scenes import open_scene


def jpeg2000(size, tile, components, *, precincts=b"", block=4, layers=1, levels=5):
    """Headers of a JPEG 2000 codestream whose one tile-part is empty."""

    def segment(marker, content):
        return struct.pack(">HH", marker, len(content) + 2) + content

    siz = struct.pack(">HIIIIIIIIH", 0, size, size, 0, 0, tile, tile, 0, 0, components)
    cod = struct.pack(">BBHBBBBBB", bool(precincts), 0, layers, 0, levels, block, block, 0, 1)
    qcd = b"\x40" + b"\x48" * (3 * levels + 1)
    return (
        b"\xff\x4f" + segment(0xFF51, siz + b"\x07\x01\x01" * components)
        + segment(0xFF52, cod + precincts) + segment(0xFF5C, qcd)
        + segment(0xFF90, struct.pack(">HIBB", 0, 14, 0, 1)) + b"\xff\x93\xff\xd9"
    )  # fmt: skip


def boxed(stream):
    """The same in a JP2."""
    head = struct.pack(">IIBBBBBB", 0, 0, 0, 0, 7, 7, 0, 0)
    return (
        b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 "
        + struct.pack(">I4s", 8 + len(head), b"free") + head
        + struct.pack(">I4s", 8 + len(stream), b"jp2c") + stream
    )  # fmt: skip


def late(stream):
    """The same, its coding style said again in the header of the tile."""
    at, end = stream.index(b"\xff\x52"), stream.index(b"\xff\x5c")
    style, sot = stream[at:end], stream.index(b"\xff\x90")
    mild = bytearray(style)
    mild[6:8], mild[10:12] = b"\0\1", b"\4\4"  # one layer, blocks of 64 × 64
    mild = mild[:4] + b"\0" + mild[5:14]
    mild[2:4] = struct.pack(">H", len(mild) - 2)
    part = struct.pack(">I", 14 + len(style))
    head = stream[sot : sot + 6] + part + stream[sot + 10 : sot + 12]
    return stream[:at] + bytes(mild) + stream[end:sot] + head + style + b"\xff\x93\xff\xd9"


STREAMS = {
    "tiles and components": jpeg2000(1024, 64, 16_384),
    "tiles": jpeg2000(1024, 1, 3),
    "precincts": jpeg2000(8192, 8192, 3, precincts=b"\x11" * 6),
    "blocks": jpeg2000(9000, 9000, 3, block=0),
    "layers": jpeg2000(2048, 2048, 3, precincts=b"\x55" * 6, layers=65_535),
    "one huge tile of two": jpeg2000(16_000, 15_000, 8),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("form", [bytes, boxed, late], ids=["bare", "boxed", "late"])
def test_codestreams_of_too_many_or_too_large_pieces(tmp_path, name, form):
    if form is late and name in ("tiles and components", "tiles", "one huge tile of two"):
        form = boxed
    refuse(tmp_path / "a.jp2", form(STREAMS[name]))


def refuse(path, content):
    path.write_bytes(content)
    assert len(content) < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (
        image_size,
        lambda p: read_rgb(p, RasterToRGB()),
        lambda p: open_scene(p, RasterToRGB()).__enter__(),
    ):
        with pytest.raises(ImageError, match="too large") as caught:
            read(path)
        assert caught.value.hint
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def tiff(path, size=64, tile=64, count=1, **options):
    """A TIFF without any pixel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=size, height=size, count=count, dtype="uint8",
            tiled=True, blockxsize=tile, blockysize=tile, SPARSE_OK=True,
            **{"compress": "deflate", **options},
        ):  # fmt: skip
            pass
    return path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"tile": 26_752},
        {"tile": 13_376, "count": 4, "interleave": "pixel"},
        {"tile": 26_752, "count": 3, "interleave": "band"},
        {"tile": 26_752, "BIGTIFF": "YES"},
        {"tile": 26_752, "ENDIANNESS": "BIG"},
        {"tile": 26_752, "ENDIANNESS": "BIG", "BIGTIFF": "YES"},
        {"tile": 26_752, "compress": "lzw"},
        {"tile": 26_752, "compress": "none"},
        {"size": 9000, "tile": 9008, "count": 14, "interleave": "pixel"},
    ],
)
def test_tiffs_of_one_huge_tile(tmp_path, options):
    refuse(tmp_path / "a.tif", tiff(tmp_path / "b.tif", **options))


def test_a_huge_tile_in_another_directory(tmp_path):
    # as a mask or an overview: the last directory of the one leads to that of the other
    sound, bomb = tiff(tmp_path / "a.tif"), tiff(tmp_path / "b.tif", tile=26_752)
    (first,) = struct.unpack_from("<I", sound, 4)
    at = first + 2 + 12 * struct.unpack_from("<H", sound, first)[0]
    (second,) = struct.unpack_from("<I", bomb, 4)
    shift = len(sound) + len(sound) % 2
    both = bytearray(sound.ljust(shift, b"\0") + bomb)
    struct.pack_into("<I", both, at, shift + second)
    refuse(tmp_path / "c.tif", bytes(both))


def put(content, tag, kind, values):
    """A little-endian TIFF with other values for one of its tags, which it has or gets."""
    letter = {2: "s", 3: "H", 4: "I", 16: "Q", 7: "s"}[kind]
    (first,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, first)
    entries = {}
    for n in range(number):
        entry = content[first + 2 + 12 * n : first + 14 + 12 * n]
        entries[struct.unpack_from("<H", entry)[0]] = entry
    body = content + bytes(len(content) % 2)
    packed = values if letter == "s" else struct.pack(f"<{len(values)}{letter}", *values)
    entries[tag] = struct.pack("<HHII", tag, kind, len(values), len(body))
    if len(packed) <= 4:
        entries[tag] = struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    body += packed + bytes(len(packed) % 2)
    head = body[:4] + struct.pack("<I", len(body)) + body[8:]
    return head + struct.pack("<H", len(entries)) + b"".join(
        entries[one] for one in sorted(entries)) + bytes(4)  # fmt: skip


@pytest.mark.parametrize("kind", [3, 4])
def test_tiles_that_are_the_same_bytes(tmp_path, kind):
    sound = tiff(tmp_path / "a.tif", size=4096, tile=16)
    junk = sound + bytes(65_000)
    shared = put(put(junk, 324, 4, [len(sound)] * 65_536), 325, kind, [65_000] * 65_536)
    refuse(tmp_path / "b.tif", shared)


@pytest.mark.parametrize(("tag", "kind"), [(42112, 2), (42112, 7), (270, 2), (65_000, 2)])
def test_texts_in_a_tiff_are_bounded(tmp_path, tag, kind):
    text = b"<GDALMetadata>" + b"<a/>" * 400_000
    sound = tiff(tmp_path / "a.tif")
    path = tmp_path / "b.tif"
    path.write_bytes(put(sound, tag, kind, text))
    with pytest.raises(ImageError, match="too large") as caught:
        image_size(path)
    assert "PROFILE=BASELINE" in caught.value.hint
    path.write_bytes(put(sound, tag, kind, b"<GDALMetadata></GDALMetadata>\0"))
    assert image_size(path) == (64, 64)


def test_more_entries_than_there_are_hide_nothing(tmp_path):
    """GDAL reads such a file as if their number were right."""
    text = b"<GDALMetadata>" + b"<a/>" * 400_000
    content = bytearray(put(tiff(tmp_path / "a.tif"), 42112, 2, text))
    (at,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, at)
    tags = [struct.unpack_from("<H", content, at + 2 + 12 * k)[0] for k in range(number)]
    where = at + 2 + 12 * tags.index(325 if 325 in tags else 279)
    struct.pack_into("<I", content, where + 4, 10_000_000)
    path = tmp_path / "b.tif"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="too large"):
        image_size(path)


def test_of_a_tag_that_stands_twice_the_first_counts(tmp_path):
    """As for libtiff: a small size of tiles behind the huge one does not help."""
    content = tiff(tmp_path / "a.tif", tile=26_752)
    (first,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, first)
    entries = [content[first + 2 + 12 * n : first + 14 + 12 * n] for n in range(number)]
    for tag in (322, 323):
        at = next(n for n, one in enumerate(entries) if struct.unpack_from("<H", one) == (tag,))
        entries.insert(at + 1, struct.pack("<HHII", tag, 4, 1, 64))
    body = content + bytes(len(content) % 2)
    head = body[:4] + struct.pack("<I", len(body)) + body[8:]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    refuse(tmp_path / "b.tif", head + directory)


def test_some_tiles_may_be_stored_once(tmp_path):
    sound = tiff(tmp_path / "a.tif", size=1024, tile=64, compress="none")
    at = len(sound)
    shared = put(put(sound + bytes(4096), 324, 4, [at] * 256), 325, 4, [4096] * 256)
    (tmp_path / "b.tif").write_bytes(shared)
    assert read_rgb(tmp_path / "b.tif", RasterToRGB()).shape == (1024, 1024, 3)


def test_lengths_of_strips_in_a_large_file_may_be_short_numbers(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (3, 400, 300), dtype=np.uint8)
    content = tiff(tmp_path / "a.tif", size=400, tile=400, compress="none", count=3)
    at = len(content)
    content = put(put(content + values.tobytes(), 324, 4, [at] * 3), 325, 3, [40_000] * 3)
    (tmp_path / "b.tif").write_bytes(content)
    assert image_size(tmp_path / "b.tif") == (400, 400)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("GTiff", {"blockysize": 400, "compress": "deflate"}),
        ("GTiff", {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "lzw"}),
        ("GTiff", {"blockysize": 400}),
        ("JP2OpenJPEG", {"BLOCKXSIZE": 64, "BLOCKYSIZE": 64}),
        ("JP2OpenJPEG", {"PRECINCTS": "{128,128},{64,64}", "CODEBLOCK_WIDTH": 16}),
        ("JP2OpenJPEG", {"CODEC": "J2K"}),
    ],
)
def test_sound_files_are_read(tmp_path, driver, options):
    values = np.random.default_rng(0).integers(0, 255, (3, 400, 300), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            tmp_path / "a", "w", driver=driver, width=300, height=400, count=3, dtype="uint8",
            **options,
        ) as file:  # fmt: skip
            file.write(values)
    assert read_rgb(tmp_path / "a", RasterToRGB()).shape == (400, 300, 3)


def test_a_directory_beyond_what_a_file_can_have(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1) + bytes(100))
    with pytest.raises(ImageError, match="broken or incomplete TIFF"):
        read_rgb(path, RasterToRGB())
