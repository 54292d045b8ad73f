"""``eval --endpoint`` against servers that refuse, put off, drip, never end, or send bombs."""

import asyncio
import functools
import gzip
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager
from pathlib import Path

import pytest

from endpoints import by_wording, run, running, said
from factory import make_samples
from family import few
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.predict import endpoint_client as client
from qwen2vl_rs.predict.endpoint_client import Endpoint
from qwen2vl_rs.predict.predictor import Reply

PARTIAL = Path("output/eval-org-some-model/predictions.partial-0.jsonl")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    samples = make_samples(tmp_path / "images", images=4)
    write_conversations(tmp_path / "test.json", samples)
    return samples


def test_a_key_refused_in_the_middle_of_many(asked):
    """Ten answers arrive; then every request, sixteen at a time, is refused."""

    def answer(body, n):
        if n <= 10:
            return by_wording(body, n)
        if n == 11:
            time.sleep(0.5)  # the others wait behind it: the ten are there by then
        return 401, {}, {"error": {"message": "this key was withdrawn"}}

    program = [sys.executable, "-m", "qwen2vl_rs", "eval"]
    with running(answer) as api:
        told = ["--endpoint", api.url, "--model", "org/some model", "--test", "test.json"]
        done = subprocess.run(
            [*program, *told, "--concurrency", "16"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        lines = done.stderr.splitlines()
        assert [line for line in lines if line.startswith("error:")] == [
            f"error: {api.url}/chat/completions answers 401: this key was withdrawn"
        ]
        assert lines[-1] == "hint: put the right key into OPENAI_API_KEY"
        assert "Traceback" not in done.stderr
        assert "never retrieved" not in done.stderr
        assert len(PARTIAL.read_text().splitlines()) == 1 + 10
        before, api.answer = len(api.seen), by_wording
        assert run(api.url) == 0
        assert len(api.seen) - before == 2 * len(asked) - 10


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "0.01",
        "-5",
        "soon",
        "Mon, 01 Jan 2001 00:00:00 GMT",
        f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT",
    ],
)
def test_no_pause_is_shorter_than_ours(asked, monkeypatch, value):
    """Ours is twice the one before, and up to a half shorter by chance."""
    pauses, sleep = [], asyncio.sleep

    async def noted(seconds, *more):
        if seconds > 0.01:  # the server's is waited for by itself
            pauses.append(seconds)
        await sleep(0, *more)

    monkeypatch.setattr(asyncio, "sleep", noted)
    with running(lambda *_: (429, {"Retry-After": value}, b"")) as api:
        assert run(api.url, "--max-eval", "8", "--concurrency", "1") == 1
    assert len(api.seen) == 8
    assert len(pauses) == 7  # none after the last
    for n, seconds in enumerate(pauses):
        assert 0.25 * 2**n <= seconds <= 0.5 * 2**n


def test_a_pause_without_end_is_bounded(asked, monkeypatch, capsys):
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._SAID_PAUSE", 0.001)

    def late(body, n):
        return (429, {"Retry-After": "9" * 400}, b"") if n == 1 else by_wording(body, n)

    with running(late) as api:
        assert run(api.url, "--max-eval", "8") == 0
    assert "the server asks to wait 0:00 (429)" in capsys.readouterr().err


def test_those_who_wait_leave_one_by_one_and_keep_a_pause_that_comes_meanwhile(monkeypatch):
    """By a clock of the test: a request a second, and once silence for ten."""
    now, real, left = [1000.0], asyncio.sleep, []
    monkeypatch.setattr(client.time, "monotonic", lambda: now[0])

    async def sleep(seconds):
        until = now[0] + seconds
        while now[0] < until:
            await real(0)

    async def leave(self, http, body):
        left.append(now[0])
        if len(left) == 3:
            self._pause = now[0] + 10
        return Reply("yes")

    monkeypatch.setattr(client.asyncio, "sleep", sleep)
    monkeypatch.setattr(client.EndpointClient, "_try", leave)

    async def ask():
        endpoint = Endpoint("http://127.0.0.1:1/v1", "m", concurrency=6, rate=1)
        asked = [client.ChatRequest(str(n), "?", str, 1) for n in range(6)]
        done = asyncio.create_task(collect(client.EndpointClient(endpoint).ask(asked)))
        while not done.done():
            now[0] += 0.125
            for _ in range(20):
                await real(0)
            await asyncio.to_thread(int)  # images are made in threads
        return await done

    async def collect(replies):
        return [name async for name, _ in replies]

    assert sorted(asyncio.run(ask())) == list("012345")
    gaps = [after - before for before, after in itertools.pairwise(left)]
    assert [round(gap) for gap in gaps] == [1, 1, 10, 1, 1]


def test_a_pause_holds_back_every_request(asked):
    times = []

    def busy(body, n):
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}, b"") if n == 1 else by_wording(body, n)

    with running(busy) as api:
        assert run(api.url, "--concurrency", "4", "--max-eval", "8", "--rate", "500") == 0
    later = [t for t in times[1:] if t - times[0] > 0.5]  # the first four were on their way
    assert len(later) >= 9 - 4
    assert min(later) - times[0] > 0.99


