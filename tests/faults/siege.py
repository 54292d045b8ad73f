"""The server under siege: half heads, slow bodies and image bombs, beside clients that mean well.

    python tests/faults/siege.py [--seconds 30] [--json FILE]

The server is the real command on a tiny base, in a process of its own. Eight clients ask in turn,
first undisturbed, then beside 300 connections with half a head, 50 with a body that drips (all come
again when they are cut off), and 4 that send bombs. Answers have to be the same, the 99th centile
of their times at most three times, and memory, that of the processes that decode among it, at most
half as much again and one image's limit.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/support"), str(ROOT / "tests/raster")]

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from test_decoder_memory import STREAMS, boxed, tiff  # noqa: E402

from factory import QUESTIONS, write_image  # noqa: E402
from serving import children_of, command, memory_of  # noqa: E402

ASKED = [question for some in QUESTIONS.values() for question in some]
CLIENTS, HALF_HEADS, SLOW_BODIES, BOMBERS = 8, 300, 50, 4
LIMIT = 512  # MiB: one image's limit
HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = b"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999\r\n\r\n"


def hold(port: int, sent: bytes, number: int, end: Any) -> None:
    """Hold connections open, send a byte on each now and then, and come again when cut off."""
    held: list[socket.socket | None] = [None] * number
    while not end.wait(1):
        for n, one in enumerate(held):
            try:
                if one is None:
                    one = held[n] = socket.create_connection(("127.0.0.1", port), 5)
                    one.sendall(sent)
                one.sendall(b"x")
            except OSError:
                held[n] = None
    for one in held:
        if one is not None:
            one.close()


def bomb(url: str, bombs: list[bytes], end: Any, problems: list[str]) -> None:
    """Send bombs; each has to be refused."""
    with httpx.Client(base_url=url, timeout=120) as client:
        while not end.is_set():
            for content in bombs:
                with contextlib.suppress(httpx.TransportError):  # cut off, as others wait
                    image = {"image": ("a", content)}
                    done = client.post("/api/ask", files=image, data={"questions": "A road?"})
                    if not 400 <= done.status_code < 500:
                        problems.append(f"a bomb: {done.status_code} {done.text[:100]}")
                time.sleep(0.2)


def attack_all(url: str, bombs: list[bytes], end: Any, told: Any) -> None:
    """All that mean harm, until the end; tells what the server did wrong."""
    problems: list[str] = []
    port = int(url.rpartition(":")[2])
    run_all([
        lambda: hold(port, HEAD, HALF_HEADS, end),
        lambda: hold(port, BODY, SLOW_BODIES, end),
        *[lambda: bomb(url, bombs, end, problems)] * BOMBERS,
    ])  # fmt: skip
    told.put(problems)


def measure(url: str, images: list[str], seconds: float, problems: list[str]) -> list[float]:
    """The times of all answers of the clients that mean well."""
    known: dict[tuple[int, str], str] = {}
    times: list[float] = []
    until = time.monotonic() + seconds

    def ask(start: int) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            n = start
            while time.monotonic() < until:
                i, question = n % len(images), ASKED[n % len(ASKED)]
                begun = time.monotonic()
                try:
                    done = client.post(
                        "/api/ask", json={"image": images[i], "questions": [question]}
                    )
                except httpx.TransportError as error:
                    problems.append(repr(error))
                    continue
                times.append(time.monotonic() - begun)
                if (
                    done.status_code != 200
                    or known.setdefault((i, question), done.text) != done.text
                ):
                    problems.append(f"{done.status_code} {done.text[:200]}")
                n += 1

    run_all([lambda n=n: ask(n) for n in range(CLIENTS)])  # type: ignore[misc]
    return times


def run_all(work: list[Callable[[], None]]) -> None:
    """Do all at once, and wait."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Lay siege, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        images = []
        for n in range(8):
            write_image(place / "x.tif", 56, n)
            data = base64.b64encode((place / "x.tif").read_bytes()).decode()
            images.append(f"data:image/tiff;base64,{data}")
        bombs = [*STREAMS.values(), *map(boxed, STREAMS.values())]
        bombs += [tiff(place / "b.tif", tile=26_752), tiff(place / "c.tif", tile=13_376, count=4)]
        with command(place) as (url, server):
            found = siege(url, server.pid, images, bombs, asked.seconds)
    print(json.dumps(found, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(found["problems"]))


def siege(
    url: str, process: int, images: list[str], bombs: list[bytes], seconds: float
) -> dict[str, object]:
    """Measure undisturbed and disturbed."""
    problems: list[str] = []
    measure(url, images, seconds / 5, problems)
    quiet = measure(url, images, seconds, problems)
    before = sum(map(memory_of, (process, *children_of(process))))
    context = multiprocessing.get_context("spawn")  # the clients that are timed share no lock
    end, told = context.Event(), context.SimpleQueue()
    attack = context.Process(target=attack_all, args=(url, bombs, end, told))
    attack.start()
    time.sleep(5)
    busy = measure(url, images, seconds, problems)
    end.set()
    problems += told.get()
    attack.join()
    peak = sum(memory_of(one, "VmHWM") for one in (process, *children_of(process)))
    p99 = [float(np.percentile(times, 99)) for times in (quiet, busy)]
    if p99[1] > 3 * p99[0]:
        problems.append("answers came more than three times as late")
    if peak > 1.5 * before + LIMIT:
        problems.append("too much memory")
    return {
        "answers": [len(quiet), len(busy)],
        "p99_ms": [round(1000 * t, 1) for t in p99],
        "memory_mib": [round(before, 1), round(peak, 1)],
        "failures": len(problems), "problems": problems[:20],
    }  # fmt: skip


if __name__ == "__main__":
    main()
