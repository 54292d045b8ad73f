"""A run's adapter, or the merged model, in a folder of its own with its cards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..config import Config, InputConfig
from ..errors import RunError
from ..models.folder import model_files
from ..models.qwen_vl_usage import TOKENIZER, Usage
from ..run import Run
from ..system.console import warn
from ..system.files import (
    CHECKSUMS,
    HUB_MANIFEST,
    read_json,
    staged_folder,
    verify_checksums,
    write_json,
)
from ..system.named_files import copy_file, write_text
from .cards import data_card, model_card
from .evidence import ReportInputs, from_run

_VIEW = "qwen2vl_rs.json"  # of a checkpoint: how images and questions were shown
_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "preprocessor_config.json",
    *TOKENIZER,
    _VIEW,
)


def export(
    run: Path,
    folder: Path,
    base: str | None = None,
    merge: Callable[[Path, Path], None] | None = None,
) -> None:
    """Copy the newest checkpoint's adapter, and write ``README.md`` and ``DATA.md`` beside it.

    Args:
        run: the run folder.
        folder: where to; it must not exist, or be empty. It appears whole or not at all.
        base: name of the base on the hub; None: where `load` fetched it from.
        merge: writes the merged model of a checkpoint into a folder; None for the adapter alone.

    Raises:
        ModelError: the base is at hand and cannot be used, for instance because it is quantised.
        RunError: no run, checkpoint or evaluation of it; the checkpoint is damaged; the folder
            holds something, or cannot be written to.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} holds something already", hint="choose a new folder: --output")
    found = from_run(run)
    checkpoint = Run(run).newest_checkpoint()
    resume = Run(run).resume_command()
    if found.planned is not None:
        raise RunError(
            f"training in {run} is not finished: {checkpoint.name} of {found.planned:,} steps",
            hint=f"finish it: {resume}",
        )
    if found.checkpoint != checkpoint.name:
        whose = f"of {found.checkpoint}" if found.checkpoint else "of a checkpoint that is not told"
        raise RunError(
            f"the figures in {run} are {whose}, its newest is {checkpoint.name}",
            hint=f"evaluate it first: {resume}",
        )
    if (checkpoint / CHECKSUMS).exists() and (problem := verify_checksums(checkpoint)):
        raise RunError(f"{checkpoint} is damaged: {problem}", hint=f"train on: {resume}")
    adapter = read_json(checkpoint / "adapter_config.json") or {}
    _refuse_quantised(checkpoint)
    base = base or _name_on_hub(adapter.get("base_model_name_or_path", ""))
    if base is None:
        warn(
            "the base's name on the hub is not known: the card says that it was a local folder "
            "(--base-model NAME)"
        )
    with staged_folder(folder) as staging:
        if merge:
            merge(checkpoint, staging)
        else:
            _copy_adapter(checkpoint, staging)
            if base:  # and no place on this machine
                adapter["base_model_name_or_path"] = base
                write_json(staging / "adapter_config.json", adapter)
                _name_base(staging / _VIEW, base)
        card = model_card(found, _usage(found, checkpoint, base, adapter=merge is None))
        for name, text in (("README.md", card), ("DATA.md", data_card(found))):
            write_text(staging / name, text)


def _refuse_quantised(checkpoint: Path) -> None:
    """Refuse what was trained on a base that no command takes, where the base is at hand."""
    base = Path(str((read_json(checkpoint / _VIEW) or {}).get("base", "")))
    if (base / "config.json").is_file():
        model_files(base)


def _usage(found: ReportInputs, checkpoint: Path, base: str | None, adapter: bool) -> Usage:
    """How the export is run: as the checkpoint says, for settings of a run can be edited."""
    config = found.config or Config()
    shown = (read_json(checkpoint / _VIEW) or {}).get("view")
    return Usage(
        view=InputConfig.model_validate(shown) if shown else config.view,
        adapter=adapter,
        base=base,
        own_tokenizer=all((checkpoint / name).is_file() for name in TOKENIZER),
        max_new_tokens=config.eval.max_new_tokens,
        closed=config.eval.answers == "closed",
        exported=True,
    )


def _copy_adapter(checkpoint: Path, folder: Path) -> None:
    """Copy what PEFT loads."""
    for name in _FILES:
        if (checkpoint / name).is_file():
            copy_file(checkpoint / name, folder / name)


def _name_base(card: Path, base: str) -> None:
    """Put a base's name on the hub where the place of its folder stands."""
    known = read_json(card)
    if isinstance(known, dict):
        write_json(card, {**known, "base": base})


def _name_on_hub(base: str) -> str | None:
    """The name a checkpoint gives for its base, unless that is only a place on this disk."""
    if not Path(base).is_absolute():
        return base or None
    known = read_json(Path(base) / HUB_MANIFEST) or {}
    return known.get("repo_id")
