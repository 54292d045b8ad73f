"""Questions in the records of other programs: conversations, tables, and images as bytes.

Which key holds what is said in `record_forms`; here it becomes rows of questions.
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
from .image_paths import located
from .left_out import NO_ANSWER, NO_TEXT, LeftOut

EXPORT_NOTE = "export.json"
"""Beside questions that `export` wrote: the instruction that stands before each."""

MARK = "<image>"
_PATH = re.compile(r"(?:Picture \d+: ?)?<img>([^<>]*)</img>\n?")  # of Qwen-VL, old ms-swift
# an image in base64, as a data: URL or alone: no path is as long
_CODED = re.compile(r"data:image/[\w.+-]+;base64,(.*)|([A-Za-z0-9+/]{1000,}=*)", re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_NO_TURNS = "without any question"
_NO_IMAGE, _SEVERAL = "without any image", "with several images"
_MEDIA, _REMOTE = "with video or sound", "with an image that is not a file (a URL)"
_TURNS = "conversations have several turns: each is a question of its own here"
_SYSTEM = "system turns are left out: the instruction is a setting here (view.instruction)"


@dataclass(slots=True)
class Records:
    """What is common to the records of a file.

    Attributes:
        path: the file.
        unit: what a record is called in messages: ``record``, ``line``, ``row``.
        with_images: whether images are looked for, and needed.
        counts: where to count what is left out.
        columns: for our fields the names that somebody gave for them.
        folder: where images that stand in the file are written.
    """

    path: Path
    unit: str
    with_images: bool
    counts: LeftOut
    columns: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    _images: ImageFolder = field(init=False)
    _instructions: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        place = self.folder or self.path.with_name(f"{self.path.stem}_images")
        hint = "to have its images elsewhere: qwen2vl-rs csv2json --input FILE --output NEW.json"
        self._images = ImageFolder(place, hint, self.with_images)
        note = read_json(self.path.with_name(EXPORT_NOTE), damaged=None)
        written = note.get("instruction") if isinstance(note, dict) else None
        usual = InputConfig().instruction
        self._instructions = (written, usual) if isinstance(written, str) else (usual,)

    def takes(self, record: dict[str, Any]) -> bool:
        """Whether a record is one of another program's (not our conversation)."""
        form = forms.question_form(record, self.columns)
        return form is not None and not (form.turns == ("conversations",) and _is_ours(record))

    def rows(self, n: int, record: dict[str, Any], name: str) -> Iterator[Row]:
        """The questions of a record; none where it is left out, which is counted.

        Args:
            n: its number, for messages.
            record: what it holds.
            name: its id, where it has none.

        Raises:
            DataError: it is malformed; names the record.
            RunError: an image cannot be written.
        """
        form = forms.question_form(record, self.columns)
        if form is None:
            said = (
                f"it holds no question with an answer and an image; it has {forms.listed(record)}"
            )
            self.fail(n, record, said, forms.NAMED_HINT)
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
        image = self._place(n, record, images[0]) if images else ""
        if image is None:
            self.counts.add(_REMOTE, name)
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
            yield own, image, question, answer, kind, dataset_name(record.get("dataset")), ""

    def fail(
        self, n: int, record: dict[str, Any], problem: str, hint: str | None = None
    ) -> NoReturn:
        """Raise the error for a record.

        Raises:
            DataError: always.
        """
        json_records.fail(self.path, n, record, problem, hint, self.unit)

    def _value(self, record: dict[str, Any], name: str) -> Any:
        """What stands in the field that holds what we call so."""
        given = self.columns.get(name)
        return forms.first_of(record, (given,) if given else forms.COLUMNS[name])

    def _field(self, n: int, record: dict[str, Any], name: str) -> str | None:
        return self._text(n, record, name, self._value(record, name))

    def _text(self, n: int, record: dict[str, Any], what: str, value: Any) -> str | None:
        try:
            text = forms.plain_text(value)
        except TypeError as error:
            self.fail(n, record, f"the {what} is neither text nor a number: {error}")
        if text and "\0" in text:
            self.fail(n, record, f"the {what} holds a NUL")
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
        said = turn.get("value", turn.get("content"))
        parts = said if isinstance(said, list) else [said]
        texts: list[str] = []
        images: list[Any] = []
        for part in parts:
            if not isinstance(part, dict):
                texts.append(self._text(n, record, "text of a turn", part) or "")
            elif str(part.get("type", "")).startswith("image"):
                texts.append(MARK)
                found = forms.first_of(part, ("image", "path", "url", "image_url"))
                images += _items(forms.at(found, "url") or found)
            elif "text" in part:
                texts.append(self._text(n, record, "text of a turn", part["text"]) or "")
        nothing = forms.is_nothing(said) and not isinstance(said, list)
        return _Turn(kind, None if nothing else "".join(texts), tuple(images))

    def _why_not(
        self,
        n: int,
        record: dict[str, Any],
        form: forms.QuestionForm,
        turns: list[_Turn],
        images: list[Any],
    ) -> str:
        """Why a record is no question about one image; empty where it is.

        Raises:
            DataError: its text has other places for images than it has images.
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
            hint = f"each {MARK} stands for one image: as many as are listed"
            said = f"it lists {number}, but {MARK} stands {marks} times in its text"
            self.fail(n, record, said, hint)
        return ""

    def _place(self, n: int, record: dict[str, Any], image: Any) -> str | None:
        """Where an image is; None where it is no file of this machine."""
        content, path = image, image
        if isinstance(image, dict):
            content, path = image.get("bytes"), image.get("path")
        if isinstance(path, str) and (coded := _CODED.fullmatch(path)):
            with contextlib.suppress(ValueError):
                content = base64.b64decode(coded[1] or coded[2], validate=True)
        if isinstance(content, bytes):
            if place := self._images.place(content):
                return place
            self.fail(n, record, "the bytes of its image are not of a known format")
        if not isinstance(path, str) or not path or "\0" in path:
            self.fail(n, record, f"the image is not a path: {path!r:.40}")
        path = path.removeprefix("file://")
        if _URL.match(path) and path[1:2] != ":":  # of Windows a single letter
            return None
        return located(self.path, path)

    def _pairs(
        self, n: int, record: dict[str, Any], turns: list[_Turn], name: str
    ) -> list[tuple[str, str]]:
        """Each question with its answer; one without any is counted."""
        pairs, asked = [], None
        for turn in turns:
            if turn.kind == "leads":
                self.counts.note(_SYSTEM)
            elif turn.kind == "asks":
                if asked is not None:
                    self.fail(n, record, "a question follows another, without an answer between")
                asked = turn.text or ""
            elif asked is None:
                self.fail(n, record, "an answer stands before any question, or after another")
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
        """A question without its image's mark and without the instruction."""
        text = _PATH.sub("", question).strip()
        before, mark, behind = text.partition(MARK)
        if mark:
            text = f"{before.strip()} {behind.strip()}".strip()
        for instruction in self._instructions:
            text = bare_question(text, instruction)
        return text


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn: who says what (None: nothing), and the images that stand in it."""

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
    """The images of a field: of a list its items, which are paths, bytes, or objects of both."""
    if isinstance(value, dict):
        return [] if not value.get("bytes") and not value.get("path") else [value]
    if isinstance(value, list):
        return [item for one in value for item in _items(one)]
    return [] if forms.is_nothing(value) or value in ("", b"") else [value]


def _is_ours(record: Mapping[str, Any]) -> bool:
    """Whether a conversation is written as `tables` does: the path stands behind the question."""
    turns = record["conversations"]
    first = turns[0] if isinstance(turns, list) and turns else {}
    if not isinstance(first, dict):
        return True
    text = str(first.get("value"))
    if "<|vision_start|>" in text:
        return True
    others = MARK in text or first.get("from") in ("human", "system") or "role" in first
    return not (others or any(record.get(key) is not None for key in forms.IMAGES))
