"""What an hour's attack on the server found: each finding, and what held."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from test_connections import answer_of, connect, is_open, is_well
from test_requests import png

from factory import write_image
from family import few
from qwen2vl_rs.instruction import bare_question
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.serve import decoders as decoding
from qwen2vl_rs.serve.api_errors import Refusal
from qwen2vl_rs.serve.bodies import Bodies
from qwen2vl_rs.serve.limits import Limits
from qwen2vl_rs.serve.pace import Pace
from qwen2vl_rs.serve.turns import Turns
from serving import Held, ask, chat, children_of, data_url, memory_of, metric, serving, until

PATIENT = Limits(
    body_seconds=60, idle_seconds=60, head_seconds=60, wait_seconds=60, decoders=1,
    images_waiting=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def engine(small_base):
    return Held(Session.open(small_base))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("siege") / "a.tif"
    write_image(path, 56, 1)
    return path.read_bytes()


@pytest.fixture(scope="module")
def server(engine):
    with serving(engine, limits=PATIENT) as server:
        yield server


def post(path, body, kind="application/json"):
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def upload(image, path="/api/preview"):
    head = b'--a\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return post(path, head + image + b"\r\n--a--\r\n", "multipart/form-data; boundary=a")


def preview(server, image):
    return httpx.post(f"{server.url}/api/preview", files={"image": ("a", image)}, timeout=60)


def decoders():
    """The processes of this one that decode."""
    found = children_of(os.getpid())
    return [p for p in found if "serve.image_decoding" in Path(f"/proc/{p}/cmdline").read_text()]


@contextlib.contextmanager
def stuck(server, image):
    """All decoding stands still in here."""
    assert preview(server, image).status_code == 200  # there is a process
    stopped = decoders()
    assert stopped
    for one in stopped:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)


def test_images_wait_in_bounded_number_and_not_for_those_who_left(server, image):
    gone = metric(server, "requests_total", route="/api/preview", status="499")
    with stuck(server, image), contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(server, "127.0.0.9", upload(image))) for _ in range(4)]
        until(lambda: metric(server, "images_waiting") == 3)
        with connect(server, "127.0.0.9", upload(image)) as one_more:
            assert answer_of(one_more).startswith(b"HTTP/1.1 429")
        other = stack.enter_context(connect(server, "127.0.0.2", upload(image)))
        until(lambda: not all(map(is_open, many)) or True)
        refused = metric(server, "requests_total", route="/api/preview", status="429")
        until(lambda: metric(server, "requests_total", route="/api/preview", status="429") >= 2)
        assert refused <= 2
        assert metric(server, "images_waiting") == 3  # the other's, and two of the many
        for one in many:
            one.close()
        until(lambda: metric(server, "images_waiting") == 1)
        for one in decoders():
            os.kill(one, signal.SIGCONT)
        assert answer_of(other).startswith(b"HTTP/1.1 200")
    until(lambda: metric(server, "requests_total", route="/api/preview", status="499") == gone + 3)
    assert preview(server, image).status_code == 200


def test_addresses_take_turns():
    async def order():
        turns, served = Turns(1, 10), []

        async def go(peer, n):
            async with turns.of(peer):
                served.append((peer, n))
                await asyncio.sleep(0)

        async with turns.of("z"):
            work = [asyncio.ensure_future(go("a", n)) for n in range(4)]
            await asyncio.sleep(0)
            work += [asyncio.ensure_future(go(peer, 0)) for peer in "bc"]
            await asyncio.sleep(0)
            work[1].cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*work, return_exceptions=True)
        assert len(turns) == 0
        async with turns.of("a"):  # the place is free again
            return served

    assert asyncio.run(order()) == [("a", 0), ("b", 0), ("c", 0), ("a", 2), ("a", 3)]


async def settled():
    """Whoever need not wait has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("moment", ["before it is called", "called", "refused"])
