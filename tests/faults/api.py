"""Requests that nobody should send, to the server as it is started by its command.

    python tests/faults/api.py [--inputs 100000] [--examples 1000] [--seed 0] [--json FILE]

Schemathesis makes requests from the served OpenAPI document, right ones and wrong ones, twice: by
the document as it is, and with real images in it, so that what is asked beside them is reached; all
its checks hold then (without real images a right request is refused for its image). Then sound
bodies are changed at random as in `fuzz`. A request may be answered or refused with a 4xx in
OpenAI's form; anything else is a finding, and so are five seconds and two gigabytes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/support")]

import httpx  # noqa: E402
from fuzz import MEMORY, SECONDS, changed  # noqa: E402

from factory import write_image  # noqa: E402
from serving import chat, command, data_url, memory_of  # noqa: E402

FORM = "multipart/form-data; boundary=limit"
Body = tuple[str, str, bytes]  # route, content type, body


def sound(image: bytes) -> list[Body]:
    """Bodies that are answered."""
    asked = {"image": data_url(image), "questions": ["Is there a road?"], "box": [0, 0, 28, 28]}
    streamed = chat(image, "How many?", "base", stream=True, n=1, max_tokens=2)
    head = b'--limit\r\nContent-Disposition: form-data; name="image"; filename="a.tif"\r\n\r\n'
    field = b'\r\n--limit\r\nContent-Disposition: form-data; name="questions"\r\n\r\nA lake?\nB?'
    form = head + image + field + b"\r\n--limit--\r\n"
    return [
        ("/api/ask", "application/json", json.dumps(asked).encode()),
        ("/v1/chat/completions", "application/json", json.dumps(streamed).encode()),
        ("/api/ask", FORM, form),
        ("/api/preview", FORM, form),
    ]


def bodies(url: str, images: list[bytes], inputs: int, seed: int) -> dict[str, Any]:
    """Send sound bodies, changed; what came of it."""
    rng, start, problems = random.Random(seed), time.monotonic(), []
    known = [sound(image) for image in images]
    answered = 0
    line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    for _ in range(inputs):
        n = rng.randrange(len(known[0]))
        route, kind, _ = known[0][n]
        data = changed(rng, [some[n][2] for some in known])
        if rng.random() < 0.05:
            kind = changed(rng, [kind.encode()])[:200].decode("latin-1")
            kind = "".join(c for c in kind if " " <= c <= "~") or "?"
        try:
            line.request("POST", route, data, {"Content-Type": kind})
            response = line.getresponse()
            text = response.read()
            fine = response.status == 200 or (
                400 <= response.status < 500 and json.loads(text)["error"]["code"]
            )
            answered += response.status == 200
            why = "" if fine else f"{response.status} {text[:200]!r}"
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            line.close()
            why = f"{type(error).__name__}: {error}"
        if why:
            problems.append(f"{route} {kind} {data[:200]!r}: {why}")
    line.close()
    return {
        "inputs": inputs, "findings": len(problems), "kinds": problems[:20], "answered": answered,
        "seconds": round(time.monotonic() - start),
    }  # fmt: skip


def one_message() -> Any:
    """A message of the user with one image and at least one question."""
    text = {
        "type": "object",
        "properties": {"type": {"const": "text"},
                       "text": {"type": "string", "maxLength": 500, "pattern": r"\S"}},
        "required": ["type", "text"],
    }  # fmt: skip
    image = {
        "type": "object",
        "properties": {"type": {"const": "image_url"}, "image_url": {"pattern": "base64"}},
        "required": ["type", "image_url"],
    }
    parts = {
        "type": "array", "items": {"anyOf": [text, image]}, "minItems": 2,
        "contains": image, "minContains": 1, "maxContains": 1,
    }  # fmt: skip
    message = {
        "type": "object",
        "properties": {"role": {"const": "user"}, "content": parts},
        "required": ["role", "content"],
    }
    return {"type": "array", "items": message, "minItems": 1, "maxItems": 1}


def with_images(document: Any, images: list[bytes]) -> Any:
    """The document with real images, without what no schema can tell: boxes and forms."""
    if isinstance(document, dict):
        if "base64" in str(document.get("pattern")):
            return {"enum": list(map(data_url, images))}
        if document.get("in") == "path":
            return {**document, "schema": {"enum": ["base"]}}
        if "messages" in document:  # which conversations ask nothing, no schema can tell
            document = {**document, "messages": one_message()}
        left_out = ("box", "multipart/form-data", "/api/preview")
        return {k: with_images(v, images) for k, v in document.items() if k not in left_out}
    if isinstance(document, list):
        return [with_images(v, images) for v in document]
    return document


def schemathesis(url: str, document: Any, examples: int, seed: int, *words: str) -> dict[str, Any]:
    """What Schemathesis finds by a document."""
    with tempfile.TemporaryDirectory() as made:
        schema, report = Path(made) / "openapi.json", Path(made) / "report.json"
        schema.write_text(json.dumps(document), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", str(schema), "--url", url,
             "--phases", "coverage,fuzzing", "--max-examples", str(examples),
             "--seed", str(seed), "--continue-on-failure", "--no-shrink",
             "--max-response-time", str(SECONDS), "--report", "json",
             "--report-json-path", str(report), *words],
            capture_output=True, text=True, cwd=made, check=False,
        )  # fmt: skip
        if not report.is_file():
            raise SystemExit(done.stdout + done.stderr)
        found = json.loads(report.read_text(encoding="utf-8"))
    problems = [str(one)[:1000] for one in found["failures"] + found["errors"]]
    return {
        "inputs": found["test_cases"]["generated"], "findings": len(problems),
        "kinds": problems[:20], "seconds": round(found["running_time"]),
    }  # fmt: skip


def main() -> None:
    """Try it, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, command(Path(made)) as (url, server):
        images = []
        for n in range(3):
            write_image(Path(made) / "x.tif", 56, n)
            images.append((Path(made) / "x.tif").read_bytes())
        document = httpx.get(f"{url}/openapi.json").json()
        real = with_images(document, images)
        found = {
            "API, as described": schemathesis(
                url, document, asked.examples, asked.seed,
                "--exclude-checks", "positive_data_acceptance",
            ),
            "API, real images": schemathesis(  # narrower than what is accepted
                url, real, asked.examples, asked.seed,
                "--exclude-checks", "negative_data_rejection",
            ),
            "bodies": bodies(url, images, asked.inputs, asked.seed),
        }  # fmt: skip
        peak = memory_of(server.pid, "VmHWM") * 2**20
    for one in found.values():
        one["peak_gib"] = round(peak / 2**30, 2)
    print(json.dumps(found, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    late = peak > MEMORY or server.returncode != 0
    sys.exit(late or any(one["findings"] for one in found.values()))


if __name__ == "__main__":
    main()
