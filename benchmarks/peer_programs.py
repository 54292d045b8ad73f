"""Train with LLaMA-Factory, ms-swift or this program, each through its own command.

Every program gets the same base model, questions, pixels, adapter and schedule. What is timed is
the program's own ``train_runtime``: from the first batch to the last step, without imports, loading
of the model, tokenising of the text (LLaMA-Factory) and saving. Ours does not contain the encoding
of the images either, which the others do in every step: it is measured and added.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OURS = "qwen2vl-rs"
PEERS = ("llamafactory", "ms-swift")
PACKAGES = ("torch", "transformers", "peft", "accelerate")
OWN_PACKAGE = {"llamafactory": "llamafactory", "ms-swift": "ms-swift", OURS: "qwen2vl-rs"}
STEP = 16  # questions in an optimizer step of a peer: ms-swift's default
ADAPTER: dict[str, Any] = {"r": 64, "alpha": 16, "dropout": 0.05}
SCHEDULE: dict[str, Any] = {
    "learning_rate": 1e-4,
    "lr_scheduler_type": "linear",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "seed": 42,
}
WARMUP = 0.03
TIMEOUT = 3600
_ERROR = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b.*")


@dataclass(frozen=True)
class Questions:
    """One set of questions in the forms of all programs.

    Attributes:
        train, test: conversations; the programs train on the first, ours asks one of the second.
        exports: folder for each peer.
        number: questions in ``train``.
        images: images in ``train``.
    """

    train: Path
    test: Path
    exports: dict[str, Path]
    number: int
    images: int


@dataclass(frozen=True)
class Setting:
    """Settings of a peer that affect its speed."""

    batch: int = 4
    bf16: bool = False
    packing: bool = False
    checkpointing: bool = False

    def __str__(self) -> str:
        words = [f"batch {self.batch}", "bf16" if self.bf16 else "fp32"]
        words += ["packing"] * self.packing + ["checkpointing"] * self.checkpointing
        return ", ".join(words)


@dataclass(frozen=True)
class Job:
    """One training of one program.

    Attributes:
        program: its name.
        base: folder of the base model.
        questions: what to train on.
        work: a new folder for all that it writes.
        setting: of a peer.
        own: settings of ours, ``key=value``, beside the defaults.
        epochs: passes over the questions.
        dropout: of the adapter's inputs.
        threads: threads of the process.
    """

    program: str
    base: Path
    questions: Questions
    work: Path
    setting: Setting = Setting()
    own: tuple[str, ...] = ()
    epochs: int = 1
    dropout: float = ADAPTER["dropout"]
    threads: int = 2


@dataclass
class Outcome:
    """What a training came to.

    Attributes:
        questions: number seen.
        seconds: the program's own time, with the encoding of the images.
        losses: mean loss of each step, in nats per token.
        trained: number of trained parameters.
        used: what the program says it used (ours: precision, threads, tokens per pack, …).
        error: last line of its error message; None if it ended well.
        command: what was run, without the path of the program.
    """

    questions: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    trained: int | None = None
    used: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    command: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the outcome for the JSON file."""
        speed = None if self.error else round(self.questions / self.seconds, 3)
        return {"questions/s": speed, **asdict(self)}


def versions(python: Path, program: str) -> dict[str, str]:
    """Return the versions of a program and of its libraries, in its environment."""
    code = "import json,sys;from importlib.metadata import version;"
    code += "print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
    names = [OWN_PACKAGE[program], *PACKAGES]
    done = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def interpreter(environments: Path, program: str) -> Path:
    """Return the Python of a program's environment."""
    if program == OURS:
        return Path(sys.executable)
    found = environments / program / "bin" / "python"
    if not found.exists():
        raise SystemExit(f"no environment of {program} in {environments}: make peers-ready")
    return found


def train(job: Job, environments: Path) -> Outcome:
    """Run one training and read its result."""
    job.work.mkdir(parents=True)
    python = interpreter(environments, job.program)
    command, extra = {OURS: _ours, "llamafactory": _llamafactory, "ms-swift": _ms_swift}[
        job.program
    ](job)
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONWARNINGS")}
    env = own | {
        "OMP_NUM_THREADS": str(job.threads), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(job.work / "home"), "WANDB_DISABLED": "true", "PYTHONUNBUFFERED": "1",
        "MODELSCOPE_CACHE": str(job.work / "home"),
        **extra,
    }  # fmt: skip
    words = [str(python.parent / command[0]), *command[1:]]
    status, lines = _run(words, env, job.work)
    outcome = Outcome(command=[w.replace(f"{job.work}/", "") for w in command])
    try:
        if status != 0:
            raise ValueError(_last_error([text for _, text in lines]) or f"exit status {status}")
        _read(job, lines, outcome)
    except (ValueError, OSError, LookupError) as error:
        outcome.error = str(error)[:300]
    return outcome


