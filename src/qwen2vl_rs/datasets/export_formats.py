"""Questions and images in the forms that other training programs and the Hub's loader read.

Every form is a folder: ``images/``, 8-bit PNG files of the pixels that our models are shown, and
one file of questions that names them. The user's turn holds the instruction and the question as
in our prompts (`models.prompt`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ..config import InputConfig
from ..errors import DataError, RunError
from ..instruction import bare_question
from ..raster import read_rgb
from ..system.console import Progress, say
from ..system.files import staged_folder, write_json
from ..system.jsonl import to_line
from ..system.named_files import open_named
from ..types import Sample
from .foreign_records import EXPORT_NOTE
from .reading import read_samples

# What these programs turn into tokens: <|im_end|>, and placeholders such as <image> and <bbox>.
_TOKEN: Final = re.compile(r"<(?=\|[^<>\s]*\|>|/?[A-Za-z_][\w-]*>)")
Row = Callable[[Sample, str, str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Form:
    """One form.

    Attributes:
        file: of the questions: JSON Lines, or (``.json``) one list.
        row: a line of it, of the sample, its image's place in the folder, the user's turn and
            the answer.
        plain: whether texts stay as stored: nothing in them is taken for a token.
    """

    file: str
    row: Row
    plain: bool = False


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _tagged(sample: Sample, image: str, asked: str, answer: str) -> dict[str, Any]:
    """LLaMA-Factory (its README on sharegpt data) and ms-swift (its page on custom data sets)."""
    turns = [_turn("user", f"<image>{asked}"), _turn("assistant", answer)]
    return {"messages": turns, "images": [image]}


def _trl(sample: Sample, image: str, asked: str, answer: str) -> dict[str, Any]:
    """TRL puts the images of ``images`` before the first text (its page on data set formats).

    Of ``prompt`` and ``completion`` it trains the completion; of ``messages`` it would train
    every token, those of the question and of the image too.
    """
    return {
        "images_file_names": [image],
        "prompt": [_turn("user", asked)],
        "completion": [_turn("assistant", answer)],
    }


def _table(sample: Sample, image: str, asked: str, answer: str) -> dict[str, Any]:
    return {
        "file_name": image,
        "id": sample.id,
        "question": sample.question,
        "answer": sample.answer,
        "type": sample.type,
    }


def _llava(sample: Sample, image: str, asked: str, answer: str) -> dict[str, Any]:
    """LLaVA (its page on fine-tuning with custom data); it reads no more keys than these three."""
    turns = [
        {"from": "human", "value": f"<image>\n{asked}"},
        {"from": "gpt", "value": answer},
    ]
    kind = {"type": sample.type} if sample.type else {}
    return {"id": sample.id, "image": image, "conversations": turns, **kind}


FORMS: Final = {
    "llamafactory": Form("train.jsonl", _tagged),
    "ms-swift": Form("train.jsonl", _tagged),
    "trl": Form("metadata.jsonl", _trl),
    "imagefolder": Form("metadata.jsonl", _table, plain=True),
    "llava": Form("train.json", _llava),
}
_DATASET_INFO: Final = {
    "rsvqa": {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
}


def write_form(
    path: Path, name: str, folder: Path, view: InputConfig, dataset: str | None = None
) -> None:
    """Write the questions of a file, and their images, in a form of `FORMS`.

    Args:
        path: questions in any form that is read.
        name: of the form.
        folder: where to; it must not exist, or be empty. It appears whole or not at all.
        view: how images become colours, and the instruction.
        dataset: whose file it is, where it does not tell it.

    Raises:
        DataError: questions or images cannot be used.
        RunError: the folder holds something, or cannot be written to.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} holds something already", hint="choose a new folder: --output")
    samples = list(read_samples(path, dataset=dataset))
    if not samples:
        raise DataError(f"{path} holds no questions")
    form = FORMS[name]
    with staged_folder(folder) as staging:
        places, size = _write_images(dict.fromkeys(s.image for s in samples), staging, view)
        defused = _write_rows(samples, places, form, staging / form.file, view.instruction)
        if name == "llamafactory":
            write_json(staging / "dataset_info.json", _DATASET_INFO)
        write_json(staging / EXPORT_NOTE, {"format": name, "instruction": view.instruction})
    say(f"wrote {len(samples):,} questions about {len(places):,} images to {folder}")
    say(f"images: {size / 1e6:.1f} MB of 8-bit PNG in {folder / 'images'}")
    if defused:
        say(
            f"changed: a space was put behind the < of what {name} would take for a token, such as "
            f"<image>, in the texts of {defused:,} samples"
        )


def _write_images(
    images: Iterable[str], folder: Path, view: InputConfig
) -> tuple[dict[str, str], int]:
    """Where in the folder each image is, and their size in bytes."""
    (folder / "images").mkdir()
    places, size = {}, 0
    paths = list(images)
    with Progress("writing images", len(paths), "images") as bar:
        for number, path in enumerate(paths):
            places[path] = f"images/{number:06d}.png"
            file = folder / places[path]
            Image.fromarray(read_rgb(path, view.image)).save(file)
            size += file.stat().st_size
            bar.advance()
    return places, size


def _write_rows(
    samples: Iterable[Sample], places: dict[str, str], form: Form, path: Path, instruction: str
) -> int:
    """Write the file of questions; returns in how many of them a text was changed."""
    lead = f"{instruction}\n" if instruction else ""
    changed = 0
    start, between, end = ("[", ",", "]\n") if path.suffix == ".json" else ("", "", "")
    with open_named(path, "w") as file:
        file.write(start)
        for n, sample in enumerate(samples):
            question, answer = bare_question(sample.question, instruction), sample.answer
            if not form.plain:
                said = question, answer
                question, answer = (_TOKEN.sub("< ", text) for text in said)
                changed += (question, answer) != said
            row = form.row(sample, places[sample.image], lead + question, answer)
            try:
                file.write((between if n else "") + to_line(row))
            except UnicodeEncodeError as error:
                raise DataError(f"sample {sample.id} cannot be written as UTF-8") from error
        file.write(end)
    return changed
