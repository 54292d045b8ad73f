"""What an adapter's folder needs of its base, so that it can be used by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..console import warn
from .fingerprint import same_base
from .folder import files_in_force, read_object, write_template


def copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Copy the tokenizer of a checkpoint's base, with the chat template in force.

    Said and left out where the base is not there any more, or is another one.

    Args:
        checkpoint: the checkpoint.
        folder: an existing folder that receives the files.

    Raises:
        ModelError: the base is there and cannot be used, for instance because it is quantised.
    """
    card = read_object(checkpoint / "qwen2vl_rs.json")
    base = Path(str(card.get("base", "")))
    known = str(card.get("fingerprint", ""))
    if not base.is_dir():
        warn(f"the tokenizer is left out: the base is no longer at {base}")
        return
    files = files_in_force(base)
    if not same_base(base, known):
        warn(f"the tokenizer is left out: {base} is not the base of {checkpoint.name} any more")
        return
    for path in files.tokenizer:
        shutil.copyfile(path, folder / path.name)
    write_template(files, folder)
