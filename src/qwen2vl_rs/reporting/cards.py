"""Model card and data card for the hubs: YAML front matter and a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..datasets.reading import read_samples
from ..datasets.split import count_shared_images
from ..known_datasets import all_datasets
from ..models.qwen_vl_usage import Usage, usage
from ..questions.grammar import type_of
from ..run import TEST_FILE, TRAIN_FILE
from ..scoring import baselines
from ..scoring.metrics import type_order
from ..types import UNKNOWN, Sample
from . import provenance, scores
from .evidence import ReportInputs, own_questions
from .i18n import Words
from .page import render
from .verdict import OFFICIAL, sentence

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
# base models with an Apache-2.0 licence; other sizes of the same family have other licences
_APACHE = ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct")


def model_card(found: ReportInputs, how: Usage) -> str:
    """Return the model card of a run's adapter, or of the merged model.

    It states the licence of a known base model. It names no dataset, as the files of a run do not
    tell where their questions come from.

    Args:
        found: the inputs of the run's report.
        how: the kind of export, and how to use it.
    """
    base, w = how.base, Words("en")
    claim, conclusion = sentence(found, w)
    method = found.config.lora.method if found.config else "LoRA"
    head: dict[str, Any] = {"base_model": base, "base_model_relation": "adapter"} if base else {}
    if base in _APACHE:
        head["license"] = "apache-2.0"
    head |= {
        "library_name": "peft" if how.adapter else "transformers",
        # like the base model's own card, with its transformers pipeline
        "pipeline_tag": "image-text-to-text",
        "tags": [*_methods(method), "remote-sensing", "rsvqa", "visual-question-answering"],
        "model-index": [{"name": found.name, "results": list(_results(found))}],
    }
    by_protocol = scores.by_protocol(found, w)
    return render(
        "model_card.md",
        front=front_matter(head),
        name=found.name,
        base=base,
        licence=head.get("license"),
        clustered_by=found.after.results["clustered_by"],
        w=w,
        merged=not how.adapter,
        method=method,
        article="an" if method.startswith("rs") else "a",
        verdict=claim + conclusion,
        tables=[*scores.by_type(found, w).tables, *by_protocol.tables],
        notes=by_protocol.notes,
        facts=provenance.what(found, "", w).facts,
        usage=usage(how),
    )


def _methods(method: str) -> list[str]:
    """Return the tags of a method; DoRA is a kind of LoRA."""
    return ["lora"] if method == "LoRA" else ["lora", method.lower()]


def _results(found: ReportInputs) -> Iterator[dict[str, Any]]:
    """Yield one entry of the model index per protocol, always with the baselines."""
    results = found.after.results
    digest = found.manifest.get("data", {}).get(TEST_FILE, {}).get("sha256", "unknown")
    dataset, cluster = results["dataset"], results["clustered_by"]
    for name, score in results["protocols"].items():
        metrics = [
            _metric("OA", score["OA"], score["OA_ci"], score["n"], cluster),
            _metric("AA", score["AA"], score["AA_ci"], score["n"], cluster),
        ]
        metrics += [
            _metric(f"{t} accuracy", v["accuracy"], v["ci"], v["n"], cluster)
            for t, v in score["types"].items()
        ]
        controls = results["controls"]
        others = {one.metric: controls.get(one.name, {}).get(name) for one in baselines.BASELINES}
        if found.before:
            others["OA before fine-tuning"] = found.before.results["protocols"].get(name)
        metrics += [
            _metric(label, one["OA"], one["OA_ci"], one["n"], cluster)
            for label, one in others.items()
            if one
        ]
        yield {
            "task": {"type": "visual-question-answering", "name": "Visual question answering"},
            "dataset": {
                # the label sets are known, the questions only by their checksum
                "type": f"{'rsvqa-' * _is_rsvqa(dataset)}{dataset.lower()}-classes",
                "name": f"Test questions with {_classes(dataset)}, protocol {name}",
                "config": name,
                "split": "test",
                "args": {"protocol": name, "n": score["n"], "sha256": digest},
            },
            "metrics": metrics,
        }


def _classes(dataset: str) -> str:
    if dataset == UNKNOWN:
        return "exact counts and areas, since the data set is not known"
    return f"the classes of {all_datasets()[dataset].title}"


def _is_rsvqa(dataset: str) -> bool:
    return dataset == UNKNOWN or all_datasets()[dataset].title.startswith("RSVQA")


def _metric(name: str, value: float, ci: list[float], n: int, cluster: str) -> dict[str, Any]:
    low, high = (f"{100 * end:.1f}" for end in ci)
    more = f"(n {n:,}, 95 % interval {low} to {high}, clustered by {cluster})"
    return {"type": "accuracy", "name": f"{name} {more}", "value": round(100 * value, 2)}


def data_card(found: ReportInputs) -> str:
    """Return the card of a run's training and test questions.

    Statistics of the questions are included if the run still has the files.
    """
    known = found.manifest.get("data", {})
    total = sum(facts["questions"] for facts in known.values())
    size = next((label for most, label in _SIZES if total < most), "n>1M")
    head = {
        "pretty_name": f"Questions of {found.name}",
        "task_categories": ["visual-question-answering"],
        "size_categories": [size],
        "tags": ["remote-sensing", "rsvqa"],
    }
    whole = {name: samples for name in known if (samples := _own(found, name))}
    leaked = (
        count_shared_images(whole[TRAIN_FILE], whole[TEST_FILE])
        if len(whole) == len(known) > 1
        else None
    )
    data = found.config.data if found.config else None
    controls = found.after.results["controls"]
    return render(
        "data_card.md",
        front=front_matter(head),
        name=found.name,
        splits=known,
        types={name: _types(samples) for name, samples in whole.items()},
        gone=[name for name in known if name not in whole],
        leaked=leaked,
        split_by="" if data is None or data.train is not None else data.split_by,
        seed=found.manifest.get("seed"),
        classes=_classes(found.after.results["dataset"]),
        protocol=OFFICIAL,
        blind=[
            (one.text, controls[one.name][OFFICIAL])
            for one in baselines.BASELINES
            if one.text and OFFICIAL in controls.get(one.name, {})
        ],
        clustered_by=found.after.results["clustered_by"],
    )


def _own(found: ReportInputs, name: str) -> list[Sample]:
    """Return the questions of one side of the run's split; none if the file is missing."""
    path = own_questions(found.run, name) if found.run else None
    return list(read_samples(path)) if path else []


