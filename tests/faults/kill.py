"""Every stage killed with SIGKILL at random points, and started again.

    python tests/faults/kill.py [--points 50] [--disk] [--stages train map] [--json FILE]

For each stage: an undisturbed run, then for each point a fresh folder in which the stage is killed
after a random part of the undisturbed run's time. What then stands under a final name must be whole
(equal to the undisturbed run's file, or to what stood there before); started again by the same
command (`train` with ``--resume`` once its settings stand there), the stage must end with the same
bytes, and leave nothing that begins with a dot but ``.lock`` and the manifest of a fetched model.
Times that are written down are not compared; files that grow line by line while a stage runs are
not looked at before its end.

With ``--disk`` (root on Linux) each stage meets instead a disk with too little room for what it
writes, three times, and one that is read-only: it must end with exit code 1 and a hint, leave
nothing half-written under a final name, and end with the same bytes once there is room.

All folders have a name of 255 bytes, with spaces and Chinese, and the clock goes back an hour
whenever it is read.

The stages run in forks of one process that has imported everything, so that the time is theirs.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/support")]

from bases import SETTINGS  # noqa: E402
from factory import make_samples, write_image, write_rsvqa, write_run  # noqa: E402
from hubserver import HubServer  # noqa: E402
from qwen2vl_rs.cli import main as command_line  # noqa: E402
from qwen2vl_rs.datasets.tables import write_conversations, write_csv  # noqa: E402
from qwen2vl_rs.predict import session  # noqa: E402, F401 - imported once, for all forks
from qwen2vl_rs.system.files import HUB_MANIFEST  # noqa: E402
from qwen2vl_rs.training import fit as train  # noqa: E402, F401 - imported once, for all forks
from random_base import Size, write_random_base  # noqa: E402

WORK = f" two  words,  {'地图' * 40} "  # 255 bytes
CLOCK = itertools.count(time.time(), -3600)
OWN = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-faults-"))
atexit.register(shutil.rmtree, OWN)  # not in the forks, which end by os._exit
LOG = OWN / "stderr"
# after an interruption fewer questions were asked in the seconds beside them
TIMES = {"seconds", "train_runtime", "train_questions_per_second"}
TIMING = "timing.json"
GROWING = (
    "metrics.jsonl",
    "index.jsonl",
    "windows.jsonl",
    ".partial",
    ".partial-0.jsonl",
    "predictions.partial",
)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        prepare: fills a folder with what the stage reads.
        words: the command.
        again: what is added when it is started again.
        compared: whether a file of the result is compared; checkpoints hold times in odd places.
        in_steps: a file that is written again, whole each time, as the stage proceeds.
    """

    prepare: Callable[[Path], None]
    words: list[str]
    again: list[str] = field(default_factory=list)
    compared: Callable[[Path], bool] = lambda path: True
    in_steps: str = ""

    def next(self, folder: Path) -> list[str]:
        """The command that goes on, where the stage had begun."""
        return [*self.words, *(self.again if any(folder.glob("output/*/config.toml")) else [])]


def small_base(folder: Path) -> Path:
    """The base of all stages, made once."""
    path = OWN / "base"
    if not path.exists():
        size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
        write_random_base(path, size, shard="100KB")
    return shutil.copytree(path, folder / "base")


def questions(folder: Path) -> None:
    """Conversations about six images, and a base."""
    small_base(folder)
    write_conversations(folder / "data_vl.json", make_samples(folder / "images", images=6))


def scene(folder: Path) -> None:
    """A georeferenced scene, and a base."""
    small_base(folder)
    write_image(folder / "scene.tif", 300, 1)


def table(folder: Path) -> None:
    """A CSV of two thousand questions."""
    samples = make_samples(folder / "images", images=250)
    write_csv(folder / "rsvqa-dataset.csv", samples, True)


_SET = [word for setting in [*SETTINGS, "model=base"] for word in ("--set", setting)]
_MAP = ["Is there a road?", "How many roads are there?"]
_KEPT = ("adapter_model.safetensors", "adapter_config.json", "qwen2vl_rs.json")