@pytest.mark.parametrize("others", [0, 1])
def test_who_gives_up_in_that_very_moment_takes_no_place_along(moment, others):
    async def who_is_in():
        turns, inside, leave = Turns(1, 2), [], asyncio.Event()

        async def go(peer):
            async with turns.of(peer):
                inside.append(peer)
                await leave.wait()

        place = turns.of("z")
        await place.__aenter__()
        asked = "aa" if moment == "refused" else "ab"[: 1 + others]
        work = [asyncio.ensure_future(go(peer)) for peer in asked]
        await settled()
        if moment == "refused":  # the newest of who has most, for another
            work.append(asyncio.ensure_future(go("b")))
            asyncio.get_running_loop().call_soon(work[1].cancel)
            await settled()
            assert work[1].cancelled()
            work[0 if others else 2].cancel()
        elif moment == "called":
            await place.__aexit__(None, None, None)
            work[0].cancel()
        else:
            work[0].cancel()
        if moment != "called":
            await place.__aexit__(None, None, None)
        await settled()
        first = inside.copy()
        work += [asyncio.ensure_future(go(peer)) for peer in "cd"]
        await settled()
        second = inside.copy()
        leave.set()
        await asyncio.gather(*work, return_exceptions=True)
        return first, second, inside

    one = {"refused": "ab"[others]}.get(moment, "b" * others)
    first, second, last = asyncio.run(who_is_in())
    assert first == list(one)
    assert second == [one or "c"]  # there is one place, as before
    assert last == [*one, "c", "d"]


def test_who_has_most_makes_room_for_the_others():
    async def refused():
        turns = Turns(1, 3)

        async def go(peer):
            async with turns.of(peer):
                return peer

        async with turns.of("z"):
            work = [asyncio.ensure_future(go(peer)) for peer in "aaabacbc"]
            await asyncio.sleep(0.01)
        done = await asyncio.gather(*work, return_exceptions=True)
        return ["-" if isinstance(one, Refusal) else one for one in done]

    assert asyncio.run(refused()) == ["a", "-", "-", "b", "-", "c", "-", "-"]


@pytest.mark.slow
def test_large_images_are_decoded_one_at_a_time(engine, monkeypatch):
    limits = replace(PATIENT, decoders=2, small_bytes=2**20)
    large, gate, do = png(3000, 3000), threading.Event(), decoding._Process.do

    def held(process, job):
        assert job["what"] == "measure" or gate.wait(30)
        return do(process, job)

    monkeypatch.setattr(decoding._Process, "do", held)
    with serving(engine, limits=limits) as server, ThreadPoolExecutor(2) as pool:
        work = [pool.submit(preview, server, large) for _ in range(2)]
        until(lambda: metric(server, "images_waiting") == 1)  # though there are two places
        gate.set()
        assert [one.result().status_code for one in work] == [200] * 2


def test_what_takes_for_ever_is_given_up(engine, image):
    with serving(engine, limits=replace(PATIENT, decode_seconds=0.3)) as server:
        until(lambda: preview(server, image).status_code == 200)
        with stuck(server, image):
            done = preview(server, image)
            assert done.status_code == 413
            assert "0.3 s" in done.json()["error"]["message"]
        until(lambda: preview(server, image).status_code == 200)


def test_a_decoder_whose_client_left_has_all_its_time_for_the_next(server, image, monkeypatch):
    given_up, end_in, timers = threading.Event(), decoding._Process.end_in, []

    def told(process, seconds):
        timers.append(end_in(process, seconds))
        if seconds == 30.0:
            given_up.set()
        return timers[-1]

    monkeypatch.setattr(decoding, "_PATIENCE", 30.0)
    monkeypatch.setattr(decoding._Process, "end_in", told)
    with stuck(server, image):
        known = decoders()
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(connect(server, "127.0.0.9", upload(image)))
            until(lambda: metric(server, "images_waiting") == 1)  # the other one is decoded
        assert given_up.wait(20)
    until(lambda: metric(server, "images_waiting") == 0)
    until(lambda: all(timer.cancelled() for timer in timers))  # nothing ends it any more
    done = preview(server, image)
    assert done.status_code == 200, done.text
    assert decoders() == known  # the same one did it


