"""The server under load: requests a second, latency, and memory over many requests.

The server runs in a process of its own; clients ask its ``/api/ask`` over the loopback, each its
next request as soon as the last is answered. ``known``: eight images in turn, which the server
keeps encoded; ``new``: no image is asked about twice. The base is random and never ends an answer,
so a written one is held to 2 tokens, a word and its end; presence and comparison are chosen.

    python benchmarks/serve.py                         84 M model, CPU, two minutes
    python benchmarks/serve.py --memory                tiny model, 10,000 requests, two minutes
    python benchmarks/serve.py --model 2b              full size, wants a GPU
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
    """Serve a base until the other end of ``ready`` says so."""
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
    """A client of a server that runs in its own process."""
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
    """PNG files of noise, for ever: eight in turn, or each another."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (8, side, side, 3), dtype=np.uint8)
    for number in itertools.count():
        values = noise[number % 8]
        if new:
            values[0, :4, 0] = list(number.to_bytes(4, "big"))
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG", compress_level=1)
        yield file.getvalue()


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    """What the server counts, by name."""
    lines = (await client.get("/metrics")).text.splitlines()
    rows = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


async def load(
    client: httpx.AsyncClient, clients: int, questions: list[str], images: Iterator[bytes],
    seconds: float = 1e9, requests: int = 10**9,
) -> tuple[list[float], float]:  # fmt: skip
    """Latencies of all requests in some time, or of so many, and the time they took."""
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
    """A row for each number of clients, of questions, and kind of images."""
    texts = [sample.question for sample in make_samples(1, 20, side)]
    rows = []
    async with serving(folder) as client:
        for new, count, clients in itertools.product((False, True), (1, 20), (1, 8, 32)):
            images = pictures(side, new)
            await load(client, 1, texts[:count], images, requests=8)
            before = await figures(client)
            taken, total = await load(client, clients, texts[:count], images, seconds)
            after = await figures(client)
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
    """The server's memory as requests go by; every other image is a new one."""
    folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-tiny-")) / "base"
    write_random_base(folder, TINY)
    kinds = itertools.cycle((pictures(side, new=False), pictures(side, new=True)))
    images = (next(kind) for kind in kinds)
    rows = []
    async with serving(folder) as client:
        for done in (requests // 10 * tenth for tenth in range(1, 11)):
            _, total = await load(client, 8, ["Is there a road?"], images, requests=requests // 10)
            now = await figures(client)
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
    parser.add_argument("--seconds", type=float, default=7, help="of each row")
    parser.add_argument("--memory", action="store_true", help="memory over --requests instead")
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