def test_a_shorter_pause_does_not_end_a_longer_one(asked):
    """Of two requests on their way, the first is told to wait for long, the second for a moment."""
    times = []

    def busy(body, n):
        times.append(time.monotonic())
        if n == 2:
            time.sleep(0.2)  # so that it is told after the first
        told = {"Retry-After": "1" if n == 1 else "0.1"}
        return (429, told, b"") if n < 3 else by_wording(body, n)

    with running(busy) as api:
        assert run(api.url, "--concurrency", "2", "--max-eval", "8") == 0
        assert all(sent["Accept-Encoding"] == "identity" for sent in api.headers)
    assert min(times[2:]) - times[0] > 0.99


@contextmanager
def raw(send):
    """A server that reads a request and then does what it likes; counts connections."""
    listener, over, seen = socket.create_server(("127.0.0.1", 0)), threading.Event(), []

    def serve(connection):
        with connection:
            try:
                while b"\r\n\r\n" not in connection.recv(1 << 20):
                    pass
                send(connection, over)
            except OSError:  # the client has had enough
                pass

    def accept():
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            seen.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", seen
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def drip(head, piece=b" ", pause=0.05):
    def send(connection, over):
        connection.sendall(head)
        while not over.wait(pause):
            connection.sendall(piece)

    return send


OK = b"HTTP/1.1 200 OK\r\n"
DENIED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 99999\r\n\r\n"


@pytest.fixture
def hurried(asked, monkeypatch):
    """Two attempts of 0.2 s."""
    monkeypatch.setattr(
        Endpoint, "__init__", functools.partialmethod(Endpoint.__init__, timeout=0.2)
    )
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._ATTEMPTS", 2)
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._LONGEST_WAIT", 0.01)


@pytest.mark.parametrize(
    ("send", "why"),
    few(
        [
            (drip(OK, b"X"), "timeout: no complete answer within 0.2 s"),  # of the head
            (drip(OK + b"Content-Length: 500\r\n\r\n"), "timeout"),
            (drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), "timeout"),
            (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "timeout"),
            (drip(OK, b"X-More: 1\r\n" * 9000, 0), "connection"),
            (drip(OK + b"\r\n", b" " * 65536, 0), "more than 1 MB"),
            (drip(b"HTTP/1.1 503 Busy\r\n\r\n", b" " * 65536, 0), "503"),
            (drip(b"HTTP/1.1 503 Busy\r\n\r\n"), "503"),
            (drip(DENIED + b'{"error": "no such key"'), "401"),
            (lambda c, _: c.sendall(OK + b"Content-Length: 500\r\n\r\n{}"), "connection"),
            (lambda c, _: c.sendall(DENIED + b'{"error"'), "401"),
            (
                lambda c, _: c.sendall(OK + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n"),
                "connection",
            ),
            (lambda c, _: c.sendall(OK + b"Content-Length: x\r\n\r\n"), "connection"),
            (lambda c, _: c.sendall(b"\x00\xff" * 999), "connection"),
        ],
        0,
        2,
        4,
        5,
        6,
        8,
        9,
        10,
        13,
    ),
)
def test_answers_without_end(hurried, capsys, send, why):
    with raw(send) as (url, seen):
        assert run(url, "--concurrency", "1") == 1
        once = why in ("401", "more than 1 MB")
        assert len(seen) == (1 if once else 2)
    err = capsys.readouterr().err
    assert why in err
    assert "hint:" in err
    assert "Traceback" not in err


def deflated(data, bits):
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", functools.partial(deflated, bits=15)),
        ("deflate", functools.partial(deflated, bits=-15)),
        ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
        ("identity", bytes),
    ],
)
def test_a_reply_that_was_compressed_unasked(asked, encoding, pack):
    def packed(body, n):
        data = pack(json.dumps(by_wording(body, n)[2]).encode())
        return 200, {"Content-Encoding": encoding}, data

    with running(packed) as api:
        assert run(api.url, "--max-eval", "8") == 0
    assert {h["Accept-Encoding"] for h in api.headers} == {"identity"}


SPACES = 16 << 20


@pytest.mark.parametrize(
    ("status", "encoding", "why"),
    [
        (200, "gzip", "more than 1 MB"),
        (200, "gzip, gzip", "more than 1 MB"),
        (200, "gzip, gzip, gzip", "compressed 3 times"),
        (200, "deflate", "more than 1 MB"),
        (200, "deflate without header", "more than 1 MB"),
        (200, "br", "not requested"),
        (401, "gzip, gzip", "401"),
        (401, "br", "401"),
        (503, "gzip, gzip", "503"),
    ],
)
def test_bombs(hurried, capsys, status, encoding, why):
    data = json.dumps(said("yes")[2]).encode() + b" " * SPACES
    encoding, _, bare = encoding.partition(" without ")
    for name in encoding.split(", "):
        pack = functools.partial(deflated, bits=-15 if bare else 15)
        data = pack(data) if name == "deflate" else gzip.compress(data)
    with running(lambda *_: (status, {"Content-Encoding": encoding}, data)) as api:
        tracemalloc.start()
        try:
            assert run(api.url, "--concurrency", "1") == 1
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(api.seen) == (2 if status == 503 else 1)
    assert peak < SPACES / 2
    assert why in capsys.readouterr().err
