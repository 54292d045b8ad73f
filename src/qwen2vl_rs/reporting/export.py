"""Export a run's adapter, or the merged model, to a folder with its cards."""

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

_VIEW = "qwen2vl_rs.json"  # of a checkpoint: its input settings
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
    """Copy the adapter of the best or newest checkpoint, and add ``README.md`` and ``DATA.md``.

    Args:
        run: the run folder.
        folder: the target, new or empty. It is written atomically.
        base: name of the base model on the hub; None: where `load` downloaded it from.
        merge: writes the merged model of a checkpoint to a folder; None for the adapter alone.

    Raises:
        ModelError: the base model is available and not usable, e.g. quantised.
        RunError: run, checkpoint or its evaluation are missing; the checkpoint is damaged; the
            folder is not empty or not writable.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty", hint="choose a new folder: --output")
    found = from_run(run)
    checkpoint = Run(run).choose_checkpoint()
    resume = Run(run).resume_command()
    if found.planned is not None:
        raise RunError(
            f"training in {run} is not finished: {checkpoint.name} of {found.planned:,} steps",
            hint=f"finish it: {resume}",
        )
    if found.checkpoint != checkpoint.name:
        which = "newest" if found.validation is None else "best"
        whose = f"of {found.checkpoint}" if found.checkpoint else "of an unknown checkpoint"
        raise RunError(
            f"the results in {run} are {whose}, its {which} is {checkpoint.name}",
            hint=f"evaluate it first: {resume}",
        )
    if (checkpoint / CHECKSUMS).exists() and (problem := verify_checksums(checkpoint)):
        raise RunError(f"{checkpoint} is damaged: {problem}", hint=f"continue training: {resume}")
    adapter = read_json(checkpoint / "adapter_config.json") or {}
    _refuse_quantised(checkpoint)
    base = base or _name_on_hub(adapter.get("base_model_name_or_path", ""))
    if base is None:
        warn(
            "the base model's name on the hub is unknown: the card says that it was a local folder "
            "(--base-model NAME)"
        )
    with staged_folder(folder) as staging:
        if merge:
            merge(checkpoint, staging)
        else:
            _copy_adapter(checkpoint, staging)
            if base:  # replaces the folder on this machine
                adapter["base_model_name_or_path"] = base
                write_json(staging / "adapter_config.json", adapter)
                _name_base(staging / _VIEW, base)
        card = model_card(found, _usage(found, checkpoint, base, adapter=merge is None))
        for name, text in (("README.md", card), ("DATA.md", data_card(found))):
            write_text(staging / name, text)


def _refuse_quantised(checkpoint: Path) -> None:
    """Refuse a checkpoint of a quantised base model, if the base model is available."""
    base = Path(str((read_json(checkpoint / _VIEW) or {}).get("base", "")))
    if (base / "config.json").is_file():
        model_files(base)


def _usage(found: ReportInputs, checkpoint: Path, base: str | None, adapter: bool) -> Usage:
    """Return how to use the export, by the checkpoint: a run's settings can be edited."""
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
    """Copy the files that PEFT loads."""
    for name in _FILES:
        if (checkpoint / name).is_file():
            copy_file(checkpoint / name, folder / name)


def _name_base(card: Path, base: str) -> None:
    """Replace the base model's folder in a card by its name on the hub."""
    known = read_json(card)
    if isinstance(known, dict):
        write_json(card, {**known, "base": base})


def _name_on_hub(base: str) -> str | None:
    """Return the base model's name in a checkpoint, unless it is a local path."""
    if not Path(base).is_absolute():
        return base or None
    known = read_json(Path(base) / HUB_MANIFEST) or {}
    return known.get("repo_id")