def _run(words: list[str], env: dict[str, str], work: Path) -> tuple[int, list[tuple[float, str]]]:
    """Run a command; return its exit status, and its lines with the time of each.

    All of its processes end with it, also if it takes too long.
    """
    lines: list[tuple[float, str]] = []
    late = threading.Event()
    with subprocess.Popen(
        words, env=env, cwd=work, text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(TIMEOUT, end)
        timer.start()
        try:
            lines.extend((time.monotonic(), line.rstrip()) for line in process.stdout)
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        lines.append((time.monotonic(), f"TimeoutError: longer than {TIMEOUT} s"))
    (work / "output.txt").write_text("\n".join(text for _, text in lines) + "\n")
    return status, lines


def _last_error(lines: list[str]) -> str:
    """Return the last line with the name of an exception, else the last line.

    The launchers of both peers end with the error of their own child process.
    """
    said = [line.strip() for line in lines if line.strip()]
    named = [s for s in said if _ERROR.match(s) and "CalledProcessError" not in s]
    return (named or said or [""])[-1]


def _ours(job: Job) -> tuple[list[str], dict[str, str]]:
    """Our command: all defaults, except what the others were given, too."""
    settings = [
        f"lora.r={ADAPTER['r']}", f"lora.lora_alpha={ADAPTER['alpha']}",
        f"lora.lora_dropout={job.dropout}",
        *(f"training.{name}={value}" for name, value in SCHEDULE.items()),
        f"training.warmup_ratio={WARMUP}", f"training.num_train_epochs={job.epochs}",
        "training.report_to=[]", *job.own,
    ]  # fmt: skip
    train, test = job.questions.train, job.questions.test
    command = ["qwen2vl-rs", "train", "--train", train, "--test", test, "--model", job.base,
               "--max-eval", 1, "--output", job.work / "run"]  # fmt: skip
    words = [*map(str, command), *(w for s in settings for w in ("--set", s))]
    return words, {"PYTHONPATH": str(ROOT / "src")}


def _shared(job: Job) -> dict[str, Any]:
    """Arguments of transformers' ``TrainingArguments``, which both peers take."""
    batch = job.setting.batch
    return {
        "output_dir": job.work / "run", "use_cpu": True, "bf16": job.setting.bf16,
        "per_device_train_batch_size": batch,
        # a batch of packs has many questions
        "gradient_accumulation_steps": 1 if job.setting.packing else max(1, STEP // batch),
        "num_train_epochs": job.epochs, "logging_steps": 1,
        "warmup_ratio": WARMUP, "report_to": "none", "save_strategy": "no",
        "packing": job.setting.packing, "lora_rank": ADAPTER["r"], "lora_alpha": ADAPTER["alpha"],
        "lora_dropout": job.dropout, **SCHEDULE,
    }  # fmt: skip


def _llamafactory(job: Job) -> tuple[list[str], dict[str, str]]:
    folder = job.questions.exports["llamafactory"]
    arguments = _shared(job) | {
        "stage": "sft", "do_train": True, "model_name_or_path": job.base, "template": "qwen2_vl",
        "finetuning_type": "lora", "lora_target": "all", "dataset_dir": folder, "dataset": "rsvqa",
        "overwrite_cache": True, "disable_gradient_checkpointing": not job.setting.checkpointing,
        # without it, questions in a pack would see each other
        "neat_packing": job.setting.packing,
    }  # fmt: skip
    return (
        ["llamafactory-cli", "train", *_flags(arguments)],
        {"PYTHONPATH": str(ROOT / "tests/peers/llamafactory")},
    )


def _ms_swift(job: Job) -> tuple[list[str], dict[str, str]]:
    folder = job.questions.exports["ms-swift"]
    arguments = _shared(job) | {
        # ``torch_dtype bfloat16`` is half as fast as autocast; float32 alone sets fp16
        "torch_dtype": "float32", "fp16": False, "model": job.base, "check_model": False,
        "model_type": "qwen2_vl", "template": "qwen2_vl", "tuner_type": "lora",
        "target_modules": "all-linear", "dataset": folder / "train.jsonl",
        "split_dataset_ratio": 0, "eval_strategy": "no", "add_version": False,
        "gradient_checkpointing": job.setting.checkpointing,
        "vit_gradient_checkpointing": job.setting.checkpointing,
    }  # fmt: skip
    return ["swift", "sft", *_flags(arguments)], {"ROOT_IMAGE_DIR": str(folder)}


def _flags(arguments: dict[str, Any]) -> list[str]:
    return [
        word
        for name, value in arguments.items()
        for word in (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))
    ]


def _read(job: Job, lines: list[tuple[float, str]], outcome: Outcome) -> None:
    """Fill an outcome from the files that a program has written."""
    run, text = job.work / "run", [line for _, line in lines]
    if job.program == OURS:
        results = json.loads((run / "train_results.json").read_text())
        outcome.questions = results["train_questions"]
        outcome.seconds = results["train_runtime"] + _encoding(lines)
        outcome.losses = [one["loss"] for one in _json_lines(run / "metrics.jsonl")]
        manifest = json.loads((run / "manifest.json").read_text())
        settings = tomllib.loads((run / "config.toml").read_text())["training"]
        known = ("cpu", "threads", "dtype", "attention", "tokens_per_pack")
        outcome.used = {k: manifest[k] for k in known if k in manifest}
        chosen = ("images_per_step", "questions_per_image", "gradient_checkpointing")
        outcome.used |= {k: settings[k] for k in chosen if k in settings}
        outcome.used["encoding_seconds"] = round(_encoding(lines), 3)
        outcome.trained = _number(r"training ([\d.]+) M of", text, 1e6)
        return
    log = _json_lines(
        run / ("trainer_log.jsonl" if job.program == "llamafactory" else "logging.jsonl")
    )
    outcome.losses = [one["loss"] for one in log if "loss" in one]
    if job.program == "llamafactory":
        results = json.loads((run / "train_results.json").read_text())
        outcome.trained = _number(r"trainable params: ([\d,]+)", text)
    else:
        results = next(one for one in reversed(log) if "train_runtime" in one)
        outcome.trained = _number(r"([\d.]+)M Trainable", text, 1e6)
    outcome.seconds = float(str(results["train_runtime"]).removesuffix("s"))
    outcome.used = {"steps": len(outcome.losses)}
    outcome.questions = job.questions.number * job.epochs


def _encoding(lines: list[tuple[float, str]]) -> float:
    """Return the seconds in which ours encoded the images: between two of its messages."""
    begun = [at for at, line in lines if "encoded once for all epochs" in line]
    if not begun:
        return 0.0  # they are encoded in every step, like elsewhere
    return next(at for at, line in lines if at > begun[0] and line.startswith("LoRA r")) - begun[0]


def _number(pattern: str, lines: list[str], unit: float = 1) -> int | None:
    found = [m[1] for line in lines if (m := re.search(pattern, line))]
    return round(float(found[-1].replace(",", "")) * unit) if found else None


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def ratios(rows: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield, for each size and peer setting of the races, the speeds and their ratio."""
    pairs: dict[tuple[int, str, str], list[tuple[float, float]]] = {}
    for key, row in rows.items():
        beside = rows.get(beside_key(key))
        if beside and row["questions/s"] and beside["questions/s"]:
            name = (row["side"], row["program"], row["setting"])
            pairs.setdefault(name, []).append((row["questions/s"], beside["questions/s"]))
    for (side, program, setting), found in pairs.items():
        yield {
            "side": side,
            "program": program,
            "setting": setting,
            "questions/s": round(statistics.median(peer for peer, _ in found), 2),
            "ours questions/s": round(statistics.median(ours for _, ours in found), 2),
            "ratio": round(statistics.median(ours / peer for peer, ours in found), 1),
            "pairs": len(found),
        }


def beside_key(key: str) -> str:
    """Return the key of our run that follows a peer's run of a race."""
    return f"{key} | {OURS}"


def fastest(every: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ratio to the fastest setting of the fastest peer, for each image size."""
    sides = sorted({one["side"] for one in every})
    return [
        max((one for one in every if one["side"] == side), key=lambda one: one["questions/s"])
        for side in sides
    ]
