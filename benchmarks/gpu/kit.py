"""All measurements that need a GPU, in order of importance, each in a process with a time limit.

    python benchmarks/gpu/kit.py --device cuda --model 2b --json docs/results/gpu.json

The JSON is written after every step, so an interrupted run keeps its results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# seconds on a GPU; a process takes a minute to start (imports, weights, compiling attention)
LIMITS = {
    "attention": 120,
    "training": 120,
    "evaluation": 80,
    "train_command": 100,
    "head_loss": 30,
    "memory_cap": 60,
    "profile": 50,
    "embedded_base": 40,
}
WHOLE = sum(LIMITS.values())
SLOWER = 6  # factor of the limits on a CPU, with the tiny model
NEEDED = {
    "torch": "2.6", "transformers": "5.23", "peft": "0.20", "accelerate": "1.3",
    "safetensors": "0.8", "tokenizers": "0.23.1", "huggingface_hub": "1.31", "numpy": "2.0",
    "pillow": "10", "pydantic": "2.7", "click": "8.4", "rasterio": "1.4", "pytest": "8.3",
}  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of all requirements; exit with a list if some are missing or too old."""
    found, wrong = {"python": platform.python_version()}, []
    for name, least in NEEDED.items():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if _numbers(found[name]) < _numbers(least):
            wrong.append(f"{name} {found[name]} is older than {least}")
    if wrong:
        raise SystemExit("cannot run: " + "; ".join(wrong))
    return found


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts[:3])


def torch_sees_cuda() -> bool:
    """Return the device, from another process, so that this one allocates no GPU memory."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def machine(device: str) -> str:
    """Return the name of the GPU from ``nvidia-smi``, or the number of cores."""
    if device == "cpu":
        return f"CPU, {os.cpu_count()} cores"
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    command = ["nvidia-smi", *query]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "a GPU that nvidia-smi does not name"


def run_step(name: str, model: str, seconds: float, log: Any) -> dict[str, Any]:
    """Run one step and return its results, or its status."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "figures.json"
        environment = {**os.environ, "QWEN2VL_RS_DEADLINE": str(time.time() + seconds)}
        command = [sys.executable, str(HERE / "measure.py"), name, "--model", model]
        command += ["--json", str(results)]
        began = time.monotonic()
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            code: int | None = child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # with its children, which would disturb the next step
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        found = json.loads(results.read_text()) if results.is_file() else {}
        if code != 0:
            found["status"] = "timed out" if code is None else "failed"
        return {**found, "step_seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """Run all steps and store their results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--model", choices=["tiny", "2b"], default="2b")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(LIMITS), help="only these steps")
    parser.add_argument("--seconds", type=float, help="time limit for all steps together")
    args = parser.parse_args()
    factor = 1
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"], factor = "", SLOWER
    elif not torch_sees_cuda():
        raise SystemExit("torch sees no CUDA device here; on a CPU: --device cpu --model tiny")
    whole = args.seconds or WHOLE * factor
    began = time.monotonic()
    record: dict[str, Any] = {
        "device": machine(args.device),
        "model": args.model,
        "versions": versions(),
        "steps": {},
    }
    for folder in (args.json, args.log):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with args.log.open("w") as log:
        for name in args.only or LIMITS:
            left = whole - (time.monotonic() - began)
            if left < 10:
                found: dict[str, Any] = {"status": "no time left"}
            else:
                found = run_step(name, args.model, min(LIMITS[name] * factor, left), log)
            record["steps"][name] = found
            record["seconds"] = round(time.monotonic() - began, 1)
            temporary = args.json.with_suffix(".tmp")
            temporary.write_text(json.dumps(record, indent=2) + "\n")
            temporary.replace(args.json)
            print(f"{name}: {found['status']}", flush=True)
    if any(s["status"] in ("failed", "timed out", "cut off") for s in record["steps"].values()):
        raise SystemExit(f"some steps failed: see {args.log}")


if __name__ == "__main__":
    main()
