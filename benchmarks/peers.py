"""Training speed beside LLaMA-Factory and ms-swift, each through its own command.

All programs train the same LoRA adapter on the same base model, questions and pixels, on the CPU.
First every setting of the peers is tried on few questions. Then the fastest ones take turns with
ours, which runs with all of its defaults, on more questions: a ratio is the median over pairs of
neighbouring runs, so that a slow drift of the machine cancels. What is known is not run again.

    make bench-peers                                  all of it: hours, on an idle machine
    python benchmarks/peers.py --quick                one step of each, to test this script
    python benchmarks/peers.py --data LR HR           real questions: folders of RSVQA's files
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: everything runs on the CPU

import torch
from common import base_folder, plain_batch, plain_loss
from peer_programs import (
    ADAPTER,
    OURS,
    PEERS,
    ROOT,
    SCHEDULE,
    Job,
    Questions,
    Setting,
    beside_key,
    fastest,
    interpreter,
    ratios,
    train,
    versions,
)
from transformers import get_linear_schedule_with_warmup, set_seed

from qwen2vl_rs.config import InputConfig, LoraSettings
from qwen2vl_rs.datasets.export_formats import export_dataset
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.models.adapter import add_adapter
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.raster import image_size
from qwen2vl_rs.system.files import read_json, write_json
from qwen2vl_rs.types import Sample

SIDES = (256, 512)  # pixels of RSVQA-LR and -HR
IMAGES = 4
TRIED = {256: 48, 512: 32}  # questions while settings are tried
RACED = {256: 400, 512: 400}  # and with the fastest of them: 100 an image, as in RSVQA
EPOCHS = 3  # ours sees the questions as often as by default; the peers, which are slower, once
FINALISTS = 2  # settings of each peer that take turns with ours
SETTINGS = [
    Setting(batch, bf16, packing, checkpointing)
    for bf16, packing, checkpointing, batch in product(
        (False, True), (False, True), (False, True), (1, 4, 16)
    )
]
TURNED = {  # rows of ours that are labelled as such
    "float32": ("training.bf16=false",),
    "bf16": ("training.bf16=true",),
    "float32, no checkpointing": ("training.bf16=false", "training.gradient_checkpointing=false"),
    "bf16, no checkpointing": ("training.bf16=true", "training.gradient_checkpointing=false"),
    "bf16, no checkpointing, 96 questions per image": (
        "training.bf16=true", "training.gradient_checkpointing=false",
        "training.questions_per_image=96",
    ),
}  # fmt: skip
DEFAULTS = "all defaults"
ALIKE = ("training.bf16=false", "training.images_per_step=2", "training.questions_per_image=8")


@dataclass
class Bench:
    """The results so far, and what every run needs.

    Attributes:
        file: the JSON file, written after every run.
        environments: folder with the environments of the peers.
        work: folder for everything else.
        threads: threads of each program.
        record: content of the file.
    """

    file: Path
    environments: Path
    work: Path
    threads: int
    record: dict[str, Any]

    def run(self, key: str, side: int, what: str, job: Job, label: str) -> dict[str, Any]:
        """Return the row of a key: a known one, or that of a new run."""
        rows: dict[str, dict[str, Any]] = self.record["rows"]
        if key not in rows:
            print(f"{key} …", file=sys.stderr, flush=True)
            outcome = train(job, self.environments)
            facts = {"side": side, "phase": what, "program": job.program, "setting": label}
            rows[key] = facts | outcome.record()
            write_json(self.file, self.record)
            if not outcome.error:
                shutil.rmtree(job.work)
        row = rows[key]
        result = row["error"] or f"{row['questions/s']} questions/s"
        print(f"{side:4}  {job.program:12}  {label:40}  {result}", flush=True)
        return row

    def job(self, program: str, questions: Questions, **more: Any) -> Job:
        """Return a job in a new folder."""
        folder = Path(tempfile.mkdtemp(dir=self.work, prefix=f"{program}-"))
        base = base_folder("small", torch.float32)
        return Job(program, base, questions, folder / "job", threads=self.threads, **more)


def drawn(side: int, folder: Path) -> Path:
    """Draw synthetic scenes with questions; return the file of training questions."""
    like, here = ("lr" if side == 256 else "hr"), folder / f"drawn-{side}"
    subprocess.run(
        [sys.executable, "-m", "qwen2vl_rs", "generate", "--synthetic", "12", "--tile", str(side),
         "--like", like, "--output", str(here)],
        check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return questions_file(here)


def questions_file(folder: Path) -> Path:
    """Return the file of training questions in a folder of RSVQA's files."""
    found = sorted(folder.glob("*_split_train_questions.json"))
    if not found:
        raise SystemExit(f"no *_split_train_questions.json in {folder}")
    return found[0]


