"""`generate` over OpenStreetMap's files: what is seen, what is left out, where tags stand."""

import json
import struct
import zlib

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform

from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.questions.elements import classify, is_hidden
from qwen2vl_rs.vqa_generation.lifecycle import is_absent

LEFT, TOP, SIDE = 500_000, 5_600_512, 256


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8",
        crs="EPSG:32631", transform=from_origin(LEFT, TOP, 1, 1),
    ) as file:  # fmt: skip
        file.write(np.random.default_rng(0).integers(1, 255, (3, SIDE, SIDE), dtype=np.uint8))
    return path


class Osm:
    """An OpenStreetMap extract: ways of corners in metres from the upper left, and relations."""

    def __init__(self):
        self.nodes, self.ways, self.relations = [], [], []

    def way(self, points, tags=(), *, closed=True):
        refs = []
        for x, y in points:
            (lon,), (lat,) = transform("EPSG:32631", "EPSG:4326", [LEFT + x], [TOP - y])
            self.nodes.append((len(self.nodes) + 1, lat, lon))
            refs.append(len(self.nodes))
        self.ways.append((100 + len(self.ways), [*refs, refs[0]] if closed else refs, dict(tags)))
        return self.ways[-1][0]

    def box(self, x, y, tags=(), side=30):
        return self.way([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], tags)

    def relation(self, members, **tags):
        self.relations.append((9000 + len(self.relations), members, tags))

    def write(self, path):
        path.write_bytes(self.pbf() if path.name.endswith(".pbf") else self.xml().encode())
        return path

    def xml(self):
        def tags(found):
            return "".join(f'<tag k="{k}" v="{v}"/>' for k, v in found.items())

        lines = [f'<node id="{n}" lat="{y:.7f}" lon="{x:.7f}"/>' for n, y, x in self.nodes]
        lines += [
            f'<way id="{n}">' + "".join(f'<nd ref="{r}"/>' for r in refs) + tags(t) + "</way>"
            for n, refs, t in self.ways
        ]
        lines += [
            f'<relation id="{n}">'
            + "".join(f'<member type="way" ref="{m}" role="outer"/>' for m in members)
            + tags(t) + "</relation>"
            for n, members, t in self.relations
        ]  # fmt: skip
        return f'<?xml version="1.0"?>\n<osm version="0.6">{"".join(lines)}</osm>'

    def pbf(self):
        """As the OpenStreetMap wiki has it ("PBF Format"), one block for each kind of thing."""
        words = [""]

        def word(text):
            if text not in words:
                words.append(text)
            return words.index(text)

        def pairs(found):
            return field(2, packed(map(word, found))) + field(3, packed(map(word, found.values())))

        nodes = b"".join(
            field(1, number(1, signed(n)) + number(8, signed(round(y * 1e7)))
                  + number(9, signed(round(x * 1e7))))
            for n, y, x in self.nodes
        )  # fmt: skip
        ways = b"".join(
            field(3, number(1, n) + pairs(t) + field(8, packed(map(signed, steps(refs)))))
            for n, refs, t in self.ways
        )
        role = word("outer")
        relations = b"".join(
            field(4, number(1, n) + pairs(t) + field(8, packed([role] * len(m)))
                  + field(9, packed(map(signed, steps(m)))) + field(10, packed([1] * len(m))))
            for n, m, t in self.relations
        )  # fmt: skip
        table = b"".join(field(1, text.encode()) for text in words)
        blocks = [field(1, table) + field(2, group) for group in (nodes, ways, relations)]
        head = field(4, b"OsmSchema-V0.6")
        return blob(b"OSMHeader", head) + b"".join(blob(b"OSMData", block) for block in blocks)


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def signed(value):
    return value << 1 if value >= 0 else (-value << 1) - 1


def steps(values):
    return [b - a for a, b in zip([0, *values], values, strict=False)]


def number(key, value):
    return varint(key << 3) + varint(value)


def field(key, data):
    if not data and key in (2, 3):  # writers leave empty lists out
        return b""
    return varint(key << 3 | 2) + varint(len(data)) + data


def packed(values):
    return b"".join(map(varint, values))


def blob(kind, data):
    body = number(2, len(data)) + field(3, zlib.compress(data))
    head = field(1, kind) + number(3, len(body))
    return struct.pack(">I", len(head)) + head + body


def make(scene, vectors, out, *more, questions=6):
    words = ["--image", str(scene), "--vectors", str(vectors), "--tile", str(SIDE), *more]
    return main(["generate", *words, "--questions", str(questions), "-o", str(out)])


