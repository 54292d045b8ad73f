"""A real server on a socket of this machine, for the tests that ask it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import uvicorn.server

from qwen2vl_rs.serve.limits import Limits
from qwen2vl_rs.serve.run import Server, bind
from random_base import Size, write_random_base


def soon(seconds):
    """Uvicorn looks every 0.1 s whether it shall stop: hundreds of servers are waited for here."""
    return asyncio.sleep(min(seconds, 0.005))


uvicorn.server.asyncio = SimpleNamespace(**{**vars(asyncio), "sleep": soon})


class Held:
    """A session that waits at a gate before each pass, and notes what it was asked."""

    def __init__(self, session):
        self._session = session
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.passes = []  # of each: questions per image, whether the fine-tuned model was asked

    def __getattr__(self, name):
        return getattr(self._session, name)

    def ask(self, groups, *, closed, use_adapter):
        self.passes.append(([list(questions) for _, questions in groups], use_adapter))
        self.entered.set()
        assert self.gate.wait(60)
        return self._session.ask(groups, closed=closed, use_adapter=use_adapter)

    @contextlib.contextmanager
    def shut(self):
        """Whoever asks in here waits; yields the passes that begin."""
        self.passes.clear()
        self.entered.clear()
        self.gate.clear()
        try:
            yield self.passes
        finally:
            self.gate.set()


@contextlib.contextmanager
def serving(engine, token=None, limits=None, waiting=64, name="small", plain=False):
    """A server that runs in a thread of its own while the context lasts."""
    sock = bind("127.0.0.1", 0, token)
    server = Server(engine, name, sock, token, limits or Limits(), waiting, plain)
    up = threading.Event()
    thread = threading.Thread(target=server.run, args=(lambda url: up.set(),))
    thread.start()
    try:
        assert up.wait(30)
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


@contextlib.contextmanager
def command(place):
    """The real command on a tiny base, in a process of its own; yields its address and process."""
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
    base = write_random_base(place / "base", size, shard="100KB")
    words = [sys.executable, "-m", "qwen2vl_rs", "serve", str(base), "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if k != "QWEN2VL_RS_TOKEN"}
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield server.stdout.readline().strip(), server
    finally:
        server.terminate()
        server.wait(60)


def memory_of(process, field="VmRSS"):
    """Resident memory of a process in MiB; its peak with the field VmHWM."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def children_of(process):
    """The processes that one has started and that still run."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(pid) for one in tasks for pid in one.read_text().split()]


def metric(server, name, **labels):
    """One figure of a server."""
    inner = ",".join(f'{k}="{v}"' for k, v in labels.items())
    wanted = f"qwen2vl_rs_{name}{{{inner}}}" if inner else f"qwen2vl_rs_{name}"
    for line in server.metrics.text().decode().splitlines():
        if line.startswith(f"{wanted} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def data_url(content):
    return f"data:image/tiff;base64,{base64.b64encode(content).decode()}"


def chat(image, question, model="small", **more):
    """The JSON of a chat completion."""
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(image)}},
        {"type": "text", "text": question},
    ]
    return {"model": model, "messages": [{"role": "user", "content": parts}], **more}


def ask(server, image, questions, **more):
    """Answers of /api/ask to a form."""
    form = {"questions": "\n".join(questions), **more}
    done = httpx.post(
        f"{server.url}/api/ask", files={"image": ("a.tif", image)}, data=form, timeout=60
    )
    assert done.status_code == 200, done.text
    return done.json()


def until(condition, seconds=20):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
