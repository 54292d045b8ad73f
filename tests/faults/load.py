"""The server under load: 32 clients, one request in twenty broken.

    python tests/faults/load.py [--seconds 600] [--clients 32] [--json FILE]

The server is the real command on a tiny base, in a process of its own. Every sound request must get
the answer that the same request got alone before (or 429, and then it is sent again); every broken
one a 4xx in OpenAI's form. Memory is the server's, when a tenth of the time is over and at the end.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/support")]

import httpx  # noqa: E402

from factory import QUESTIONS, write_image  # noqa: E402
from serving import command, memory_of  # noqa: E402

ASKED = [question for some in QUESTIONS.values() for question in some]
BROKEN: list[Callable[[str], bytes]] = [
    lambda image: b"{",
    lambda image: b"[" * 100_000,
    lambda image: json.dumps({"image": "http://127.0.0.1:9/x", "questions": ["?"]}).encode(),
    lambda image: json.dumps({"image": "/etc/passwd", "questions": ["?"]}).encode(),
    lambda image: json.dumps({"image": image[:-40], "questions": [ASKED[0]]}).encode(),
    lambda image: json.dumps({"image": image, "questions": ["a" * 10_000]}).encode(),
    lambda image: json.dumps({"image": image, "questions": ["?"] * 500}).encode(),
    lambda image: json.dumps({"image": image, "questions": []}).encode(),
    lambda image: json.dumps({"image": image, "questions": ["?"], "box": [9, 9, 1, 1]}).encode(),
    lambda image: b"\xff\xfe" * 50,
]


@dataclass
class Seen:
    """What the clients saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, what: str, problem: str = "") -> None:
        """Count one request."""
        with self.lock:
            self.counts[what] += 1
            if problem and len(self.problems) < 20:
                self.problems.append(problem)


def send(client: httpx.Client, body: bytes) -> httpx.Response:
    """One request to the API of the page."""
    return client.post("/api/ask", content=body, headers={"Content-Type": "application/json"})


def said(response: httpx.Response) -> list[str]:
    """The answers of all models, in order."""
    return [one["text"] for row in response.json()["answers"] for one in row["answers"].values()]


def client_loop(
    url: str, images: list[str], known: dict[tuple[int, str], list[str]], until: float, seed: int,
    seen: Seen,
) -> None:  # fmt: skip
    """One client, until the time is over."""
    rng = random.Random(seed)
    with httpx.Client(base_url=url, timeout=120) as client:
        while time.monotonic() < until:
            i = rng.randrange(len(images))
            if rng.random() < 0.05:
                response = send(client, rng.choice(BROKEN)(images[i]))
                fine = 400 <= response.status_code < 500 and "error" in response.json()
                seen.add("broken", "" if fine else f"{response.status_code} {response.text[:200]}")
                continue
            question = rng.choice(ASKED)
            body = json.dumps({"image": images[i], "questions": [question]}).encode()
            response = send(client, body)
            if response.status_code == 429:
                seen.add("told to wait")
                time.sleep(min(1.0, float(response.headers["retry-after"])))
            elif response.status_code != 200:
                seen.add("sound", f"{response.status_code} {response.text[:200]}")
            else:
                same = said(response) == known[i, question]
                seen.add("sound", "" if same else f"another answer to {question} about image {i}")


def main() -> None:
    """Put the server under load, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        images = []
        for n in range(40):
            write_image(place / "x.tif", 56, n)
            data = base64.b64encode((place / "x.tif").read_bytes()).decode()
            images.append(f"data:image/tiff;base64,{data}")
        with command(place) as (url, server):
            found = load(url, server.pid, images, asked)
    found["exit_code"] = server.returncode
    print(json.dumps(found, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(found["problems"]) or server.returncode != 0)


def load(url: str, process: int, images: list[str], asked: argparse.Namespace) -> dict[str, object]:
    """All clients at once; what they saw."""
    known = {}
    with httpx.Client(base_url=url, timeout=120) as client:
        for i, image in enumerate(images):
            for question in ASKED:
                body = json.dumps({"image": image, "questions": [question]}).encode()
                known[i, question] = said(send(client, body))
    seen, start = Seen(), time.monotonic()
    threads = [
        threading.Thread(target=client_loop,
                         args=(url, images, known, start + asked.seconds, n, seen))
        for n in range(asked.clients)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    time.sleep(asked.seconds / 10)
    early = memory_of(process)
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    return {
        "clients": asked.clients, "seconds": round(seconds), **seen.counts,
        "requests_per_second": round(sum(seen.counts.values()) / seconds, 1),
        "memory_mib": [round(early, 1), round(memory_of(process), 1)],
        "problems": seen.problems,
    }  # fmt: skip


if __name__ == "__main__":
    main()