def asked(out, split="train"):
    path = out / f"LR_split_{split}_questions.json"
    answers = json.loads(path.with_name(path.name.replace("questions", "answers")).read_text())
    said = {a["question_id"]: a["answer"] for a in answers["answers"] if a["active"]}
    questions = json.loads(path.read_text())["questions"]
    return {q["question"]: said[q["id"]] for q in questions if q["active"]}


@pytest.mark.parametrize(
    ("name", "manner"),
    few([("a.osm", "corrected"), ("a.osm.pbf", "corrected"), ("a.osm.pbf", "legacy")], 0),
)
def test_incomplete_relations_are_counted(scene, tmp_path, capsys, name, manner):
    osm = Osm()
    osm.box(20, 20, {"building": "house"})
    whole = osm.box(20, 100)
    half = osm.way([(100, 100), (160, 100), (160, 160)], closed=False)
    osm.relation([whole], type="multipolygon", landuse="forest")
    osm.way([(10, 200), (200, 200)], {"highway": "primary"}, closed=False)
    osm.relation([half, 77_777], type="multipolygon", landuse="meadow")  # lacks a member
    osm.relation([half], type="multipolygon", natural="water")  # is not closed
    osm.relation([77_778], type="boundary", leisure="park")  # has no member at all
    osm.relation([77_779], type="multipolygon", name="not asked about")
    osm.relation([77_780], type="route", highway="path")
    path = osm.write(tmp_path / name)
    more = ["--legacy"] if manner == "legacy" else []
    assert make(scene, path, tmp_path / "out", *more) == 0
    err = capsys.readouterr().err
    assert "3 features in" in err
    assert "left out: 3 features of incomplete relations" in err
    assert "of incomplete relations" in (tmp_path / "out/index.html").read_text()


@pytest.mark.slow
def test_whole_files_say_nothing_of_relations(scene, tmp_path, capsys):
    osm = Osm()
    osm.relation([osm.box(20, 100)], type="multipolygon", landuse="forest")
    osm.box(20, 20, {"building": "house"})
    assert make(scene, osm.write(tmp_path / "a.osm.pbf"), tmp_path / "out") == 0
    assert "relation" not in capsys.readouterr().err


HOUSE = {"building": "house"}
PARKING = {"amenity": "parking"}


@pytest.mark.parametrize(
    ("tags", "dimension", "hidden"),
    [
        ({"highway": "primary", "tunnel": "yes"}, 1, True),
        ({"highway": "primary", "tunnel": "building_passage"}, 1, True),
        ({"highway": "primary", "tunnel": "True"}, 1, True),
        ({"highway": "primary", "tunnel": "no"}, 1, False),
        ({"highway": "primary", "tunnel": "F"}, 1, False),
        ({"highway": "primary", "bridge": "yes", "layer": "1"}, 1, False),
        ({"highway": "primary", "layer": "-1"}, 1, False),  # below a bridge
        ({"highway": "footway", "covered": "yes"}, 1, True),
        ({"highway": "footway", "covered": "no"}, 1, False),
        ({"highway": "footway", "indoor": "yes"}, 1, True),
        ({"highway": "steps", "level": "-1;-2"}, 1, True),
        ({"highway": "steps", "level": "-2.0"}, 1, True),
        ({"highway": "steps", "level": "-1;0"}, 1, False),
        ({"highway": "footway", "location": "underground"}, 1, True),
        ({**HOUSE, "location": "underground"}, 2, True),
        ({**HOUSE, "layer": "-1"}, 2, True),
        ({**HOUSE, "layer": "-1.0"}, 2, True),
        ({**HOUSE, "layer": "1"}, 2, False),
        ({**HOUSE, "covered": "yes"}, 2, False),
        ({**HOUSE, "location": "roof"}, 2, False),
        ({"building": "proposed"}, 2, True),
        ({"building": "demolished"}, 2, True),
        ({"building": "construction"}, 2, True),
        ({"building": "ruins"}, 2, False),
        ({**PARKING, "parking": "underground"}, 2, True),
        ({**PARKING, "parking": "surface"}, 2, False),
        ({**PARKING, "layer": "-1"}, 2, True),
        ({"amenity": "fuel", "covered": "yes"}, 2, False),
        ({"leisure": "swimming_pool", "location": "indoor"}, 2, True),
        ({"leisure": "swimming_pool"}, 2, False),
        ({"natural": "water", "tunnel": "culvert"}, 2, True),
        ({"natural": "water", "layer": "-1"}, 2, False),
        ({"landuse": "grass", "layer": "-1"}, 2, False),
    ],
)
def test_what_cannot_be_seen_from_above(tags, dimension, hidden):
    layer, _ = classify(tags, dimension)
    assert (is_hidden(tags, layer) or is_absent(tags)) == hidden


