"""What a reader of the documentation tried: data, servers, replies and scenes of all kinds."""

import contextlib
import gc
import json
import shlex
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from numpy.testing import assert_array_equal
from PIL import Image
from rasterio.transform import from_origin
from rasterio.warp import transform_geom
from shapely.geometry import LineString, box, mapping

from endpoints import running, said, truth
from factory import make_samples
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import HubError, ImageError, Qwen2VLRSError
from qwen2vl_rs.predict.endpoint_replies import Failure, message, read_reply, refusal
from qwen2vl_rs.questions.normal_forms import interpret, normalise
from qwen2vl_rs.questions.reply import extract_answer
from qwen2vl_rs.raster import read_rgb

# Servers (13, 15)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._LONGEST_WAIT", 0.01)
    samples = make_samples(tmp_path / "images", images=2)
    write_conversations(tmp_path / "test.json", samples)
    return samples


def ask_server(url, *more):
    return main(["eval", "--endpoint", url, "--model", "m", "--test", "test.json", *more])


def broken(error, reason="error"):
    message = {"role": "assistant", "content": ""}
    return {"choices": [{"message": message, "finish_reason": reason, "error": error}]}


def part(reason):
    return {"choices": [{"message": {"content": "No, "}, "finish_reason": reason}]}


PASSING = [
    {"error": {"code": 502, "message": "Provider returned error"}},
    {"error": {"code": "503", "message": "busy"}},
    {"error": {"code": None, "type": "server_error", "message": "oops"}},
    {"error": {"code": "rate_limit_exceeded", "message": "slow down"}},
    {"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow down"}},
    {"error": "upstream connection failed"},
    {"object": "error", "type": "InternalServerError", "code": 500, "message": "oops"},
    {"error": {"code": 429, "message": "slow"}, "choices": []},
    broken({"code": 502, "message": "Provider disconnected"}),
    broken({"code": 502, "message": "Provider disconnected"}, "stop"),
    broken({"message": "who knows"}),
    part("error"),
    part("abort"),
    part({"type": "abort", "message": "shutting down"}),
]


def test_errors_inside_a_success_are_asked_again_and_never_scored(asked, capsys):
    answer = truth(asked)

    def at_first(request, n):
        return (200, {}, PASSING[n - 1]) if n <= len(PASSING) else said(answer(request))

    with running(at_first) as api:
        assert ask_server(api.url, "--json", "--max-eval", "8") == 0
        assert len(api.seen) == len(PASSING) + 8
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["protocols"]["official"]["OA"] == 1
    assert found["unreadable"]["n"] == 0
    assert "repeated 3 requests: 502 in a reply" in err


@pytest.mark.parametrize("key", ["code", "status", "status_code"])
def test_the_status_of_an_error_in_a_reply_is_read_whatever_its_key(key):
    def read(value):
        error = {"message": "so it is", "code": "odd", key: value}
        return read_reply(json.dumps({"error": error}).encode(), "there")

    for status in (408, 409, 425, 429, 500, 502, 503, 504, 524, 529):
        for value in (status, str(status)):
            assert read(value) == Failure(f"{status} in a reply", "so it is")
    for status in (400, 401, 499, 501, 599):
        with pytest.raises(HubError, match=f"there answers {status}: so it is"):
            read(status)
    for value in (399, 600, 5030, "-503", None):  # no status of an error
        with pytest.raises(HubError, match="there answers with an error: so it is"):
            read(value)


def test_an_error_that_stays_ends_it_and_what_was_answered_is_kept(asked, capsys):
    answer, body = truth(asked), broken({"code": 502, "message": "Provider disconnected"})
    with running(lambda r, n: said(answer(r)) if n < 5 else (200, {}, body)) as api:
        assert ask_server(api.url, "--concurrency", "1") == 1
        err = capsys.readouterr().err
        assert "8 times in a row: 502 in a reply: Provider disconnected" in err
        before, api.answer = len(api.seen), lambda r, n: said(answer(r))
        assert ask_server(api.url, "--concurrency", "1") == 0
        assert len(api.seen) - before == 2 * len(asked) - 4


