"""Multiple-choice data sets: CHOICE, GEOBench-VLM, XLRS-Bench-lite, MME-RealWorld-RS.

The question file is one JSON list. CHOICE (An 2025): ``[{"id": …, "image_path": …, "question": …,
"answer": "B"}, …]``; the question ends with lines such as ``A.road``, and the image folder is the
task. The others: rows from the Hub with image, question, options, letter of the answer (several
for XLRS-Bench) and task or category, under different field names. The question text has one option
per line; its type is ``choice/TASK``. Questions about several images are skipped. In files of no
known data set, records without options are plain questions.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from string import ascii_uppercase as LETTERS
from typing import Any

from ..known_datasets import KnownDataset, register
from ..questions import registry
from ..questions.choice import NAME, Choice, options
from ..questions.normal_forms import normalise
from .base import Row
from .file_forms import FileForm, register_form
from .file_opening import FileStart, short, sniff
from .foreign_records import REMOTE, Records
from .image_paths import find_beside
from .json_records import fail, kind_name
from .left_out import NO_ANSWER, LeftOut
from .tabular import file_records, with_columns

SEVERAL_IMAGES = "about several images"
NO_PICTURE = "that name no image"
OTHER_SUBTASK = "of another subtask than Remote Sensing"
registry.register_types(Choice())
CHOICE, GEOBENCH, XLRS, MME = (
    register(KnownDataset(name, name, licence, ("test",), (NAME,)))
    for name, licence in (
        ("CHOICE", "MIT"),
        ("GEOBench-VLM", "see its page"),
        ("XLRS-Bench-lite", "see its page"),
        ("MME-RealWorld-RS", "see its page"),
    )
)
# field names by role, in lower case without punctuation; the first non-empty field is used
_ROLES = {
    "image": ("image", "imagepath", "images", "imagename", "path"),
    "question": ("question", "text"),
    "options": ("options", "optionslist", "multichoiceoptions", "answerchoices", "choices"),
    "answer": ("groundtruthoption", "groundtruth", "answer"),
    "task": ("l2category", "category", "task"),
    "id": ("questionid", "id", "index"),
    "number": ("questionnumber",),
}
_OWN = {"groundtruthoption": GEOBENCH, "answerchoices": MME}  # fields unique to a data set
_CALLED = {"geobench": GEOBENCH, "xlrs": XLRS, "mmerealworld": MME}
_LETTERED = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.):])\s*\S")
_LOOKED_AT = 64
_LONGEST = 1000  # characters of a path; an image in base64 is longer
_FOLDERS, _ABOVE = ("images", "Images", "image"), 4


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _roles(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the non-empty fields of a record by role."""
    fields = {_plain(key): value for key, value in record.items() if value not in (None, "")}
    found = {
        role: next((fields[name] for name in names if name in fields), None)
        for role, names in _ROLES.items()
    }
    return {role: value for role, value in found.items() if value is not None}


def _is_choice(record: Any) -> bool:
    # predictions repeat the question
    if type(record) is not dict or not record.keys().isdisjoint(("conversations", "prediction")):
        return False
    found = _roles(record)
    asked = found.get("question")
    has_options = "options" in found or (type(asked) is str and bool(options(asked)))
    return "image" in found and asked is not None and has_options


def _recognises(start: FileStart) -> bool:
    by_name = dict.fromkeys(start.columns, "?")  # a table: by its columns alone
    named = _roles(by_name)
    if start.columns:
        return {"image", "question", "options", "answer"} <= named.keys()
    return start.kind != "text" and any(map(_is_choice, start.records))


def _dataset(path: Path) -> str:
    """Identify the data set by its fields or by the file or folder name; empty if unknown."""
    start = with_columns(path, sniff(path))
    found = list(start.records)
    if start.kind == "object":  # of JSON Lines, only the first was sniffed
        found = [row for _, row in islice(file_records(path)[1], _LOOKED_AT)]
    rows = [row for row in found if _is_choice(row)]
    fields = {_plain(key) for row in rows for key in row} | set(map(_plain, start.columns))
    named = (known for name, known in _OWN.items() if name in fields)
    place = _plain("/".join(path.absolute().parts[-2:]))
    called = (known for name, known in _CALLED.items() if name in place)
    if one := next(named, None) or next(called, None):
        return one.name
    is_mixed = any(type(row) is dict and _is_plain(_roles(row)) for row in found)
    is_choice = "imagepath" in fields and not fields & {*_ROLES["options"]} and not is_mixed
    return CHOICE.name if is_choice else ""


def _is_plain(found: Mapping[str, Any]) -> bool:
    """Whether a record is a question without options; a letter as answer shows that they lack."""
    asked, answer = found.get("question"), found.get("answer")
    if type(asked) is not str or type(answer) not in (str, int) or "image" not in found:
        return False
    has_options = bool(found.get("options") or options(str(asked)))
    return not has_options and normalise(str(answer), NAME) is None


