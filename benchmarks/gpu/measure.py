"""The steps of `kit.py`, one per process: ``python measure.py NAME --model 2b --json FILE``.

A step writes its results as one JSON object, and updates it as it goes, so that an interrupted step
keeps its results.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import torch  # noqa: E402
from common import (  # noqa: E402
    base_folder,
    make_base,
    make_samples,
    matmul_peak,
    peak_memory_gb,
    reset_peak_memory,
    sync,
)

from qwen2vl_rs.config import Config  # noqa: E402
from qwen2vl_rs.datasets.tables import write_conversations  # noqa: E402
from qwen2vl_rs.models.adapter import add_adapter, recompute_activations  # noqa: E402

CUDA = torch.cuda.is_available()
Figures = dict[str, Any]
Keep = Callable[[Figures], None]
DEADLINE = "QWEN2VL_RS_DEADLINE"  # seconds since the epoch at which the kit ends this step
SPARE = 12  # seconds before the deadline, for writing results
VALIDATED = 100  # most questions of a validation


def time_left() -> float:
    """Return the seconds until this step must write its results."""
    return float(os.environ.get(DEADLINE, time.time() + 600)) - SPARE - time.time()


class NeedsCuda(Exception):
    """A step that needs a GPU."""


def precision(model: str) -> torch.dtype:
    """Return the dtype of a base model: bfloat16 at full size (to fit), float32 on a CPU."""
    return torch.bfloat16 if CUDA and model == "2b" else torch.float32


def attention(model: str, keep: Keep) -> Figures:
    """Attention compared with float64 and plain transformers (``pytest -m gpu``)."""
    report = Path(tempfile.mkdtemp()) / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:logging"]
    command += ["-p", "pytest_timeout", "-m", "gpu" if CUDA else "not gpu", f"--junitxml={report}"]
    command += ["-o", "junit_family=xunit1", "-o", "filterwarnings=default"]
    command += ["tests/question_tree/test_flex.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    cut = False
    with subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, env=environment) as child:
        try:
            child.wait(max(1.0, time_left()))
        except subprocess.TimeoutExpired:
            cut = True
            child.send_signal(signal.SIGINT)  # it writes its results, and may then hang
            try:
                child.wait(SPARE - 2)
            except subprocess.TimeoutExpired:
                child.kill()
    figures: Figures = {"tests": {}}
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):  # killed before it was written
        cases = []
    for case in cases:
        if case.get("name") is None:  # in which it was interrupted
            continue
        bad = next((c for c in case if c.tag in ("failure", "error", "skipped")), None)
        properties = {p.get("name"): json.loads(p.get("value", "")) for p in case.iter("property")}
        outcome = bad.tag if bad is not None else "passed"
        figures["tests"][case.get("name")] = {"outcome": outcome, **properties}
    passed = all(t["outcome"] in ("passed", "skipped") for t in figures["tests"].values())
    whole = "cut off" if cut else "done" if child.returncode == 0 else "failed"
    figures["status"] = whole if passed else "failed"
    if not CUDA and figures["status"] == "done":
        raise NeedsCuda("FlexAttention has no backward pass on a CPU")
    return figures


def training(model: str, keep: Keep) -> Figures:
    """Training, forward and backward, with random weights, LoRA r 64, and plain Hugging Face."""
    import train

    tiny = model == "tiny"
    rows: list[Figures] = []
    dtype = precision(model)
    base = make_base(model, dtype)
    adapted = add_adapter(base.model, Config().lora).train()
    for checkpointing in (True, False):
        if checkpointing:
            recompute_activations(adapted)
        else:
            adapted.activation_checkpointing_disable()
        for side, images in ((256, 2),) if tiny else ((256, 4), (256, 32), (512, 4), (512, 32)):
            chosen = argparse.Namespace(
                plain=4 if tiny else 8,
                repeats=1 if tiny else 3,
                questions=[5] if tiny else [25, 100] if images == 4 else [25],
                images=images,
                cache=True,
                checkpointing=checkpointing,
            )
            rows += train.compare(base, adapted, side, dtype is torch.bfloat16, chosen)
            keep({"rows": rows})
    return {"matmul_tflops": round(matmul_peak(dtype) / 1e12, 2), "rows": rows}


def evaluation(model: str, keep: Keep) -> Figures:
    """Generated and closed-set answers, compared with ``generate`` on each question alone."""
    import eval as evaluation_speed

    tiny = model == "tiny"
    base = make_base(model, precision(model))
    rows: list[Figures] = []
    for side, n in [(256, 10)] if tiny else [(side, n) for side in (256, 512) for n in (25, 100)]:
        rows.append(evaluation_speed.compare(base, side, n, 2, 1 if tiny else 3))
        keep({"rows": rows})
    return {"rows": rows}


def train_command(model: str, keep: Keep) -> Figures:
    """`train` with validation, killed after its first checkpoint and resumed."""
    folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-train-"))
    command = _prepare_training(folder, model, steps=12)
    command += ["--val-fraction", "0.3", "--set", f"data.max_val={VALIDATED}"]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stdout=sys.stderr) as first:
        while not (folder / "run/checkpoint-4").exists():
            if first.poll() is not None:
                raise RuntimeError(f"train ended with {first.returncode} before its checkpoint")
            time.sleep(0.05)
        while _steps(folder)[-1]["step"] < 6 and first.poll() is None:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
    before = _steps(folder)
    resumed_from = max(int(p.name.split("-")[1]) for p in (folder / "run").glob("checkpoint-*"))
    subprocess.run([*command, "--resume"], cwd=folder, check=True, stdout=sys.stderr)
    after = _steps(folder)
    twice = [b for b in before if b["step"] > resumed_from]
    gaps = [abs(b["loss"] - after[b["step"] - 1]["loss"]) for b in twice]
    steady = after[8:]
    keys = ("step", "eval_OA", "eval_loss", "eval_seconds")
    figures = {
        "validations": [{k: one[k] for k in keys} for one in after if "eval_OA" in one],
        "validation_answers_as_eval": "not compared: no time left",
    }
    if time_left() > 40:  # loading the model takes half of it
        figures["validation_answers_as_eval"] = _compare_validation(folder)
    return {
        **figures,
        "seconds_in_all": round(time.monotonic() - began, 1),
        "steps_before_the_kill": len(before),
        "resumed_from": resumed_from,
        "steps_computed_twice": len(twice),
        "largest_difference_of_losses_computed_twice": max(gaps, default=None),
        "losses": [round(line["loss"], 5) for line in after],
        "questions_per_second": round(
            sum(line["questions"] for line in steady)
            / (after[-1]["seconds"] - after[7]["seconds"]),
            1,
        ),
        "train_results": json.loads((folder / "run/train_results.json").read_text()),
    }


def _compare_validation(folder: Path) -> str:
    """Return how many answers of the last validation `eval` gives, too."""
    command = [sys.executable, "-m", "qwen2vl_rs", "eval", "run", "--checkpoint", "last"]
    command += ["--test", "data_vl_val.json", "-o", "again"]
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
    places = ("run/eval/validation-12", "again")
    texts = [
        [json.loads(x)["text"] for x in (folder / p / "predictions.jsonl").open()] for p in places
    ]
    same = sum(a == b for a, b in zip(*texts, strict=True))
    return f"{same} of {len(texts[0])}"


def head_loss(model: str, keep: Keep) -> Figures:
    """The loss of the head by chunks of the vocabulary, compared with all logits at once."""
    import head_loss as of_the_head

    tiny = model == "tiny"
    rows: list[Figures] = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for tokens in (20,) if tiny else (241, 2000):
            rows.append(of_the_head.compare(model, tokens, dtype, 1 if tiny else 10))
            keep({"rows": rows})
    return {"rows": rows}


def _steps(folder: Path) -> list[Figures]:
    from qwen2vl_rs.run import read_metrics

    return read_metrics(folder / "run/metrics.jsonl")


def _prepare_training(folder: Path, model: str, steps: int) -> list[str]:
    """Write questions about noise to a folder and return the command that trains on them."""
    tiny = model == "tiny"
    samples = make_samples(4 if tiny else 16, 10 if tiny else 100, 256)
    write_conversations(folder / "data_vl.json", samples)
    settings = [
        f"training.max_steps={steps}", "training.num_train_epochs=9", "training.save_steps=4",
        "training.report_to=[]", "eval.max_eval=10", "data.test_fraction=0.2",
        f"model={base_folder(model, precision(model))}", "output=run",
    ]  # fmt: skip
    if tiny:
        settings += ["training.images_per_step=1", "training.questions_per_image=2"]
    command = [sys.executable, "-m", "qwen2vl_rs", "train"]
    return command + [part for one in settings for part in ("--set", one)]


def memory_cap(model: str, keep: Keep) -> Figures:
    """The defaults of `train` in a process limited to 12 GB: estimated and peak memory."""
    if not CUDA:
        raise NeedsCuda("only a GPU's memory can be capped within a process")
    import io
    from contextlib import redirect_stderr

    from qwen2vl_rs.cli import main as run

    device = torch.device("cuda", 0)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(12e9 / total, device)
    folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-cap-"))
    command = _prepare_training(folder, model, steps=6)
    os.chdir(folder)
    output = io.StringIO()
    torch.cuda.reset_peak_memory_stats()
    with redirect_stderr(output):
        code = run(command[3:])
    sys.stderr.write(output.getvalue())
    estimate = re.search(r"memory: ([0-9.]+) GB at most, of ([0-9.]+) GB", output.getvalue())
    budget = re.search(r"at most ([0-9,]+) tokens at once", output.getvalue())
    return {
        "status": "failed" if code else "done",
        "cap_gb": 12.0,
        "tokens_at_once": int(budget[1].replace(",", "")) if budget else None,
        "estimate_gb": float(estimate[1]) if estimate else None,
        "peak_allocated_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "peak_reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 2),
    }


def profile(model: str, keep: Keep) -> Figures:
    """One training step: idle share of the device, largest kernels, waits."""
    import train
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    tiny = model == "tiny"
    dtype = precision(model)
    base = make_base(model, dtype)
    adapted = add_adapter(base.model, Config().lora).train()
    recompute_activations(adapted)
    samples = make_samples(1 if tiny else 4, 5 if tiny else 25, 256)
    bf16 = dtype is torch.bfloat16
    run, step = train.ours(adapted, base, samples, True, bf16, True)
    run()
    run()
    sync()
    began = time.perf_counter()
    run()
    sync()
    alone = time.perf_counter() - began  # the profiler itself takes longer than a step
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]
    sync()
    reset_peak_memory()
    began = time.perf_counter()
    with record(activities=activities) as found:
        run()
        sync()
    seconds = time.perf_counter() - began
    counts = {e.key: e.count for e in found.key_averages()}
    waits = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::item")
    figures: Figures = {
        "questions": len(samples),
        "tokens": sum(one.size for one in step.layouts),
        "seconds": round(alone, 4),
        "seconds_under_the_profiler": round(seconds, 4),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "synchronisations": {name: counts[name] for name in waits if name in counts},
    }
    if not CUDA:
        events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)[:10]
        times = [[e.key[:80], e.count, round(e.self_cpu_time_total / 1e3, 3)] for e in events]
        return {**figures, "largest": times}
    kernels = [
        e for e in found.events() if e.device_type.name == "CUDA" and not e.is_user_annotation
    ]
    spans = [(e.time_range.start, e.time_range.end) for e in kernels]
    totals: dict[str, list[float]] = {}
    for event in kernels:
        totals.setdefault(event.name[:80], []).append(event.time_range.elapsed_us() / 1e3)
    largest = sorted(totals.items(), key=lambda one: -sum(one[1]))[:10]
    busy = _covered(spans) / 1e6
    return {
        **figures,
        "kernels": len(kernels),
        "idle_share": round(1 - busy / alone, 3),
        "largest": [[name, len(times), round(sum(times), 3)] for name, times in largest],
    }


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of spans."""
    busy, end = 0.0, min((start for start, _ in spans), default=0.0)
    for start, stop in sorted(spans):
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy


