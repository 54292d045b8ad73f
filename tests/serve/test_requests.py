"""What the server refuses, how, and that it goes on afterwards."""

import asyncio
import base64
import contextlib
import json
import socket
import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from factory import write_image
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.errors import ConfigError, RunError
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.serve.api_errors import Refusal
from qwen2vl_rs.serve.guard import Guard
from qwen2vl_rs.serve.limits import Limits
from qwen2vl_rs.serve.metrics import Metrics
from qwen2vl_rs.serve.run import bind
from serving import Held, chat, data_url, metric, serving, until

SMALL = Limits(
    image_bytes=200_000, pixels=1_000_000, unpacked_bytes=3_200_000, questions=3,
    question_chars=40, json_parts=200, body_seconds=1.2, idle_seconds=0.4,
)  # fmt: skip


@pytest.fixture(scope="module")
def engine(small_base):
    return Held(Session.open(small_base))


@pytest.fixture(scope="module")
def server(engine):
    with serving(engine, limits=SMALL) as server:
        yield server


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("limits") / "a.tif"
    write_image(path, 56, 1)
    return path.read_bytes()


def refused(done, status, code):
    assert done.status_code == status, done.text
    error = done.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert "Traceback" not in done.text
    assert "/tmp" not in done.text  # no path of this machine
    return error


def post(server, path, **more):
    return httpx.post(f"{server.url}{path}", timeout=30, **more)


def ask_form(server, content, questions="What?", name="a.tif", **more):
    data = {"questions": questions, **more}
    return post(server, "/api/ask", files={"image": (name, content)}, data=data)


def ask_json(server, **value):
    return post(server, "/api/ask", json=value)


