"""Lists of formats, endings and tags, member by member, written out once more from sources."""

import json
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from factory import write_rsvqa
from qwen2vl_rs.cli.arguments import images_and_questions
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.datasets.left_out import LeftOut
from qwen2vl_rs.datasets.rsvqa import answers_beside, read_split
from qwen2vl_rs.datasets.table_notes import is_held_out, official_note
from qwen2vl_rs.errors import DataError, ImageError
from qwen2vl_rs.questions.elements import classify, is_hidden, noun, road_width
from qwen2vl_rs.raster import read_rgb
from qwen2vl_rs.raster.rgb import choose_bands
from qwen2vl_rs.raster.scenes import open_scene

PIXELS = np.random.default_rng(4).integers(1, 255, (3, 24, 40)).astype(np.uint8)
RULE = RasterToRGB()
GDAL_NAMES = {"Y": "YCbCr_Y", "Cb": "YCbCr_Cb", "Cr": "YCbCr_Cr"}


def write(path, values=PIXELS, driver="GTiff", **options):
    count, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, width=width, height=height, count=count, dtype=values.dtype,
            **options,
        ) as file:  # fmt: skip
            file.write(values)
    return path


@pytest.mark.parametrize(
    ("name", "head", "options"),
    [
        ("a.tif", b"II*\0", {"ENDIANNESS": "LITTLE"}), ("a.tif", b"MM\0*", {"ENDIANNESS": "BIG"}),
        ("a.tif", b"II+\0", {"ENDIANNESS": "LITTLE", "BIGTIFF": "YES"}),
        ("a.tif", b"MM\0+", {"ENDIANNESS": "BIG", "BIGTIFF": "YES"}),
        ("a.png", b"\x89PNG", {"driver": "PNG"}), ("a.bmp", b"BM", {"driver": "BMP"}),
        ("a.jp2", b"\0\0\0\x0cjP", {"driver": "JP2OpenJPEG", "REVERSIBLE": "YES", "QUALITY": 100}),
        ("a.j2k", b"\xff\x4f\xff\x51",
         {"driver": "JP2OpenJPEG", "CODEC": "J2K", "REVERSIBLE": "YES", "QUALITY": 100}),
        ("a.webp", b"RIFF", {"driver": "WEBP", "LOSSLESS": "YES"}),
    ],
)  # fmt: skip
def test_formats_that_are_read(tmp_path, name, head, options):
    path = write(tmp_path / name, **options)
    assert path.read_bytes().startswith(head)
    other = path.rename(tmp_path / "named.otherwise")
    found = read_rgb(other, RULE)
    assert (found == np.moveaxis(PIXELS, 0, 2)).all()


def test_jpeg_is_read(tmp_path):
    picture = Image.fromarray(np.full((24, 40, 3), 120, np.uint8))
    picture.save(tmp_path / "a", "JPEG")
    assert np.abs(read_rgb(tmp_path / "a", RULE).astype(int) - 120).max() < 3


@pytest.mark.parametrize(
    ("head", "name", "hint"),
    [
        (b"GIF87a", "GIF", "PNG or TIFF"), (b"GIF89a", "GIF", "PNG or TIFF"),
        (b"\0\0\0\x20ftypavif", "AVIF", "PNG or TIFF"),
        (b"\0\0\0\x18ftypheic", "HEIC", "PNG or TIFF"),
        (b"\0\0\0\x18ftypmif1", "HEIC", "PNG or TIFF"),
        (b"\0\0\0\x0cJXL ", "JPEG XL", "PNG or TIFF"), (b"\xff\x0a", "JPEG XL", "PNG or TIFF"),
        (b"8BPS\0\1", "Photoshop", "PNG or TIFF"), (b"<svg xmlns", "SVG", "PNG or TIFF"),
        (b"%PDF-1.4", "PDF", "PNG or TIFF"), (b"\x89HDF\r\n", "HDF5 or NetCDF", "pick a variable"),
        (b"CDF\1", "NetCDF", "pick a variable"), (b"NITF02", "NITF", "gdal_translate IN OUT.tif"),
        (b"EHFA_H", "ERDAS Imagine", "gdal_translate IN OUT.tif"),
        (b"GRIB\0", "GRIB", "gdal_translate IN OUT.tif"),
        (b"SIMPLE  =", "FITS", "gdal_translate IN OUT.tif"),
        (b"msid\1", "MrSID", "gdal_translate IN OUT.tif"), (b"<VRTData", "VRT", "IN.vrt OUT.tif"),
        (b"PK\x03\x04", "zip", "unpack it"), (b"\x1f\x8b\x08", "gzip", "unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "7z", "unpack it"), (b"Rar!\x1a\x07", "RAR", "unpack it"),
        (b"version https://git-lfs", "Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page", "download it again"),
        (b"<HTML><head>", "web page", "download it again"),
    ],
)  # fmt: skip
def test_formats_that_are_named(tmp_path, head, name, hint):
    (tmp_path / "a.tif").write_bytes(head + b"\1" * 64)
    with pytest.raises(ImageError, match=f"known format \\({name}\\)") as caught:
        read_rgb(tmp_path / "a.tif", RULE)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "end",
    [".tfw", ".tifw", ".tiffw", ".wld", ".jgw", ".jpgw", ".pgw", ".pngw", ".j2w", ".jp2w", ".bpw",
     ".bmpw", ".TFW", ".WLD", ".JGW", "_rpc.txt", "_RPC.TXT", ".rpb", ".RPB", "_rpc.xml",
     "_RPC.XML"],
)  # fmt: skip
def test_positions_beside_an_image(tmp_path, end):
    path = write(tmp_path / "a.tif")
    (tmp_path / f"a{end}").write_text("LONG_OFF: +3.5\nLAT_OFF: -7.25\n")
    with (
        pytest.raises(ImageError, match=f"a{end} beside it is not read") as caught,
        open_scene(path, RULE),
    ):
        pass
    rpc = "rp" in end.lower()
    assert ("gdalwarp -rpc" in caught.value.hint) is rpc
    assert ("-t_srs EPSG:32731" in caught.value.hint) is rpc  # 3.5° E, 7.25° S: zone 31 south


