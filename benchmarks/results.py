"""Run training and evaluation as a user does, and store the results.

    python benchmarks/results.py demo FOLDER
    python benchmarks/results.py rsvqa-lr FOLDER --data RSVQA_LR
    python benchmarks/results.py rsvqa-lr-2b FOLDER --data RSVQA_LR --model BASE

``demo``: ``qwen2vl-rs demo`` in FOLDER, about four minutes on two cores. ``rsvqa-lr``: the bundled
base model, fine-tuned with the demo's settings and number of steps on RSVQA-LR's train split and
evaluated on its val split, with the questions whose image is in RSVQA_LR. ``rsvqa-lr-2b``:
configs/rsvqa_lr_2b.toml, the full-size model on all of RSVQA-LR, which requires a GPU. Writes
docs/results/run-*.json, from which ``docs/make_results.py`` makes the page.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from qwen2vl_rs.cli.demo import SETTINGS
from qwen2vl_rs.models.base import FOLDER as BASE

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
CONFIG = RESULTS.parents[1] / "configs" / "rsvqa_lr_2b.toml"
SPLITS = {"train": "data_vl.json", "val": "held_out.json"}


def run(*arguments: str, cwd: Path | None = None) -> None:
    """Print a command and run it."""
    environment = {**os.environ, "SWANLAB_MODE": "offline"}
    command = [sys.executable, "-m", "qwen2vl_rs", *arguments]
    subprocess.run(command, cwd=cwd, env=environment, check=True)


def demo(folder: Path) -> Path:
    """Run the demo and return its run folder."""
    run("demo", "--folder", str(folder))
    return folder / "output" / "demo"


def rsvqa_lr(folder: Path, data: Path) -> Path:
    """Fine-tune on real images and return the run folder."""
    folder.mkdir(parents=True)
    for split, name in SPLITS.items():
        table = folder / f"{split}.csv"
        run("data2csv", "--folder", str(data), "--split", split, "-o", str(table))
        run("csv2json", "--input", str(table), "--output", str(folder / name))
    settings = SETTINGS.replace('model = "base"', f'model = "{BASE}"')
    # 64 images instead of 420: seven epochs instead of two give the same number of steps
    settings = settings.replace("num_train_epochs = 2", "num_train_epochs = 7")
    (folder / "demo.toml").write_text(settings, encoding="utf-8")
    run("train", "demo.toml", cwd=folder)
    run("report", "output/demo", cwd=folder)
    return folder / "output" / "demo"


def rsvqa_lr_2b(folder: Path, data: Path, model: Path) -> Path:
    """Run the full-size model on the official splits and return the run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["train", str(CONFIG), "--model", str(model.resolve())]
    for part in ("train", "test"):
        arguments += [f"--{part}", str(data.resolve() / f"LR_split_{part}_questions.json")]
    arguments += ["--set", "training.report_to=[]"]
    path = folder / "output" / "rsvqa-lr-2b"
    run(*arguments, *(["--resume"] if (path / "config.toml").is_file() else []), cwd=folder)
    run("report", "output/rsvqa-lr-2b", cwd=folder)
    return path


def measured(path: Path) -> dict[str, Any]:
    """Return the official scores before and after, the baselines and the times of a run."""
    sides = {
        side: json.loads((path / "eval" / side / "results.json").read_text(encoding="utf-8"))
        for side in ("before", "after")
    }
    after = sides["after"]
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    change = json.loads((path / "compare.json").read_text(encoding="utf-8"))["protocols"]
    scores = {side: found["protocols"]["official"] for side, found in sides.items()}
    scores |= {name: found["official"] for name, found in after["controls"].items()}
    return {
        "versions": manifest["versions"],
        "device": manifest["device"],
        "threads": manifest["threads"],
        "data": [{k: one[k] for k in ("questions", "images")} for one in manifest["data"].values()],
        "training": json.loads((path / "train_results.json").read_text(encoding="utf-8")),
        "scores": {name: _short(score) for name, score in scores.items()},
        "change": change["official"]["OA"],
        "visual_gain": after["visual_gain"]["official"],
        "shuffled_cost": after["shuffled_cost"]["official"],
    }


def _short(score: dict[str, Any]) -> dict[str, Any]:
    kept = {name: [one["accuracy"], *one["ci"]] for name, one in score["types"].items()}
    for name in ("AA", "OA"):
        kept[name] = [score[name], *score[f"{name}_ci"]]
    counted = {name: one["n"] for name, one in score["types"].items()}
    return {"n": score["n"], "clusters": score["clusters"], "counted": counted, "accuracy": kept}


def main() -> None:
    """Run, measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("which", choices=["demo", "rsvqa-lr", "rsvqa-lr-2b"])
    parser.add_argument("folder", type=Path, help="new folder; for rsvqa-lr-2b also one to resume")
    parser.add_argument("--data", type=Path, help="for rsvqa-lr: folder with its files and images")
    parser.add_argument("--model", type=Path, help="for rsvqa-lr-2b: folder of the base model")
    args = parser.parse_args()
    began = time.monotonic()
    if args.which == "demo":
        path = demo(args.folder)
    elif args.which == "rsvqa-lr":
        path = rsvqa_lr(args.folder, args.data)
    else:
        path = rsvqa_lr_2b(args.folder, args.data, args.model)
    record = {
        **measured(path),
        "seconds": round(time.monotonic() - began),
        # of the largest process: they run one after another
        "peak_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
        "cores": os.cpu_count(),
    }
    target = RESULTS / f"run-{args.which}.json"
    target.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
