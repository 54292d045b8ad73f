"""The training loop of both phases, which can be interrupted and resumed.

All random numbers of a step depend on the seed and the step number, so a resumed run ends like an
uninterrupted one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from muon import Muon
from safetensors import safe_open
from safetensors.torch import save_file

from qwen2vl_rs.system.console import Progress

EVERY = 50  # steps between states


def schedule(step: int, steps: int, warmup: int = 50) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine decay."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    name: str,
    module: torch.nn.Module,
    loss: Callable[[int], torch.Tensor],
    folder: Path,
    *,
    steps: int,
    rate: float,
    matrix_rate: float,
    report: Callable[[], dict[str, float]],
) -> None:
    """Train a module, or resume an interrupted training.

    Args:
        name: name of the phase; its state is ``NAME.safetensors``, its log ``NAME.jsonl``.
        module: the module to train.
        loss: returns the loss of a step, given its number.
        folder: the folder of the files.
        steps: total number of steps.
        rate: learning rate of AdamW after warm-up.
        matrix_rate: learning rate of Muon, which updates the matrices between input and output.
        report: returns metrics to log now and then.
    """
    weights = {n: p for n, p in module.named_parameters() if p.requires_grad}
    matrices = [n for n, p in weights.items() if p.ndim == 2 and not _is_embedding_or_head(n)]
    others = [p for n, p in weights.items() if n not in matrices]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (Muon([weights[n] for n in matrices], matrix_rate, 0.95, 0.02), matrix_rate),
        (torch.optim.AdamW(others, rate, (0.9, 0.98), weight_decay=0.02), rate),
    ]
    state = folder / f"{name}.safetensors"
    done = _restore(state, module, optimizers) if state.exists() else 0
    recent: list[float] = []
    with Progress(name, steps, "steps", done) as bar, (folder / f"{name}.jsonl").open("a") as log:
        for step in range(done, steps):
            value = loss(step)
            value.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            for optimizer, highest in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = highest * schedule(step, steps)
                optimizer.step()
                optimizer.zero_grad()
            recent.append(value.item())
            bar.advance(1, f"loss {value.item():.3f}")
            if (step + 1) % EVERY == 0 or step + 1 == steps:
                _save(state, module, optimizers, step + 1)
                line = {"step": step + 1, "loss": sum(recent) / len(recent)}
                if (step + 1) % (4 * EVERY) == 0 or step + 1 == steps:
                    line |= report()
                log.write(json.dumps({k: round(v, 4) for k, v in line.items()}) + "\n")
                log.flush()
                recent = []


def _is_embedding_or_head(name: str) -> bool:
    """Return whether a weight belongs to an embedding or a head."""
    return any(part in name for part in ("embed", "head", "linear"))


def _save(path: Path, module: torch.nn.Module, optimizers: Any, step: int) -> None:
    tensors = {f"weights.{k}": v for k, v in module.state_dict().items()}
    for which, (optimizer, _) in enumerate(optimizers):
        for n, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{which}.{n}.{k}": v for k, v in values.items()}
    temporary = path.with_suffix(".tmp")
    # tied weights are twice in a state: each gets its own memory
    save_file({k: v.clone() for k, v in tensors.items()}, temporary, {"step": str(step)})
    temporary.replace(path)


def _restore(path: Path, module: torch.nn.Module, optimizers: Any) -> int:
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        step = int(file.metadata()["step"])
    module.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("weights.")})
    for which, (optimizer, _) in enumerate(optimizers):
        whole = optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{which}."):
                _, _, n, name = key.split(".")
                whole["state"].setdefault(int(n), {})[name] = value
        optimizer.load_state_dict(whole)
    return step
