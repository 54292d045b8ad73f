"""Model card and data card: YAML front matter as the hubs read it, and a page for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..data.sources import read_samples
from ..data.split import leak
from ..records import Sample
from ..runs import TEST_FILE, TRAIN_FILE, sha256
from ..scoring.grammar import type_of
from ..scoring.metrics import type_order
from . import ran, scores
from .evidence import Evidence
from .page import environment
from .verdict import OFFICIAL, sentence
from .words import Words

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_CONTROLS = {
    "constant": "OA of the constant-answer control",
    "question_only": "OA of the question-only control (sees no image)",
    "shuffled_image": "OA when shown a wrong image",
}


def model_card(found: Evidence, base: str | None) -> str:
    """The model card of a run's adapter.

    It names no licence: that is for its owner to say.

    Args:
        found: the evidence of the run.
        base: the base by its name on the hub; None where that is not known.
    """
    w = Words("en")
    claim, conclusion = sentence(found, w)
    head: dict[str, Any] = {"base_model": base} if base else {}
    head |= {
        "library_name": "peft",
        # what the base's own card says, and the pipeline of transformers that runs it
        "pipeline_tag": "image-text-to-text",
        "tags": ["lora", "remote-sensing", "rsvqa", "visual-question-answering"],
        "model-index": [{"name": found.name, "results": list(_results(found))}],
    }
    tables = [*scores.by_type(found, w).tables, *scores.by_protocol(found, w).tables]
    return (
        environment("md")
        .get_template("model_card.md")
        .render(
            front=front_matter(head),
            name=found.name,
            base=base,
            verdict=claim + conclusion,
            tables=tables,
            notes=scores.by_protocol(found, w).notes,
            facts=ran.what(found, "", w).facts,
            instruction=found.config.view.instruction if found.config else "",
        )
    )


def _results(found: Evidence) -> Iterator[dict[str, Any]]:
    """One entry of the model index per protocol: a figure never stands without its controls."""
    results = found.after.results
    test = found.manifest.get("data", {}).get(TEST_FILE, {})
    for name, score in results["protocols"].items():
        metrics = [
            _metric(_name(key, score[key + "_ci"], score["n"], results["clustered_by"]), score[key])  # type: ignore[literal-required]
            for key in ("OA", "AA")
        ]
        metrics += [
            _metric(f"{t} accuracy (n {v['n']:,})", v["accuracy"])
            for t, v in score["types"].items()
        ]
        if found.comparison:
            before = found.comparison["protocols"][name]["OA"]["before"]
            metrics.append(_metric("OA before fine-tuning", before))
        metrics += [
            _metric(label, results["controls"][control][name]["OA"])
            for control, label in _CONTROLS.items()
            if name in results["controls"].get(control, {})
        ]
        dataset = results["dataset"]
        yield {
            "task": {"type": "visual-question-answering", "name": "Visual question answering"},
            "dataset": {
                # the classes are known, which questions these are only by their digest
                "type": f"rsvqa-{dataset.lower()}-classes",
                "name": f"Test questions with the classes of RSVQA-{dataset}, protocol {name}",
                "config": name,
                "split": "test",
                "args": {
                    "protocol": name,
                    "n": score["n"],
                    "sha256": test.get("sha256", "unknown"),
                },
            },
            "metrics": metrics,
        }


def _name(key: str, ci: list[float], n: int, cluster: str) -> str:
    low, high = (f"{100 * end:.1f}" for end in ci)
    return f"{key} (n {n:,}, 95 % interval {low} to {high}, clustered by {cluster})"


def _metric(name: str, value: float) -> dict[str, Any]:
    return {"type": "accuracy", "name": name, "value": round(100 * value, 2)}


def data_card(found: Evidence) -> str:
    """The card of the questions a run was trained and tested on.

    What the questions are like is told where the split files still lie in the current folder.
    """
    known = found.manifest.get("data", {})
    splits = {name: _own(name, facts) for name, facts in known.items()}
    total = sum(facts["questions"] for facts in known.values())
    size = next((label for most, label in _SIZES if total < most), "n>1M")
    head = {
        "pretty_name": f"Questions of {found.name}",
        "task_categories": ["visual-question-answering"],
        "size_categories": [size],
        "tags": ["remote-sensing", "rsvqa"],
    }
    whole = {name: samples for name, samples in splits.items() if samples}
    leaked = leak(whole[TRAIN_FILE], whole[TEST_FILE]) if len(whole) == len(known) > 1 else None
    data = found.config.data if found.config else None
    ready = data is not None and data.train is not None
    return (
        environment("md")
        .get_template("data_card.md")
        .render(
            front=front_matter(head),
            name=found.name,
            splits=known,
            types={name: _types(samples) for name, samples in whole.items()},
            gone=[name for name in known if name not in whole],
            leaked=leaked,
            split_by="" if data is None or ready else data.split_by,
            seed=found.manifest.get("seed"),
            dataset=found.after.results["dataset"],
            protocol=OFFICIAL,
        )
    )


def _own(name: str, facts: dict[str, Any]) -> list[Sample]:
    """The samples of a split file of the run; none where it is not there any more."""
    path = Path(name)
    same = path.is_file() and sha256(path) == facts["sha256"]
    return list(read_samples(path)) if same else []


def _types(samples: list[Sample]) -> list[tuple[str, int, str, float]]:
    """Per question type: its name, number, most frequent answer and that one's share."""
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
    """YAML of nested dictionaries and lists, between its two lines of dashes."""
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
    """A scalar as JSON, which is also YAML but for characters that cannot be printed."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else "\\ufffd" for c in text)
