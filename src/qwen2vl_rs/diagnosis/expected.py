"""Expected memory and time of a training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..run import Run, read_metrics
from ..system.console import clock, say
from ..system.machine import memory
from .computer import gigabytes
from .lines import Line, guarded, problem, warning
from .plan import Plan, world


def expected(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    """Yield lines about expected memory and time."""
    if plan.model is None or plan.budget is None:
        yield Line("memory", "unknown without a usable base model")
    else:
        yield from guarded("memory", _memory(plan, figures), "warning")
    yield from guarded("time", _time(plan, figures), "warning")


def _memory(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    from ..engine.memory import device_memory, training_memory

    assert plan.model is not None
    assert plan.budget is not None
    again = plan.checkpointing
    needed = training_memory(plan.model, plan.budget, again)
    there: float = device_memory(plan.model.device)
    cpu = plan.model.device.type == "cpu"
    found = memory() if cpu else None
    if found and found.usable:
        there = min(there, found.usable)
    figures |= {"expected_memory_bytes": round(needed), "device_memory_bytes": round(there)}
    text = f"at most {gigabytes(needed)} of {gigabytes(there)} (estimate, from above)"
    smaller = "use smaller packs: --set training.max_tokens_per_pack=512"
    if not again:
        smaller = f"--set training.gradient_checkpointing=true; or {smaller}"
    if training_memory(plan.model, 0, again) > there:
        bigger = "use a smaller base model, or a device with more memory"
        yield problem("memory", f"{text}: the weights alone do not fit", bigger)
    elif needed > there:
        yield warning("memory", f"{text}: it may not fit", smaller)
    elif found and found.available is not None and needed > found.available:
        rest = f"{gigabytes(found.available)} are free now"
        yield warning("memory", f"{text}, but {rest}", "end other programs")
    else:
        yield Line("memory", text)


def _time(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    run = Run(Path(plan.config.output))
    measured = _measured(run)
    settings = plan.config.training
    asked = figures.get("train_questions")
    if measured:
        rate, done = measured
        text = f"{rate:,.1f} questions/s in {run} ({done:,} questions trained so far)"
        figures["measured_questions_per_second"] = round(rate, 3)
        if asked and not settings.max_steps:
            text += f": {clock(asked * settings.num_train_epochs / rate)} for all epochs"
        yield Line("time", text)
    if plan.model is None or plan.budget is None or plan.questions.train is None:
        if not measured:
            yield Line("time", "unknown without a usable base model and questions")
        return
    yield from _estimated(plan, figures)


def _measured(run: Run) -> tuple[float, int] | None:
    """Return questions per second of a run, and its questions so far; None if there is none."""
    lines = [
        (one["questions"], one["seconds"])
        for one in read_metrics(run.folder / "metrics.jsonl")
        if all(isinstance(one.get(name), int | float) for name in ("questions", "seconds"))
    ]
    done = int(sum(questions for questions, _ in lines))
    seconds = max((seconds for _, seconds in lines), default=0)
    return (done / seconds, done) if done and seconds > 0 else None


def _estimated(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    from ..engine.estimate import SPREAD, training_time
    from ..hardware.gpus import matmul_rate
    from ..models.images import load_image_reader
    from ..models.prompt import load_prompt_format

    assert plan.model is not None
    assert plan.budget is not None
    assert plan.precision is not None
    assert plan.questions.train is not None
    assert plan.files is not None
    say("measuring the speed of matrix products for a second")
    peak = matmul_rate(plan.model.device, plan.precision.compute)
    config = plan.config
    found = training_time(
        plan.model,
        plan.questions.train,
        load_prompt_format(plan.files, plan.model_config, config.view.instruction),
        load_image_reader(plan.files, plan.model_config, config.view),
        config.training,
        budget=plan.budget,
        checkpointing=plan.checkpointing,
        peak=peak,
        cached=plan.cached,
        world=world(),
    )
    figures |= {
        "matmul_flops": round(peak),
        "expected_questions_per_second": round(found.rate, 3),
    }
    yield Line("matrix products", f"{peak / 1e9:,.0f} GFLOP/s in {plan.precision.name}, measured")
    rate = f"{found.rate / SPREAD:,.1f} to {found.rate * SPREAD:,.1f} questions/s"
    if not plan.questions.counted:
        yield Line("time", f"about {rate}, estimated from the first question")
        return
    low, high = found.seconds / SPREAD, found.seconds * SPREAD
    figures |= {
        "steps": found.steps,
        "tokens_per_step": round(found.tokens),
        "expected_seconds": round(found.seconds, 1),
    }
    yield Line(
        "time",
        f"{clock(low)} to {clock(high)} (estimate): {found.questions:,} questions in "
        f"{found.steps:,} steps of {found.tokens:,.0f} tokens, at {rate}; with "
        "encoding the images, without the evaluations",
    )
