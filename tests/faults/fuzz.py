"""Broken bytes for everything that reads foreign ones.

    python tests/faults/fuzz.py [--inputs 100000] [--formats csv tiff] [--seed 0] [--json FILE]

Valid files are changed at random: bits flipped, pieces cut out, repeated, swapped and put together
from several files, numbers and brackets made huge, encodings broken. One in twenty inputs runs
under a tracer; those that reach lines of ours that none before reached are changed further. An
input may be read, or refused with one of our errors; anything else is a finding, and so are five
seconds of one input and two gigabytes of memory. Inputs run by the thousand in a process of its own
with these limits; what broke stays in the folder given by ``--keep``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/support")]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from factory import make_samples, write_image, write_rsvqa  # noqa: E402
from qwen2vl_rs.config import InputConfig, RasterToRGB  # noqa: E402
from qwen2vl_rs.config_file import load_config  # noqa: E402
from qwen2vl_rs.datasets.export_formats import EXPORT_FORMATS, export_dataset  # noqa: E402
from qwen2vl_rs.datasets.reading import read_samples  # noqa: E402
from qwen2vl_rs.datasets.tables import write_conversations, write_csv  # noqa: E402
from qwen2vl_rs.errors import Qwen2VLRSError  # noqa: E402
from qwen2vl_rs.raster import read_rgb  # noqa: E402
from qwen2vl_rs.raster.scenes import Georeference, open_scene  # noqa: E402
from qwen2vl_rs.scoring.predictions import read_predictions, read_training, write_predictions  # noqa: E402
from qwen2vl_rs.scoring.results import results  # noqa: E402
from qwen2vl_rs.synthetic.scene import make_scene, write_vectors  # noqa: E402
from qwen2vl_rs.system import console  # noqa: E402
from qwen2vl_rs.types import Prediction  # noqa: E402
from qwen2vl_rs.vqa_generation.vectors import read_vectors  # noqa: E402
from worlds import Placed  # noqa: E402

OURS = str(ROOT / "src")
SECONDS, MEMORY, BATCH, TRACED = 5, 2 * 2**30, 1000, 20
FOREIGN_RESULTS = [
    b'{"prompt": "<|im_start|>user\\nIs it?<|im_end|>\\n<|im_start|>assistant\\n", '
    b'"predict": "yes", "label": "no"}',
    b'{"doc_id": 0, "doc": {"question": "Is it?"}, "target": "no", "filtered_resps": ["yes"]}',
    b'{"response": "yes", "labels": "no", "messages": [{"role": "user", "content": "Is it?"}]}',
    b"index\tquestion\tanswer\tprediction\n0\tIs it?\tno\tyes\n",
]
WORDS = [
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud800", b"null", b"NaN", b"-1e999", b"9" * 400, b"\0",
    b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\x1b[2J", b"<|im_end|>", b"../../", b"\xe4\xbd",
    b"=1+1", b"true", b"1e3", b"id", b"question", b"answer", b"image", b"'", b",", b";", b"\t",
]  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: of the file that is written.
        seeds: valid contents.
        read: reads it as the tool does.
    """

    name: str
    seeds: list[bytes]
    read: Callable[[Path], Any]


def _as_others_write_them(place: Path) -> list[str]:
    """Files of other programs, made of ``a.json``; returns those of JSON."""
    for name in EXPORT_FORMATS:
        export_dataset(place / "a.json", name, place / name, InputConfig())
    rows = [{"image": {"bytes": b"BM", "path": None}, "question": "Is it?", "answer": "yes"}] * 3
    pq.write_table(pa.Table.from_pylist(rows), place / "a.parquet")
    return [f"{name}/{form.file}" for name, form in EXPORT_FORMATS.items()]


def formats(place: Path) -> dict[str, Format]:
    """All formats, with valid files made here."""
    samples = make_samples(place / "images", images=2)
    write_csv(place / "a.csv", samples, True)
    write_csv(place / "b.csv", samples, False)
    write_conversations(place / "a.json", samples)
    official = write_rsvqa(place / "rsvqa", images=2)
    predictions = [
        Prediction(s.id, s.image, s.question, s.type, s.answer, s.answer, s.answer, 0.5)
        for s in samples
    ]
    write_predictions(place / "a.jsonl", predictions)
    write_image(place / "a.tif", 24, 1)
    exported = _as_others_write_them(place)
    pixels = Image.fromarray(np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3))
    for kind in ("png", "jpg", "webp", "bmp"):
        pixels.save(place / f"a.{kind}")
    Image.fromarray(np.arange(576, dtype=np.uint16).reshape(24, 24)).save(place / "b.tif")
    place_drawn = make_scene(1, 1, side=64, setting="village")
    write_vectors(place_drawn, place / "a.geojson")
    there = Georeference(
        place_drawn.crs, (place_drawn.resolution, 0, place_drawn.left, 0, -place_drawn.resolution,
                          place_drawn.top))  # fmt: skip
    settings = b'model = "base"\n[training]\nlearning_rate = 2e-3\nreport_to = ["swanlab"]\n'
    settings += b"[view.image]\nbands = [1, 2, 3]\nstretch = [2, 98]\n[lora]\nr = 8\n"

    def table(path: Path) -> None:
        list(read_samples(path))

    def official_questions(path: Path) -> None:
        for other in official.iterdir():
            if other.name not in ("rsvqa_questions.json", "rsvqa_images"):
                shutil.copy(other, path.parent / other.name)
        list(read_samples(path, with_images=False))

    def scored(path: Path) -> None:
        results(read_predictions(path), train=read_training(path))

    def picture(path: Path) -> None:
        read_rgb(path, RasterToRGB())

    def large(path: Path) -> None:
        with open_scene(path, RasterToRGB()) as scene:
            scene.read_resized(0, 0, scene.width, scene.height, 28)

    def read(*names: str) -> list[bytes]:
        return [(place / name).read_bytes() for name in names]

    return {
        "csv": Format("x.csv", read("a.csv", "b.csv"), table),
        "conversations": Format("x.json", read("a.json"), table),
        "foreign": Format("x.jsonl", read(*exported), table),
        "parquet": Format("x.parquet", read("a.parquet"), table),
        "rsvqa": Format("rsvqa_questions.json", read("rsvqa/rsvqa_questions.json"),
                        official_questions),
        "predictions": Format("x.jsonl", [*read("a.jsonl"), *FOREIGN_RESULTS], scored),
        "toml": Format("x.toml", [settings], lambda path: load_config(path)),
        "image": Format("x.img", read("a.tif", "b.tif", "a.png", "a.jpg", "a.webp", "a.bmp"),
                        picture),
        "scene": Format("x.tif", read("a.tif", "b.tif"), large),
        "vectors": Format("x.geojson", read("a.geojson"),
                          lambda path: read_vectors(path, Placed(there, 64, 64))),
    }  # fmt: skip