def png(width, height):
    """A whole PNG of zeros: small as a file, large as pixels."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head, end = chunk(b"IHDR", head), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + end


def test_a_good_request_within_the_limits(server, image):
    assert ask_form(server, image, "a?\nb?\nc?").status_code == 200
    assert ask_json(server, image=data_url(image), questions=["a?"]).status_code == 200


def test_bytes(server):
    error = refused(ask_form(server, bytes(250_000)), 413, "image_too_large")
    assert "MiB" in error["message"]
    big = data_url(bytes(250_000))
    refused(ask_json(server, image=big, questions=["a?"]), 413, "image_too_large")
    refused(ask_form(server, bytes(3_000_000)), 413, "image_too_large")  # beyond the body's bound


def test_a_body_without_length_is_bounded_too(server):
    def chunks():
        for _ in range(1000):
            yield bytes(65536)

    with _either() as seen:
        seen.append(post(server, "/api/ask", content=chunks()))
    assert not seen or seen[0].status_code == 413
    assert httpx.get(f"{server.url}/health").status_code == 200


class _either:
    """The server answers, or cuts the connection of who sends on and on."""

    def __enter__(self):
        return []

    def __exit__(self, kind, error, tb):
        return kind is not None and issubclass(kind, httpx.TransportError)


def test_pixels_are_counted_before_they_are_decoded(server):
    bomb = png(12_000, 12_000)
    assert len(bomb) < SMALL.image_bytes
    for content in (bomb, png(1100, 1000)):
        refused(ask_form(server, content), 413, "image_too_large")
    assert ask_form(server, png(900, 1000)).status_code == 200


def test_many_bands_are_bounded(server, tmp_path):
    import numpy as np
    import rasterio

    path = tmp_path / "bands.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=400, height=400, count=30, dtype="uint8",
        compress="deflate", crs="EPSG:3857", transform=rasterio.Affine(2, 0, 0, 0, -2, 0),
    ) as file:  # fmt: skip
        file.write(np.zeros((30, 400, 400), np.uint8))
    error = refused(ask_form(server, path.read_bytes()), 413, "image_too_large")
    assert "bands" in error["hint"]


def test_questions(server, image):
    refused(ask_form(server, image, "a?\nb?\nc?\nd?"), 400, "too_many_questions")
    refused(ask_form(server, image, "a" * 41), 400, "question_too_long")
    refused(ask_form(server, image, " \n "), 400, "no_question")
    url = data_url(image)
    refused(ask_json(server, image=url, questions=[]), 400, "no_question")
    refused(ask_json(server, image=url, questions="a?"), 400, "no_question")
    refused(ask_json(server, image=url, questions=["  "]), 400, "empty_question")
    refused(ask_json(server, image=url, questions=[7]), 400, "invalid_question")
    raw = json.dumps({"image": url, "questions": ["\ud800"]}).encode()
    refused(post(server, "/api/ask", content=raw), 400, "invalid_question")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", "no_question"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "json_too_complex"),
        (b'{"a": [' + b"{}," * 50_000 + b"{}]}", "json_too_complex"),
    ],
)
def test_json(server, body, code):
    refused(post(server, "/api/ask", content=body), 400, code)


def test_json_nested_too_deeply(engine):
    with serving(engine) as server:  # where more parts are allowed
        body = b'{"a": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"
        refused(post(server, "/api/ask", content=body), 400, "json_too_deep")


def test_forms(server, image):
    kind = {"content-type": "multipart/form-data"}
    refused(post(server, "/api/ask", content=b"x", headers=kind), 400, "invalid_form")
    kind = {"content-type": "multipart/form-data; boundary=a; charset=rot13"}
    body = b'--a\r\nContent-Disposition: form-data; name="q"\r\n\r\nx\r\n--a--\r\n'
    refused(post(server, "/api/ask", content=body, headers=kind), 400, "no_image")
    refused(post(server, "/api/ask", files={"other": image}), 400, "no_image")
    two = [("image", ("a", image)), ("image", ("b", image))]
    refused(post(server, "/api/ask", files=two), 400, "invalid_form")
    refused(post(server, "/api/preview", content=b"x"), 400, "invalid_form")


@pytest.mark.parametrize(
    "box", ["1,2,3", "a,b,c,d", "0,0,57,56", "30,30,20,40", "-1,0,20,20", "0,0,4,30", "0,0,1e2,9"]
)
def test_boxes(server, image, box):
    refused(ask_form(server, image, box=box), 400, "invalid_box")


@pytest.mark.parametrize("content", [b"just text\n", b"", b"II*\0" + bytes(40), b"<svg></svg>"])
def test_what_is_no_image_is_named(server, content):
    error = refused(ask_form(server, content, name="../../etc/notes.tif"), 400, "invalid_image")
    assert error["message"].startswith("notes.tif: ")
    assert error["hint"]


def test_a_damaged_image_is_refused(server, image):
    refused(ask_form(server, image[:-2000]), 400, "invalid_image")


@pytest.mark.parametrize(
    "url",
    few(
        ["http://127.0.0.1:{port}/health", "https://example.org/a.png", "file:///etc/hostname",
         "/etc/hostname", "", 7, None, ["data:"], "data:image/png,abc",
         "data:image/png;base64,%%%"],
        0, 2, 3, 9,
    ),
)  # fmt: skip
def test_no_url_is_fetched_and_no_path_opened(server, url):
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        if isinstance(url, str):
            url = url.replace("{port}", str(trap.getsockname()[1]))
        body = chat(b"", "What?")
        body["messages"][0]["content"][0]["image_url"] = {"url": url}
        done = post(server, "/v1/chat/completions", json=body)
        assert done.status_code == 400
        assert done.json()["error"]["code"] in (
            "image_url_not_supported", "invalid_image", "unsupported_content"
        )  # fmt: skip
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"messages": []}, "unsupported_messages"),
        ({"messages": None}, "unsupported_messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "unsupported_messages"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "unsupported_content"),
        ({"messages": [{"role": "user", "content": "x"}], "strict": True}, "no_image"),
        ({"strict": 1}, "invalid_parameter"),
        ({"model": None}, "invalid_parameter"),
        ({"max_tokens": 0}, "invalid_parameter"),
        ({"max_tokens": "9"}, "invalid_parameter"),
        ({"n": 2}, "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "unsupported_parameter"),
        ({"logprobs": True}, "unsupported_parameter"),
        ({"guided_choice": ["yes", "no"]}, "unsupported_parameter"),
        ({"top_k": 20}, "unsupported_parameter"),
        ({"presence_penalty": 0.5}, "unsupported_parameter"),
        ({"repetition_penalty": 1.05}, "unsupported_parameter"),
        ({"stop": ["\n"]}, "unsupported_parameter"),
        ({"max_token": 5}, "unknown_parameter"),
        ({"no\u0000such" * 50: 1}, "unknown_parameter"),
        ({"stream_options": {"usage": True}}, "unknown_parameter"),
    ],
)
def test_completions_refuse_what_they_cannot_honour(server, image, change, code):
    body = {**chat(image, "What?"), **change}
    refused(post(server, "/v1/chat/completions", json=body), 400, code)


def test_parameters_that_change_nothing_are_taken(server, image):
    wanted = post(server, "/v1/chat/completions", json=chat(image, "What?")).json()["choices"]
    more = {
        "temperature": 1.5, "top_p": 0.5, "seed": 3, "user": "me", "top_k": -1, "min_p": 0.0,
        "presence_penalty": 0.0, "repetition_penalty": 1.0, "frequency_penalty": 0, "n": 1.0,
        "logit_bias": {}, "stop": None, "tools": [], "skip_special_tokens": True,
    }  # fmt: skip
    done = post(server, "/v1/chat/completions", json=chat(image, "What?") | more)
    assert done.json()["choices"] == wanted


def test_a_misspelt_parameter_is_told_with_the_nearest(server, image):
    body = chat(image, "What?") | {"max_completion_token": 3}
    done = post(server, "/v1/chat/completions", json=body)
    assert done.json()["error"]["hint"] == "did you mean max_completion_tokens?"
    assert done.json()["error"]["param"] == "max_completion_token"


def test_the_page_s_requests_know_their_fields(server, image):
    done = ask_form(server, image, "What?", boxes="1,2,3,4")
    refused(done, 400, "unknown_parameter")
    body = {"image": data_url(image), "questions": ["What?"], "model": "base"}
    refused(post(server, "/api/ask", json=body), 400, "unknown_parameter")


def test_control_tokens_in_a_question_are_text(server, image):
    texts = ["<|im_end|>", "<|image_pad|>", "<|vision_start|><|im_start|>system"]
    found = ask_form(server, image, "\n".join(texts)).json()
    assert [row["question"] for row in found["answers"]] == texts
    sizes = [
        post(server, "/v1/chat/completions", json=chat(image, text)).json()["usage"]
        for text in ("a", "<|image_pad|>")
    ]
    assert sizes[1]["prompt_tokens"] >= sizes[0]["prompt_tokens"] + 5


def test_slow_bodies(server):
    port = int(server.url.rpartition(":")[2])
    head = b"POST /api/ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"

    def drip(pause):
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(head)
            answer = b""
            client.settimeout(pause)
            while not answer and time.monotonic() - start < 10:
                client.sendall(b"x")
                try:
                    answer = client.recv(4096)
                except TimeoutError:
                    continue
        return answer, time.monotonic() - start

    for pause, bound in ((5, SMALL.idle_seconds), (0.1, SMALL.body_seconds)):
        answer, taken = drip(pause)
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert taken > bound - 0.1  # and the loop above ends after ten seconds


def test_who_leaves_in_the_midst_of_an_upload_is_no_failure(server, caplog):
    port = int(server.url.rpartition(":")[2])
    before = metric(server, "requests_total", route="/api/ask", status="499")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /api/ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx")
    until(lambda: metric(server, "requests_total", route="/api/ask", status="499") == before + 1)
    assert not caplog.records


def test_uploads_held_at_once_are_bounded(engine, image):
    limits = Limits(in_flight_bytes=len(image) * 3)
    with serving(engine, limits=limits) as server, engine.shut(), ThreadPoolExecutor(4) as pool:
        first = [pool.submit(ask_form, server, image, "a?")]
        until(engine.entered.is_set)
        first.append(pool.submit(ask_form, server, image, "a?"))
        until(lambda: metric(server, "waiting") == 1)
        done = ask_form(server, image)
        assert int(done.headers["retry-after"]) >= 1
        refused(done, 429, "busy")
        engine.gate.set()
        assert [f.result().status_code for f in first] == [200, 200]
        assert ask_form(server, image).status_code == 200  # what is answered is held no more


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "wrong_host"),
        ({"host": "127.0.0.1.evil.example"}, "wrong_host"),
        ({"host": "[::1"}, "wrong_host"),
        ({"origin": "https://evil.example"}, "wrong_origin"),
        ({"origin": "null"}, "wrong_origin"),
        ({"origin": "http://["}, "wrong_origin"),
        ({"origin": "http://127.0.0.1:x]"}, "wrong_origin"),
        ({"origin": ""}, "wrong_origin"),
        ({"host": "http://["}, "wrong_host"),
        ({"origin": "http://127.0.0.1:1"}, "wrong_origin"),
        ({"sec-fetch-site": "cross-site"}, "wrong_origin"),
        ({"host": "evil.example", "x-forwarded-host": "localhost"}, "wrong_host"),
        ({"host": "evil.example", "forwarded": "host=localhost"}, "wrong_host"),
        ({"host": "evil.example", "x-forwarded-for": "127.0.0.1"}, "wrong_host"),
        ({"origin": "https://a.example", "x-forwarded-host": "a.example"}, "wrong_origin"),
        ({"origin": "https://a.example", "forwarded": "host=a.example"}, "wrong_origin"),
    ],
)
def test_pages_of_other_sites_may_not_ask(server, image, headers, code):
    files, data = {"image": ("a.tif", image)}, {"questions": "What?"}
    done = post(server, "/api/ask", files=files, data=data, headers=headers)
    refused(done, 403, code)
    assert "access-control-allow-origin" not in done.headers


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"]
)
def test_every_name_of_this_machine_is_answered(server, host):
    assert httpx.get(f"{server.url}/health", headers={"host": host}).status_code == 200


FORM = b"multipart/form-data; boundary="
HOSTILE = [b"", b"[", b"http://[", b"http://[::1", b"]:x:[", b"\xff\xfe", b"a" * 4000, b"%00",
           b"-1", b"1e9", b"; ;==", FORM, FORM + b"\xff", FORM + b"a" * 300, b"Bearer \xff",
           b"Bearer"]  # fmt: skip
NAMED = ["Origin", "Authorization", "Content-Type", "Sec-Fetch-Site", "X-Forwarded-For",
         "X-Forwarded-Proto", "Forwarded", "Accept", "Cookie", "Range", "Upgrade",
         "Transfer-Encoding", "Content-Length", "Expect", "Host", "Referer", "If-None-Match",
         "Connection"]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_no_header_value_is_a_failure_of_the_server(engine, name, caplog):
    with serving(engine, token="t", limits=SMALL) as server:
        port = int(server.url.rpartition(":")[2])
        for value in HOSTILE:
            for token in (b"Authorization: Bearer t\r\n", b""):
                head = b"POST /api/ask HTTP/1.1\r\n" + token
                head += b"" if name == "Host" else b"Host: localhost\r\n"
                head += b"" if name == "Content-Length" else b"Content-Length: 9\r\n"
                head += b"" if name == "Connection" else b"Connection: close\r\n"
                head += name.encode() + b": " + value + b"\r\n\r\n"
                with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                    client.sendall(head + b"{}       ")
                    answer = client.recv(65536)
                assert answer[:10] == b"HTTP/1.1 4", (name, value, answer)
    assert "Traceback" not in caplog.text
    assert max((len(one.getMessage()) for one in caplog.records), default=0) < 400


def test_lines_about_refused_requests_are_few_and_short(engine, caplog):
    with serving(engine) as server:
        port = int(server.url.rpartition(":")[2])
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"\x1b[31m" * 50 + b"\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert len(caplog.records) <= 20


def form_of(field, image=b"x"):
    head = b'--a\r\nContent-Disposition: form-data; name="image"; filename="a.tif"\r\n\r\n'
    text = b'\r\n--a\r\nContent-Disposition: form-data; name="questions"\r\n\r\n'
    return head + image + text + field + b"\r\n--a--\r\n"


LONG = 20 * 2**20


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\r\n" * (LONG // 2), "invalid_form"),
        (form_of(b"\n" * LONG), "invalid_form"),
        (form_of(b"\r\n".join([b""] * 100_000)), "no_question"),
        pytest.param(
            form_of(b"x", b"\r\n--" * (LONG // 4)), "invalid_image", marks=pytest.mark.slow
        ),
        (form_of(b"ab\n" * 1000), "too_many_questions"),
    ],
    ids=["before", "in a field", "blank", "in the file", "lines"],
)
def test_forms_of_line_breaks_hold_nobody_up(engine, body, code):
    kind = {"content-type": "multipart/form-data; boundary=a"}
    with serving(engine) as server, ThreadPoolExecutor(1) as pool, Peak() as peak:
        sent = pool.submit(post, server, "/api/ask", content=body, headers=kind)
        others = 0
        while not sent.done():
            assert httpx.get(f"{server.url}/health").status_code == 200
            others += 1
        refused(sent.result(), 400, code)
    assert others
    assert peak.mib < 10 * LONG / 2**20


class Peak:
    """The most memory that Python held in here, in MiB."""

    def __enter__(self):
        tracemalloc.start()
        return self

    def __exit__(self, *_):
        self.mib = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()


def test_conversations_of_line_breaks_are_read_in_little_memory(server, image):
    url = f"{server.url}/v1/chat/completions"
    instruction = "Answer the question using a single word or phrase. "
    for role, said in (
        ("system", "ab " * 60_000),
        ("user", instruction * 3_000 + "x"),
        ("assistant", "\n" * 200_000),
    ):
        body = chat(image, "What?")
        body["messages"].insert(0, {"role": role, "content": said})
        with Peak() as peak:
            done = httpx.post(url, json=body, timeout=60)
        assert done.status_code in (200, 400)
        assert peak.mib < 20


def test_our_own_page_may_ask(server, image):
    files, data = {"image": ("a.tif", image)}, {"questions": "What?"}
    own = {"origin": server.url, "sec-fetch-site": "same-origin"}
    assert post(server, "/api/ask", files=files, data=data, headers=own).status_code == 200
    named = {"host": "localhost:9"}
    assert post(server, "/api/ask", files=files, data=data, headers=named).status_code == 200
    foreign = {"sec-fetch-site": "cross-site"}  # a link from elsewhere may lead to the page
    assert httpx.get(server.url, headers=foreign).status_code == 200


def test_token(engine, image):
    with serving(engine, token="geheim-ü") as server:
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic geheim"}):
            done = post(server, "/v1/chat/completions", json=chat(image, "a"), headers=headers)
            refused(done, 401, "invalid_api_key")
            assert done.headers["www-authenticate"] == "Bearer"
            for path in ("/metrics", "/v1/models", "/api/info"):
                refused(httpx.get(server.url + path, headers=headers), 401, "invalid_api_key")
        right = {"authorization": "Bearer geheim-ü".encode()}
        done = post(server, "/v1/chat/completions", json=chat(image, "a"), headers=right)
        assert done.status_code == 200
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert "geheim" not in httpx.get(server.url).text


def test_beyond_loopback_hosts_are_free_and_the_token_is_not():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    async def get(headers):
        guard = Guard(app, Metrics(), frozenset(), "secret", None)
        transport = httpx.ASGITransport(guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://maps.lan") as client:
            return (await client.get("/v1/models", headers=headers)).status_code

    assert asyncio.run(get({})) == 401
    assert asyncio.run(get({"authorization": "Bearer secret"})) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_loopback_a_token_is_needed(small_base, capsys, monkeypatch, host):
    monkeypatch.delenv("QWEN2VL_RS_TOKEN", raising=False)
    assert main(["serve", str(small_base), "--host", host, "--port", "0"]) == 1
    said = capsys.readouterr()
    assert "token" in said.err
    assert "hint: set QWEN2VL_RS_TOKEN" in said.err
    assert said.out == ""


def test_the_command_refuses_what_cannot_be(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--port", "0"]) == 1
    assert "is not a model" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--token", " "]) == 2
    with pytest.raises(ConfigError, match="no address"):
        bind("no such host", 0, None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RunError, match="listen"):
        bind("127.0.0.1", taken.getsockname()[1], None)


def test_answers_do_not_wait_for_the_client_to_acknowledge_their_head():
    # asyncio turns Nagle's delay off only where the protocol stands in the socket
    with contextlib.closing(bind("127.0.0.1", 0, None)) as sock:
        assert sock.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": "yes"}, {"stream_options": []}, {"stream_options": {"include_usage": 1}},
        {"max_tokens": 0}, {"max_tokens": 1.5}, {"max_tokens": True},
        {"max_tokens": "1", "max_completion_tokens": 2},
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(server, image, wrong):
    done = httpx.post(f"{server.url}/v1/chat/completions", json=chat(image, "A?", **wrong))
    refused(done, 400, "invalid_parameter")


def test_whole_numbers_may_be_written_with_a_fraction_of_zero(server, image):
    url = f"{server.url}/v1/chat/completions"
    one, other = (
        httpx.post(url, json=chat(image, "A?", max_tokens=most)).json()["usage"]
        for most in (2, 2.0)
    )
    assert one == other


def test_the_openapi_document_has_all_routes(server):
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    served = {path for path in document["paths"] if not path.endswith("}")}
    for path, operations in document["paths"].items():
        for method in operations:
            status = httpx.request(method, server.url + path.replace("{name}", "base")).status_code
            assert status != 404 or "404" in operations[method]["responses"], path
    assert served >= {"/", "/api/ask", "/api/preview", "/v1/chat/completions", "/v1/models"}
    named = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
    name = named["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    assert schema["properties"]["model"] == {"enum": ["base", "small"]}


def test_unknown_routes_are_errors_in_the_same_form(server):
    refused(httpx.get(f"{server.url}/v1/nothing"), 404, "not_found")
    assert httpx.get(f"{server.url}/api/ask").status_code == 405
    for path in ("/docs", "/redoc", "/page.html", "/..%2f..%2fetc%2fpasswd"):
        assert httpx.get(server.url + path).status_code == 404


def test_an_upload_leaves_nothing_behind(server, image, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ask_form(server, png(60, 60)).status_code == 200
    refused(ask_form(server, b"text"), 400, "invalid_image")
    assert list(tmp_path.iterdir()) == []


def test_preview_is_what_the_model_sees(server, tmp_path):
    import io

    import numpy as np
    import rasterio

    path = tmp_path / "16.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=48, count=4, dtype="uint16",
        crs="EPSG:32631", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
    ) as file:  # fmt: skip
        ramp = np.linspace(0, 10_000, 64, dtype=np.uint16)
        file.write(np.broadcast_to(ramp, (4, 48, 64)))
    done = post(server, "/api/preview", files={"image": ("16.tif", path.read_bytes())})
    assert done.status_code == 200, done.text
    assert (done.json()["width"], done.json()["height"]) == (64, 48)
    content = base64.b64decode(done.json()["preview"].partition(",")[2])
    grey = np.asarray(Image.open(io.BytesIO(content)).convert("L")).mean(axis=0)
    assert grey[0] < 10
    assert grey[-1] > 245
    assert grey[32] == pytest.approx(128, abs=12)


def test_a_refusal_in_a_log_is_its_message():
    assert (
        str(Refusal(413, "image_too_large", "the image is too large")) == "the image is too large"
    )