def _types(samples: list[Sample]) -> list[tuple[str, int, str, float]]:
    """Return per question type its name, number, most frequent answer and that one's fraction."""
    answers: dict[str, Counter[str]] = {}
    for sample in samples:
        answers.setdefault(type_of(sample), Counter())[sample.answer] += 1
    rows = []
    for kind in type_order(answers):
        n = answers[kind].total()
        most, times = min(answers[kind].items(), key=lambda item: (-item[1], item[0]))
        rows.append((kind, n, most, times / n))
    return rows


def front_matter(head: dict[str, Any]) -> str:
    """Return YAML front matter of nested dictionaries and lists."""
    return "---\n" + "".join(_yaml(head, "")) + "---\n"


def _yaml(value: Any, indent: str) -> Iterator[str]:
    pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in pairs:
        start = f"{indent}- " if key is None else f"{indent}{key}:"
        if isinstance(item, dict) and key is None:
            first, *rest = _yaml(item, indent + "  ")
            yield start + first.removeprefix(indent + "  ")
            yield from rest
        elif isinstance(item, dict | list):
            yield f"{start}\n"
            yield from _yaml(item, indent + "  ")
        else:
            yield f"{start.rstrip()} {_scalar(item)}\n"


def _scalar(value: Any) -> str:
    """Return a scalar as JSON, which is valid YAML if non-printable characters are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else "\\ufffd" for c in text)
