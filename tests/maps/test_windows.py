"""What a reader tried on scenes, pictures, maps and vectors, through the commands."""

import csv
import json
import os
import shutil
import sqlite3

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from numpy.testing import assert_array_equal
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform

from family import few
from qwen2vl_rs.cli import main
from worlds import Placed

SIDE = 64
UTM = "EPSG:32632"
PLACE = from_origin(500_000, 5_200_000, 1, 1)


def pixels(height=SIDE, width=SIDE, seed=0):
    return np.random.default_rng(seed).integers(1, 255, (3, height, width)).astype("uint8")


def write(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    options = {"driver": "GTiff", "crs": UTM, "transform": PLACE, **options}
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=values.dtype, **options
    ) as file:
        file.write(values)
    return path


def write_mask(path, values, mask, *, inside=False):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        write(path, values)
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    return path


def pam(path, text):
    bands = "".join(f'<PAMRasterBand band="{n}">{text}</PAMRasterBand>' for n in (1, 2, 3))
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    return path


def shown(folder, *paths):
    """What the model is shown of some images, as `export` writes it."""
    table, out = folder / "asked.csv", folder / "shown"
    with open(table, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image_path", "question", "answer"])
        rows.writerows([str(path), f"What is {n}?", "yes"] for n, path in enumerate(paths))
    assert main(["export", "--data", str(table), "--format", "imagefolder", "-o", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    names = {line["question"]: line["file_name"] for line in lines}
    found = [np.asarray(Image.open(out / names[f"What is {n}?"])) for n in range(len(paths))]
    shutil.rmtree(out)
    return found


def ask_map(base, out, *words):
    return main(["map", str(base), *map(str, words), "-o", str(out), "--json"])


# --- what is no data -----------------------------------------------------------------------------


def test_a_hole_is_a_hole_however_it_is_said(tmp_path):
    values = (pixels() / 255 * 0.6 + 0.01).astype("float32")
    hole = np.zeros((SIDE, SIDE), dtype=bool)
    hole[20:40, 10:50] = True

    def filled(value):
        copy = values.copy()
        copy[:, hole] = value
        return copy

    least = np.float32(-3.4028235e38)
    paths = [
        write(tmp_path / "nan.tif", filled(np.nan)),
        write(tmp_path / "declared.tif", filled(-9999), nodata=-9999),
        write(tmp_path / "least.tif", filled(least), nodata=-3.4e38),
        write(tmp_path / "inf.tif", filled(np.inf)),
        write(tmp_path / "f64.tif", filled(np.nan).astype("float64")),
        write_mask(tmp_path / "inside.tif", filled(5), ~hole, inside=True),
        write_mask(tmp_path / "beside.tif", filled(5), ~hole),
        pam(write(tmp_path / "pam.tif", filled(-9999)), "<NoDataValue>-9999</NoDataValue>"),
        pam(write(tmp_path / "nanpam.tif", filled(np.nan)), "<NoDataValue>nan</NoDataValue>"),
    ]
    assert (tmp_path / "beside.tif.msk").is_file()
    before = set(tmp_path.iterdir())
    first, *others = shown(tmp_path, *paths)
    assert not first[hole].any()
    assert first[~hole].max() == 255
    for path, other in zip(paths[1:], others, strict=True):
        assert np.abs(first.astype(int) - other).max() <= 1, path.name
    assert set(tmp_path.iterdir()) - before == {tmp_path / "asked.csv"}


def test_sidecars_of_other_formats_and_overviews(tmp_path):
    values = pixels()
    gap = int(values[0, 5, 5])
    values[:, 5, 5] = gap
    Image.fromarray(np.moveaxis(values, 0, 2)).save(tmp_path / "a.png")
    pam(tmp_path / "a.png", f"<NoDataValue>{gap}</NoDataValue>")
    plain = write(tmp_path / "b.tif", values)
    half = write(tmp_path / "c.tif", pixels(SIDE // 2, SIDE // 2, 1))
    shutil.copy(half, tmp_path / "b.tif.ovr")
    one, two = shown(tmp_path, tmp_path / "a.png", plain)
    assert not one[5, 5].any()
    assert_array_equal(two, np.moveaxis(values, 0, 2))
    assert (one == two).all(axis=2).sum() == SIDE**2 - 1


@pytest.mark.parametrize(
    ("end", "content", "said"),
    [
        (".msk", b"broken", "its mask a.tif.msk is not a TIFF as GDAL writes it"),
        (".msk", b"II*\0" + bytes(40), "its mask a.tif.msk"),
        (".aux.xml", b"<PAMDataset><NoDataValue>", "nodata values in a.tif.aux.xml"),
        (".aux.xml", b"<PAMDataset><PAMRasterBand><NoDataValue>x</NoDataValue></PAMRasterBand>"
         b"</PAMDataset>", "nodata values in a.tif.aux.xml cannot be read"),
    ],
)  # fmt: skip
def test_a_broken_sidecar_is_not_passed_over(tmp_path, capsys, end, content, said):
    path = write(tmp_path / "a.tif", pixels())
    path.with_name(f"a.tif{end}").write_bytes(content)
    table = tmp_path / "a.csv"
    table.write_text(f"image_path,question,answer\n{path},Is it?,yes\n")
    words = ["export", "--data", str(table), "--format", "imagefolder", "-o", str(tmp_path / "o")]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert said in err
    assert "\nhint: " in err
    assert not (tmp_path / "o").exists()


def test_a_mask_of_another_size_is_not_passed_over(tmp_path, capsys):
    path = write_mask(tmp_path / "a.tif", pixels(), np.ones((SIDE, SIDE), bool))
    write_mask(tmp_path / "b.tif", pixels(32, 32), np.ones((32, 32), bool))
    shutil.copy(tmp_path / "b.tif.msk", tmp_path / "a.tif.msk")
    table = tmp_path / "a.csv"
    table.write_text(f"image_path,question,answer\n{path},Is it?,yes\n")
    words = ["export", "--data", str(table), "--format", "imagefolder", "-o", str(tmp_path / "o")]
    assert main(words) == 1
    assert "has another size: 32 × 32 pixels" in capsys.readouterr().err


def test_a_mask_beside_a_scene_counts_in_its_map(small_base, tmp_path, capsys):
    mask = np.ones((112, 168), bool)
    mask[:, :84] = False
    asked = []
    for inside in (True, False):
        path = write_mask(tmp_path / f"{inside}.tif", pixels(112, 168), mask, inside=inside)
        words = (path, "Is there a road?", "--tile", 56)
        assert ask_map(small_base, tmp_path / f"m{inside}", *words) == 0
        asked.append(json.loads(capsys.readouterr().out))
    assert [one["asked"] for one in asked] == [4, 4]
    assert [one["left_out"] for one in asked] == [2, 2]


def test_collars(tmp_path):
    y, x = np.mgrid[:SIDE, :SIDE]
    corners = abs(x - 31.5) + abs(y - 31.5) > 31
    values = pixels().astype("uint16") * 20 + 300
    values[:, corners] = 0
    lake = values.copy()
    lake[:, 28:36, 28:36] = 0
    plain, declared, inner = shown(
        tmp_path, write(tmp_path / "a.tif", values), write(tmp_path / "c.tif", values, nodata=0),
        write(tmp_path / "d.tif", lake),
    )  # fmt: skip
    assert_array_equal(plain, declared)
    assert not plain[corners].any()
    assert not inner[28:36, 28:36].any()


def test_eight_bits_are_the_colours_in_every_format(tmp_path):
    values = pixels()
    picture = Image.fromarray(np.moveaxis(values, 0, 2))
    for name, options in (("a.png", {}), ("a.bmp", {}), ("a.webp", {"lossless": True})):
        picture.save(tmp_path / name, **options)
    jp2 = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    tags = [rasterio.enums.ColorInterp[name] for name in ("blue", "green", "red")]
    turned = write(tmp_path / "bgr.tif", values[::-1].copy())
    with rasterio.open(turned, "r+") as file:
        file.colorinterp = tags
    paths = [
        tmp_path / "a.png", tmp_path / "a.bmp", tmp_path / "a.webp", turned,
        write(tmp_path / "a.jp2", values, **jp2), write(tmp_path / "cog.tif", values, driver="COG"),
        write(tmp_path / "big.tif", values, BIGTIFF="YES", interleave="pixel", photometric="RGB"),
        write(tmp_path / "band.tif", values, interleave="band", compress="lzw", predictor=2),
    ]  # fmt: skip
    for path, found in zip(paths, shown(tmp_path, *paths), strict=True):
        assert_array_equal(found, np.moveaxis(values, 0, 2), err_msg=path.name)


def test_one_bit_and_twelve_bits(tmp_path):
    one = (pixels()[:1] > 120).astype("uint8")
    Image.fromarray(one[0] * 255).convert("1").save(tmp_path / "one.png")
    twelve = pixels().astype("uint16") * 16
    bit, png, short, long = shown(
        tmp_path, write(tmp_path / "one.tif", one, nbits=1), tmp_path / "one.png",
        write(tmp_path / "12.tif", twelve, nbits=12), write(tmp_path / "16.tif", twelve),
    )  # fmt: skip
    assert_array_equal(bit, np.repeat(one[0][:, :, None] * 255, 3, axis=2))
    assert_array_equal(bit, png)
    assert_array_equal(short, long)


@pytest.mark.parametrize("kind", ["gif", "cmyk", "white"])
def test_what_is_not_read_is_refused(tmp_path, capsys, kind):
    picture = Image.fromarray(np.moveaxis(pixels(), 0, 2))
    path = tmp_path / ("a.gif" if kind == "gif" else "a.tif")
    if kind == "white":
        write(path, pixels()[:1], photometric="MINISWHITE")
    else:
        picture.convert("CMYK" if kind == "cmyk" else "P").save(path)
    table = tmp_path / "a.csv"
    table.write_text(f"image_path,question,answer\n{path},Is it?,yes\n")
    words = ["export", "--data", str(table), "--format", "imagefolder", "-o", str(tmp_path / "o")]
    assert main(words) == 1
    assert "\nhint: " in capsys.readouterr().err


def test_a_gif_does_not_stop_the_images_of_a_folder(small_base, tmp_path, capsys):
    write(tmp_path / "a.tif", pixels())
    Image.fromarray(pixels()[0]).save(tmp_path / "b.gif")
    assert main(["ask", str(small_base), str(tmp_path), "Is there a road?", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    missing = str(tmp_path / "c.gif")
    assert main(["ask", str(small_base), str(tmp_path), missing, "Is there a road?"]) == 1
    assert "c.gif: no such file" in capsys.readouterr().err


# --- north up ------------------------------------------------------------------------------------


def turned(folder, values):
    """One picture of one place, stored in every way along the axes."""
    height, width = values.shape[1:]
    left, top = 500_000, 5_200_000
    right, bottom = left + width, top - height
    swapped = values.swapaxes(1, 2)
    ways = {
        "north": (values, Affine(1, 0, left, 0, -1, top)),
        "south": (values[:, ::-1], Affine(1, 0, left, 0, 1, bottom)),
        "mirror": (values[:, :, ::-1], Affine(-1, 0, right, 0, -1, top)),
        "both": (values[:, ::-1, ::-1], Affine(-1, 0, right, 0, 1, bottom)),
        "swapped": (swapped, Affine(0, 1, left, -1, 0, top)),
        "right": (swapped[:, :, ::-1], Affine(0, 1, left, 1, 0, bottom)),
        "left": (swapped[:, ::-1], Affine(0, -1, right, -1, 0, top)),
        "across": (swapped[:, ::-1, ::-1], Affine(0, -1, right, 1, 0, bottom)),
    }
    return [write(folder / f"{n}.tif", v.copy(), transform=t) for n, (v, t) in ways.items()]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_north_is_up_and_east_is_right(tmp_path, dtype):
    paths = turned(tmp_path, pixels(40, 60).astype(dtype))
    north, *others = shown(tmp_path, *paths)
    assert north.shape == (40, 60, 3)
    for path, other in zip(paths[1:], others, strict=True):
        assert_array_equal(north, other, err_msg=path.name)


def test_masks_turn_with_their_image(tmp_path):
    values, mask = pixels(), np.ones((SIDE, SIDE), bool)
    mask[:10] = False
    path = tmp_path / "south.tif"
    south = Affine(1, 0, 500_000, 0, 1, 5_199_000)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        write(path, values, transform=south)
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    (found,) = shown(tmp_path, path)
    assert not found[-10:].any()
    assert found[:-10].all()


def test_what_lies_askew_or_nowhere_stays_as_stored(tmp_path):
    values = pixels()
    paths = [
        write(tmp_path / "askew.tif", values, transform=PLACE @ Affine.rotation(30)),
        write(tmp_path / "nowhere.tif", values, crs=None, transform=Affine(1, 0, 0, 0, 1, 9)),
        write(tmp_path / "north.tif", values),
    ]
    for found in shown(tmp_path, *paths):
        assert_array_equal(found, np.moveaxis(values, 0, 2))


def test_the_map_of_a_turned_scene_is_that_of_north_up(small_base, tmp_path, capsys):
    maps, windows = [], []
    for path in turned(tmp_path, pixels(120, 130))[:5]:
        out = tmp_path / path.stem
        words = (path, "Is there a road?", "--tile", 56)
        assert ask_map(small_base, out, *words) == 0
        with rasterio.open(out / "map.tif") as file:
            maps.append((file.read(), tuple(file.transform)))
        windows.append((out / "windows.jsonl").read_text().split("\n", 1)[1])
    capsys.readouterr()
    for values, place in maps[1:]:
        assert_array_equal(values, maps[0][0])
        assert place == pytest.approx(maps[0][1])
    assert len(set(windows)) == 1


# --- maps ----------------------------------------------------------------------------------------


def test_a_scene_of_half_a_window_has_one(small_base, tmp_path, capsys):
    for height, width in ((28, 28), (30, 39), (28, 112)):
        path = write(tmp_path / f"{height}-{width}.tif", pixels(height, width))
        out = tmp_path / f"m{height}-{width}"
        assert ask_map(small_base, out, path, "Is there a road?", "--tile", 56) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["asked"] == made["windows"] == max(1, width // 56)
        assert made["left_out"] == 0
    gaps = pixels(30, 30)
    gaps[:, :20] = 0
    path = write(tmp_path / "gaps.tif", gaps, nodata=0)
    assert ask_map(small_base, tmp_path / "g", path, "Is it?", "--tile", 56) == 1
    assert "no window has valid data" in capsys.readouterr().err


def test_a_strip_is_refused_with_a_hint_that_works(small_base, tmp_path, capsys):
    path = write(tmp_path / "long.tif", pixels(30, 300))
    assert ask_map(small_base, tmp_path / "m", path, "Is it?", "--tile", 112) == 1
    assert "choose smaller windows: --tile" in capsys.readouterr().err
    assert ask_map(small_base, tmp_path / "m", path, "Is it?", "--tile", 56) == 0


def test_a_scene_changed_in_place_is_another(small_base, tmp_path, capsys):
    path = write(tmp_path / "s.tif", pixels())
    words = (path, "Is there a road?", "--tile", 56)
    assert ask_map(small_base, tmp_path / "m", *words) == 0
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))  # copied: the same scene
    assert ask_map(small_base, tmp_path / "m", *words) == 0
    first = path.read_bytes()
    data = bytearray(first)
    data[-100:] = bytes(100)
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    assert ask_map(small_base, tmp_path / "m", *words) == 1
    assert "holds a map of another scene" in capsys.readouterr().err
    data[-100:] = first[-100:]
    path.write_bytes(data)
    path.with_name("s.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")  # decides nothing
    assert ask_map(small_base, tmp_path / "m", *words) == 0
    pam(path, "<NoDataValue>7</NoDataValue>")
    assert ask_map(small_base, tmp_path / "m", *words) == 1


def test_large_scenes_are_known_by_samples(tmp_path):
    from qwen2vl_rs.raster import image_digest

    path = tmp_path / "a.tif"
    path.write_bytes(bytes(3 * 2**20))
    time = path.stat().st_mtime_ns
    before = image_digest(path, whole=1000)
    assert before != image_digest(path)
    with open(path, "r+b") as file:
        file.seek(2**20 + 5)
        file.write(b"x")
    os.utime(path, ns=(time, time))
    assert image_digest(path, whole=1000) != before


def test_a_large_scene_that_was_changed_between_the_samples_is_another(tmp_path):
    from qwen2vl_rs.raster import image_digest

    path, size = tmp_path / "a.tif", 65 * 2**20
    with open(path, "wb") as file:
        file.truncate(size)  # takes no room on the disk
    known, time = image_digest(path, whole=size - 1), path.stat().st_mtime_ns
    os.utime(path, ns=(0, time))
    assert image_digest(path, whole=size - 1) == known  # only read meanwhile
    with open(path, "r+b") as file:
        file.seek(2**20 + 1)
        file.write(b"x")
    os.utime(path, ns=(time, time))
    assert image_digest(path, whole=size - 1) == known  # no sample is there
    os.utime(path, ns=(time, time + 1))
    assert image_digest(path, whole=size - 1) != known
    os.truncate(path, size + 1)
    os.utime(path, ns=(time, time))
    assert image_digest(path, whole=size - 1) != known


def test_a_scene_as_large_as_may_be_read_is_read_whole(tmp_path):
    from qwen2vl_rs.raster import image_digest

    path = tmp_path / "a.tif"
    path.write_bytes(bytes(2 * 2**20))
    assert image_digest(path, whole=2 * 2**20) == image_digest(path)
    assert image_digest(path, whole=2 * 2**20 - 1) != image_digest(path)


def test_one_bad_scene_does_not_stop_the_others(small_base, tmp_path, capsys):
    write(tmp_path / "A" / "empty.tif", np.zeros((3, SIDE, SIDE), "uint8"), nodata=0)
    write(tmp_path / "A" / "s.tif", pixels())
    write(tmp_path / "B" / "nocrs.tif", pixels(), crs=None)
    write(tmp_path / "B" / "local.tif", pixels(), crs='LOCAL_CS["grid",UNIT["metre",1]]')
    write(tmp_path / "B" / "small.tif", pixels(20, SIDE))
    write(tmp_path / "B" / "s.tif", pixels(seed=1))
    words = (tmp_path / "A", tmp_path / "B", "Is there a road?", "--tile", 56)
    assert ask_map(small_base, tmp_path / "m", *words) == 1
    out, err = capsys.readouterr()
    made = json.loads(out)
    bad = [os.path.basename(one["scene"]) for one in made if "error" in one]
    assert bad == ["empty.tif", "local.tif", "nocrs.tif", "small.tif"]
    assert [one["asked"] for one in made if "error" not in one] == [4, 4]
    assert "4 of 6 scenes have no map" in err
    for one in made:
        if "error" in one:
            assert one["scene"] in one["error"]
            assert one["error"] in err
            assert one["hint"] in err
    maps = sorted((tmp_path / "m").rglob("map.tif"))
    assert [path.parent.name for path in maps] == ["s", "s-2"]
    before = [path.read_bytes() for path in maps]
    write(tmp_path / "B" / "nocrs.tif", pixels())
    assert ask_map(small_base, tmp_path / "m", *words) == 1
    assert "3 of 6 scenes have no map" in capsys.readouterr().err
    assert [path.read_bytes() for path in maps] == before
    assert (tmp_path / "m" / "nocrs" / "map.tif").is_file()


@pytest.mark.parametrize(
    ("longitude", "latitude", "zone"),
    [(11, 47, "EPSG:32632"), (-58.4, -34.6, "EPSG:32721"), (179.9, 65, "EPSG:32660")],
)
def test_the_hint_for_control_points_names_their_zone(
    small_base, tmp_path, capsys, longitude, latitude, zone
):
    path = tmp_path / "gcp.tif"
    places = [(0, 0, 0, 0), (0, SIDE, 0.005, 0), (SIDE, 0, 0, -0.003)]
    points = [GroundControlPoint(r, c, longitude + x, latitude + y) for r, c, x, y in places]
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8",
        gcps=points, crs="EPSG:4326",
    ) as file:  # fmt: skip
        file.write(pixels())
    assert ask_map(small_base, tmp_path / "m", path, "Is it?") == 1
    assert f"gdalwarp -t_srs {zone} " in capsys.readouterr().err
    path = tmp_path / "rpc.tif"
    Image.fromarray(np.moveaxis(pixels(), 0, 2)).save(path)
    text = f"LINE_OFF: 1\nLAT_OFF: {latitude:+.4f} degrees\nLONG_OFF: {longitude:+.4f} degrees\n"
    (tmp_path / "rpc_RPC.TXT").write_text(text)
    assert ask_map(small_base, tmp_path / "m", path, "Is it?") == 1
    assert f"-t_srs {zone} " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("crs", "place"),
    few(
        [
            ("EPSG:4326", from_origin(15, 78, 1 / 23_200, 1 / 111_600)),
            ("EPSG:4326", from_origin(179.9995, -17, 1 / 106_500, 1 / 110_700)),
            ("EPSG:3857", from_origin(2e6, 11_068_715, 2.92, 2.92)),
            ("EPSG:2263", from_origin(980_000, 200_000, 3.28, 3.28)),
            ("+proj=laea +lat_0=47.5 +lon_0=11.3 +datum=WGS84 +units=m", from_origin(9, 9, 1, 1)),
            ("EPSG:32632+5773", PLACE),
        ],
        0,
        3,
        5,
    ),
)
def test_windows_are_true_metres_and_keep_the_system(small_base, tmp_path, capsys, crs, place):
    path = write(tmp_path / "s.tif", pixels(112, 112), crs=crs, transform=place)
    words = (path, "Is there a road?", "--tile", 56, "--resolution", 1)
    assert ask_map(small_base, tmp_path / "m", *words) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["metres_per_pixel"] == 1
    assert (made["rows"], made["columns"]) in ((2, 2), (3, 2), (2, 3), (3, 3))
    with rasterio.open(path) as scene, rasterio.open(tmp_path / "m" / "map.tif") as drawn:
        assert drawn.crs == scene.crs
        assert drawn.bounds == pytest.approx(scene.bounds)
        assert np.isnan(drawn.nodata)
    with sqlite3.connect(tmp_path / "m" / "windows.gpkg") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()


def test_odd_questions(small_base, tmp_path, capsys):
    path = write(tmp_path / "s.tif", pixels())
    odd = ("Is there a road?", "IS THERE A ROAD?", "What is <script>x</script>?", "这里有道路吗？",
           'a "b" | c', "What is " + "x" * 400 + "?")  # fmt: skip
    assert ask_map(small_base, tmp_path / "m", path, *odd, "--tile", 56) == 0
    made = json.loads(capsys.readouterr().out)
    assert [one["question"] for one in made["questions"]] == list(odd)
    assert "<script>x" not in (tmp_path / "m" / "map.html").read_text(encoding="utf-8")
    assert ask_map(small_base, tmp_path / "n", path, "Is it?", "Is it? ", "--tile", 56) == 2
    assert "duplicate" in capsys.readouterr().err


# --- vectors -------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "s.tif", pixels(256, 256))


def box(x, y, side=20):
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]


def in_utm(points):
    return [(500_000 + x, 5_200_000 - y) for x, y in points]


def in_degrees(points):
    x, y = zip(*in_utm(points), strict=True)
    return list(zip(*transform(UTM, "EPSG:4326", x, y), strict=True))


HOUSES = [box(10, 10), box(10, 80), box(10, 150), box(150, 10), box(150, 150)]


def write_vectors(path, rings, columns, **options):
    shapes = np.array([shapely.to_wkb(shapely.Polygon(ring)) for ring in rings], dtype=object)
    values = [np.array(column, dtype=object) for column in columns.values()]
    options = {"geometry_type": "Polygon", "crs": "EPSG:4326", **options}
    pyogrio.raw.write(path, shapes, values, list(columns), **options)
    return path


def generate(image, vectors, out, *more):
    words = ["--image", image, "--vectors", vectors, "--workers", 1, "--questions", 8, "-o", out]
    return main(["generate", *map(str, words), *more])


@pytest.mark.parametrize("tags", [
    ['{"building": true, "x": null, "levels": 2}'] * 5,
    ['"building"=>"true","name"=>"a, \\"b\\"=>c"'] * 5,
    ['{"building": "yes", "addr": {"a": 1}}'] * 5,
])  # fmt: skip
def test_true_is_yes(image, tmp_path, tags):
    from qwen2vl_rs.raster.scenes import Georeference
    from qwen2vl_rs.vqa_generation.vectors import read_vectors

    rings = [in_degrees(house) for house in HOUSES]
    vectors = write_vectors(tmp_path / "t.gpkg", rings, {"tags": tags}, driver="GPKG")
    found = read_vectors(vectors, Placed(Georeference(UTM, tuple(PLACE)[:6]), 256, 256))
    assert {label for _, label, _ in found.kinds} == {"residential building"}
    assert len(found.kinds) == 5


def test_false_is_no_building(image, tmp_path, capsys):
    rings = [in_degrees(house) for house in HOUSES]
    tags = ['{"building": false}'] * 5
    vectors = write_vectors(tmp_path / "t.gpkg", rings, {"tags": tags}, driver="GPKG")
    assert generate(image, vectors, tmp_path / "o") == 1
    assert "without a tag that RSVQA knows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "crs", "place", "said", "hint"),
    [
        ("swap.geojson", "EPSG:4326", lambda p: [(b, a) for a, b in in_degrees(p)],
         "its axes are swapped: latitude before longitude", "+proj=axisswap"),
        ("utm.geojson", "EPSG:4326", in_utm, "would be in it in EPSG:32632", "-a_srs EPSG:32632"),
        ("zone.gpkg", "EPSG:32633", in_utm, "would be in it in EPSG:32632", "-a_srs EPSG:32632"),
        ("degrees.gpkg", UTM, in_degrees, "would be in it in EPSG:4326", "-a_srs EPSG:4326"),
        ("far.geojson", "EPSG:4326", lambda p: [(x + 9e6, y) for x, y in in_utm(p)],
         "are not degrees", "-a_srs EPSG:…"),
        ("else.gpkg", "EPSG:4326", lambda p: [(x + 9, y) for x, y in in_degrees(p)],
         "none of its features is in the image", "ogrinfo -al -so"),
        ("noprj.shp", None, in_utm, "no coordinate reference system", "-a_srs EPSG:32632"),
        ("degrees.shp", None, in_degrees, "no coordinate reference system", "-a_srs EPSG:4326"),
        ("other.shp", None, lambda p: [(x + 9e6, y) for x, y in in_utm(p)],
         "no coordinate reference system", "not degrees; assign their system"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_vectors_beside_their_image_say_why(image, tmp_path, capsys, name, crs, place, said, hint):
    rings = [place(house) for house in HOUSES]
    vectors = write_vectors(tmp_path / name, rings, {"building": ["yes"] * 5}, crs=crs)
    assert generate(image, vectors, tmp_path / "o") == 1
    err = capsys.readouterr().err
    assert said in err
    assert hint in err.split("\nhint: ")[1]
    assert (hint == "-a_srs EPSG:4326") == ("EPSG:4326 OUT" in err and "axisswap" not in err)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_wrong_usage(image, small_base, tmp_path, capsys, number):
    for option in ("--resolution", "--overlap"):
        assert ask_map(small_base, tmp_path / "m", image, "Is it?", option, number) == 2
    words = ["generate", "--synthetic", "1", "--resolution", number, "-o", str(tmp_path / "o")]
    assert main(words) == 2
    assert "Invalid value for '--resolution'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("split", ["nan,1,0", "inf,-inf,1", "0.5", "a,b"])
def test_shares_that_are_none(image, tmp_path, capsys, split):
    vectors = write_vectors(tmp_path / "v.gpkg", [in_degrees(HOUSES[0])], {"building": ["yes"]})
    assert generate(image, vectors, tmp_path / "o", "--split", split) == 1
    assert "is not a list of shares of train, val and test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("split", "tile", "wanted"),
    few(
        [
            ("0.4,0.3,0.3", "64", ("train", "val", "test")),
            ("0.3,0.4,0.3", "64", ("train", "val", "test")),
            ("0.1,0.9,0", "64", ("train", "val")),
            ("0.5,0.5", "64", ("train", "val")),
            ("0,0,1", "64", ("test",)),
            ("0.1,0.9,0", "256", ("val",)),
        ],
        0,
        4,
        5,
    ),
)
def test_no_large_split_is_empty_of_few_tiles(image, tmp_path, capsys, split, tile, wanted):
    ring = in_degrees([(1, 1), (255, 1), (255, 255), (1, 255), (1, 1)])
    vectors = write_vectors(tmp_path / "v.gpkg", [ring], {"landuse": ["forest"]})
    words = ("--split", split, "--tile", tile)
    assert generate(image, vectors, tmp_path / "o", *words) == 0
    err = capsys.readouterr().err
    held = {p.name.split("_")[2] for p in (tmp_path / "o").glob("LR_split_*_questions.json")}
    assert held == set(wanted)
    said = err.rsplit(" --split ", 1)[1].split()[0]
    assert said in wanted
    step = ["data2csv", "--folder", str(tmp_path / "o"), "--split", said]
    assert main([*step, "-o", str(tmp_path / "o.csv")]) == 0


def test_layers_of_a_geopackage_and_tiles_without_data(tmp_path, capsys):
    values = pixels(256, 256)
    values[:, :64, :64] = 0
    image = write(tmp_path / "s.tif", values, nodata=0)
    rings = [in_degrees(house) for house in HOUSES]
    vectors = write_vectors(
        tmp_path / "l.gpkg", rings, {"building": ["yes"] * 5}, driver="GPKG", layer="houses"
    )
    road = shapely.to_wkb(shapely.LineString(in_degrees([(0, 230), (255, 230)])))
    pyogrio.raw.write(
        vectors, np.array([road], dtype=object), [np.array(["residential"], dtype=object)],
        ["highway"], geometry_type="LineString", crs="EPSG:4326", driver="GPKG", layer="roads",
        append=True,
    )  # fmt: skip
    with sqlite3.connect(vectors) as file:
        file.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleQML TEXT)")
        file.execute("INSERT INTO gpkg_contents (table_name, data_type, identifier) "
                     "VALUES ('layer_styles', 'attributes', 'layer_styles')")  # fmt: skip
    file.close()
    assert generate(image, vectors, tmp_path / "o", "--tile", "64") == 0
    err = capsys.readouterr().err
    assert "6 features in" in err
    assert "left out: 1 tiles mostly nodata" in err


# --- what is handed on ---------------------------------------------------------------------------


def test_each_question_stands_at_its_own_picture(tmp_path):
    one, two = pixels(seed=1), pixels(seed=2)
    first, second = shown(
        tmp_path, write(tmp_path / "a" / "0.tif", one), write(tmp_path / "b" / "0.tif", two)
    )
    assert_array_equal(first, np.moveaxis(one, 0, 2))
    assert_array_equal(second, np.moveaxis(two, 0, 2))