def test_what_takes_too_much_memory_is_refused(engine, image):
    limits = replace(PATIENT, decode_bytes=64 * 2**20)
    with serving(engine, limits=limits) as server:
        assert preview(server, image).status_code == 200
        done = preview(server, png(3000, 3000))
        assert done.status_code in (400, 413), done.text
        assert "memory" in done.json()["error"]["message"]
        assert preview(server, image).status_code == 200
        assert max(memory_of(one, "VmHWM") for one in decoders()) < 500


def test_long_histories_of_the_instruction_hold_nobody_up(server, engine, image):
    text = (engine.view.instruction + "\n") * 300
    said = [{"role": r, "content": c} for r, c in (("user", text[:19_900]), ("assistant", ""))]
    body = chat(image, "What?")
    body["messages"] = said * 150 + body["messages"]
    url = f"{server.url}/v1/chat/completions"
    done = httpx.post(url, json=body, timeout=30)
    assert done.status_code == 200, done.text
    assert done.json()["usage"] == httpx.post(url, json=chat(image, "What?")).json()["usage"]


@pytest.mark.parametrize("instruction", ["Answer in one word.", "请用一个词回答。", "a", "(x)"])
def test_the_instruction_is_taken_off_however_often_it_stands_there(instruction):
    many = 2000 // len(instruction)
    for gap in ("\n", "  ", " \t\n"):
        for question in ("", "Is it?", "ab aardvark"):
            text = gap.join([*[instruction] * many, question, *[instruction] * many])
            assert bare_question(text, instruction) == question


@pytest.mark.parametrize(
    ("instruction", "text", "question"),
    [
        ("Count.", "What is on this account", None), ("Count.", "What is on this account.", None),
        ("Count.", "Counts of roads?", None), ("Count.", "Counting what", None),
        ("Count.", "Count, what is it?", None), ("Count.", "account", None),
        ("Count all.", "What did you recount all", None), ("Count.", "Viscount count.", "Viscount"),
        ("Count.", "Roads? COUNT", "Roads?"), ("Count.", "Roads?count.", "Roads?"),
        ("Count.", "count: roads?", "roads?"), ("Count.", "Count count Count.", ""),
        ("Count all.", "Roads? count\n all.", "Roads?"), ("(x)", "Is it (x)", "Is it"),
        ("请数一数。", "图中有什么请数一数", "图中有什么"),
    ],
)  # fmt: skip
def test_a_longer_word_is_no_instruction(instruction, text, question):
    assert bare_question(text, instruction) == (text if question is None else question)


def test_a_burst_buys_no_time(engine):
    limits = Limits(body_seconds=0.5, idle_seconds=60, body_rate=10_000)
    head = b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
    burst = head + bytes(3_000_000)
    with serving(engine, limits=limits) as server, connect(server, send=burst) as client:
        client.settimeout(0.1)
        for _ in range(300):  # half a minute; by the average it would be five
            client.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                assert client.recv(100).startswith(b"HTTP/1.1 408")
                break
        else:
            pytest.fail("may go on for ever")


def test_pace():
    pace = Pace(0.0, 10, 100)
    pace.add(1_000_000, 1.0)
    assert pace.deadline == 11
    pace.add(999, 10.0)
    assert pace.deadline == 11
    pace.add(1, 10.5)
    assert pace.deadline == 20.5
    burst, steady, new = Pace(0, 10, 100), Pace(0, 10, 100), Pace(59.9, 10, 100)
    burst.add(1_000_000, 0.1)
    for second in range(1, 61):
        steady.add(1000, second)
    new.add(1000, 60)
    assert burst.rate(60) < steady.rate(60) < new.rate(60)
    assert steady.rate(60) == pytest.approx(1000, rel=0.1)


def test_the_slowest_upload_of_who_holds_most_gives_way(engine, image):
    head = b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400000\r\n\r\n"
    limits = replace(PATIENT, in_flight_bytes=500_000)
    with serving(engine, limits=limits) as server, contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(connect(server, "127.0.0.9", head + bytes(200_000)))
            for _ in range(2)
        ]
        body = json.dumps({"image": data_url(image), "questions": ["A?"]}) + " " * 200_000
        with connect(server, "127.0.0.2", post("/api/ask", body.encode())) as sound:
            assert answer_of(sound).startswith(b"HTTP/1.1 200")
        assert metric(server, "requests_total", route="/api/ask", status="429") == 1
        assert sum(map(is_silent, held)) == 1


