"""A run's folder: what lies where in it, and which questions are its own."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import RunError
from .system.console import warn
from .system.files import CHECKSUMS, damage, folders, is_there, read_json, sha256
from .system.jsonl import read_jsonl
from .system.oserrors import unreadable

TRAIN_FILE, TEST_FILE = "data_vl_train.json", "data_vl_test.json"  # in the current folder
_NAMED = 5  # runs in a hint
_COPIES = {TRAIN_FILE: "train.json", TEST_FILE: "test.json"}  # in the run's ``data``


def checkpoints(run: Path) -> list[Path]:
    """The ``checkpoint-<step>`` folders of a run, oldest first.

    Raises:
        RunError: the folder cannot be listed.
    """
    found = folders(run, r"checkpoint-(\d+)")
    return [path for _, path in sorted((int(step[1]), path) for step, path in found)]


def damaged_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run that were set aside, by name.

    Raises:
        RunError: the folder cannot be listed.
    """
    return sorted(path for _, path in folders(run, r"checkpoint-\d+\.damaged(-\d+)?"))


def newest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        RunError: there is none.
    """
    found = checkpoints(run)
    if not found and (aside := damaged_checkpoints(run)):
        raise RunError(
            f"no sound checkpoint in {run}: {', '.join(p.name for p in aside)} set aside",
            hint="put back a copy of one under its name, or train again: --output FOLDER",
        )
    if not found:
        raise RunError(f"no checkpoint in {run}", hint="train first: qwen2vl-rs train")
    if step_of(found[-1]) < (last := trained_steps(run)):
        raise RunError(
            f"{run} was trained to step {last:,}, and checkpoint-{last} is gone: its newest is "
            f"{found[-1].name}",
            hint=f"put back a copy of it, or train these steps again: {resume_command(run)}; for "
            f"an older state, name the checkpoint itself: {shlex.quote(str(found[-1]))}",
        )
    return found[-1]


def trained_steps(run: Path) -> int:
    """The steps a finished training had; 0 where none is finished.

    Raises:
        RunError: that cannot be read.
    """
    return int((read_json(run / "train_results.json") or {}).get("train_steps", 0))


def planned_steps(run: Path) -> int | None:
    """The steps that training was to have; None where it is finished, or this cannot be told.

    Raises:
        RunError: that cannot be read.
    """
    begun = is_there(run / "config.toml") and not is_there(run / "compare.json")
    if not begun or trained_steps(run) or not (found := checkpoints(run)):
        return None
    state = read_json(found[-1] / "trainer_state.json", damaged=None)
    steps = state.get("max_steps") if isinstance(state, dict) else None
    return steps if isinstance(steps, int) and steps > 0 else None


def say_unfinished(run: Path) -> None:
    """Say where the newest checkpoint of a run is not the last that training was to write.

    Raises:
        RunError: that cannot be read.
    """
    if (planned := planned_steps(run)) is not None:
        newest = checkpoints(run)[-1].name
        warn(
            f"{run}: {newest} of {planned:,} steps, training was not finished",
            f"finish it: {resume_command(run)}",
        )


def is_finished(run: Path) -> bool:
    """Whether training is finished and its last checkpoint is there and sound.

    Raises:
        RunError: that cannot be read.
    """
    done = read_json(run / "train_results.json")
    if done is None:
        return False
    last = next(reversed(checkpoints(run)), None)
    if last is None or step_of(last) < int(done.get("train_steps", 0)):
        return False
    return not is_there(last / CHECKSUMS) or damage(last) is None  # old ones are not sealed


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.rpartition("-")[2])


def holds_run(folder: Path) -> bool:
    """Whether a folder is that of a run, which begins with its questions or their images."""
    begun = [own_file(folder, TRAIN_FILE), folder / "images.json", folder / "manifest.json"]
    return is_there(folder / "config.toml") and any(map(is_there, begun))


def runs_below(folder: Path) -> list[Path]:
    """The runs in a folder that is none itself, and in the folders in it.

    They are for hints: of a folder that cannot be listed none are named.
    """
    if holds_run(folder) or checkpoints(folder):
        return []
    found: list[Path] = []
    for pattern in ("*/config.toml", "*/*/config.toml"):
        with contextlib.suppress(OSError, RunError):
            places = [file.parent for file in folder.glob(pattern)]
            found += sorted(place for place in places if holds_run(place) or checkpoints(place))
    return found


def listed(found: Sequence[Path]) -> str:
    """Some names of runs, for a hint."""
    more = ", …" if len(found) > _NAMED else ""
    return ", ".join(shlex.quote(str(path)) for path in found[:_NAMED]) + more


def resume_command(run: Path) -> str:
    """What to type in order to go on with a run."""
    return f"qwen2vl-rs train {shlex.quote(f'{run}/config.toml')} --resume"


def own_file(run: Path, name: str) -> Path:
    """Where a run keeps its own copy of its questions.

    Args:
        run: its folder.
        name: ``data_vl_train.json`` or ``data_vl_test.json``.
    """
    return run / "data" / _COPIES[name]


def what_is_kept(run: Path) -> list[str]:
    """What training leaves when it is interrupted, and how to go on; lines for people."""
    if not is_there(run / "config.toml"):
        return ["nothing is kept yet: it had not begun to train"]
    steps = [line["step"] for line in read_metrics(run / "metrics.jsonl")]
    done, found = max(steps, default=0), checkpoints(run)
    if is_finished(run):
        kept = f"training is finished; kept: {found[-1] if found else run} and all answers so far"
    elif found:
        since = done - step_of(found[-1])
        again = f"; the {since:,} steps since then are done again" if since > 0 else ""
        kept = f"kept: {found[-1]}{again}"
    else:
        kept = f"kept: {run}, but no checkpoint yet; {done:,} steps are done again"
    return [kept, f"hint: resume: {resume_command(run)}"]


class NoQuestions(RunError):
    """The questions of a run are not there, or are not those it was started with."""


def questions_file(run: Path, name: str) -> Path:
    """The file that holds the questions of a run: its own copy.

    Runs made before they kept copies have theirs in the current folder, if anywhere.

    Args:
        run: its folder.
        name: ``data_vl_train.json`` or ``data_vl_test.json``.

    Raises:
        NoQuestions: the questions are not there, or not those it was trained and tested on.
        RunError: that cannot be told, as a file cannot be read.
    """
    known = _known(run, name)
    own = own_file(run, name)
    if is_there(own):
        if known and sha256(own) != known:
            raise NoQuestions(
                f"{own} is not what {run} was started with",
                hint=f"put back the file it was started with (SHA-256 {known})",
            )
        return own
    if not known:
        raise NoQuestions(f"{run} holds no questions", hint="train first: qwen2vl-rs train")
    path = Path(name)
    if is_there(path) and sha256(path) == known:
        return path
    problem = "is not the one of this run" if is_there(path) else "is not here"
    raise NoQuestions(f"{run}: {name} {problem}", hint="go to the folder the run was started in")


def _known(run: Path, name: str) -> str | None:
    """SHA-256 of a run's questions, by its manifest."""
    facts = (read_json(run / "manifest.json") or {}).get("data", {}).get(name, {})
    known: str | None = facts.get("sha256")
    return known


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of ``metrics.jsonl``; what a crash cut short is dropped.

    Raises:
        RunError: the file is there and cannot be read.
    """
    try:
        return read_jsonl(path, "step", "loss")[0]
    except OSError as error:
        raise unreadable(path, error) from error


def records_no_dataset(run: Path) -> bool:
    """Whether a run was made before runs recorded the data set of their questions."""
    manifest = read_json(run / "manifest.json")
    return isinstance(manifest, dict) and "dataset" not in manifest
