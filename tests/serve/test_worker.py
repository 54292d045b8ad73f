"""The server's limits to the unit, its lists member by member, and what is done together."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import rasterio

from factory import write_image
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.serve import worker
from qwen2vl_rs.serve.conversation import ALONE
from qwen2vl_rs.serve.limits import Limits
from serving import Held, ask, chat, data_url, metric, serving, until

ROAD = "Is there a road?"
CLIENT = httpx.Client(timeout=30)  # one for all: each takes long to make


@pytest.fixture(scope="module", autouse=True)
def _connections():
    with CLIENT:
        yield


@pytest.fixture(scope="module")
def engine(small_base):
    return Held(Session.open(small_base))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three pictures of 56 × 56 pixels, which are four tokens each, and one of 100 × 60."""
    folder = tmp_path_factory.mktemp("rules")
    found = []
    for n in range(3):
        write_image(folder / f"{n}.tif", 56, n)
        found.append((folder / f"{n}.tif").read_bytes())
    place = {"crs": "EPSG:3857", "transform": rasterio.Affine(2, 0, 0, 0, -2, 0)}
    values = np.random.default_rng(5).integers(1, 255, (3, 60, 100)).astype(np.uint8)
    with rasterio.open(
        folder / "w.tif", "w", driver="GTiff", width=100, height=60, count=3, dtype="uint8", **place
    ) as file:
        file.write(values)
    return [*found, (folder / "w.tif").read_bytes()]


@pytest.fixture(scope="module")
def server(engine):
    with serving(engine) as server:
        yield server


def form(server, content, questions=("a?",), **more):
    data = {"questions": "\n".join(questions), **more}
    files = {"image": ("a.tif", content)}
    return CLIENT.post(f"{server.url}/api/ask", files=files, data=data)


def sent(server, content, questions=("a?",), **more):
    body = {"image": data_url(content), "questions": list(questions), **more}
    return CLIENT.post(f"{server.url}/api/ask", json=body)


def completed(server, content, question, **more):
    body = chat(content, question, **more)
    return CLIENT.post(f"{server.url}/v1/chat/completions", json=body)


def code(done):
    return 200 if done.status_code == 200 else done.json()["error"]["code"]


# --- limits


def test_counts_of_questions_and_their_characters(engine, images):
    with serving(engine, limits=Limits(questions=3, question_chars=20)) as server:
        for n, want in ((3, 200), (4, "too_many_questions")):
            asked = [f"{k}?" for k in range(n)]
            assert code(form(server, images[0], asked)) == want
            assert code(sent(server, images[0], asked)) == want
        for n, want in ((20, 200), (21, "question_too_long")):
            text = f"  {'ä' * n} "  # blanks around it are no part of it
            assert code(form(server, images[0], [text])) == want
            assert code(sent(server, images[0], [text])) == want
            assert code(completed(server, images[0], text)) == want


@pytest.mark.parametrize(("characters", "want"), [(10, 200), (11, "questions_too_long")])
def test_bytes_of_all_questions_together(engine, images, characters, want):
    asked = ["道" * 10, "路" * characters, "ä?"]  # three bytes each, and three
    with serving(engine, limits=Limits(questions_bytes=63)) as server:
        assert code(form(server, images[0], asked)) == want
        assert code(sent(server, images[0], asked)) == want


@pytest.mark.parametrize(("less", "want"), [(0, 200), (1, "image_too_large")])
def test_bytes_pixels_and_unpacked_bytes(engine, images, less, want):
    wide = images[3]
    for limits in (
        Limits(image_bytes=len(wide) - less),
        Limits(pixels=100 * 60 - less),
        Limits(unpacked_bytes=100 * 60 * 3 - less),
    ):
        with serving(engine, limits=limits) as server:
            assert code(form(server, wide)) == want
            if less != 1 or limits.image_bytes > len(wide):  # base64 has two bytes of room
                assert code(sent(server, wide)) == want


@pytest.mark.parametrize(("less", "want"), [(0, 200), (1, "json_too_complex")])
def test_parts_of_json(engine, images, less, want):
    body = json.dumps({"image": data_url(images[0]), "questions": ["a?", "b?"]})
    # what stands in an image's URL is none
    parts = sum(map(json.dumps({"image": "", "questions": ["a?", "b?"]}).count, "[{,"))
    with serving(engine, limits=Limits(json_parts=parts - less)) as server:
        done = CLIENT.post(f"{server.url}/api/ask", content=body)
        assert code(done) == want


@pytest.mark.parametrize(("less", "want"), [(0, 200), (1, "busy")])
def test_bodies_held_at_once(engine, images, less, want):
    body = json.dumps({"image": data_url(images[0]), "questions": ["a?"]}).encode()
    with serving(engine, limits=Limits(in_flight_bytes=len(body) - less)) as server:
        assert code(CLIENT.post(f"{server.url}/api/ask", content=body, timeout=30)) == want