@pytest.mark.parametrize(
    ("coming", "more", "gone"),  # kB by address and number, who sends how many more, who must go
    [
        ({"a1": 300, "a2": 5}, ("a1", 4), ["a2"]),
        ({"a1": 5, "a2": 300}, ("a2", 4), ["a1"]),
        ({"a1": 5, "a2": 50, "a3": 200}, ("a3", 10), ["a1", "a2"]),
        ({"a1": 200, "a2": 5, "b1": 100}, ("b1", 4), ["a2"]),  # the slowest of who holds most
        ({"a1": 100, "b1": 5, "b2": 200}, ("a1", 4), ["b1"]),
        ({"a1": 300, "b1": 5}, ("b1", 4), ["a1"]),
        ({"a1": 305, "b1": 5}, ("b1", 4), []),
    ],
)  # fmt: skip
def test_uploads_that_are_nearly_through_go_on(coming, more, gone):
    over = 6 if len(gone) > 1 else 1 if gone else 0

    async def ends():
        held = sum(coming.values()) + more[1] - over
        bodies = Bodies(replace(PATIENT, in_flight_bytes=1000 * held))
        ways = {name: asyncio.Queue() for name in coming}

        async def upload(name):
            head = {"type": "http", "headers": [], "client": (name[0], 1)}
            async with bodies.of(Request(head, ways[name].get)) as content:
                return len(content) // 1000

        async def send(name, size, more_body=True):
            body = bytes(1000 * size)
            ways[name].put_nowait({"type": "http.request", "body": body, "more_body": more_body})
            await settled()

        work = [asyncio.ensure_future(upload(name)) for name in coming]
        for name, size in coming.items():
            await send(name, size)
        assert not any(one.done() for one in work)
        await send(*more)
        for name in coming:
            await send(name, 0, more_body=False)
        return await asyncio.gather(*work, return_exceptions=True)

    found = dict(zip(coming, asyncio.run(ends()), strict=True))
    refused = [name for name, one in found.items() if isinstance(one, Refusal)]
    assert refused == gone
    whole = {**coming, more[0]: coming[more[0]] + more[1]}
    assert {n: found[n] for n in whole if n not in gone} == {
        n: size for n, size in whole.items() if n not in gone
    }


def is_silent(client):
    client.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        client.recv(1)
        return False
    return True


def raw(server, request):
    """All that the server answers until it closes the connection, or for a while."""
    with connect(server, send=request) as client:
        client.settimeout(5)
        with contextlib.suppress(TimeoutError):
            return b"".join(iter(lambda: client.recv(65536), b""))
        pytest.fail("the connection stays open")


BEHIND = b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6",
        b"Content-Length: 6\r\nTransfer-Encoding:\r\n chunked",
        b"Content-Length: 6\r\nTransfer-Encoding: gzip, chunked",
        b"Content-Length: 6\r\nTransfer-Encoding: identity",
        b"Content-Length: 6\r\nContent-Length: 60",
        b"Content-Length: +6",
        b"Content-Length : 6",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ],
)
def test_of_two_lengths_none_is_taken(server, fields):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    answer = raw(server, head + fields + b"\r\n\r\n" + BEHIND)
    assert answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET http://127.0.0.1/health HTTP/1.1\r\nHost: 127.0.0.1", b"200"),
        (b"GET HTTP://LOCALHOST/v1/models?a=b HTTP/1.1\r\nHost: x", b"200"),
        (b"GET http://127.0.0.1 HTTP/1.1\r\nHost: 127.0.0.1", b"200"),
        (b"GET http://evil.example/health HTTP/1.1\r\nHost: 127.0.0.1", b"403"),
        (b"GET http://[/health HTTP/1.1\r\nHost: 127.0.0.1", b"403"),
        (b"GET /health HTTP/9.9\r\nHost: 127.0.0.1", b"505"),
        (b"POST / HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked", b"400"),
        (b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
         b"Content-Length: 99999999999", b"413"),
        (b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
         b"Origin: http://evil.example\r\nContent-Length: 0", b"403"),
        (b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1.evil.example\r\n"
         b"Content-Length: 0", b"403"),
        (b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://a@127.0.0.1\r\n"
         b"Content-Length: 0", b"403"),
        (b"M" * 10_000 + b" /health HTTP/1.1\r\nHost: 127.0.0.1", b"405"),
    ],
)  # fmt: skip
def test_heads(server, head, status):
    answer = raw(server, head + b"\r\nConnection: close\r\n\r\n")
    assert answer.split()[1] == status, answer
    assert len(answer) < 2000 or status == b"200"


