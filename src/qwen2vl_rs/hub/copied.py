"""Model folders that `load` has not filled: whether one that was copied here is whole."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import Qwen2VLRSError
from ..models.folder import CONFIG, PREPROCESSOR, PROCESSOR, files_in_force
from ..system.named import open_named

_LENGTH = 8  # bytes at the start of a safetensors file: the length of its header
_TOKENIZERS = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})


def is_whole_copy(folder: Path) -> bool:
    """Whether a folder holds all files of a model, and its weights are as long as they say.

    What the weights hold cannot be told without the hub's checksums.
    """
    try:
        if not (folder / CONFIG).is_file():
            return False
        files = files_in_force(folder)
        names = {path.name for path in files.others}
        able = any(needed <= names for needed in _TOKENIZERS) and names & {PROCESSOR, PREPROCESSOR}
        return bool(able) and all(map(_is_whole_file, files.weights))
    except (Qwen2VLRSError, OSError):
        return False


def _is_whole_file(path: Path) -> bool:
    """Whether a safetensors file ends where its header says that its last tensor does."""
    with open_named(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > path.stat().st_size:
            return False
        try:
            header = json.loads(file.read(length))
            ends = [facts["data_offsets"][1] for k, facts in header.items() if k != "__metadata__"]
            return bool(path.stat().st_size == _LENGTH + length + max(ends))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return False