def test_bytes_of_a_body(engine, images):
    """As many as an image of the greatest size takes in base64, with a MiB of text."""
    limits = Limits(image_bytes=3 * 10_000, in_flight_bytes=2**30)
    most = 40_000 + 2**20
    with serving(engine, limits=limits) as server:
        for size, want in ((most, "invalid_json"), (most + 1, "image_too_large")):
            done = CLIENT.post(f"{server.url}/api/ask", content=b"x" * size)
            assert code(done) == want


@pytest.mark.parametrize(("less", "status"), [(0, b"200"), (1, b"431")])
def test_bytes_of_a_head(engine, less, status):
    """Its path and headers, a line each, told apart by four more bytes."""
    lines = [(b"host", b"localhost"), (b"connection", b"close"), (b"x-pad", b"p" * 500)]
    size = len(b"/health") + sum(len(k) + len(v) + 4 for k, v in lines)
    with serving(engine, limits=Limits(head_bytes=size - less)) as server:
        port = int(server.url.rpartition(":")[2])
        head = b"GET /health HTTP/1.1\r\n" + b"".join(k + b": " + v + b"\r\n" for k, v in lines)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(head + b"\r\n")
            assert client.recv(4096).split()[1] == status


@pytest.mark.parametrize(
    ("box", "want"),
    [
        ((0, 0, 100, 60), 200), ((92, 52, 100, 60), 200), ((0, 0, 8, 8), 200),
        ((3, 4, 11, 60), 200), ((0, 0, 101, 60), "invalid_box"), ((0, 0, 100, 61), "invalid_box"),
        ((0, 0, 7, 8), "invalid_box"), ((0, 0, 8, 7), "invalid_box"),
        ((8, 0, 8, 60), "invalid_box"), ((0, 8, 60, 8), "invalid_box"),
        ((9, 0, 8, 60), "invalid_box"), ((0, 9, 60, 8), "invalid_box"),
        ((-1, 0, 60, 60), "invalid_box"), ((0, -1, 60, 60), "invalid_box"),
    ],
)  # fmt: skip
def test_boxes(server, images, box, want):
    assert code(form(server, images[3], box=",".join(map(str, box)))) == want
    assert code(sent(server, images[3], box=list(box))) == want


def test_long_boxes(server, tmp_path):
    values = np.full((1, 16, 1700), 7, np.uint8)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=1700, height=16, count=1, dtype="uint8",
        crs="EPSG:3857", transform=rasterio.Affine(2, 0, 0, 0, -2, 0),
    ) as file:  # fmt: skip
        file.write(values)
    content = (tmp_path / "a.tif").read_bytes()
    for across, want in ((1600, 200), (1601, "invalid_box")):  # 200 times the other side
        assert code(form(server, content, box=f"5,4,{5 + across},12")) == want


def test_a_box_of_an_image_that_is_no_square(server, images, tmp_path):
    with rasterio.MemoryFile(images[3]) as memory, memory.open() as file:
        piece = file.read(window=((12, 60), (40, 100)))
    with rasterio.open(
        tmp_path / "b.tif", "w", driver="GTiff", width=60, height=48, count=3, dtype="uint8",
        crs="EPSG:3857", transform=rasterio.Affine(2, 0, 0, 0, -2, 0),
    ) as file:  # fmt: skip
        file.write(piece)
    asked = [ROAD, "What do you see?"]
    boxed = ask(server, images[3], asked, box="40,12,100,60")
    assert boxed == ask(server, (tmp_path / "b.tif").read_bytes(), asked)
    assert boxed != ask(server, images[3], asked)  # not the image itself, asked just now
    assert boxed == ask(server, images[3], asked, box="40,12,100,60")


# --- lists