@pytest.mark.parametrize(
    "tag",
    ["cyan", "magenta", "yellow", "black", "hue", "saturation", "lightness", "Y", "Cb", "Cr"],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bands_that_are_no_colours(tag):
    """GDAL writes the tags of TIFF's own colour spaces alone: the others come with a VRT."""
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><ColorInterp>{name}</ColorInterp>'
        "</VRTRasterBand>"
        for n, name in enumerate((GDAL_NAMES.get(tag, tag.title()), "Undefined", "Undefined"), 1)
    )
    sheet = f'<VRTDataset rasterXSize="40" rasterYSize="24">{bands}</VRTDataset>'
    with (
        rasterio.MemoryFile(sheet.encode(), ext=".vrt") as memory,
        memory.open() as source,
    ):
        assert source.colorinterp[0] == ColorInterp[tag]
        with pytest.raises(ImageError, match="its pixels are"):
            choose_bands(source, "a.tif", RULE)


@pytest.mark.parametrize(
    "end", [".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".webp", ".bmp", ".TIF"]
)
def test_endings_of_images_in_a_folder(tmp_path, end):
    (tmp_path / f"a{end}").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert images_and_questions([str(tmp_path)]) == ([str(tmp_path / f"a{end}")], [])
    with pytest.raises(DataError, match="no such file"):
        images_and_questions([f"nothing{end}"])


@pytest.mark.parametrize("end", [".gif", ".vrt", ".img", ".hdf", ".h5", ".nc", ".heic", ".avif",
                                 ".jxl"])  # fmt: skip
def test_endings_that_no_question_has(end):
    with pytest.raises(DataError, match="no such file"):
        images_and_questions([f"nothing{end}"])
    assert images_and_questions(["nothing.xyz"]) == ([], ["nothing.xyz"])


@pytest.mark.parametrize("first", [".tif", ".tiff", ".png", ".jpg", ".jpeg", ".TIF", ".JPEG"])
def test_endings_of_official_images(tmp_path, first):
    folder = write_rsvqa(tmp_path, images=1)
    (image,) = (folder / "rsvqa_images").iterdir()
    content = image.read_bytes()
    image.unlink()
    order = [".tif", ".tiff", ".png", ".jpg", ".jpeg"]
    for end in [first, *order[order.index(first.lower()) + 1 :]]:  # those that come after it
        (folder / "rsvqa_images" / f"0{end}").write_bytes(content)
    questions = folder / "rsvqa_questions.json"
    found = read_split(
        questions, answers_beside(questions), folder / "rsvqa_images", counts=LeftOut()
    )
    assert {sample.image for sample in found} == {str(folder / "rsvqa_images" / f"0{first}")}


@pytest.mark.parametrize(
    ("name", "images", "dataset", "split"),
    [
        ("LR_split_train_questions.json", None, "LR", "train"),
        ("LR_split_test_questions.json", None, "LR", "test"),
        ("USGS_split_test_phili_questions.json", None, "HR", "test_phili"),
        ("RSVQAxBEN_split_val_questions.json", None, "xBEN", "val"),
        ("LRBEN_split_val_questions.json", None, "xBEN", "val"),
        ("mine_split_val_questions.json", "Images_LR", "LR", "val"),
        ("mine_split_val_questions.json", "dataUSGS", "HR", "val"),
        ("mine_split_val_questions.json", "pictures", "", "val"),
    ],
)
def test_names_of_official_files(tmp_path, name, images, dataset, split):
    (tmp_path / name).write_text('{"questions": []}')
    folder = tmp_path / images if images else None
    note = official_note(tmp_path / name, folder)
    assert (note.dataset, note.manner, note.split) == (dataset, "", split)
    # where `generate` made the files, its plan says how; the split stays that of the name
    plan = {"plan": {"like": "LR", "manner": "corrected"}}
    (tmp_path / "generate.json").write_text(json.dumps(plan))
    note = official_note(tmp_path / name, folder)
    assert (note.dataset, note.manner, note.split) == ("LR", "corrected", split)


@pytest.mark.parametrize(
    ("split", "held_out"),
    [("", False), ("all", False), ("train", False), ("val", True), ("test", True),
     ("test_phili", True)],
)  # fmt: skip
def test_splits_that_nobody_trains_on(split, held_out):
    assert is_held_out(split) is held_out


LAND = {
    "landuse": """park forest residential retail commercial industrial railway cemetery grass
    farmyard farm farmland orchard vineyard wood meadow village_green recreation_ground allotments
    quarry""",
    "leisure": """park garden playground golf_course sports_centre pitch stadium common
    nature_reserve""",
    "amenity": """university school college library fuel parking cinema theatre place_of_worship
    hospital""",
    "natural": "wood land scrub wetland heath",
    "tourism": "zoo", "place": "island", "man_made": "pier", "military": "barracks",
    "highway": "pedestrian footway", "aeroway": "runway taxiway", "barrier": "hedge",
}  # fmt: skip
WATER = {"natural": "water", "waterway": "riverbank", "landuse": "basin reservoir",
         "leisure": "swimming_pool", "amenity": "swimming_pool"}  # fmt: skip
ROADS = """motorway motorway_link trunk trunk_link primary primary_link secondary secondary_link
tertiary tertiary_link road path track service footway bridleway cycleway steps pedestrian
living_street unclassified residential raceway"""


def test_tags_of_every_layer():
    """The layers of imposm3's example mapping, which RSVQA was made with."""
    for key, values in LAND.items():
        for value in values.split():
            assert classify({key: value}, 2) == ("land", value)
            assert classify({key: value, "building": "yes"}, 2)[0] == "building"
    for key, values in WATER.items():
        for value in values.split():
            assert classify({key: value}, 2) == ("water", "water area")
            assert classify({key: value}, 1) is None
    for value in ROADS.split():
        assert classify({"highway": value}, 1) == ("road", "road")
    for value in ("yes", "house", "apartments", "detached", "residential"):
        assert classify({"building": value}, 2) == ("building", "residential building")
    for value in ("commercial", "industrial", "retail", "supermarket", "kiosk"):
        for legacy in (True, False):
            found = classify({"building": value}, 2, legacy=legacy)
            assert found == ("building", "commercial building")


def test_words_and_widths_of_tags():
    areas = "residential grass industrial commercial retail construction religious"
    for value in areas.split():
        assert noun(value) == f"{value} area"
        bare = value in ("residential", "grass")
        assert noun(value, bare=True) == (f"{value} area" if bare else value)
    assert noun("village_green") == "village green"
    widths = {"motorway": 22, "trunk": 16, "primary": 10, "secondary": 8, "tertiary": 7, "track": 3,
              "path": 1.5, "footway": 2, "cycleway": 2.5, "steps": 2, "bridleway": 2, "service": 4,
              "pedestrian": 5, "residential": 6, "unclassified": 6}  # fmt: skip
    assert {name: road_width({"highway": name}) for name in widths} == widths
    for text, width in (("99.9", 99.9), ("100", 6), ("0", 6), ("0.1", 0.1), ("7m", 7)):
        assert road_width({"highway": "residential", "width": text}) == width


@pytest.mark.parametrize(
    ("tags", "layer", "hidden"),
    [
        *(({"tunnel": v}, "road", False) for v in ("no", "none", "false", "f", "n", "0", "No")),
        *(({"tunnel": v}, "road", True) for v in ("yes", "building_passage", "culvert")),
        *(({"indoor": v}, layer, v == "yes") for v in ("yes", "no") for layer in ("land", "road")),
        *(({"location": v}, "water", True) for v in ("underground", "underwater", "indoor")),
        ({"location": "roof"}, "water", False),
        *(({"level": v}, "land", True) for v in ("-1", "-2.0", "-1;-2", "-3--1", "-2 to -1")),
        *(({"level": v}, "land", False) for v in ("0", "1", "-1;0", "-1-2", "")),
        ({"layer": "-1"}, "building", True), ({"layer": "-1"}, "road", False),
        ({"layer": "-1"}, "land", False), ({"layer": "-1", "amenity": "parking"}, "land", True),
        ({"layer": "1"}, "building", False), ({"covered": "yes"}, "building", False),
        ({"covered": "yes"}, "road", True), ({"covered": "no"}, "road", False),
        ({"covered": "yes", "amenity": "fuel"}, "land", False),
        ({"amenity": "parking", "parking": "underground"}, "land", True),
        ({"amenity": "parking", "parking": "surface"}, "land", False),
        ({"parking": "underground"}, "land", False),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_from_above(tags, layer, hidden):
    assert bool(is_hidden(tags, layer)) is hidden