STOPPING = [
    (200, {"error": {"code": 401, "message": "no such key"}}, ("no such key", "OPENAI_API_KEY")),
    (200, {"error": {"code": 402, "message": "pay"}}, ("402: pay", "credit")),
    (402, {"error": {"message": "pay"}}, ("402: pay", "credit")),
    (200, {"error": {"code": 404, "message": "no model"}}, ("404: no model", "--model")),
    (200, {"error": {"code": 400, "message": "no images"}}, ("400: no images", "data URL")),
    (200, broken({"code": 403, "message": "flagged"}), ("403: flagged", "OPENAI_API_KEY")),
    (200, {"error": {"code": "odd", "message": "so it is"}}, ("so it is", "server's log")),
    (200, {"choices": []}, ("an empty answer", "server's log")),
    (200, {"id": "x"}, ("not as OpenAI", "--endpoint")),
    (200, [], ("not as OpenAI", "--endpoint")),
    (200, {"choices": None}, ("not as OpenAI", "--endpoint")),
    (200, {"choices": ["yes"]}, ("not as OpenAI", "--endpoint")),
    (200, {"choices": [{"text": "yes", "index": 0}]}, ("without a message", "older completions")),
    (200, b'data: {"choices": [{"delta": {"content": "yes"}}]}\n\n', ("event stream", "streaming")),
]


@pytest.mark.parametrize(("status", "body", "words"), STOPPING, ids=lambda v: str(v)[:40])
def test_all_else_stops_with_an_error_that_fits(status, body, words):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Qwen2VLRSError) as found:
        raise refusal(status, message(data), "A") if status != 200 else read_reply(data, "A")
    assert words[0] in str(found.value)
    assert words[1] in found.value.hint


@pytest.mark.parametrize("body", [{"choices": []}, STOPPING[0][1]], ids=["none", "error"])
def test_several_requests_that_fail_at_once_are_one_error(asked, caplog, capfd, body):
    with running(lambda *_: (200, {}, body)) as api:
        assert ask_server(api.url, "--concurrency", "8") == 1
    out, err = capfd.readouterr()
    assert err.count("hint:") == 1
    assert "Traceback" not in err
    gc.collect()
    assert not caplog.records  # "Task exception was never retrieved"
    assert not out
    assert not list(Path("output").rglob("predictions.jsonl"))


def test_an_image_that_cannot_be_read_ends_it_the_same_way(asked, caplog, capfd):
    for image in Path("images").iterdir():
        image.write_bytes(b"no image")
    with running(lambda *_: said("yes")) as api:
        assert ask_server(api.url) == 1
        assert not api.seen
    assert "Traceback" not in capfd.readouterr().err
    gc.collect()
    assert not caplog.records


def test_other_settings_are_asked_anew(asked):
    settings = ("eval.max_new_tokens=64", "view.instruction=Say it.")
    changes = [[], *(["--set", one] for one in settings), ["--model", "another"]]
    with running(lambda *_: said("yes")) as api:
        for n, change in enumerate(changes, 1):
            assert ask_server(api.url, "-o", "out", "--max-eval", "8", *change) == 0
            assert len(api.seen) == 8 * n


# Replies (14): no right answer is lost to LaTeX, and none is made of what is something else