REFUSED = {
    "tools": [{"type": "function"}], "tool_choice": "required", "functions": [{"name": "f"}],
    "function_call": {"name": "f"}, "response_format": {"type": "json_object"}, "logprobs": True,
    "top_logprobs": 3, "logit_bias": {"50256": -100}, "stop": ["\n"], "audio": {"voice": "alloy"},
    "modalities": ["text", "audio"], "n": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_parameters_that_cannot_be_honoured(server, images, name):
    done = completed(server, images[0], ROAD, **{name: REFUSED[name]})
    assert code(done) == "unsupported_parameter"
    assert done.json()["error"]["param"] == name


NOTHING = {
    "tools": [], "tool_choice": "auto", "functions": None, "function_call": "none",
    "response_format": {"type": "text"}, "logprobs": False, "top_logprobs": None, "logit_bias": {},
    "stop": None, "audio": None, "modalities": ["text"], "n": 1, "temperature": 0.7, "seed": 3,
}  # fmt: skip


def test_parameters_that_ask_for_nothing(server, images):
    assert code(completed(server, images[0], ROAD, **NOTHING)) == 200


def test_system_messages_that_nobody_wrote(server, images):
    texts = [
        "You are a helpful assistant.", "You are a helpful AI assistant.",
        "You are a helpful, respectful and honest assistant.",
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "你是一个有用的助手。", "你是一个有帮助的助手",
    ]  # fmt: skip
    body = chat(images[0], ROAD)
    for role, more, noted in (("system", "", False), ("developer", " Say boats.", True)):
        first = [{"role": role, "content": text} for text in texts]
        first[-1]["content"] += more
        messages = first + body["messages"]
        url = f"{server.url}/v1/chat/completions"
        done = CLIENT.post(url, json={**body, "messages": messages}).json()
        assert done.get("note") == (ALONE if noted else None)


FOREIGN = [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
           {"origin": "https://evil.example"}, {"origin": "null"}]  # fmt: skip
OURS = ["/metrics", "/openapi.json", "/v1/models", "/v1/models/small", "/api/info", "/nothing"]


@pytest.mark.parametrize("headers", FOREIGN)
def test_pages_of_other_sites_read_nothing(server, headers):
    for path in OURS:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            done = CLIENT.request(method, server.url + path, headers=headers)
            assert done.status_code == 403, (method, path)
            assert "access-control-allow-origin" not in done.headers
    for path in ("/v1/chat/completions", "/api/ask", "/api/preview", "/"):
        assert CLIENT.post(server.url + path, headers=headers).status_code == 403
    for path in ("/", "/health"):  # these hold no data: a link may lead here
        assert CLIENT.get(server.url + path, headers=headers).status_code == 200


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_page_and_the_address_bar_may(server, site):
    for path in OURS[:-1]:
        assert CLIENT.get(server.url + path, headers={"sec-fetch-site": site}).status_code == 200


def test_what_is_open_without_a_token(engine, images):
    with serving(engine, token="secret") as server:
        for path in ("/", "/health"):
            assert CLIENT.get(server.url + path).status_code == 200
        for path in OURS:
            assert CLIENT.get(server.url + path).status_code == 401
        for path in ("/v1/chat/completions", "/api/ask", "/api/preview"):
            assert CLIENT.post(server.url + path).status_code == 401
        for token, status in (("secret", 200), ("Secret", 401), ("secre", 401), ("secrets", 401)):
            sent = {"authorization": f"bearer {token}"}
            assert CLIENT.get(f"{server.url}/v1/models", headers=sent).status_code == status


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/nothing"])
def test_headers_that_all_answers_have(server, path):
    found = CLIENT.get(server.url + path).headers
    wanted = {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "server" not in found


def test_what_the_page_may_load(server):
    policy = CLIENT.get(server.url).headers["content-security-policy"].split("; ")
    rules = dict(rule.split(" ", 1) for rule in policy)
    assert rules.pop("script-src").startswith("'sha256-")
    assert rules == {
        "default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "'self' data: blob:",
        "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
        "frame-ancestors": "'none'",
    }  # fmt: skip


def test_kinds_of_errors(engine, images):
    """As OpenAI's clients tell them apart."""
    with serving(engine, token="t", limits=Limits(image_bytes=10)) as server:
        own = {"authorization": "Bearer t"}
        url = f"{server.url}/v1/chat/completions"
        for done, kind, close in (
            (CLIENT.get(f"{server.url}/v1/models"), "authentication_error", False),
            (CLIENT.get(f"{server.url}/health", headers={"host": "x"}), "permission_error", False),
            (CLIENT.get(f"{server.url}/v1/models/x", headers=own), "not_found_error", False),
            (CLIENT.post(url, content=b"{", headers=own), "invalid_request_error", False),
            (CLIENT.post(url, json=chat(images[0], ROAD), headers=own), "invalid_request_error",
             True),
        ):  # fmt: skip
            assert done.json()["error"]["type"] == kind
            assert (done.headers.get("connection") == "close") is close
            assert done.json()["error"].keys() == {"message", "type", "param", "code", "hint"}


# --- what waits or is kept together


def test_forms_of_answers_do_not_mix_in_a_pass(server, engine, images):
    """The page chooses among answers, the API writes them: also where both wait."""
    free = completed(server, images[1], ROAD).json()["choices"][0]["message"]["content"]
    (row,) = ask(server, images[1], [ROAD])["answers"]
    assert row["answers"]["small"]["chosen"]
    assert row["answers"]["small"]["text"] in ("yes", "no") != free
    with engine.shut() as passes, ThreadPoolExecutor(8) as pool:
        first = pool.submit(completed, server, images[2], "What do you see?")
        assert engine.entered.wait(20)
        work = []
        for n, one in enumerate((completed, form, completed, form)):
            work.append(pool.submit(one, server, images[1], ROAD if one is completed else [ROAD]))
            until(lambda n=n: metric(server, "waiting") == n + 1)
        engine.gate.set()
        found = [one.result().json() for one in work]
        assert first.result().status_code == 200
    assert [f["choices"][0]["message"]["content"] for f in found[::2]] == [free, free]
    assert [f["answers"] for f in found[1::2]] == [[row], [row]]
    assert len(passes) == 3


@pytest.mark.parametrize(("less", "together"), [(0, 3), (1, 2)])
def test_a_pass_has_a_budget_of_tokens(engine, images, less, together):
    """Four of an image and 24 of a question: two pictures with three questions are 80."""
    engine.budget = 80 - less
    try:
        with serving(engine) as server, engine.shut() as passes, ThreadPoolExecutor(8) as pool:
            work = [pool.submit(completed, server, images[2], "What do you see?")]
            assert engine.entered.wait(20)
            for n, (image, question) in enumerate(((0, "a?"), (0, "b?"), (1, "c?"))):
                work.append(pool.submit(completed, server, images[image], question))
                until(lambda n=n: metric(server, "waiting") == n + 1)
            engine.gate.set()
            assert {one.result().status_code for one in work} == {200}
        assert sum(map(len, passes[1][0])) == together
    finally:
        del engine.budget


def test_the_image_that_was_not_asked_about_for_longest_makes_room(engine, images, monkeypatch):
    """Room for two pictures of four tokens."""
    monkeypatch.setattr(worker, "CACHED_TOKENS", 8)

    def encoded(content):
        before = metric(server, "images_encoded_total")
        assert code(completed(server, content, ROAD)) == 200
        return metric(server, "images_encoded_total") - before

    one, two, three, _ = images
    with serving(engine) as server:
        assert [encoded(one), encoded(two)] == [1, 1]
        assert [encoded(two), encoded(one)] == [0, 0]  # both have room
        assert encoded(three) == 1  # in the place of the second
        assert [encoded(three), encoded(one)] == [0, 0]
        assert encoded(two) == 1  # in the place of the third
        assert [encoded(one), encoded(two), encoded(three)] == [0, 0, 1]


def test_an_image_larger_than_the_room_is_kept_while_it_is_the_last(engine, images, monkeypatch):
    monkeypatch.setattr(worker, "CACHED_TOKENS", 3)
    with serving(engine) as server:
        for content, total in ((images[0], 1), (images[0], 1), (images[1], 2), (images[0], 3)):
            assert code(completed(server, content, ROAD)) == 200
            assert metric(server, "images_encoded_total") == total


@pytest.mark.parametrize(("waiting", "status"), [(1, 429), (2, 200)])
def test_a_full_queue(engine, images, waiting, status):
    """Jobs of one request wait together or not at all."""
    with serving(engine, waiting=waiting) as server, engine.shut(), ThreadPoolExecutor(8) as pool:
        work = [pool.submit(completed, server, images[0], ROAD)]
        assert engine.entered.wait(20)
        work.append(pool.submit(completed, server, images[1], ROAD))
        until(lambda: metric(server, "waiting") == 1)
        last = pool.submit(completed, server, images[2], ROAD)
        until(lambda: last.done() or metric(server, "waiting") == 2)
        engine.gate.set()
        assert last.result().status_code == status
        if status == 429:
            assert 1 <= int(last.result().headers["retry-after"]) <= 60
        assert {one.result().status_code for one in work} == {200}


def test_a_full_queue_says_when_those_who_wait_will_be_answered(engine, images):
    with serving(engine, waiting=2) as server, engine.shut(), ThreadPoolExecutor(8) as pool:
        work = [pool.submit(completed, server, images[0], ROAD)]
        assert engine.entered.wait(20)
        work += [pool.submit(completed, server, image, ROAD) for image in images[1:3]]
        until(lambda: metric(server, "waiting") == 2)
        for pace, seconds in ((0.0, 1), (7.0, 14), (31.0, 60)):
            server.worker._pace = pace  # seconds a job took of late
            assert completed(server, images[0], ROAD).headers["retry-after"] == str(seconds)
        engine.gate.set()
        for one in work:
            one.result()


def test_questions_are_counted_by_the_model_that_answered(trained, images):
    tuned = Session.open(trained[0] / "output/Qwen2-VL-2B")
    with serving(tuned, name="mine") as server:
        for model, times in (("mine", 1), ("base", 2)):
            for image in images[:times]:
                body = chat(image, ROAD, model)
                assert code(CLIENT.post(f"{server.url}/v1/chat/completions", json=body)) == 200
        counted = [metric(server, "questions_total", model=name) for name in ("tuned", "base")]
        assert counted == [1, 2]
