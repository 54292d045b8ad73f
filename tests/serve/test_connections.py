"""Connections that hold the server up: they are cut off, before the token is looked at."""

import asyncio
import contextlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPResponse

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from factory import write_image
from family import few
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.serve.connections import protocol
from qwen2vl_rs.serve.limits import Limits
from serving import Held, chat, metric, serving, until

SMALL = Limits(
    head_seconds=0.5, wait_seconds=0.5, body_seconds=0.5, idle_seconds=0.4,
    connections=12, connections_of_a_peer=4,
)  # fmt: skip
PATIENT = replace(SMALL, head_seconds=60, wait_seconds=60, body_seconds=60, idle_seconds=60)
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WHOLE = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
UPLOAD = b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture(scope="module")
def engine(small_base):
    return Held(Session.open(small_base))


@pytest.fixture(scope="module")
def strict(engine):
    with serving(engine, token="t", limits=SMALL) as server:
        yield server


@pytest.fixture
def patient(engine):
    with serving(engine, limits=PATIENT) as server:
        yield server


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("connections") / "a.tif"
    write_image(path, 56, 1)
    return path.read_bytes()


def connect(server, peer="127.0.0.1", send=b""):
    port = int(server.url.rpartition(":")[2])
    client = socket.create_connection(("127.0.0.1", port), 30, source_address=(peer, 0))
    client.sendall(send)
    return client


def answer_of(client):
    """All that comes until the server closes the connection."""
    with contextlib.suppress(ConnectionError):
        return b"".join(iter(lambda: client.recv(65536), b""))
    return b""


def is_open(client):
    client.settimeout(0.05)
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def is_well(server, peer="127.0.0.1"):
    with contextlib.suppress(ConnectionError), connect(server, peer, WHOLE) as client:
        return client.recv(100).startswith(b"HTTP/1.1 200")
    return False


@pytest.mark.parametrize("sent", few([b"", b"G", HALF, WHOLE, WHOLE + HALF, UPLOAD], 2, 3, 5))
def test_who_sends_no_more_is_cut_off(strict, sent):
    with connect(strict, send=sent) as client:
        answer_of(client)  # ends
    until(lambda: is_well(strict))  # at once, where this machine lets us send within its time


@pytest.mark.parametrize("head", [HALF, UPLOAD], ids=["head", "body without token"])
def test_who_sends_a_byte_now_and_then_is_cut_off(strict, head):
    with contextlib.suppress(ConnectionError), connect(strict, send=head) as client:
        client.settimeout(0.1)
        for _ in range(300):
            client.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                if client.recv(4096) == b"":
                    break
        else:
            pytest.fail("may go on for ever")