@pytest.mark.parametrize(
    ("reply", "type", "answer"),
    [
        (r"$\boxed{\text{Yes}}$", "presence", "yes"),
        (r"\boxed {yes}", "presence", "yes"),
        (r"The final answer is $\boxed{\textbf{yes}}.$", "presence", "yes"),
        (r"<think>no</think><answer>$\boxed{yes}$</answer>", "presence", "yes"),
        (r"\boxed{\phantom{yes}no}", "presence", "no"),
        ("<ANSWER>yes</ANSWER>", "presence", "yes"),
        ("<think>\nno</think>\n\n<|begin_of_box|>yes<|end_of_box|>", "presence", "yes"),
        ("◁think▷no◁/think▷yes", "presence", "yes"),
        (r"\(\boxed{\mathrm{urban}}\)", "rural_urban", "urban"),
        (r"\boxed{\xcancel{urban} \text{rural}}", "rural_urban", "rural"),
        (r"\mathtt{water bodies}", "LC", "water bodies"),
        *((text, "count", "12") for text in (
            r"\boxed{12\,\text{roads}}", r"$\boxed{12 \text{ roads}}$", r"\[ \boxed{12} \]",
            r"\boxed{12~\mathrm{roads}}", r"\boxed{12 \quad \text{roads}}", r"\(12\)", "$$12$$",
            "There are $12$ roads.", r"\boxed{{12}}", r"\boxed{$12$}", r"\boxed{\bf 12}",
            r"\boxed{\textcolor{red}{12}}", r"\boxed{\left(12\right)}", r"\boxed{\boxed{12}}",
            r"\boxed{\text{There are }\textbf{12}\text{ roads}}", r"\boxed{\sout{10} 12}",
            r"\boxed{\textbf{\text{12}}}", r"\fbox{12}", "<thinking>11</thinking>12",
        )),
        *((text, "count", "1234") for text in (
            r"\boxed{1{,}234}", r"\boxed{1\,234}", r"\boxed{1\ 234}", r"\boxed{1~234}",
            r"\boxed{1,\!234}", r"\boxed{\mathbf{1{,}234}}", r"\boxed{\num{1234}}", "$1{,}234$",
            r"\boxed{1\;234 \text{ roads}}", r"\boxed{\text{\textbf{1{,}234}}}",
        )),
        *((text, "area", "1234m2") for text in (
            r"\boxed{1{,}234\,\text{m}^2}", r"\boxed{1\,234~\mathrm{m}^{2}}", r"$1234\,m^2$",
            r"\boxed{1{,}234\ \mathrm{m^2}}", r"\boxed{1234\,\text{m}^{\text{2}}}",
            r"\SI{1234}{\square\metre}", r"\qty{1234}{\meter\squared}",
            r"\boxed{1234 \text{ m}\textsuperscript{2}}", r"\boxed{1234\,\text{square meters}}",
        )),
    ],
)  # fmt: skip
def test_latex_is_read_as_it_is_typeset(reply, type, answer):
    assert normalise(reply, type) == answer
    assert interpret(reply, type) == (answer, "")


@pytest.mark.parametrize(
    ("type", "inside"),
    [
        ("count", r"1{,}5 1\,2 1{,}23\,4 \frac{1}{2} \dfrac12 \approx~12 \pm{}2 12\% 2^{10} x_{12}"
         r" -12 {-}12 \cancel{12} \sqrt{12} \{12\} 12\,\text{m} 12\,\text{or}\,13 \overline{12}"
         r" 12\text{--}15 \geq{12} >12 10\cdot{2} 10\times2 12^\circ \binom{12}{2} \log{12}"
         r" \lnot{12} 1\;2\;3 12\\13 10{-}15 \boxed{12}\boxed{13} 12\text{hundred} 12{,}34"),
        ("area", r"12\,\text{km}^2 12^2 12\,\text{m} 12\,\text{m}^3 12 \SI{12}{\kilo\metre}"),
        ("presence", r"\cancel{yes} \neg\text{yes} \text{yes}\text{or}\text{no} \phantom{yes}"),
        ("rural_urban", r"\cancel{urban} \neg\text{urban} \not\text{urban} \sout{rural}"),
    ],
)  # fmt: skip
def test_latex_earns_nothing_that_is_not_said(type, inside):
    for one in inside.split():
        assert normalise(rf"\boxed{{{one}}}", type) is None, one
    for text in ("$5 and $6", r"\boxed{12}\boxed{13}", "$12"):
        assert normalise(text, "count") is None


def test_latex_takes_no_longer_than_it_is_long():
    start = time.process_time()
    for piece in ("\\boxed{", "\\text{", "{", "$", "$a ", "\\(", "\\[", "\\SI{a}{", "{{{{", "^{"):
        extract_answer(piece * 20_000)
    assert time.process_time() - start < 5


# Scores (16)


