"""Faults of questions and answers: empty, unreadable, contradictory, duplicate; class balance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..questions.registry import all_types, type_named
from ..scoring.metrics import type_order
from ..system.console import counted
from .findings import EXAMPLES, Finding, Verdict, no_fault
from .parts import NO_FORM, Parts


@dataclass(frozen=True, slots=True)
class TypeBalance:
    """How the answers of a question type are distributed.

    Attributes:
        type: the question type.
        n: number of its questions.
        distinct: number of distinct answers, in normal form.
        majority: the most frequent answer.
        share: its share of the questions, from 0 to 1.
    """

    type: str
    n: int
    distinct: int
    majority: str
    share: float


def balance(parts: Parts) -> list[TypeBalance]:
    """Return the distribution of the answers of each question type."""
    kinds, names = parts.kinds
    forms, texts = parts.forms
    by_name = {}
    for code, name in enumerate(names):
        found = forms[kinds == code]
        counts = np.bincount(found[found >= 0], minlength=1)
        most = int(counts.argmax())
        by_name[name] = TypeBalance(
            name,
            len(found),
            int((counts > 0).sum()),
            texts[most] if counts[most] else "",
            float(counts[most] / len(found)),
        )
    return [by_name[name] for name in type_order(by_name)]


def blank_texts(parts: Parts) -> Finding:
    """Find empty questions and answers."""
    empty = {
        name: parts.all.where(name, lambda text: not text.strip())
        for name in ("question", "answer")
    }
    rows = np.flatnonzero(empty["question"] | empty["answer"])
    if not len(rows):
        return no_fault("empty_texts", "no question and no answer is empty")
    examples = [
        parts.example(row, f"the {'question' if empty['question'][row] else 'answer'} is empty")
        for row in rows[:EXAMPLES]
    ]
    text = f"{counted(len(rows), 'record')} with an empty question or answer"
    hint = "fill in the text, or leave the record out: training stops at it"
    return Finding("empty_texts", "error", len(rows), text, hint, examples)


def duplicate_ids(parts: Parts) -> Finding:
    """Find ids that occur twice in a file."""
    found = []
    for number, part in enumerate(parts.parts):
        if part.questions.first_duplicate() is not None:
            ids = part.questions.table.column("id").combine_chunks().dictionary_encode()
            codes = ids.indices.to_numpy()
            first = np.unique(codes, return_index=True)[1]
            again = np.flatnonzero(first[codes] < np.arange(len(codes)))
            found.append(again + parts.starts[number])
    rows = np.concatenate(found) if found else np.zeros(0, np.int64)
    if not len(rows):
        return no_fault("duplicate_ids", "the ids of each file are unique")
    text = f"{counted(len(rows), 'id')} that occurred before in the same file"
    hint = "give each record a unique id: training stops at it"
    return Finding("duplicate_ids", "error", len(rows), text, hint, parts.examples(rows))


def unreadable_answers(parts: Parts) -> Finding:
    """Find answers that have no normal form of their type."""
    forms, _ = parts.forms
    kinds, names = parts.kinds
    rows = np.flatnonzero(forms == NO_FORM)
    blank = parts.all.where("answer", lambda text: not text.strip())
    rows = rows[~blank[rows]]
    if not len(rows):
        return no_fault("unreadable_answers", "all answers can be read")
    examples = [parts.example(row, _answer_of(parts, row)) for row in rows[:EXAMPLES]]
    counts, sizes = (np.bincount(kinds[r], minlength=len(names)) for r in (rows, slice(None)))
    lost = [names[k] for k in np.flatnonzero((counts == sizes) & (sizes > 0))]
    where = ", ".join(f"{names[k]}: {counts[k]:,}" for k in np.flatnonzero(counts))
    text = f"{counted(len(rows), 'answer')} not readable as an answer of the type ({where})"
    hint = "correct the answer or the type: no prediction is ever counted as correct"
    if lost:
        text += f"; of {', '.join(lost)} none is"
    verdict: Verdict = "error" if lost else "warning"
    return Finding("unreadable_answers", verdict, len(rows), text, hint, examples)


def contradictions(parts: Parts) -> Finding:
    """Find pairs of image and question with different answers, compared in normal form."""
    rows = np.flatnonzero(np.bincount(parts.pairs)[parts.pairs] > 1)
    said, _ = parts.forms_of(rows)
    rows, said = rows[said != NO_FORM], said[said != NO_FORM]
    order = np.lexsort((said, parts.pairs[rows]))
    rows, said = rows[order], said[order]
    pairs = parts.pairs[rows]
    differs = (pairs[1:] == pairs[:-1]) & (said[1:] != said[:-1])
    at = np.flatnonzero(differs)
    count = len(np.unique(pairs[at]))
    if not count:
        return no_fault(
            "contradictions", "no question about an image is answered in different ways"
        )
    first = np.unique(pairs[at], return_index=True)[1][:EXAMPLES]
    examples = [
        parts.example(
            max(rows[k], rows[k + 1]),
            f"{_answer_of(parts, rows[k + 1])}, but {_answer_of(parts, rows[k])} "
            f"for {_place(parts, rows[k])}",
        )
        for k in at[first]
    ]
    text = f"{counted(count, 'question')} about an image with different answers"
    hint = "keep one answer: no model can give both"
    return Finding("contradictions", "warning", count, text, hint, examples)


def duplicates(parts: Parts) -> Finding:
    """Find questions that occur again in the same part, about the same image, same answer."""
    forms, texts = parts.forms
    answers, distinct = parts.all.codes("answer")
    said = np.where(forms >= 0, forms, len(texts) + answers)
    key = parts.pairs.astype(np.int64) * len(parts.parts) + parts.part
    key = key * (len(texts) + len(distinct) + 1) + said
    codes, first = np.unique(key, return_index=True)
    again = np.ones(len(key), dtype=np.bool_)
    again[first] = False
    rows = np.flatnonzero(again)
    if not len(rows):
        return no_fault("duplicates", "no question about an image occurs twice")
    before = first[np.searchsorted(codes, key[rows[:EXAMPLES]])]
    examples = [
        parts.example(row, f"the same as {_place(parts, one)}")
        for row, one in zip(rows[:EXAMPLES], before, strict=True)
    ]
    text = f"{counted(len(rows), 'question')} that occurred before, with the same image and answer"
    hint = "leave them out: they count twice in training and in the scores"
    return Finding("duplicates", "warning", len(rows), text, hint, examples)


def unknown_types(parts: Parts) -> Finding:
    """Find questions whose type is unknown: neither stored nor clear from the wording."""
    kinds, names = parts.kinds
    unknown = np.array([not _is_known(name) for name in names], dtype=np.bool_)
    rows = np.flatnonzero(unknown[kinds]) if len(names) else np.zeros(0, np.int64)
    if not len(rows):
        return no_fault("unknown_types", "all question types are known")
    codes, first = np.unique(kinds[rows], return_index=True)
    examples = [parts.example(rows[k], parts.all[int(rows[k])].question) for k in first[:EXAMPLES]]
    found = ", ".join(f"{names[k]}: {int((kinds == k).sum()):,}" for k in codes[:EXAMPLES])
    more = ", …" if len(codes) > EXAMPLES else ""
    text = f"{counted(len(rows), 'question')} of an unknown type ({found}{more})"
    hint = "their answers are compared as text; name the type in the file (docs/data.md)"
    return Finding("unknown_types", "warning", len(rows), text, hint, examples)


def _is_known(name: str) -> bool:
    whole = name.partition("/")[0]
    return name in all_types() or (whole in all_types() and type_named(whole).has_subtypes)


def _answer_of(parts: Parts, row: int) -> str:
    return repr(parts.all[int(row)].answer)


def _place(parts: Parts, row: int) -> str:
    found = parts.example(row)
    return f"{found.id} ({found.part})" if len(parts.parts) > 1 else found.id