@pytest.mark.parametrize("path", ["/api/ask", "/v1/chat/completions"])
def test_text_beside_images_is_bounded(server, path):
    for body in (
        {"model": "small", "questions": ["x" + " " * 5_000_000 + "\U0001f600"]},
        {"messages": [{"role": "user", "content": "x" * 5_000_000}]},
        {"x": "data:" + "\U0001f600" * 2_000_000},
        {"x": 'data:"' * 2_000_000},
    ):
        content = json.dumps(body, ensure_ascii=False).encode()
        done = httpx.post(server.url + path, content=content, timeout=60)
        assert done.status_code == 400
        assert done.json()["error"]["code"] == "json_too_large"


def test_images_may_be_large_in_a_json_and_are_not_text(engine):
    large = png(300, 300) + bytes(300_000)  # what follows the end of a PNG does not matter
    limits = replace(PATIENT, json_text_bytes=100_000)
    with serving(engine, limits=limits) as server:
        url = f"data:image/png;base64,{base64.b64encode(large).decode()}"
        body = json.dumps(chat(large, "What?")).replace("data:image/tiff", "data:image/png")
        texts = []
        for content in (body, body.replace("/", "\\/")):
            done = httpx.post(f"{server.url}/v1/chat/completions", content=content, timeout=60)
            assert done.status_code == 200, done.text
            texts.append(done.json()["choices"][0]["message"]["content"])
        assert texts[0] == texts[1]
        body = {"image": "data:#0", "questions": [f"A? {url}"]}
        done = httpx.post(f"{server.url}/api/ask", json=body, timeout=60)
        assert done.status_code == 400


def test_a_request_of_many_tokens_is_answered_in_parts_and_others_between(
    server, engine, image, tmp_path
):
    questions = [f"{n} " + "qzxj" * 110 for n in range(12)]
    (tmp_path / "a.tif").write_bytes(image)
    asked = [(engine.read(tmp_path / "a.tif"), questions)]
    (whole,) = engine.ask(asked, closed=True, use_adapter=False)
    with engine.shut() as passes, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, server, image, questions)
        assert engine.entered.wait(20)
        body = json.dumps(chat(image, "Who comes between?")).encode()
        with connect(server, "127.0.0.2", post("/v1/chat/completions", body)) as other:
            until(lambda: metric(server, "waiting") == 1)
            engine.gate.set()
            assert answer_of(other).startswith(b"HTTP/1.1 200")
        found = [row["answers"]["small"]["text"] for row in first.result()["answers"]]
    told = [question for groups, _ in passes for row in groups for question in row]
    assert told.index("Who comes between?") < len(told) - 1
    assert found == [one.text for one in whole]
    assert len(passes) > 2


def test_a_full_queue_makes_room_for_other_addresses(engine, image):
    body = post("/v1/chat/completions", json.dumps(chat(image, "What?")).encode())
    with (
        serving(engine, limits=PATIENT, waiting=4) as server,
        engine.shut(),
        contextlib.ExitStack() as stack,
    ):
        many = [stack.enter_context(connect(server, "127.0.0.9", body))]
        assert engine.entered.wait(20)
        for n in range(1, 5):
            many.append(stack.enter_context(connect(server, "127.0.0.9", body)))
            until(lambda n=n: metric(server, "waiting") == n)
        others = [stack.enter_context(connect(server, "127.0.0.2", body)) for _ in range(2)]
        assert answer_of(many[-1]).startswith(b"HTTP/1.1 429")
        assert answer_of(many[-2]).startswith(b"HTTP/1.1 429")
        with connect(server, "127.0.0.2", body) as third:  # no more than the many have
            assert answer_of(third).startswith(b"HTTP/1.1 429")
        engine.gate.set()
        for one in (*many[:3], *others):
            assert answer_of(one).startswith(b"HTTP/1.1 200")


