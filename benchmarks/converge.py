"""Accuracy against training time, for different numbers of images and questions per step.

Compares question trees with several batch shapes, and the baseline (batches of four, four batches
per step, as in the original system), with the same synthetic images, base model (small, random
weights) and optimizer. Each is trained for the same time with two learning rates, and the better
one is reported. Time for measuring accuracy is not counted.

    python benchmarks/converge.py                 two CPU cores, about 20 minutes
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, plain_batch, plain_loss, show
from drawn import write_samples

from qwen2vl_rs.config import InputConfig, LoraSettings, TrainingSettings
from qwen2vl_rs.datasets.split import group_by_image
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.engine.memory import token_budget
from qwen2vl_rs.models.adapter import add_adapter
from qwen2vl_rs.models.loader import Base, load_base
from qwen2vl_rs.questions.grammar import type_of
from qwen2vl_rs.questions.protocols import judge, protocol
from qwen2vl_rs.training.steps import StepDataset, pack_loss
from qwen2vl_rs.types import Prediction, Sample
from random_base import Size, write_random_base

# images per step, and questions per image
SHAPES = [(16, 1), (4, 4), (2, 8), (4, 25), (8, 25), (1, 70), (4, 70)]
Step = Callable[[], None]  # forward and backward of one optimizer step


def ours(base: Base, model: Any, samples: list[Sample], shape: tuple[int, int]) -> Iterator[Step]:
    """Return a function that does one step with question trees."""
    images, questions = shape
    settings = TrainingSettings(
        images_per_step=images, questions_per_image=questions, num_train_epochs=1000
    )
    budget = token_budget(model, checkpointing=True)
    steps = StepDataset(samples, base.prompts, base.images, settings, budget, model)
    for index in range(steps.steps):

        def run(index: int = index) -> None:
            step = steps[index]["step"]
            for one in step.inputs:
                (pack_loss(model, one) / step.loss_tokens).backward()

        yield run


def plain(base: Base, model: Any, samples: list[Sample]) -> Iterator[Step]:
    """Return a function that does one step of 16 questions in padded batches of four."""
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(samples))
        for start in range(0, len(order) - 15, 16):
            chosen = [samples[i] for i in order[start : start + 16]]

            def run(chosen: list[Sample] = chosen) -> None:
                tokens = sum(len(base.prompts.answer_ids(s.answer)) for s in chosen)
                for part in (chosen[i : i + 4] for i in range(0, 16, 4)):
                    batch = plain_batch(base, part, [base.images.read(s.image) for s in part])
                    (plain_loss(model, batch) / tokens).backward()

            yield run


def accuracy(base: Base, model: Any, samples: list[Sample]) -> float:
    """Return the OA under the official protocol."""
    model.eval()
    groups = group_by_image(samples)
    asked = [(base.images.read(g[0].image), [s.question for s in g]) for g in groups]
    found = answer(base, model, asked, max_new_tokens=4, budget=token_budget(model))
    rows = [
        Prediction(s.id, s.image, s.question, type_of(s), s.answer, a.text)
        for group, answers in zip(groups, found, strict=True)
        for s, a in zip(group, answers, strict=True)
    ]
    model.train()
    return float(judge(rows, protocol("official"), "LR").scores.mean())


def train(
    base: Base, model: Any, steps: Iterator[Step], rate: float, marks: list[float], test: Any
) -> tuple[list[float], int]:
    """Return the accuracy after each number of seconds in the marks, and the steps taken."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    found, spent = [], 0.0
    for taken, step in enumerate(steps, 1):
        for group in optimizer.param_groups:  # warm up, then decay to zero
            group["lr"] = rate * min(1.0, taken / 10, max(0.02, 1 - spent / marks[-1]))
        start = time.perf_counter()
        step()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        spent += time.perf_counter() - start
        if spent >= marks[len(found)]:
            found.append(accuracy(base, model, test))
            if len(found) == len(marks):
                return found, taken
    raise AssertionError("steps are endless")


def main() -> None:
    """Train each configuration and print accuracy against time."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3])
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-converge-"))
    train_set, test = write_samples(folder, 300, 0), write_samples(folder, 40, 1)
    size = Size(hidden=128, layers=3, vision_hidden=96, vision_layers=2)
    base = load_base(write_random_base(folder / "base", size), InputConfig(), torch.device("cpu"))
    network = base.model
    marks = [chosen.seconds * part for part in (0.125, 0.25, 0.5, 1)]
    rows: list[dict[str, Any]] = []
    for shape in ["plain", *SHAPES]:
        best: dict[str, Any] = {}
        for rate in chosen.rates:
            torch.manual_seed(0)
            model = add_adapter(copy.deepcopy(network), LoraSettings()).train()
            if isinstance(shape, str):
                steps, name = plain(base, model, train_set), "plain, 16 questions"
            else:
                steps, name = ours(base, model, train_set, shape), f"{shape[0]} x {shape[1]}"
            curve, taken = train(base, model, steps, rate, marks, test)
            row = {"step (images x questions)": name, "learning rate": rate, "steps": taken}
            row |= {f"OA after {m:g} s": round(a, 3) for m, a in zip(marks, curve, strict=True)}
            if not best or curve[-1] > best[f"OA after {marks[-1]:g} s"]:
                best = row
        rows.append(best)
        print(best, flush=True)
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