def by_image(path: Path, side: int) -> list[list[Sample]] | None:
    """Return the questions of the images with the most; None if they have another size."""
    found: dict[str, list[Sample]] = {}
    for sample in read_samples(path):
        found.setdefault(sample.image, []).append(sample)
    first = next(iter(found))
    if side not in image_size(Path(first)):
        return None
    return sorted(found.values(), key=len, reverse=True)


def prepare(asked: list[list[Sample]], images: int, number: int, folder: Path) -> Questions:
    """Write ``number`` questions about some images, and one about another image, for all."""
    each = number // images
    chosen = [sample for one in asked[:images] for sample in one[:each]]
    if len(chosen) < number or len(asked) == images:
        raise SystemExit(f"{images + 1} images with {each} questions each are needed")
    folder.mkdir(parents=True)
    train_file, test_file = folder / "train.json", folder / "test.json"
    write_conversations(train_file, chosen)
    write_conversations(test_file, asked[images][:1])
    exports = {name: folder / name for name in PEERS}
    for name, place in exports.items():
        export_dataset(train_file, name, place, InputConfig())
    return Questions(train_file, test_file, exports, number, images)


def equal_work(bench: Bench, asked: list[list[Sample]]) -> None:
    """Compare the losses of three steps on the same 16 questions, in float32 without dropout.

    The expected losses are those of the plain model with the plain adapter, on padded batches, for
    the labels of each program. The first is independent of how the adapter begins, since its
    product begins at zero.
    """
    questions = prepare(asked, 2, 16, bench.work / "equal")
    samples = list(read_samples(questions.train))
    expected = {after: plain_losses(samples, after) for after in ("", "\n")}
    found: dict[str, Any] = {}
    for program in (OURS, *PEERS):
        more = {"own": ALIKE} if program == OURS else {"setting": Setting(batch=16)}
        job = bench.job(program, questions, epochs=EPOCHS, dropout=0.0, **more)
        row = bench.run(f"equal {program}", SIDES[0], "equal work", job, "16 questions, fp32")
        plain = expected["" if program == OURS else "\n"]
        pairs = zip(plain, row["losses"], strict=False)
        found[program] = {
            "labels": "answer, end token" + ("" if program == OURS else ", line end"),
            "trained": row["trained"],
            "losses": [round(loss, 5) for loss in row["losses"]],
            "expected": [round(loss, 5) for loss in plain],
            "difference": max((abs(a - b) for a, b in pairs), default=None),
        }
    bench.record["equal"] = found
    write_json(bench.file, bench.record)


def plain_losses(samples: Sequence[Sample], after: str) -> list[float]:
    """Return the mean loss of each step of plain training, in nats per token."""
    base = load_base(
        base_folder("small", torch.float32), InputConfig(), torch.device("cpu"), torch.float32,
        "branches",
    )  # fmt: skip
    set_seed(SCHEDULE["seed"])
    lora = LoraSettings(r=ADAPTER["r"], lora_alpha=ADAPTER["alpha"], lora_dropout=0.0)
    model = add_adapter(base.model, lora).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, SCHEDULE["learning_rate"], weight_decay=0.0)
    rate = get_linear_schedule_with_warmup(optimizer, 1, EPOCHS)
    batches = [
        plain_batch(base, part, [base.images.read(s.image) for s in part], after)
        for part in (samples[start : start + 4] for start in range(0, len(samples), 4))
    ]
    tokens = sum(int((batch["labels"] != -100).sum()) for batch in batches)
    losses = []
    for _ in range(EPOCHS):
        total = 0.0
        for batch in batches:
            loss = plain_loss(model, dict(batch)) / tokens
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(weights, SCHEDULE["max_grad_norm"])
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def try_all(
    bench: Bench, side: int, questions: Questions, settings: Sequence[Setting]
) -> dict[str, list[Setting]]:
    """Run every setting of every peer; return the fastest ones of each."""
    best = {}
    for program in PEERS:
        speeds: dict[Setting, float] = {}
        for setting in settings:
            job = bench.job(program, questions, setting=setting)
            row = bench.run(f"{side} tried {program} {setting}", side, "tried", job, str(setting))
            if row["questions/s"]:
                speeds[setting] = row["questions/s"]
        best[program] = sorted(speeds, key=lambda one: -speeds[one])[:FINALISTS]
    return best


