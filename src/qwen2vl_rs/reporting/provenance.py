"""Report sections on the run, on missing parts, and on definitions."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from ..config import Config
from ..questions.protocols import PROTOCOLS
from ..scoring import baselines
from ..scoring.results import (
    CONTROLS_OF,
    LEAKED_TRAINING,
    NO_CONFIDENCE,
    NO_QUESTIONS,
    NO_TRAINING,
    NOT_SHUFFLED,
    UNKNOWN_TYPE,
)
from ..system.console import clock
from . import scores
from .evidence import ReportInputs, short_path
from .examples import LEAST, NO_FILE, Pictures
from .i18n import Words
from .page_model import Cell, Section, Table
from .scores import partial

_REASONS = {
    NOT_SHUFFLED: "not_shuffled",
    NO_CONFIDENCE: "no_confidence",
    NO_QUESTIONS: "no_questions",
    NO_TRAINING: "no_training",
    LEAKED_TRAINING: "leaked_training",
    UNKNOWN_TYPE: "unknown_type",
}


def what(found: ReportInputs, settings: str, w: Words) -> Section:
    """Return the section on model, training, cost, device, data and versions."""
    manifest = found.manifest
    facts = [*_model(found, w), *_training(found, w)]
    if cost := _cost(found, w):
        facts.append((w("ran.cost"), w("form.list").join(cost)))
    if device := manifest.get("device"):
        parts = [str(device), str(manifest["dtype"]), w("ran.threads", n=manifest["threads"])]
        facts.append((w("ran.device"), w("form.list").join(parts)))
    if "seed" in manifest:
        facts.append((w("ran.seed"), str(manifest["seed"])))
    facts += _scored(found, w)
    if versions := manifest.get("versions"):
        names = w("form.list").join(f"{k} {v}" for k, v in versions.items())
        facts.append((w("ran.versions"), names))
    return Section(
        id="run",
        title=w("ran.title"),
        facts=facts,
        tables=_data(manifest, w),
        attachment=(w("ran.settings"), settings) if settings else None,
    )


def _model(found: ReportInputs, w: Words) -> list[tuple[str, str]]:
    facts = []
    if base := found.manifest.get("base"):
        # the last two parts of its path are its name; the rest is private
        name = "/".join(PurePath(base["folder"]).parts[-2:])
        digest = w("form.in_brackets", text=base["fingerprint"].removeprefix("sha256:")[:12])
        facts.append((w("ran.base"), name + digest))
    if found.checkpoint:
        facts.append((w("ran.checkpoint"), found.checkpoint))
    if found.config:
        rate = f"{found.config.training.learning_rate:g}"
        lora = found.config.lora
        text = w("ran.adapter_text", rate=rate, method=lora.method, **lora.model_dump())
        facts.append((w("ran.adapter"), text))
        facts += _vision(found.config, w)
    if first := found.manifest.get("adapter"):
        digest = w("form.in_brackets", text=first["sha256"][:12])
        facts.append((w("ran.continued"), "/".join(PurePath(first["folder"]).parts[-2:]) + digest))
    return facts


def _vision(config: Config, w: Words) -> list[tuple[str, str]]:
    """Say how vision tower and merger were trained; nothing if they were frozen."""
    own, method = config.training, config.lora.method
    rates = {"vision_tower": own.vision_learning_rate, "merger": own.merger_learning_rate}
    return [
        (
            w(f"ran.{part}"),
            w(f"ran.way_{way}", method=method, rate=f"{rate or own.learning_rate:g}"),
        )
        for part, rate in rates.items()
        if (way := getattr(own, part)) != "frozen"
    ]


def _training(found: ReportInputs, w: Words) -> list[tuple[str, str]]:
    done = found.training
    if not done:
        return []
    time = "?" if (seconds := done["train_runtime"]) is None else clock(seconds)
    return [(w("ran.training"), w("ran.training_text", **{**done, "time": time}))]


def _cost(found: ReportInputs, w: Words) -> list[str]:
    """Return the cost of a question, in milliseconds."""

    def each(seconds: float) -> str:
        return w("ran.ms", value=f"{1000 * seconds:,.1f}")

    parts = []
    if (done := found.training) and done["train_runtime"] is not None:
        value = each(done["train_runtime"] / done["train_questions"])
        parts.append(w("ran.cost_training", value=value))
    for name, side in (("before", found.before), ("after", found.after)):
        if side and side.seconds is not None:
            parts.append(w("ran.cost_asking", value=each(side.seconds), side=w(f"head.{name}")))
    return parts


def _scored(found: ReportInputs, w: Words) -> list[tuple[str, str]]:
    results = found.after.results
    files = [side.file for side in (found.before, found.after) if side]
    names = [str(f.relative_to(found.run)) if found.run else short_path(f) for f in files]
    facts = [(w("ran.scored"), w("form.list").join(names)), (w("ran.dataset"), _classes(found, w))]
    if train := results.get("train"):
        text = w("ran.blind_fit_text", n=train["n"], dropped=train["dropped"])
        facts.append((w("ran.blind_fit"), text))
    facts += partial(found, w)
    for name, side in (("before", found.before), ("after", found.after)):
        if side and side.results["unreadable"]["n"]:
            title = w("ran.unreadable_answers") + w("form.in_brackets", text=w(f"head.{name}"))
            facts.append((title, scores.causes(side.results, w)))
    if n := results["unreadable_truth"]:
        facts.append((w("ran.unreadable"), w("ran.unreadable_text", n=n)))
    return facts


def _classes(found: ReportInputs, w: Words) -> str:
    """Return the dataset of the label sets, and the style of generated questions."""
    text = w.known("dataset", found.after.results["dataset"])
    if manner := found.manifest.get("dataset", {}).get("manner"):
        text += w("form.in_brackets", text=w("ran.generated", manner=manner))
    return text


def _data(manifest: dict[str, Any], w: Words) -> list[Table]:
    files = manifest.get("data", {})
    rows = [
        [Cell(name), Cell(f"{f['questions']:,}"), Cell(f"{f['images']:,}"), Cell(f["sha256"][:16])]
        for name, f in files.items()
    ]
    head = [w(f"head.{k}") for k in ("file", "n", "images", "sha256")]
    return [Table(head, rows, w("ran.data"))] if rows else []


def missing(found: ReportInputs, shown: set[str], pictures: Pictures, w: Words) -> Section | None:
    """Return the section on what this report lacks compared to a complete one, with reasons.

    Args:
        found: the inputs.
        shown: ids of the present sections.
        pictures: records unreadable images.
        w: the language.
    """
    left_out = found.after.results["left_out"]
    rows = [(_absent(name, w), _reason(why, w)) for name, why in left_out.items()]
    if not found.before:
        rows.insert(0, (w("absent.before"), w("reason.no_before")))
    if "counts" not in shown:
        rows.append((w("absent.counts"), w("reason.no_counts")))
    if "templates" not in shown:
        rows.append((w("absent.templates"), w("reason.few", least=LEAST)))
    for name, absent, file in (
        ("loss", "loss" not in shown, "metrics.jsonl"),
        ("manifest", not found.manifest, "manifest.json"),
    ):
        if absent:
            why = w("reason.no_file", file=file) if found.run else w("reason.no_run")
            rows.append((w(f"absent.{name}"), why))
    lost = int(found.training.get("train_steps", 0)) - len(found.metrics)
    if lost > 0 and "loss" in shown:
        rows.append((w("absent.loss_part", n=lost), w("reason.cut", file="metrics.jsonl")))
    if found.after.seconds is None:
        rows.append((w("absent.seconds"), w("reason.no_seconds" if found.run else "reason.no_run")))
    rows += _unseen(pictures, w)
    if not rows:
        return None
    head = [w("head.missing"), w("head.reason")]
    table = Table(head, [[Cell(a), Cell(b)] for a, b in rows])
    return Section("absent", w("absent.title"), w("absent.lead"), tables=[table])


def _absent(name: str, w: Words) -> str:
    if name.startswith(CONTROLS_OF):
        return w("absent.controls_of", type=w.known("type", name.removeprefix(CONTROLS_OF)))
    return name if name in PROTOCOLS else w.known("absent", name)


def _unseen(pictures: Pictures, w: Words) -> list[tuple[str, str]]:
    """Return the cases without a picture, by reason."""
    rows = []
    for why, names in pictures.gone.items():
        listed = w("form.list").join(dict.fromkeys(names))
        text = w("reason.image", why=w.known("image", why), names=listed)
        if why == NO_FILE and pictures.folder is None:
            text += w("form.in_brackets", text=w("reason.image_hint"))
        rows.append((w("absent.pictures", n=len(names)), text))
    if pictures.unnamed:
        rows.append((w("absent.pictures", n=pictures.unnamed), w("reason.no_image")))
    return rows


def _reason(why: str, w: Words) -> str:
    return w(f"reason.{_REASONS[why]}")


def terms(found: ReportInputs, w: Words) -> Section:
    """Return the section of definitions."""
    facts = [(w(f"terms.{k}"), w(f"terms.{k}_text")) for k in ("averages", "interval", "clear")]
    if found.after.results["clustered_by"] == "question":
        facts[1] = (w("terms.interval"), w("terms.interval_text_alone"))
    for one in baselines.BASELINES:
        text = w.known("terms", f"{one.name}_text").replace(f"{one.name}_text", one.text)
        facts.append((w.known("control", one.name), text))
    return Section("terms", w("terms.title"), facts=facts)
