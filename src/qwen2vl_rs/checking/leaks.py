"""Leaks between the parts of a data set: the same images, pictures, questions or official ids."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ..datasets.base import Codes
from ..datasets.json_records import records
from ..system.console import counted
from .findings import EXAMPLES, Example, Finding, Verdict, joined, no_fault
from .parts import TRAIN, Parts

_OPTIMISTIC = "the result on them will be too optimistic"


def shared_images(parts: Parts) -> Finding:
    """Find images that are in several parts, compared as files.

    It is an error if the model is trained on them, else a warning.
    """
    keys = np.unique(parts.images.astype(np.int64) * len(parts.parts) + parts.part)
    pairs = np.stack(np.divmod(keys, len(parts.parts)))
    texts, examples, shared, taught = [], [], set(), False
    for a, b in combinations(range(len(parts.parts)), 2):
        both = np.intersect1d(pairs[0, pairs[1] == a], pairs[0, pairs[1] == b])
        if len(both):
            shared |= set(both.tolist())
            taught |= TRAIN in (parts.named(a), parts.named(b))
            texts.append(_in_both(parts, len(both), "image", a, b))
            later = np.flatnonzero(parts.part == b)
            first = later[np.isin(parts.images[later], both)][:1]
            examples += parts.examples(first.tolist(), f"also in {parts.named(a)}")
    if not shared:
        return no_fault("shared_images", "no image is in two parts")
    hint = f"split by image (train --data FILE), or remove them from one part: {_OPTIMISTIC}"
    text = "; ".join(texts)
    verdict: Verdict = "error" if taught else "warning"
    return Finding("shared_images", verdict, len(shared), text, hint, examples[:EXAMPLES])


def shared_questions(parts: Parts) -> Finding:
    """Find evaluation questions that are training questions: same image file, same question."""
    train = np.array([part.name == TRAIN for part in parts.parts], dtype=np.bool_)[parts.part]
    taught = np.unique(parts.pairs[train])
    rows = np.flatnonzero(~train & np.isin(parts.pairs, taught))
    if not len(rows):
        return no_fault("shared_questions", "no evaluation question is a training question")
    where = joined(list(dict.fromkeys(parts.named(k) for k in parts.part[rows])))
    text = f"{counted(len(rows), 'question')} of {where} in the training part, with the same image"
    examples = [_with_ids(parts, row, train) for row in rows[:EXAMPLES].tolist()]
    hint = f"remove them from the training questions: {_OPTIMISTIC}"
    return Finding("shared_questions", "error", len(rows), text, hint, examples)


def _with_ids(parts: Parts, row: int, train: Codes) -> Example:
    twin = int(np.flatnonzero(train & (parts.pairs == parts.pairs[row]))[0])
    other = parts.example(twin)
    same = "with the same id" if parts.all[twin].id == parts.all[row].id else f"as {other.id}"
    return parts.example(row, f"in {other.part} {same}")


def shared_pictures(parts: Parts, digests: Mapping[str, str]) -> Finding:
    """Find pictures that are in several parts, or twice in one, under different names.

    Args:
        parts: the parts.
        digests: digest of the pixels of each image path, without pictures of one colour.
    """
    files: dict[str, list[int]] = {}
    for code, path in enumerate(parts.image_paths):
        if path in digests:
            files.setdefault(digests[path], []).append(code)
    same = [codes for codes in files.values() if len(codes) > 1]
    if not same:
        return no_fault("shared_pictures", "no picture has two names")
    first = parts.first_rows(np.array([code for codes in same for code in codes], dtype=np.int64))
    rows = iter(first.tolist())
    groups = [[next(rows) for _ in codes] for codes in same]
    across = [group for group in groups if len({int(parts.part[row]) for row in group}) > 1]
    taught = [group for group in across if TRAIN in {parts.named(parts.part[row]) for row in group}]
    if found := taught or across:
        text = f"{counted(len(found), 'picture')} in several parts, under different names"
        hint = f"remove the copies from the training questions: {_OPTIMISTIC}"
        verdict: Verdict = "error" if taught else "warning"
    else:
        found, verdict = groups, "warning"
        text = f"{counted(len(found), 'picture')} with several names in one part"
        hint = "a split by image may separate them: keep one name of each"
    examples = _twins(parts, found[:EXAMPLES])
    return Finding("shared_pictures", verdict, len(found), text, hint, examples)


def _twins(parts: Parts, groups: Iterable[Sequence[int]]) -> list[Example]:
    found = []
    for group in groups:
        other = next(
            (row for row in group[1:] if parts.part[row] != parts.part[group[0]]), group[1]
        )
        one = parts.example(group[0])
        found.append(parts.example(other, f"the same picture as {one.image} ({one.part})"))
    return found


def official_ids(parts: Parts, files: Mapping[str, Path]) -> Finding:
    """Find evaluation questions that are active in the training file of an official data set.

    The published files of a split list the questions of all splits, those of other splits as stubs
    (``{"id": …, "active": false}``). Files that are numbered anew have the same ids for other
    questions, so image and wording are compared too.

    Args:
        parts: the parts.
        files: the official question file of each part that was read from one, by name of the part.

    Raises:
        DataError: a file cannot be read.
    """
    taught, stubs = _questions_of(files[TRAIN])
    texts, examples, leaked, inactive = [], [], 0, 0
    for name, file in files.items():
        if name == TRAIN:
            continue
        asked, _ = _questions_of(file)
        inactive += len(np.intersect1d(stubs, asked[0]))
        ids, here, there = np.intersect1d(asked[0], taught[0], return_indices=True)
        both = ids[asked[1, here] == taught[1, there]]
        if len(both):
            leaked += len(both)
            texts.append(f"{counted(len(both), 'question')} of {name}")
            why = f"active in {files[TRAIN]}"
            examples += [Example(name, str(key), file=str(file), detail=why) for key in both[:3]]
    if leaked:
        text = f"{joined(texts)} active in {files[TRAIN].name}, with the same id"
        hint = 'set "active" to false for them in the training file, or use the published files'
        return Finding("official_ids", "error", leaked, text, hint, examples[:EXAMPLES])
    known = f" ({inactive:,} are inactive there)" if inactive else ""
    return no_fault(
        "official_ids", f"no evaluation question is active in {files[TRAIN].name}{known}"
    )


def _questions_of(path: Path) -> tuple[Codes, Codes]:
    """Return (2, n) ids and hashes (of image and wording) of active questions, and ids of stubs."""
    ids, hashes, stubs = (array("q") for _ in range(3))
    for record in records(path, "questions"):
        if record.get("active", True):
            ids.append(record["id"])
            hashes.append(hash((record["img_id"], record["question"])))
        else:
            stubs.append(record.get("id", -1))  # some stubs have no id
    return np.array([ids, hashes], dtype=np.int64), np.array(stubs, dtype=np.int64)


def _in_both(parts: Parts, count: int, noun: str, a: int, b: int) -> str:
    is_ = "is" if count == 1 else "are"
    return f"{counted(count, noun)} {is_} in {parts.named(a)} and {parts.named(b)}"