CHAT = "/v1/chat/completions"
SENDER = ("X-Forwarded-For: {}", "Forwarded: for={};proto=https", "X-Forwarded-Proto: https",
          "X-Real-IP: {}", "X-Client-IP: {}", "True-Client-IP: {}")  # fmt: skip


def test_who_sends_is_not_what_a_request_says(engine, image):
    """One address fills the queue, each time in another's name: it makes room, nobody else."""
    body = post(CHAT, json.dumps(chat(image, "What?")).encode())

    def named(sender):
        lines = "".join(f"\r\n{line.format(sender)}" for line in SENDER)
        return body.replace(b"\r\n", f"{lines}\r\n".encode(), 1)

    with (
        serving(engine, limits=PATIENT, waiting=3) as server,
        engine.shut(),
        contextlib.ExitStack() as stack,
    ):
        many = [stack.enter_context(connect(server, send=named("10.0.0.9")))]
        assert engine.entered.wait(20)
        for n in range(1, 4):
            many.append(stack.enter_context(connect(server, send=named(f"10.0.0.{n}"))))
            until(lambda n=n: metric(server, "waiting") == n)
        other = stack.enter_context(connect(server, "127.0.0.2", named("10.0.0.1")))
        until(lambda: metric(server, "requests_total", route=CHAT, status="429") == 1)
        many[-1].settimeout(1)
        assert answer_of(many[-1]).startswith(b"HTTP/1.1 429")
        engine.gate.set()
        for one in (*many[:-1], other):
            assert answer_of(one).startswith(b"HTTP/1.1 200")


class Steps:
    """A gate that lets so many passes through."""

    def __init__(self):
        self._left = threading.Semaphore(0)

    def wait(self, seconds):
        return self._left.acquire(timeout=seconds)

    def let(self, number):
        self._left.release(number)


@pytest.mark.parametrize(
    ("sizes", "passes", "refused"),
    few([((3, 1, 1), 2, 2), ((2, 2, 2), 4, 3)], 1),
    ids=["one", "all"],
)
def test_what_is_answered_in_part_makes_room_for_nobody(
    engine, image, monkeypatch, sizes, passes, refused
):
    """Three requests of one address, a question to a pass; when some of it is said, another's."""

    def request(n, size):
        body = {"image": data_url(image), "questions": [f"{n} {k}?" for k in range(size)]}
        return post("/api/ask", json.dumps(body).encode())

    gate = Steps()
    monkeypatch.setattr(engine, "gate", gate)
    monkeypatch.setattr(engine, "budget", 30, raising=False)  # four of the image, 24 of a question
    engine.passes.clear()
    with serving(engine, limits=PATIENT, waiting=2) as server, contextlib.ExitStack() as stack:
        stack.callback(gate.let, 100)
        asked = []
        for n, size in enumerate(sizes):
            asked.append(stack.enter_context(connect(server, "127.0.0.9", request(n, size))))
            until(lambda n=n: len(engine.passes) + metric(server, "waiting") == n + 1)
        gate.let(passes - 1)
        until(lambda: (len(engine.passes), metric(server, "waiting")) == (passes, 2))
        asked.append(stack.enter_context(connect(server, "127.0.0.2", request(3, 1))))
        assert answer_of(asked[refused]).startswith(b"HTTP/1.1 429")
        gate.let(100)
        for one in asked:
            assert one is asked[refused] or answer_of(one).startswith(b"HTTP/1.1 200")