def embedded_base(model: str, keep: Keep) -> Figures:
    """The first phase of the recipe of the bundled base model, until the deadline."""
    folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-recipe-"))
    scenes, steps = (100, 4) if model == "tiny" else (1000, 4500)
    command = [
        sys.executable, str(ROOT / "recipes/embedded_base/train.py"), str(folder),
        "--scenes", str(scenes), "--held-out", "100", "--eyes", str(steps),
        "--workers", str(os.cpu_count() or 1), "--stop-after", "eyes",
    ]  # fmt: skip
    began = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr) as child:
        try:
            child.wait(max(1.0, time_left()))
        except subprocess.TimeoutExpired:
            child.terminate()
    log = folder / "eyes.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return {
        "device": "cuda" if CUDA else "cpu",
        "seconds": round(time.monotonic() - began, 1),
        "scenes": scenes,
        "log": [json.loads(line) for line in lines],
    }


STEPS = {
    f.__name__: f
    for f in (
        *(attention, training, evaluation, train_command),
        *(head_loss, memory_cap, profile, embedded_base),
    )
}


def main() -> None:
    """Run one step and write its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--model", choices=["tiny", "2b"], default="2b")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    what = (STEPS[args.step].__doc__ or "").removesuffix(".")

    def keep(figures: Figures, status: str = "cut off") -> None:
        text = json.dumps({"status": status, "what": what, **figures})
        args.json.with_suffix(".tmp").write_text(text)
        args.json.with_suffix(".tmp").replace(args.json)

    try:
        keep(STEPS[args.step](args.model, keep), "done")
    except NeedsCuda as error:
        keep({"why": str(error)}, "needs CUDA")


if __name__ == "__main__":
    main()