def race(
    bench: Bench, side: int, questions: Questions, finalists: dict[str, list[Setting]], rounds: int
) -> None:
    """Run the peers' fastest settings and ours in turn."""
    for turn in range(rounds):
        for program, setting in ((p, s) for p, some in finalists.items() for s in some):
            key = f"{side} round {turn} {program} {setting}"
            job = bench.job(program, questions, setting=setting)
            bench.run(key, side, "race", job, str(setting))
            job = bench.job(OURS, questions, epochs=EPOCHS)
            bench.run(beside_key(key), side, "race", job, DEFAULTS)


def turned(bench: Bench, side: int, questions: Questions, names: Sequence[str]) -> None:
    """Run ours with settings that are not its defaults."""
    for name in names:
        job = bench.job(OURS, questions, own=TURNED[name], epochs=EPOCHS)
        bench.run(f"{side} turned {name}", side, "set by hand", job, name)


def conclude(bench: Bench) -> None:
    """Write the ratios: of all finalists, and to the fastest at each image size."""
    bench.record["ratios"] = every = list(ratios(bench.record["rows"]))
    bench.record["fastest"] = fastest(every)
    write_json(bench.file, bench.record)
    for one in bench.record["fastest"]:
        print(
            f"{one['side']} px: {one['ratio']} × {one['program']} ({one['setting']}): "
            f"{one['ours questions/s']} and {one['questions/s']} questions/s"
        )


def machine(environments: Path, threads: int) -> dict[str, Any]:
    """Return the processor, and the versions of all programs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = dict(line.split(":", 1) for line in lines if ":" in line)
    cpu = {key.strip(): value.strip() for key, value in named.items()}
    has = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in cpu.get("flags", "").split()]
    return {
        "cpu": cpu.get("model name") or platform.processor(),
        "16-bit instructions": ", ".join(has) or "none",
        "threads": threads,
        "versions": {p: versions(interpreter(environments, p), p) for p in (OURS, *PEERS)},
    }


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", help="folders of RSVQA's files, one a size")
    parser.add_argument("--sides", type=int, nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rounds", type=int, default=3, help="turns of the fastest settings")
    parser.add_argument("--threads", type=int, default=2, help="of each program")
    parser.add_argument("--environments", type=Path, default=os.environ.get("PEERS", ".peers"))
    parser.add_argument("--json", type=Path, help="default: docs/results/peers.json")
    parser.add_argument("--again", action="store_true", help="run also what the file holds")
    parser.add_argument("--quick", action="store_true", help="one step of each; another file")
    return parser.parse_args()


def main() -> None:
    """Run what is not known yet, and write the ratios."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the program in turn ends too
    torch.set_num_threads(chosen.threads)
    work = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-peers-"))
    name = "peers-quick.json" if chosen.quick else "peers.json"
    file = chosen.json or (work if chosen.quick else ROOT / "docs/results") / name
    environments = chosen.environments.resolve()
    known = {} if chosen.again else read_json(file) or {}
    record = {"machine": machine(environments, chosen.threads), "rows": known.get("rows", {})}
    if known and known["machine"] != record["machine"]:
        raise SystemExit(f"{file} holds runs of another machine or of other versions: --again")
    bench = Bench(file, environments, work, chosen.threads, record)
    sources = [questions_file(folder) for folder in chosen.data or []]
    record["questions"] = "RSVQA" if sources else "drawn scenes"
    for side in chosen.sides:
        files = sources or [drawn(side, work)]
        asked = next(filter(None, (by_image(path, side) for path in files)), None)
        if asked is None:
            raise SystemExit(f"none of the given folders has images of {side} px")
        tried, raced = (8, 8) if chosen.quick else (TRIED[side], RACED[side])
        few = prepare(asked, IMAGES, tried, work / f"tried-{side}")
        many = prepare(asked, IMAGES, raced, work / f"raced-{side}")
        if side == SIDES[0]:
            equal_work(bench, asked)
        finalists = try_all(bench, side, few, SETTINGS)
        turned(bench, side, many, list(TURNED))
        race(bench, side, many, finalists, 1 if chosen.quick else chosen.rounds)
        conclude(bench)
    print(json_summary(bench))
    shutil.rmtree(work, ignore_errors=chosen.quick)


def json_summary(bench: Bench) -> str:
    """Return where the result is."""
    return f"{len(bench.record['rows'])} rows in {bench.file}"


if __name__ == "__main__":
    main()