def test_who_does_not_take_answers_is_cut_off(strict):
    with connect(strict) as client, contextlib.suppress(ConnectionError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        page = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        for _ in range(100_000):  # ends by a reset; a server that waits makes it time out
            client.sendall(page * 100)
        pytest.fail("may go on for ever")


@pytest.mark.parametrize(
    ("stops", "whole"), [((36, 36, 36), True), ((50, 5, 50), True), ((36, 61), False)]
)
def test_who_takes_its_answer_in_pieces_has_all_its_time_for_each(stops, whole):
    """Seconds for which it takes nothing; each time sixty are allowed."""
    chunk, chunks, ahead, held = bytes(2**20), 8, [0.0], []

    async def app(scope, receive, send):
        head = [(b"content-length", str(len(chunk) * chunks).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for left in reversed(range(chunks)):
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})

    def connection():
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        kind = protocol(PATIENT)
        held.append(kind(config=config, server_state=ServerState(), app_state={}))
        return held[-1]

    async def take(client, most):
        taken = 0
        with contextlib.suppress(ConnectionError):
            while taken < most:
                some = await asyncio.get_running_loop().sock_recv(client, 2**18)
                if not some:
                    break
                taken += len(some)
        return taken

    async def taken():
        loop = asyncio.get_running_loop()
        clock = loop.time
        loop.time = lambda: clock() + ahead[0]
        total = 0
        bound = asyncio.timeout(sum(stops) + 20)  # by the clock that is put forward
        async with bound, await loop.create_server(connection, "127.0.0.1", 0) as server:
            server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
                client.setblocking(False)
                await loop.sock_connect(client, server.sockets[0].getsockname())
                await loop.sock_sendall(client, WHOLE)
                for seconds in stops:
                    while not (held and held[0].flow and held[0].flow.write_paused):
                        await asyncio.sleep(0.001)
                    ahead[0] += seconds
                    await asyncio.sleep(0.001)  # what is late now is ended
                    total += await take(client, 2 * len(chunk))  # more than lies between
                total += await take(client, chunks * len(chunk) - total)
        return total

    assert (asyncio.run(taken()) >= chunks * len(chunk)) is whole


@pytest.mark.parametrize("filler", [b"X-A: " + b"a" * 17_000, b"X: 1\r\n" * 4000])
def test_heads_are_bounded(patient, filler):
    with connect(patient, send=HALF + filler.rstrip() + b"\r\n\r\n") as client:
        assert client.recv(100).split()[1] in (b"400", b"431")
    with connect(patient, send=HALF + filler) as client:  # no end yet
        assert client.recv(100).startswith(b"HTTP/1.1 400")
    with connect(patient, send=b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n") as client:
        assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(patient.url, headers={"X-A": "a" * 12_000}).status_code == 200


@pytest.mark.parametrize("sent", [b"", HALF, WHOLE, UPLOAD])
def test_many_of_one_peer_lock_nobody_out(patient, sent):
    with contextlib.ExitStack() as stack:
        for _ in range(3 * PATIENT.connections):
            stack.enter_context(connect(patient, send=sent))
        assert is_well(patient, "127.0.0.2")
        until(lambda: is_well(patient))  # of the same peer, once one of these is seen to do nothing


def test_who_has_most_goes_first(patient):
    with contextlib.ExitStack() as stack:
        modest = [
            stack.enter_context(connect(patient, f"127.0.0.{n}", HALF))
            for n in (2, 3)
            for _ in range(2)
        ]
        until(lambda: all(map(is_open, modest)))
        for _ in range(3 * PATIENT.connections):
            client = stack.enter_context(connect(patient, "127.0.0.9", WHOLE))
            answer = HTTPResponse(client)  # who is being answered would stay
            answer.begin()
            assert answer.status == 200
            assert answer.read()
        assert is_well(patient, "127.0.0.4")
        assert all(map(is_open, modest))


def test_who_is_being_answered_stays(patient, engine, image):
    body = chat(image, "What?")
    with engine.shut(), ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        url = f"{patient.url}/v1/chat/completions"
        sent = pool.submit(httpx.post, url, json=body, timeout=60)
        assert engine.entered.wait(20)
        for _ in range(3 * PATIENT.connections):
            stack.enter_context(connect(patient, send=HALF))
        assert is_well(patient)
        engine.gate.set()
        assert sent.result().status_code == 200


def test_requests_that_wait_for_the_model_make_room_for_other_peers(engine, image):
    body = json.dumps(chat(image, "What?")).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with (
        serving(engine, limits=PATIENT) as server, engine.shut(), contextlib.ExitStack() as stack
    ):  # fmt: skip
        for n in range(PATIENT.connections):
            stack.enter_context(connect(server, "127.0.0.9", head.encode() + body))
            until(lambda n=n: metric(server, "waiting") + bool(engine.passes) == n + 1)
        assert is_well(server, "127.0.0.2")
        engine.gate.set()


def test_a_body_that_comes_steadily_may_take_its_time(engine):
    limits = replace(PATIENT, body_seconds=2, body_rate=1000)
    with serving(engine, limits=limits) as server, connect(server, send=UPLOAD) as client:
        for _ in range(49):
            client.sendall(b"x" * 2000)
            assert is_open(client)  # takes 0.05 s
        client.settimeout(30)
        client.sendall(b"x" * 2000)
        assert client.recv(100).startswith(b"HTTP/1.1 400")  # no JSON, but all there