def _of_training(path: Path) -> bool:
    return (
        path.suffix in (".json", ".jsonl") and "checkpoint" not in str(path)
    ) or path.name in _KEPT


def stages(hub: HubServer) -> dict[str, Stage]:
    """All stages by name."""
    os.environ["MODELSCOPE_ENDPOINT"] = hub.url
    return {
        "load": Stage(lambda folder: None, ["load"]),
        "data2csv": Stage(lambda folder: _flat(write_rsvqa(folder / "in", images=250), folder),
                          ["data2csv"]),
        "csv2json": Stage(table, ["csv2json"]),
        "train": Stage(questions, ["train", *_SET], ["--resume"], _of_training,
                       in_steps="output/Qwen2-VL-2B/manifest.json"),
        "eval": Stage(questions, ["eval", "base", "--test", "data_vl.json", "-o", "out"]),
        "map": Stage(scene, ["map", "base", "scene.tif", *_MAP, "-o", "out", "--tile", "28"]),
        "generate": Stage(lambda folder: None,
                          ["generate", "--synthetic", "6", "--questions", "9", "-o", "world"],
                          in_steps="world/generate.json"),
        "report": Stage(lambda folder: _flat(write_run(folder / "in"), folder / "run"),
                        ["report", "run"]),
    }  # fmt: skip


def _flat(made: Path, folder: Path) -> None:
    shutil.copytree(made, folder, dirs_exist_ok=True)
    shutil.rmtree(folder.parent / "in" if folder.name == "run" else folder / "in")