def _rows(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    dataset = _dataset(path)
    unit, every = file_records(path)
    places = Records(path, unit, with_images, counts)
    for n, record in every:
        found = _roles(record)
        if not dataset and _is_plain(found) and places.accepts(record):
            yield from places.rows(n, record, f"rsvqa_{n}")
            continue
        name = "_".join(str(found[role]) for role in ("id", "number") if role in found) or str(n)
        images = _images(record, found.get("image"))
        if why := _why_not(dataset, record, found, images):
            counts.add(why, name)
            continue
        image = _place(places, n, record, images[0], with_images)
        if image is None:
            counts.add(REMOTE, name)
            continue
        question = _question(path, n, record, found)
        task = found.get("task") or (_folder(str(images[0])) if dataset == CHOICE.name else "")
        task = " ".join(str(task).split())
        yield (
            f"{(dataset or NAME).lower()}_{name}",
            image,
            question,
            _answer(path, n, record, question, found["answer"]),
            f"{NAME}/{task}" if task else NAME,
            dataset,
            "",
        )


def _place(
    places: Records, n: int, record: dict[str, Any], image: Any, with_images: bool
) -> str | None:
    """Return the path of an image; embedded images are written to a folder beside the file."""
    if type(image) is str and len(image) < _LONGEST and "\0" not in image:
        return find_beside(places.path, image, _FOLDERS, _ABOVE) if with_images else image
    return places.place_image(n, record, image)


def _why_not(
    dataset: str, record: Mapping[str, Any], found: Mapping[str, Any], images: list[Any]
) -> str:
    """Return why a row is skipped; empty if it is not."""
    subtask = next((value for key, value in record.items() if _plain(key) == "subtask"), "")
    if dataset == MME.name and subtask and "remotesensing" not in _plain(str(subtask)):
        return OTHER_SUBTASK
    if "answer" not in found:
        return NO_ANSWER
    return "" if len(images) == 1 else SEVERAL_IMAGES if images else NO_PICTURE


def _images(record: Mapping[str, Any], value: Any) -> list[Any]:
    """Return the image paths; other values are returned unchanged."""
    numbered = [v for k, v in record.items() if v and re.fullmatch(r"image(?:path)?\d", _plain(k))]
    if numbered and value is None:
        value = numbered
    if type(value) is str and value.lstrip().startswith("["):
        value = _listed(value)
    values = value if type(value) is list else [] if value is None else [value]
    return [one["path"] if type(one) is dict and not one.get("bytes") else one for one in values]


def _listed(text: str) -> Any:
    """Parse a list in JSON or Python notation; else return the text."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if type(value) is list else text


def _folder(image: str) -> str:
    """Return CHOICE's task from the image path: ``…/scene_classification/images/1.png``."""
    above = [part for part in PurePosixPath(image.replace("\\", "/")).parts[:-1] if part != "/"]
    return next((part for part in reversed(above) if part.lower() not in _FOLDERS), "")


def _question(path: Path, n: int, record: dict[str, Any], found: Mapping[str, Any]) -> str:
    """Return the question followed by its options, one per line, as published."""
    asked = found.get("question")
    if type(asked) is not str or "\0" in asked:
        fail(path, n, record, f"its question is {kind_name(asked)}, expected text")
    if options(asked):
        return asked
    lines = _lines(found.get("options"))
    whole = "\n".join((asked.rstrip(), *lines))
    if not lines or len(options(whole)) != len(lines):
        fail(path, n, record, "its options are neither a list of texts nor lines such as A. road")
    return whole


def _lines(value: Any) -> list[str]:
    if type(value) is str:
        value = _listed(value)
    if type(value) is str:
        return [f"{letter}. {text}" for letter, text in options(value).items()]
    if type(value) is dict:
        value = [f"{letter}. {text}" for letter, text in value.items()]
    if type(value) is not list or len(value) > len(LETTERS):
        return []
    if any(type(one) not in (str, int, float) for one in value):
        return []
    texts = [" ".join(str(one).split()) for one in value]
    marks = [_LETTERED.match(text) for text in texts]
    if all(mark and (mark[1] or mark[2]) == a for mark, a in zip(marks, LETTERS, strict=False)):
        return texts
    return [f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False)]


def _answer(path: Path, n: int, record: dict[str, Any], question: str, value: Any) -> str:
    """Return the letter of the correct option, or ``A,C`` for several."""
    text = ",".join(map(str, value)) if type(value) is list else str(value)
    letters = None
    if type(value) in (str, int, list):
        letters = normalise(text, NAME, question)
    if letters is None:
        fail(path, n, record, f"its answer {short(text)!r} is not a letter of its options")
    if type(value) is int and _by_place(value, question) - {letters}:
        problem = f"its answer {value} is the text of option {letters}, or the place of another"
        fail(path, n, record, problem, "write the letter of the option as answer")
    return letters


def _by_place(number: int, question: str) -> set[str]:
    """Return the letters of the options at a place counted from 0 or from 1."""
    places = [number, number - 1]
    return {a for k, a in enumerate(options(question)) if k in places}


register_form(FileForm(_recognises, _rows, (CHOICE.name, GEOBENCH.name, XLRS.name, MME.name)))
