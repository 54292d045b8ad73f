"""Pre-train the bundled base model: a small Qwen2-VL that answers in sentences.

    python recipes/embedded_base/train.py FOLDER

Draws scenes, trains the vision tower, then the language model, evaluates both on scenes of another
seed, and writes the base model to src/qwen2vl_rs/models/base. Every stage resumes after an
interruption; the same seed gives the same weights on the same kind of machine.

Hardware, time and results: see the README.md that this script writes next to the weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import scenes
import torch
from card import write_card
from language_phase import Lessons, encode, sentence_scores
from scenes import CELLS, TARGETS, Scenes
from sentences import corpus
from steps import train
from vision_phase import GridHead, grid_loss, grid_scores, rotate, visual_tokens

from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.models.loader import Base, load_base
from qwen2vl_rs.system.console import say

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/support"))
from random_base import Size, write_random_base  # noqa: E402

PACKAGED = ROOT / "src/qwen2vl_rs/models/base"
FIGURES = ROOT / "docs/results/embedded_base.json"
#: Kept small: an image costs 12 GFLOP in the first phase and 25 in the second.
SIZE = Size(hidden=256, layers=4, vision_hidden=192, vision_layers=4, kv_heads=4, head=32,
            intermediate=512, vision_head=32)  # fmt: skip
SEED, HELD_OUT_SEED = 900_000, 900_001  # of scenes


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="for scenes and states (3 GB)")
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--eyes", type=int, default=4500, help="steps of the first phase")
    parser.add_argument("--words", type=int, default=3000, help="steps of the second phase")
    parser.add_argument("--held-out", type=int, default=300, help="scenes for the evaluation")
    parser.add_argument("--stop-after", choices=["eyes"], help="for a trial: writes no base model")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw scenes")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def start(folder: Path, known: Scenes, seed: int) -> Base:
    """Write and load a base model with random weights and a vocabulary from some scenes."""
    path = folder / "base"
    if not (path / "config.json").exists():
        write_random_base(path, SIZE, corpus=corpus(known.elements(0)), seed=seed)
    return load_base(path, InputConfig(instruction=""), dtype=torch.float32)


def train_vision(base: Base, known: Scenes, held: Scenes, folder: Path, steps: int) -> GridHead:
    """Run the first phase; see `vision_phase`."""
    visual, head = base.model.model.visual.requires_grad_(True), GridHead(SIZE.hidden)
    head.to(visual.device)

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([1, step])
        chosen = np.sort(rng.choice(len(known), 8, replace=False))
        way = int(rng.integers(8))
        pixels = rotate(known.pixels[chosen], way).copy()
        flat = rotate(known.targets[chosen], way).astype(np.float32, order="C")
        truth = torch.from_numpy(flat).view(len(chosen), CELLS**2, TARGETS)
        return grid_loss(head(visual_tokens(visual, pixels)), truth.to(visual.device))

    both = torch.nn.ModuleList([visual, head])
    train("eyes", both, loss, folder, steps=steps, rate=1.5e-3, matrix_rate=3e-3,
          report=lambda: grid_scores(visual, head, held, 100))  # fmt: skip
    visual.requires_grad_(False)
    return head


def train_language(
    base: Base, known: Scenes, held: Scenes, folder: Path, steps: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Run the second phase (`language_phase`); return scores with right and wrong scenes."""
    seen = encode(base, known)
    held_seen = encode(base, held)
    base.model.model.language_model.requires_grad_(True)
    base.model.train()
    lessons = Lessons(base, known, seen, images=4, questions=24, seed=2)
    train("words", base.model, lessons.loss, folder, steps=steps, rate=1.5e-3, matrix_rate=3e-3,
          report=lambda: sentence_scores(base, held, held_seen, 20))  # fmt: skip
    base.model.eval().requires_grad_(False)
    return (
        sentence_scores(base, held, held_seen, 200),
        sentence_scores(base, held, held_seen, 100, wrong=True),
    )


def package(base: Base, target: Path) -> None:
    """Write the base model in bfloat16, with its other files."""
    target.mkdir(parents=True, exist_ok=True)
    for path in base.folder.iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copy(path, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(
        json.dumps({**config, "torch_dtype": "bfloat16"}, indent=2) + "\n"
    )
    base.model.to(torch.bfloat16).save_pretrained(target / "tmp")
    (target / "tmp/model.safetensors").rename(target / "model.safetensors")
    (target / "model.safetensors").chmod(0o644)
    shutil.rmtree(target / "tmp")


def main() -> None:
    """Run all stages."""
    args, began = arguments(), time.monotonic()
    torch.manual_seed(args.seed)
    held_folder = args.folder / "val"
    scenes.draw(held_folder, HELD_OUT_SEED, args.held_out, args.workers)
    scenes.draw(args.folder / "train", SEED, args.scenes, args.workers)
    known, held = scenes.load(args.folder / "train", args.scenes), scenes.load(held_folder)
    say(f"{len(known):,} scenes")
    base = start(args.folder, known, args.seed)
    head = train_vision(base, known, held, args.folder, args.eyes)
    figures: dict[str, object] = {"grid": grid_scores(base.model.model.visual, head, held)}
    if args.stop_after == "eyes":
        return
    right, wrong = train_language(base, known, held, args.folder, args.words)
    figures |= {
        "sentences": right, "sentences_wrong_scene": wrong,
        "parameters": sum(p.numel() for p in base.model.parameters()),
        "scenes": len(known), "eyes_steps": args.eyes, "words_steps": args.words,
        "threads": torch.get_num_threads(), "seconds_of_this_call": time.monotonic() - began,
    }  # fmt: skip
    package(base, PACKAGED)
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_card(PACKAGED / "README.md", figures)
    say(f"wrote {PACKAGED}")


if __name__ == "__main__":
    main()