def fork(words: list[str], folder: Path) -> int:
    """Start a command in a folder; returns its process id."""
    child = os.fork()
    if child:
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        return child
    os.setpgid(0, 0)  # generate starts processes of its own: they are killed with it
    os.chdir(folder)
    time.time = lambda: next(CLOCK)
    quiet = os.open(os.devnull, os.O_WRONLY)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(quiet, 1)
    os.dup2(log, 2)
    code = 99
    try:
        code = command_line(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def finish(words: list[str], folder: Path) -> float:
    """Run a command to its end; returns the seconds it took."""
    start = time.monotonic()
    _, status = os.waitpid(fork(words, folder), 0)
    if status:
        said = LOG.read_text(errors="replace")
        raise SystemExit(f"{' '.join(words)} in {folder} ended with {status}:\n{said}")
    return time.monotonic() - start


def content(path: Path) -> str:
    """Digest of a file without the times in it."""
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        rows = [data] if path.suffix == ".json" else data.splitlines()
        data = b"\n".join(json.dumps(_timeless(json.loads(row))).encode() for row in rows)
    return hashlib.sha256(data).hexdigest()


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def files(folder: Path, stage: Stage) -> dict[str, str]:
    """Digests of the files that are compared."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {
        str(p.relative_to(folder)): content(p)
        for p in found
        if stage.compared(p.relative_to(folder)) and not _growing(p) and not _hidden(p, folder)
        and p.name not in ("checksums.json", TIMING)
    }  # fmt: skip


def _growing(path: Path) -> bool:
    return any(word in path.name for word in GROWING)


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def faults_of(name: str, stage: Stage, points: int, seed: int) -> dict[str, object]:
    """Kill a stage so many times; the problems found are listed."""
    rng, problems, landed = random.Random(f"{name} {seed}"), [], 0
    with tempfile.TemporaryDirectory(prefix=f"kill-{name}-") as place:
        inputs, whole = Path(place) / "inputs", Path(place) / "whole" / WORK
        inputs.mkdir()
        stage.prepare(inputs)
        # in a place of the same name, as absolute paths stand in some files
        shutil.copytree(inputs, Path(place) / "w" / WORK)
        seconds = finish(stage.words, Path(place) / "w" / WORK)
        whole.parent.mkdir()
        (Path(place) / "w" / WORK).rename(whole)
        before, wanted = files(inputs, stage), files(whole, stage)
        for point in itertools.count():
            if landed == points:
                break
            work = Path(place) / "w" / WORK
            shutil.copytree(inputs, work)
            child = fork(stage.words, work)
            time.sleep(seconds * rng.uniform(0.0, 1.0))
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            landed += os.WIFSIGNALED(status)
            for path, digest in files(work, stage).items():
                if path == stage.in_steps:
                    json.loads((work / path).read_text())
                elif digest not in (wanted.get(path), before.get(path)):
                    problems.append(f"point {point}: {path} is not whole")
            finish(stage.next(work), work)
            ended = files(work, stage)
            if ended != wanted:
                odd = sorted(set(ended.items()) ^ set(wanted.items()))
                problems.append(f"point {point}: another result: {odd[:3]}")
            stray = [p for p in work.rglob(".*") if p.name not in (".lock", HUB_MANIFEST)]
            problems += [f"point {point}: stray {p.relative_to(work)}" for p in stray]
            shutil.rmtree(work)
    return {"points": point, "killed": landed, "seconds": round(seconds, 2), "problems": problems}


def size_of(folder: Path) -> int:
    """Bytes of the files of a folder on a disk with pages of 4 KiB."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


def disk_of(name: str, stage: Stage) -> dict[str, object]:
    """Try a stage on a disk that is too small; the problems found are listed."""
    problems: list[str] = []
    full = 0
    with tempfile.TemporaryDirectory(prefix=f"disk-{name}-") as place:
        inputs, disk = Path(place) / "inputs", Path(place) / "w"
        inputs.mkdir()
        disk.mkdir()
        stage.prepare(inputs)
        _mount(disk, "size=1g")
        try:
            work = disk / WORK
            shutil.copytree(inputs, work)
            finish(stage.words, work)
            before, wanted = files(inputs, stage), files(work, stage)
            written = size_of(work) - size_of(inputs)
            for share in (0.05, 0.4, 0.8, None):
                shutil.rmtree(work)
                shutil.copytree(inputs, work)
                room = size_of(inputs) + int(written * (share or 0)) // 4096 * 4096
                _mount(disk, f"remount,{f'size={room}' if share else 'ro'}")
                found = _in_want_of_room(stage, work, before, wanted)
                full += found is not None
                problems += [f"share {share}: {problem}" for problem in found or []]
                _mount(disk, "remount,rw,size=1g")
                if found is not None:
                    finish(stage.next(work), work)
                if files(work, stage) != wanted:
                    problems.append(f"share {share}: another result once there was room")
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    return {"points": 4, "full": full, "problems": problems}


def _mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=True)


def _in_want_of_room(
    stage: Stage, work: Path, before: dict[str, str], wanted: dict[str, str]
) -> list[str] | None:
    """Problems of a stage that ran out of room; None where it did not."""
    _, status = os.waitpid(fork(stage.words, work), 0)
    code, said = os.waitstatus_to_exitcode(status), LOG.read_text(errors="replace")
    if code == 0:
        return None
    problems = []
    if code != 1 or "Traceback" in said or "hint:" not in said:
        problems.append(f"exit code {code}: {said[-300:]}")
    for path, digest in files(work, stage).items():
        if path != stage.in_steps and digest not in (wanted.get(path), before.get(path)):
            problems.append(f"{path} is not whole")
    return problems


def main() -> None:
    """Try all stages, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--stages", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = {}
    with HubServer() as hub, tempfile.TemporaryDirectory() as made:
        base = small_base(Path(made))
        served = {p.name: p.read_bytes() for p in base.iterdir()}
        hub.repos["Qwen/Qwen2-VL-2B-Instruct"] = {"master": served}
        for name, stage in stages(hub).items():
            if asked.stages and name not in asked.stages:
                continue
            found[name] = (
                disk_of(name, stage) if asked.disk
                else faults_of(name, stage, asked.points, asked.seed)
            )  # fmt: skip
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(one["problems"] for one in found.values()))


if __name__ == "__main__":
    main()
