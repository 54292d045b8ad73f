"""The server under load: requests per second, latency, and memory over many requests.

The server runs in its own process. Clients call ``/api/ask`` over the loopback, and each sends the
next request as soon as it has the answer. ``known``: eight images in turn, which the server caches;
``new``: every request has a new image. The base model has random weights and never ends an answer,
so generated answers are limited to 2 tokens, a word and the end token; presence and comparison are
ranked.

    python benchmarks/serve.py                         84 M model, CPU, two minutes
    python benchmarks/serve.py --memory                tiny model, 10,000 requests, two minutes
    python benchmarks/serve.py --model 2b              full size, requires a GPU
"""

from __future__ import annotations

import asyncio
import io
import itertools
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from common import arguments, make_base, make_samples, show
from PIL import Image

from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.serve.run import Server, bind
from random_base import Size, write_random_base

TINY = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)


def run_server(folder: Path, threads: int, ready: Connection) -> None:
    """Serve a base model until ``ready`` receives a message."""
    torch.set_num_threads(threads)
    engine = Session.open(folder)
    engine.max_new_tokens = 2
    server = Server(engine, "bench", bind("127.0.0.1", 0, None))

    def wait() -> None:
        ready.recv()
        server.stop()

    threading.Thread(target=wait, daemon=True).start()
    server.run(ready.send)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server that runs in its own process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_server, args=(folder, torch.get_num_threads(), there))
    process.start()
    try:
        url = await asyncio.to_thread(here.recv)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
            yield client
    finally:
        here.send("stop")
        await asyncio.to_thread(process.join, 60)


def pictures(side: int, new: bool) -> Iterator[bytes]:
    """Yield PNG files of noise without end: eight in turn, or a new one each time."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (8, side, side, 3), dtype=np.uint8)
    for number in itertools.count():
        values = noise[number % 8]
        if new:
            values[0, :4, 0] = list(number.to_bytes(4, "big"))
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG", compress_level=1)
        yield file.getvalue()


async def counters(client: httpx.AsyncClient) -> dict[str, float]:
    """Return the server's counters by name."""
    lines = (await client.get("/metrics")).text.splitlines()
    rows = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


async def load(
    client: httpx.AsyncClient, clients: int, questions: list[str], images: Iterator[bytes],
    seconds: float = 1e9, requests: int = 10**9,
) -> tuple[list[float], float]:  # fmt: skip
    """Return the latencies of the requests in a time, or of a number of them, and the time."""
    taken: list[float] = []
    start = time.perf_counter()
    left = itertools.count(1)

    async def ask() -> None:
        while time.perf_counter() - start < seconds and next(left) <= requests:
            files = {"image": ("a.png", next(images))}
            begun = time.perf_counter()
            done = await client.post(
                "/api/ask", files=files, data={"questions": "\n".join(questions)}
            )
            done.raise_for_status()
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(ask() for _ in range(clients)))
    return taken, time.perf_counter() - start


async def speed(folder: Path, side: int, seconds: float) -> list[dict[str, Any]]:
    """Return one row per number of clients, number of questions and kind of images."""
    texts = [sample.question for sample in make_samples(1, 20, side)]
    rows = []
    async with serving(folder) as client:
        for new, count, clients in itertools.product((False, True), (1, 20), (1, 8, 32)):
            images = pictures(side, new)
            await load(client, 1, texts[:count], images, requests=8)
            before = await counters(client)
            taken, total = await load(client, clients, texts[:count], images, seconds)
            after = await counters(client)
            passes = after["qwen2vl_rs_passes_total"] - before["qwen2vl_rs_passes_total"]
            cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else taken * 99
            row = {
                "images": "new" if new else "known",
                "questions": count,
                "clients": clients,
                "requests/s": round(len(taken) / total, 1),
                "questions/s": round(len(taken) * count / total, 1),
                "p50 ms": round(cuts[49] * 1e3),
                "p99 ms": round(cuts[98] * 1e3),
                "requests/pass": round(len(taken) / passes, 1),
            }
            print(row, flush=True)
            rows.append(row)
    return rows


async def memory(side: int, requests: int) -> list[dict[str, Any]]:
    """Return the server's memory over many requests; every other image is new."""
    folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-tiny-")) / "base"
    write_random_base(folder, TINY)
    kinds = itertools.cycle((pictures(side, new=False), pictures(side, new=True)))
    images = (next(kind) for kind in kinds)
    rows = []
    async with serving(folder) as client:
        for done in (requests // 10 * tenth for tenth in range(1, 11)):
            _, total = await load(client, 8, ["Is there a road?"], images, requests=requests // 10)
            now = await counters(client)
            row = {
                "requests": done,
                "requests/s": round(requests / 10 / total),
                "memory MB": round(now["process_resident_memory_bytes"] / 1e6, 1),
                "open files": round(now["process_open_fds"]),
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=7, help="time per row")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--requests", type=int, default=10_000)
    chosen = parser.parse_args()
    if chosen.memory:
        rows = asyncio.run(memory(chosen.side, chosen.requests))
    else:
        folder = make_base(chosen.model, torch.float32).folder
        rows = asyncio.run(speed(folder, chosen.side, chosen.seconds))
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