@pytest.mark.slow
def test_tunnels_and_cellars_are_not_asked_about_but_in_the_published_manner(
    scene, tmp_path, capsys
):
    osm = Osm()
    osm.box(20, 20, {"building": "house"})
    osm.box(80, 20, {"building": "yes", "location": "underground"})
    osm.box(140, 20, {"amenity": "parking", "parking": "underground"})
    osm.way([(0, 200), (250, 200)], {"highway": "primary", "tunnel": "yes"}, closed=False)
    path = osm.write(tmp_path / "a.osm.pbf")
    assert make(scene, path, tmp_path / "corrected", questions=40) == 0
    assert "left out: 3 features invisible from above" in capsys.readouterr().err
    found = asked(tmp_path / "corrected")
    said = {a for q, a in found.items() if q in ("Is there a road?", "Is a road present?")}
    assert said <= {"no"}
    assert {a for q, a in found.items() if "number of buildings" in q.lower()} <= {"1"}
    assert make(scene, path, tmp_path / "legacy", "--legacy") == 0
    err = capsys.readouterr().err
    assert "4 features in" in err
    assert "cannot be seen" not in err


BUILDING = {"building": "house", "name": 'A "b", => c'}


@pytest.mark.parametrize("column", few(["other_tags", "all_tags", "tags"], 0))
@pytest.mark.parametrize(
    "text",
    few(
        [
            '"building"=>"house","name"=>"A \\"b\\", => c"',
            '"building"=>"house", "layer"=>"1"',
            json.dumps(BUILDING),
            json.dumps(BUILDING, indent=1),
            BUILDING,
        ],
        0,
        2,
        4,
    ),
)
def test_tags_in_one_column_in_either_spelling(scene, tmp_path, capsys, column, text):
    assert write_geojson(tmp_path / "a.geojson", [{column: text}])
    assert make(scene, tmp_path / "a.geojson", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "1 features in" in err
    assert "left out" not in err


def write_geojson(path, rows):
    x, y = transform("EPSG:32631", "EPSG:4326", [LEFT + 50, LEFT + 90], [TOP - 50, TOP - 90])
    ring = [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]
    features = [
        {"type": "Feature", "properties": row,
         "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for row in rows
    ]  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_tags_that_are_neither_are_named_as_such(scene, tmp_path, capsys):
    write_geojson(tmp_path / "a.geojson", [{"other_tags": "building: house"}] * 2)
    assert make(scene, tmp_path / "a.geojson", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "2 with tags that are neither HSTORE nor JSON" in err
    assert "HSTORE or JSON" in err.partition("hint:")[2]
    write_geojson(tmp_path / "b.geojson", [{"other_tags": '{"building": '}, {"building": "yes"}])
    assert make(scene, tmp_path / "b.geojson", tmp_path / "out-b") == 0
    assert "1 features with tags that are neither HSTORE nor JSON" in capsys.readouterr().err


def test_missing_numbers_are_no_tags(scene, tmp_path, capsys):
    """A column of numbers with gaps: NaN is not "tunnel"."""
    rows = [{"building": "yes", "tunnel": None}, {"building": "yes", "tunnel": 0.5}]
    write_geojson(tmp_path / "a.geojson", rows)
    assert make(scene, tmp_path / "a.geojson", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "1 features in" in err
    assert "1 features invisible from above" in err


@pytest.mark.parametrize("manner", ["--legacy", "--balanced"])
def test_scenes_of_ten_metres_whose_fields_are_all_lake(tmp_path, manner):
    """Scene 54 of seed 0 has a piece of land that its lake leaves nothing of."""
    from qwen2vl_rs.synthetic.scene import make_scene

    assert make_scene(0, 54, resolution=10.0).elements
    words = ["--synthetic", "2", "--resolution", "10", manner, "--workers", "1", "--tile", "64"]
    assert main(["-q", "generate", *words, "-o", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("split", "first"), [("1,0,0", "train"), ("0,0,1", "test"), ("0,1,0", "val")]
)
def test_the_next_command_works(tmp_path, monkeypatch, capsys, split, first):
    monkeypatch.chdir(tmp_path)
    words = ["--synthetic", "2", "--tile", "64", "--questions", "5", "--workers", "1"]
    for _ in range(2):  # made, and found complete
        assert main(["generate", *words, "--split", split, "-o", "out"]) == 0
        line = capsys.readouterr().err.rpartition("next: qwen2vl-rs ")[2].split()
        assert line[:5] == ["data2csv", "--folder", "out", "--split", first]
        page = (tmp_path / "out/index.html").read_text()
        assert f"--folder . --split {first} -o {first}.csv" in page
    assert main(line) == 0