def test_whoever_asks_much_is_answered_in_turn_with_others(engine, image, monkeypatch):
    """Four requests of one address wait, a question to a pass, before one of another comes."""

    def request(question):
        body = {"image": data_url(image), "questions": [question]}
        return post("/api/ask", json.dumps(body).encode())

    gate = Steps()
    monkeypatch.setattr(engine, "gate", gate)
    monkeypatch.setattr(engine, "budget", 30, raising=False)  # four of the image, 24 of a question
    engine.passes.clear()
    with serving(engine, limits=PATIENT) as server, contextlib.ExitStack() as stack:
        stack.callback(gate.let, 100)
        asked = [("127.0.0.9", f"{n}?") for n in range(4)] + [("127.0.0.2", "other?")]
        sent = []
        for n, (peer, question) in enumerate(asked):
            sent.append(stack.enter_context(connect(server, peer, request(question))))
            until(lambda n=n: len(engine.passes) + metric(server, "waiting") == n + 1)
        gate.let(100)
        assert all(answer_of(one).startswith(b"HTTP/1.1 200") for one in sent)
    told = [question for groups, _ in engine.passes for row in groups for question in row]
    assert told == ["0?", "1?", "other?", "2?", "3?"]


def test_between_parts_it_is_seen_who_has_left(server, engine, image):
    questions = [f"{n} " + "qzxj" * 110 for n in range(12)]
    body = json.dumps({"image": data_url(image), "questions": questions}).encode()
    before = metric(server, "withdrawn_total")
    gone = metric(server, "requests_total", route="/api/ask", status="499")
    with engine.shut() as passes:
        with connect(server, "127.0.0.9", post("/api/ask", body)):
            assert engine.entered.wait(20)
        until(lambda: metric(server, "requests_total", route="/api/ask", status="499") == gone + 1)
        engine.gate.set()
        until(lambda: metric(server, "withdrawn_total") == before + 1)
        ask(server, image, ["A?"])
    assert [row for groups, _ in passes for row in groups][-1] == ["A?"]
    assert len(passes) == 2


def test_questions_are_bounded_together(server, image):
    body = {"image": data_url(image), "questions": ["\U00020000" * 500] * 100}
    done = httpx.post(f"{server.url}/api/ask", json=body)
    assert done.json()["error"]["code"] == "questions_too_long"


@pytest.mark.parametrize("n", [True, 0, 1.5, "1", 2])
def test_one_answer_is_a_number(server, image, n):
    done = httpx.post(f"{server.url}/v1/chat/completions", json=chat(image, "A?", n=n))
    assert done.status_code == 400


def test_stopping_ends_uploads_and_decoding(engine, image):
    limits = replace(PATIENT, stop_body_seconds=0.1, stop_seconds=1)
    head = b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400000\r\n\r\n"
    before = decoders()
    with contextlib.ExitStack() as stack:
        with serving(engine, limits=limits) as server:
            stack.enter_context(stuck(server, image))
            slow = stack.enter_context(connect(server, send=head + b"x"))
            endless = [stack.enter_context(connect(server, send=upload(image))) for _ in range(3)]
            until(lambda: metric(server, "images_waiting") == 2)
            assert is_well(server)
        # it has ended: `serving` saw to that
        assert answer_of(slow).startswith(b"HTTP/1.1 503")
        assert not any(b"HTTP/1.1 200" in answer_of(one) for one in endless)
        assert set(decoders()) <= set(before)


def test_in_a_flood_it_is_not_always_the_oldest_that_goes(engine):
    limits = replace(PATIENT, connections=20)
    half = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with serving(engine, limits=limits) as server, contextlib.ExitStack() as stack:
        held = []
        for n in range(24):
            held.append(stack.enter_context(connect(server, f"127.0.1.{n + 1}", half)))
            if n == 19:
                until(lambda: all(map(is_open, held)))
        assert is_well(server, "127.0.0.2")
        until(lambda: sum(map(is_open, held)) <= 20)
        assert any(map(is_open, held[:5]))


def test_a_flood_of_connections_is_looked_at_in_between(engine):
    with serving(engine) as server, contextlib.ExitStack() as stack:
        for n in range(300):
            stack.enter_context(connect(server, f"127.0.{n // 250 + 1}.{n % 250 + 1}", b"G"))
            if n % 100 == 50:
                assert is_well(server, "127.0.0.2")


def test_listening_queues_more_than_it_accepts_at_a_time(engine):
    with serving(engine) as server, contextlib.ExitStack() as stack:
        port = int(server.url.rpartition(":")[2])
        for _ in range(200):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
        assert is_well(server, "127.0.0.2")
