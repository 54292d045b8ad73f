"""Convert records of other tools (conversations, tables, embedded images) to question rows.

`record_forms` defines which keys contain what.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..config import InputConfig
from ..instruction import bare_question
from ..known_datasets import dataset_name
from ..system.files import read_json
from . import json_records
from . import record_forms as forms
from .base import Row
from .file_opening import short
from .image_bytes import ImageFolder
from .image_paths import resolve_image
from .left_out import NO_ANSWER, NO_TEXT, LeftOut

EXPORT_NOTE = "export.json"
"""File beside questions written by `export`: contains the instruction before each question."""

MARK = "<image>"
_PATH = re.compile(r"(?:Picture \d+: ?)?<img>([^<>]*)</img>\n?")  # of Qwen-VL, old ms-swift
# a base64 image, as a data: URL or alone; no path is as long
_CODED = re.compile(r"data:image/[\w.+-]+;base64,(.*)|([A-Za-z0-9+/]{1000,}=*)", re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_NO_TURNS = "without any question"
_NO_IMAGE, _SEVERAL = "without any image", "with several images"
_MEDIA, REMOTE = "with video or sound", "with an image that is not a file (a URL)"
_TURNS = "conversations have several turns: each turn becomes an independent question"
_RENAMED = "with a repeated id: a number is appended to it (_2, _3, …)"
_SYSTEM = "system turns are ignored: the instruction is a setting (view.instruction)"


@dataclass(slots=True)
class Records:
    """Reader of the records of a file.

    Attributes:
        path: the file.
        unit: name of a record in messages: ``record``, ``line``, ``row``.
        with_images: whether the images are needed.
        counts: counter of skipped questions.
        columns: for our fields, the column names given by the user.
        folder: output folder of embedded images.
    """

    path: Path
    unit: str
    with_images: bool
    counts: LeftOut
    columns: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    _images: ImageFolder = field(init=False)
    _instructions: tuple[str, ...] = field(init=False)
    _ids: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        place = self.folder or self.path.with_name(f"{self.path.stem}_images")
        hint = "to write the images elsewhere: qwen2vl-rs csv2json --input FILE --output NEW.json"
        self._images = ImageFolder(place, hint, self.with_images)
        note = read_json(self.path.with_name(EXPORT_NOTE), damaged=None)
        written = note.get("instruction") if isinstance(note, dict) else None
        usual = InputConfig().instruction
        self._instructions = (written, usual) if isinstance(written, str) else (usual,)

    def accepts(self, record: dict[str, Any]) -> bool:
        """Whether a record has a format of another tool (not our conversations)."""
        form = forms.question_form(record, self.columns)
        return form is not None and not (form.turns == ("conversations",) and _is_ours(record))

    def rows(self, n: int, record: dict[str, Any], name: str) -> Iterator[Row]:
        """Yield the questions of a record; none if it is skipped, which is counted.

        Args:
            n: number of the record, for messages.
            record: the record.
            name: default id.

        Raises:
            DataError: the record is malformed.
            RunError: an image cannot be written.
        """
        form = forms.question_form(record, self.columns)
        if form is None:
            keys = forms.list_names(record)
            problem = f"it contains no question with an answer and an image; it has {keys}"
            self.fail(n, record, problem, forms.NAMED_HINT)
        name = self._field(n, record, "id") or name
        turns = list(self._turns(n, record, form))
        if all(turn.kind == "leads" for turn in turns):
            self.counts.add(_NO_TURNS, name)
            return
        given = _items(self._value(record, "image"))
        images = [*given, *(one for turn in turns for one in turn.images)]
        if why := self._why_not(n, record, form, turns, images):
            self.counts.add(why, name)
            return
        image = self.place_image(n, record, images[0]) if images else ""
        if image is None:
            self.counts.add(REMOTE, name)
            return
        kind = self._field(n, record, "type") or ""
        asked = self._pairs(n, record, turns, name)
        several = len(asked) > 1
        self.counts.note(_TURNS, several)
        for number, (question, answer) in enumerate(asked, 1):
            own = f"{name}_{number}" if several else name
            question = question if form.plain else self._bare(question)
            if not question.strip() or not answer.strip():
                self.counts.add(NO_TEXT, own)
                continue
            if form.turns:
                own = self._unique(own)
            yield own, image, question, answer, kind, dataset_name(record.get("dataset")), ""

    def _unique(self, name: str) -> str:
        """Append a number to an id that is taken: mixtures of conversations repeat ids."""
        own = name
        while own in self._ids:  # the number of the last one of this name saves trying all
            self._ids[name] += 1
            own = f"{name}_{self._ids[name]}"
        self._ids[own] = 1
        self.counts.note(_RENAMED, own != name)
        return own

    def fail(
        self, n: int, record: dict[str, Any], problem: str, hint: str | None = None
    ) -> NoReturn:
        """Raise the error for a record.

        Raises:
            DataError: always.
        """
        json_records.fail(self.path, n, record, problem, hint, self.unit)

    def _value(self, record: dict[str, Any], name: str) -> Any:
        """Return the value of one of our fields."""
        given = self.columns.get(name)
        return forms.first_value(record, (given,) if given else forms.COLUMNS[name])

    def _field(self, n: int, record: dict[str, Any], name: str) -> str | None:
        return self._text(n, record, name, self._value(record, name))

    def _text(self, n: int, record: dict[str, Any], what: str, value: Any) -> str | None:
        try:
            text = forms.plain_text(value)
        except TypeError as error:
            self.fail(n, record, f"the {what} is neither text nor a number: {error}")
        if text and "\0" in text:
            self.fail(n, record, f"the {what} contains a NUL")
        return text

    def _turns(self, n: int, record: dict[str, Any], form: forms.QuestionForm) -> Iterator[_Turn]:
        if form.plain:
            question = forms.with_options(self._field(n, record, "question") or "", record)
            yield _Turn("asks", self._text(n, record, "question", question))
            yield _Turn("answers", self._field(n, record, "answer"))
            return
        if record.get("system"):
            yield _Turn("leads")
        history = record.get("history") or []
        if not isinstance(history, list) or any(not _is_pair(one) for one in history):
            self.fail(n, record, '"history" is not a list of pairs of texts')
        for pair in history:
            yield _Turn("asks", self._text(n, record, "question", pair[0]))
            yield _Turn("answers", self._text(n, record, "answer", pair[1]))
        if not form.turns:
            parts = [self._text(n, record, key, record.get(key)) for key in form.asked]
            yield _Turn("asks", "\n".join(filter(None, parts)))
            yield _Turn("answers", self._text(n, record, "answer", record[form.answered]))
        for key in form.turns:
            found = record[key]
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                self.fail(n, record, f'"{key}" is not a list of turns')
            for turn in found:
                yield self._turn(n, record, turn)

    def _turn(self, n: int, record: dict[str, Any], turn: dict[str, Any]) -> _Turn:
        role = turn.get("from", turn.get("role"))
        kind = _ROLES.get(role) if isinstance(role, str) else None
        if kind is None:
            self.fail(n, record, f"a turn has the role {short(str(role))}, not user or assistant")
        content = turn.get("value", turn.get("content"))
        parts = content if isinstance(content, list) else [content]
        texts: list[str] = []
        images: list[Any] = []
        for part in parts:
            if not isinstance(part, dict):
                texts.append(self._text(n, record, "text of a turn", part) or "")
            elif str(part.get("type", "")).startswith("image"):
                texts.append(MARK)
                found = forms.first_value(part, ("image", "path", "url", "image_url"))
                images += _items(forms.value_at(found, "url") or found)
            elif "text" in part:
                texts.append(self._text(n, record, "text of a turn", part["text"]) or "")
        nothing = forms.is_empty(content) and not isinstance(content, list)
        return _Turn(kind, None if nothing else "".join(texts), tuple(images))

    def _why_not(
        self,
        n: int,
        record: dict[str, Any],
        form: forms.QuestionForm,
        turns: list[_Turn],
        images: list[Any],
    ) -> str:
        """Return why a record is not a question about one image; empty if it is.

        Raises:
            DataError: the numbers of image marks and of images differ.
        """
        if any(record.get(key) for key in forms.OTHER_MEDIA):
            return _MEDIA
        if form.plain:
            marks = len(images)
        else:
            texts = [turn.text for turn in turns if turn.kind == "asks" and turn.text]
            within = [path for text in texts for path in _PATH.findall(text)]
            marks = sum(text.count(MARK) for text in texts) + len(within)
            images += within if len(images) < len(within) else []
        if len(images) > 1:
            return _SEVERAL
        if not images and not marks:
            return "" if form.plain and not self.with_images else _NO_IMAGE
        if marks != len(images) and (marks or form.marked):
            number = "1 image" if images else "no image"
            hint = f"the text needs one {MARK} per listed image"
            self.fail(n, record, f"it lists {number}, but its text has {marks} {MARK}", hint)
        return ""

    def place_image(self, n: int, record: dict[str, Any], image: Any) -> str | None:
        """Return the path of an image; None if it is not a local file."""
        content, path = image, image
        if isinstance(image, dict):
            content, path = image.get("bytes"), image.get("path")
        if isinstance(path, str) and (coded := _CODED.fullmatch(path)):
            with contextlib.suppress(ValueError):
                content = base64.b64decode(coded[1] or coded[2], validate=True)
        if isinstance(content, bytes):
            if place := self._images.save(content):
                return place
            self.fail(n, record, "the bytes of its image have no known format")
        if not isinstance(path, str) or not path or "\0" in path:
            self.fail(n, record, f"the image is not a path: {path!r:.40}")
        path = path.removeprefix("file://")
        if _URL.match(path) and path[1:2] != ":":  # not a Windows drive
            return None
        return resolve_image(self.path, path)

    def _pairs(
        self, n: int, record: dict[str, Any], turns: list[_Turn], name: str
    ) -> list[tuple[str, str]]:
        """Pair questions with answers; questions without an answer are counted."""
        pairs, asked = [], None
        for turn in turns:
            if turn.kind == "leads":
                self.counts.note(_SYSTEM)
            elif turn.kind == "asks":
                if asked is not None:
                    self.fail(n, record, "two questions without an answer between them")
                asked = turn.text or ""
            elif asked is None:
                self.fail(n, record, "an answer without a question before it")
            else:
                if turn.text is None:
                    self.counts.add(NO_ANSWER, name)
                else:
                    pairs.append((asked, turn.text))
                asked = None
        if asked is not None:
            self.counts.add(NO_ANSWER, name)
        return pairs

    def _bare(self, question: str) -> str:
        """Remove the image mark and the instruction from a question."""
        text = _PATH.sub("", question).strip()
        before, mark, behind = text.partition(MARK)
        if mark:
            text = f"{before.strip()} {behind.strip()}".strip()
        for instruction in self._instructions:
            text = bare_question(text, instruction)
        return text


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn: its kind, its text (None if missing) and the images in it."""

    kind: str
    text: str | None = ""
    images: tuple[Any, ...] = ()


_ROLES = (
    dict.fromkeys(forms.ASKING, "asks")
    | dict.fromkeys(forms.ANSWERING, "answers")
    | dict.fromkeys(forms.LEADING, "leads")
)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _items(value: Any) -> list[Any]:
    """Return the images of a field, flattened: paths, bytes, or objects with both."""
    if isinstance(value, dict):
        return [] if not value.get("bytes") and not value.get("path") else [value]
    if isinstance(value, list):
        return [item for one in value for item in _items(one)]
    return [] if forms.is_empty(value) or value in ("", b"") else [value]


def _is_ours(record: Mapping[str, Any]) -> bool:
    """Whether a conversation has the format of `tables`: the path follows the question."""
    turns = record["conversations"]
    first = turns[0] if isinstance(turns, list) and turns else {}
    if not isinstance(first, dict):
        return True
    text = str(first.get("value"))
    if "<|vision_start|>" in text:
        return True
    others = MARK in text or first.get("from") in ("human", "system") or "role" in first
    return not (others or any(record.get(key) is not None for key in forms.IMAGES))
