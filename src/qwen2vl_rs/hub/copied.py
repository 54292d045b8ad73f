"""Check whether a manually copied model folder is complete."""

from __future__ import annotations

from pathlib import Path

from ..errors import Qwen2VLRSError
from ..models.folder import CONFIG, PREPROCESSOR, PROCESSOR, is_whole_file, model_files

_TOKENIZERS = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})


def is_whole_copy(folder: Path) -> bool:
    """Whether a folder has all files of a model, with weights of the length in their headers.

    The content of the weights cannot be checked without the hub's checksums.
    """
    try:
        if not (folder / CONFIG).is_file():
            return False
        files = model_files(folder)
        names = {path.name for path in files.others}
        able = any(needed <= names for needed in _TOKENIZERS) and names & {PROCESSOR, PREPROCESSOR}
        return bool(able) and all(map(is_whole_file, files.weights))
    except (Qwen2VLRSError, OSError):
        return False