def lines_of(path, *sets):
    rows = [{"id": f"{n}", "question": "How many roads are there?", "answer": "3",
             "prediction": "7", "image": f"{n}.tif", **({"dataset": name} if name else {})}
            for n, name in enumerate(sets)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("sets", [("LR", "HR", "LR"), ("RSVQA-LR", "hr"), ("LR", "xBEN", "")])
def test_lines_of_several_data_sets_are_not_scored_as_one(tmp_path, capsys, sets):
    path = lines_of(tmp_path / "p.jsonl", *sets)
    for words in (["score", path, "--json"], ["report", "--after", path, "-o", str(tmp_path)]):
        assert main(words) == 1
        err = capsys.readouterr().err
        assert "names several data sets" in err
        assert "LR (" in err
        assert "unknown" not in err
    for name, right in (("LR", 1), ("HR", 0)):
        assert main(["score", path, "--json", "--dataset", name]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["dataset"], found["protocols"]["official"]["OA"]) == (name, right)


def test_the_set_of_each_line_counts_where_they_are_told_apart_as_hinted(tmp_path, capsys):
    for name, right in (("LR", 1), ("HR", 0)):
        assert main(["score", lines_of(tmp_path / "p.jsonl", name, name), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["dataset"], found["dataset_from"]) == (name, "files")
        assert found["protocols"]["official"]["OA"] == right
    assert main(["score", lines_of(tmp_path / "p.jsonl", "", "")]) == 0
    assert "unknown data set" in capsys.readouterr().out


def test_a_server_is_not_asked_questions_of_several_data_sets(asked, capsys):
    mixed = [replace(s, dataset=("LR", "HR")[n % 2]) for n, s in enumerate(asked)]
    write_conversations(Path("test.json"), mixed)
    with running(lambda *_: said("yes")) as api:
        assert ask_server(api.url) == 1
        assert not api.seen
        assert "HR (8 lines)" in capsys.readouterr().err
        assert ask_server(api.url, "--max-eval", "8", "--set", "data.dataset=LR") == 0


def test_nor_is_a_model_here(asked, small_base, capsys):
    mixed = [replace(s, dataset=("LR", "HR")[n % 2]) for n, s in enumerate(asked)]
    write_conversations(Path("test.json"), mixed)
    assert main(["eval", str(small_base), "--test", "test.json", "-o", "out"]) == 1
    assert "names several data sets" in capsys.readouterr().err
    assert not Path("out").exists()


# Scenes of one's own (24, 25) and drawn ones

LEFT, TOP, SIDE = 500_000, 5_600_256, 256


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8",
        crs="EPSG:32631", transform=from_origin(LEFT, TOP, 1, 1),
    ) as file:  # fmt: skip
        file.write(np.random.default_rng(0).integers(1, 255, (3, SIDE, SIDE), dtype=np.uint8))
    return path


def write_vectors(path, rows, *, swap=False, column=""):
    """Houses of 14 m, or roads where a tag says so, one beside the other."""
    features = []
    for n, tags in enumerate(rows):
        x, y = LEFT + 8 + n % 10 * 24, TOP - 8 - n // 10 * 24
        road = any("highway" in key for key in tags)
        shape = LineString([(x, y), (x + 14, y - 14)]) if road else box(x, y - 14, x + 14, y)
        place = transform_geom("EPSG:32631", "EPSG:4326", mapping(shape))
        if swap:
            place = mapping(shapely.transform(shapely.geometry.shape(place), lambda p: p[:, ::-1]))
        row = {column: json.dumps(tags)} if column else tags
        features.append({"type": "Feature", "properties": row, "geometry": place})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def make(scene, vectors, out, *more):
    words = ["--image", str(scene), "--vectors", str(vectors), "--tile", str(SIDE), *more]
    return main(["generate", *words, "--split", "1,0,0", "--questions", "60", "-o", str(out)])


def answers(out):
    questions = json.loads((out / "LR_split_train_questions.json").read_text())["questions"]
    told = json.loads((out / "LR_split_train_answers.json").read_text())["answers"]
    said = {a["question_id"]: a["answer"] for a in told if a["active"]}
    return {q["question"]: said[q["id"]] for q in questions if q["active"]}


THERE = [
    {"building": "house"}, {"building": "yes", "abandoned": "yes"}, {"building": "ruins"},
    {"building": "yes", "disused": "yes"}, {"building": "yes", "demolished": "no"},
    {"building": "house", "razed:building": "barn"}, {"building": "yes", "ruins": "yes"},
    {"building": "yes", "construction": "minor"}, {"building": "yes", "historic": "building"},
]  # fmt: skip
STATES = ("proposed", "planned", "construction", "demolished", "destroyed", "razed", "removed",
          "dismantled")  # fmt: skip
NOT_THERE = [
    *({"building": state} for state in STATES),
    *({"building": "yes", state: "yes"} for state in STATES),
    *({f"{state}:building": "yes"} for state in (*STATES, "abandoned", "disused", "was")),
    *({"highway": state, "construction": "residential"} for state in (*STATES, "abandoned")),
    *({f"{state}:highway": "residential"} for state in ("construction", "abandoned", "razed")),
    {"highway": "residential", "removed": "2019-04"},
]  # fmt: skip


@pytest.mark.parametrize("column", ["", "other_tags"])
def test_only_what_is_there_is_counted(scene, tmp_path, capsys, column):
    path = write_vectors(tmp_path / "v.geojson", THERE + NOT_THERE, column=column)
    assert make(scene, path, tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert f"left out: {len(NOT_THERE)} features not existing" in err
    assert "without a tag" not in err
    found = answers(tmp_path / "out")
    counted = {a for q, a in found.items() if q.lower().endswith("number of buildings?")}
    counted |= {a for q, a in found.items() if q == "How many buildings are there?"}
    assert counted == {str(len(THERE))}
    roads = {a for q, a in found.items() if q in ("Is there a road?", "Is a road present?")}
    assert roads <= {"no"}
    assert "not existing" in (tmp_path / "out/index.html").read_text()


def test_the_published_manner_knows_no_life_cycle(scene, tmp_path, capsys):
    rows = [{"building": "construction"}, {"razed:building": "yes"}, {"building": "yes"}]
    rows.append({"natural": "water"})  # tiles with one layer only are left out
    assert (
        make(scene, write_vectors(tmp_path / "v.geojson", rows), tmp_path / "out", "--legacy") == 0
    )
    err = capsys.readouterr().err
    assert "3 features in" in err
    assert "left out: 1 features not existing" in err


def test_where_nothing_is_there_any_more_it_is_said(scene, tmp_path, capsys):
    path = write_vectors(tmp_path / "v.geojson", [{"demolished:building": "yes"}] * 2)
    assert make(scene, path, tmp_path / "out") == 1
    assert "2 not existing" in capsys.readouterr().err


def test_vectors_of_another_place_are_refused(scene, tmp_path, capsys):
    path = write_vectors(tmp_path / "v.geojson", [{"building": "yes"}], swap=True)
    assert make(scene, path, tmp_path / "out") == 1
    assert "none of its features is in the image" in capsys.readouterr().err


@pytest.mark.parametrize("manner", few([[], ["--legacy"], ["--balanced"], ["--like", "hr"]], 0, 2))
def test_no_image_has_more_questions_than_asked_for(tmp_path, manner):
    words = ["--synthetic", "8", "--questions", "12", "--tile", "64", "--workers", "1"]
    out = tmp_path / "out"
    assert main(["-q", "generate", *words, *manner, "--split", "1,0,0", "-o", str(out)]) == 0
    (path,) = out.glob("*_split_train_questions.json")
    found = Counter(q["img_id"] for q in json.loads(path.read_text())["questions"] if q["active"])
    assert found
    assert max(found.values()) <= 12


# Rasters (19 to 21) and maps (22, 23, 30)


def write(path, values, *, bounds=(1, 1), colours=None, **options):
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[2], height=values.shape[1],
        count=len(values), dtype=values.dtype, crs="EPSG:32631",
        transform=from_origin(LEFT, TOP, *bounds), **options,
    ) as file:  # fmt: skip
        if colours:
            file.write_colormap(1, colours)
        file.write(values)
    return path


def test_a_palette_with_a_nodata_index_is_its_colours(tmp_path):
    index = np.random.default_rng(1).integers(0, 4, (1, 40, 60), dtype=np.uint8)
    table = {0: (0, 0, 0), 1: (200, 30, 10), 2: (20, 180, 40), 3: (240, 240, 250)}
    path = write(tmp_path / "p.tif", index, colours=table, nodata=0, photometric="palette")
    assert_array_equal(read_rgb(path, RasterToRGB()), np.array(list(table.values()))[index[0]])


@pytest.mark.parametrize("form", ["1.tif", "1.png", "white.tif", "4.tif"])
def test_few_bits_are_the_same_picture_or_refused_and_never_black(tmp_path, form):
    on = np.random.default_rng(2).integers(0, 2, (1, 32, 32), dtype=np.uint8)
    path, expected = tmp_path / form, np.repeat(255 * on[0][..., None], 3, axis=2)
    if form == "1.png":
        Image.fromarray(255 * on[0]).convert("1").save(path)
    elif form == "white.tif":
        write(path, 1 - on, nbits=1, photometric="MINISWHITE")
    else:
        bits = int(form[0])
        write(path, on * (2**bits - 1), nbits=bits)
    if form == "white.tif":
        with contextlib.suppress(ImageError):
            assert_array_equal(read_rgb(path, RasterToRGB()), expected)
    else:
        assert_array_equal(read_rgb(path, RasterToRGB()), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", "uint64", "complex64", "complex128"])
def test_any_type_of_numbers_is_stretched_or_refused_by_name(tmp_path, dtype):
    values = np.random.default_rng(3).integers(0, 100, (1, 40, 40))
    path = tmp_path / "x.tif"
    write(path, values.astype(dtype))
    if dtype.startswith("complex"):
        with pytest.raises(ImageError, match="complex"):
            read_rgb(path, RasterToRGB())
    else:
        found = read_rgb(path, RasterToRGB())
        assert found.shape == (40, 40, 3)
        assert found.max() > found.min()


def map_of(base, scene, out, *more):
    return main(["map", str(base), str(scene), "-o", str(out), *more])


def test_windows_are_square_on_the_ground_though_pixels_are_not(small_base, tmp_path, capsys):
    values = np.random.default_rng(4).integers(1, 255, (3, 120, 240), dtype=np.uint8)
    path = write(tmp_path / "s.tif", values, bounds=(0.5, 1.0))
    code = map_of(small_base, path, tmp_path / "m", "road?", "--tile", "56", "--resolution", "1")
    if code:
        assert "square" in capsys.readouterr().err
        return
    windows = pyogrio.raw.read(tmp_path / "m/windows.gpkg")
    bounds = shapely.bounds(shapely.from_wkb(windows[2]))
    assert bounds[:, 2] - bounds[:, 0] == pytest.approx(bounds[:, 3] - bounds[:, 1], rel=0.02)
    whole = shapely.union_all(shapely.from_wkb(windows[2])).bounds
    assert whole == pytest.approx((LEFT, TOP - 120, LEFT + 120, TOP), abs=0.6)


def test_a_map_is_not_resumed_with_other_questions_or_pixels(small_base, tmp_path, capsys):
    values = np.random.default_rng(5).integers(1, 255, (3, 56, 112), dtype=np.uint8)
    path = write(tmp_path / "s.tif", values)
    first = [small_base, path, tmp_path / "m", "--tile", "56"]
    assert map_of(*first, "road?", "house?") == 0
    before = (tmp_path / "m/windows.jsonl").read_bytes()
    for words in (("house?", "road?"), ("road?", "water?")):
        assert map_of(*first, *words) == 1
    write(path, 255 - values)
    assert map_of(*first, "road?", "house?") == 1
    assert "another scene" in capsys.readouterr().err
    assert (tmp_path / "m/windows.jsonl").read_bytes() == before


@pytest.mark.parametrize("overlap", ["0", "0.3"])
def test_asked_and_left_out_are_all_windows(small_base, tmp_path, overlap):
    values = np.random.default_rng(6).integers(1, 255, (3, 70, 160), dtype=np.uint8)
    values[:, :, :90] = 0
    path = write(tmp_path / "s.tif", values, nodata=0)
    out = tmp_path / "m"
    assert map_of(small_base, path, out, "road?", "--tile", "56", "--overlap", overlap) == 0
    lines = [json.loads(line) for line in (out / "windows.jsonl").read_text().splitlines()[1:]]
    asked = [line for line in lines if "replies" in line]
    assert 0 < len(asked) < len(lines)
    assert [line["window"] for line in lines] == list(range(len(lines)))
    assert pyogrio.read_info(out / "windows.gpkg")["features"] == len(asked)
    with rasterio.open(out / "map.tif") as found, rasterio.open(path) as shown:
        if overlap == "0":
            assert tuple(found.bounds) == pytest.approx(tuple(shown.bounds))
        assert box(*shown.bounds).buffer(1e-6).contains(box(*found.bounds))
        assert np.isnan(found.read(1)).any()


# Names (18)


def test_every_next_command_runs_in_a_folder_of_any_name(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "it's a $x dir"
    folder.mkdir()
    monkeypatch.chdir(folder)
    out = str(folder / 'a `b` "c"')
    words = ["generate", "--synthetic", "4", "--tile", "64", "--questions", "4", "-o", out]
    for _ in range(3):
        assert main(words) == 0
        printed = capsys.readouterr().err.rpartition("next: qwen2vl-rs ")[2].splitlines()[0]
        words = shlex.split(printed)
    assert words[0] == "train"