def changed(rng: random.Random, corpus: list[bytes]) -> bytes:
    """A content made from those of the corpus."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 12))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 200)))
        match rng.randrange(9):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[at:end] = rng.randbytes(end - at)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * rng.choice((1, 2, 50))
            case 4:
                data[at:end] = rng.choice(WORDS)
            case 5:
                other = rng.choice(corpus)
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case 6:
                data[at:at] = rng.choice((b"[", b"{", b"(", b'{"a":')) * rng.choice((3, 5000))
            case 7:
                del data[at:]
            case _:
                data[at:end] = rng.choice((b"\xff", b"\0", b"\x7f\xff")) * max(1, end - at)
    return bytes(data[: 1 << 20])


def lines_reached(work: Callable[[], None]) -> set[tuple[str, int]]:
    """Lines of ours that a call reaches."""
    found: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line":
            found.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return found


def batch(form: Format, place: Path, corpus: list[bytes], seed: str, count: int) -> dict[str, Any]:
    """Try some inputs in this process; returns what was found, and inputs that are new."""
    rng, path = random.Random(seed), place / form.name
    problems: list[tuple[str, bytes]] = []
    new: list[bytes] = []
    reached: set[tuple[str, int]] = set()

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    for n in range(count):
        data = changed(rng, corpus)
        path.write_bytes(data)
        (place / "current").write_bytes(data)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            if n % TRACED:
                form.read(path)
            else:
                lines = lines_reached(lambda: _refused(form, path))
                if lines - reached:
                    reached |= lines
                    new.append(data)
        except Qwen2VLRSError:
            pass
        except BaseException as error:  # that is what is looked for
            problems.append((f"{type(error).__name__}: {str(error)[:200]}", data))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"problems": problems, "new": new, "lines": reached, "peak": peak}


def _refused(form: Format, path: Path) -> None:
    with contextlib.suppress(Qwen2VLRSError):
        form.read(path)


def in_a_fork(work: Callable[[], dict[str, Any]], place: Path) -> dict[str, Any] | str:
    """The result of a call in a process of its own; in words, how that ended if it broke."""
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY + (2 << 30), MEMORY + (2 << 30)))
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            (place / "result").write_bytes(pickle.dumps(work()))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        return f"the process ended with {status}"
    return dict(pickle.loads((place / "result").read_bytes()))


def fuzz(name: str, form: Format, inputs: int, seed: int, keep: Path | None) -> dict[str, Any]:
    """Try one format."""
    corpus, lines, problems, peak = list(form.seeds), set(), [], 0
    start, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        place = Path(made)
        while done < inputs:
            count = min(BATCH, inputs - done)
            work = partial(batch, form, place, corpus, f"{name} {seed} {done}", count)
            found = in_a_fork(work, place)
            done += count
            if isinstance(found, str):
                problems.append((found, (place / "current").read_bytes()))
                continue
            problems += found["problems"]
            peak = max(peak, found["peak"])
            if found["lines"] - lines:
                lines |= found["lines"]
                corpus = (corpus + found["new"])[: len(form.seeds) + 400]
    if peak > MEMORY:
        problems.append((f"{peak / 2**30:.1f} GiB of memory", b""))
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        for n, (_, data) in enumerate(problems[:50]):
            (keep / f"{name}-{n}").write_bytes(data)
    kinds = sorted({why for why, _ in problems})
    return {
        "inputs": done, "findings": len(problems), "kinds": kinds[:20], "lines": len(lines),
        "corpus": len(corpus), "seconds": round(time.monotonic() - start),
        "peak_gib": round(peak / 2**30, 2),
    }  # fmt: skip


def main() -> None:
    """Try all formats, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--formats", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    console.mute()
    found = {}
    with tempfile.TemporaryDirectory() as made:
        for name, form in formats(Path(made)).items():
            if asked.formats and name not in asked.formats:
                continue
            found[name] = fuzz(name, form, asked.inputs, asked.seed, asked.keep)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(one["findings"] for one in found.values()))


if __name__ == "__main__":
    main()
