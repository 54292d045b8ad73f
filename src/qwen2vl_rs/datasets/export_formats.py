"""Export questions and images in the formats of other training tools and of ``datasets``.

Every format is a folder with one question file and ``images/``: 8-bit PNG files with the pixels
that our models see. The user turn contains the instruction and the question, as in our prompts
(`models.prompt`).
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
from ..system.console import Progress, counted, say
from ..system.files import staged_folder, write_json
from ..system.jsonl import to_line
from ..system.named_files import open_named
from ..types import Sample
from .foreign_records import EXPORT_NOTE
from .reading import read_samples

# Texts that these tools convert to special tokens: <|im_end|>, <image>, <bbox>, …
_TOKEN: Final = re.compile(r"<(?=\|[^<>\s]*\|>|/?[A-Za-z_][\w-]*>)")
Row = Callable[[Sample, str, str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One export format.

    Attributes:
        file: name of the question file: JSON Lines, or (``.json``) one list.
        row: (sample, image path in the folder, user turn, answer) → record.
        plain: whether texts are exported verbatim, because the reader has no special tokens.
    """

    file: str
    row: Row
    plain: bool = False


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _tagged(sample: Sample, image: str, asked: str, answer: str) -> dict[str, Any]:
    """LLaMA-Factory (README on sharegpt data) and ms-swift (page on custom data sets)."""
    turns = [_turn("user", f"<image>{asked}"), _turn("assistant", answer)]
    return {"messages": turns, "images": [image]}


def _trl(sample: Sample, image: str, asked: str, answer: str) -> dict[str, Any]:
    """TRL, which inserts the images before the first text (page on data set formats).

    With ``prompt`` and ``completion``, TRL trains on the completion only; with ``messages`` it
    would also train on the tokens of the question and the image.
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
    """LLaVA (page on fine-tuning with custom data), which reads only these three keys."""
    turns = [
        {"from": "human", "value": f"<image>\n{asked}"},
        {"from": "gpt", "value": answer},
    ]
    kind = {"type": sample.type} if sample.type else {}
    return {"id": sample.id, "image": image, "conversations": turns, **kind}


EXPORT_FORMATS: Final = {
    "llamafactory": ExportFormat("train.jsonl", _tagged),
    "ms-swift": ExportFormat("train.jsonl", _tagged),
    "trl": ExportFormat("metadata.jsonl", _trl),
    "imagefolder": ExportFormat("metadata.jsonl", _table, plain=True),
    "llava": ExportFormat("train.json", _llava),
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


def export_dataset(
    path: Path, name: str, folder: Path, view: InputConfig, dataset: str | None = None
) -> None:
    """Export the questions of a file and their images in one of `EXPORT_FORMATS`.

    Args:
        path: question file in any supported format.
        name: name of the export format.
        folder: output folder; must not exist or must be empty. It is written atomically.
        view: RGB conversion and instruction.
        dataset: name of the data set, if the file does not identify it.

    Raises:
        DataError: questions or images cannot be read.
        RunError: the folder is not empty or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty", hint="choose a new folder: --output")
    samples = list(read_samples(path, dataset=dataset))
    if not samples:
        raise DataError(f"{path} contains no questions")
    form = EXPORT_FORMATS[name]
    with staged_folder(folder) as staging:
        places, size = _write_images(dict.fromkeys(s.image for s in samples), staging, view)
        defused = _write_rows(samples, places, form, staging / form.file, view.instruction)
        if name == "llamafactory":
            write_json(staging / "dataset_info.json", _DATASET_INFO)
        write_json(staging / EXPORT_NOTE, {"format": name, "instruction": view.instruction})
    questions, images = counted(len(samples), "question"), counted(len(places), "image")
    say(f"wrote {questions} about {images} to {folder}")
    say(f"images: {size / 1e6:.1f} MB of 8-bit PNG in {folder / 'images'}")
    if defused:
        say(
            f"changed: a space was inserted after the < of texts that {name} reads as special "
            f"tokens, such as <image>, in {defused:,} samples"
        )


def _write_images(
    images: Iterable[str], folder: Path, view: InputConfig
) -> tuple[dict[str, str], int]:
    """Write the images; return their paths in the folder and their total size in bytes."""
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
    samples: Iterable[Sample],
    places: dict[str, str],
    form: ExportFormat,
    path: Path,
    instruction: str,
) -> int:
    """Write the question file; return the number of samples with changed texts."""
    lead = f"{instruction}\n" if instruction else ""
    changed = 0
    start, between, end = ("[", ",", "]\n") if path.suffix == ".json" else ("", "", "")
    with open_named(path, "w") as file:
        file.write(start)
        for n, sample in enumerate(samples):
            question, answer = bare_question(sample.question, instruction), sample.answer
            if not form.plain:
                before = question, answer
                question, answer = (_TOKEN.sub("< ", text) for text in before)
                changed += (question, answer) != before
            row = form.row(sample, places[sample.image], lead + question, answer)
            try:
                file.write((between if n else "") + to_line(row))
            except UnicodeEncodeError as error:
                raise DataError(f"sample {sample.id} cannot be encoded as UTF-8") from error
        file.write(end)
    return changed
