"""Write docs/reliability.md from docs/results; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("reliability.md")
RESULTS = Path(__file__).with_name("results")

TEXT = """\
# Reliability

<!-- Written by `python docs/make_reliability.py` from docs/results. -->

What the promises were put to. `make torture` does all of it again, an hour or so on two cores.

## Killed and started again

Every stage was killed with SIGKILL at points drawn at random over its running time until so many
kills had met it, and started again by the same command (`train` with `--resume`), also where it had
ended before its kill. Each time it had to end with the bytes of an
undisturbed run (times that are written down aside), with no half-written file under a final name
after the kill, and no temporary file after the end (`tests/faults/kill.py`). The folders had a name
of 255 bytes with spaces and Chinese, and the clock went back an hour whenever it was read.

{kills}

## A disk that is too small, or read-only

Every stage on a disk with 5, 40 and 80 % of the room that its files need, and on one that is
read-only. It had to end with exit code 1 and a hint, with nothing half-written under a final name,
and with the same bytes once there was room.

{disk}

## Data that rots, and two at once

| fault | what happens | test |
|---|---|---|
| an image of the training changes, though it can still be read | training stops and names it; with the file put back, `--resume` ends with the losses of an undisturbed run | `tests/training/test_fit.py::test_an_image_that_rots_stops_the_training` |
| a bit of a checkpoint flips, or a file of it is missing | `--resume` names the file, sets that checkpoint aside (`checkpoint-40.damaged`) and resumes from the one before, with the same losses; where none is left it stops | `tests/training/test_fit.py::test_resuming_gives_the_same_losses_and_adapter`, `tests/training/test_preparation.py::test_training_never_starts_over_by_itself` |
| a file of a checkpoint or of the run cannot be read (EIO) | the command stops and names it; nothing is removed | `tests/training/test_preparation.py::test_a_read_error_stops_and_removes_nothing` |
| the power fails (every flush and renaming is recorded: `tests/faults/power.py`) | what is complete by name relies on nothing that was not on disk: checkpoints, a fetched model, answers, maps, data sets | `tests/system/test_power.py::test_a_sealed_checkpoint_relies_on_nothing_that_may_be_lost`, `tests/system/test_power.py::test_what_commands_leave_is_on_disk` |
| `metrics.jsonl` is empty, zeros, or shorter than the checkpoint | `--resume` takes its lines from the checkpoint and says which; a report says what is missing | `tests/system/test_power.py::test_figures_that_were_lost_are_in_the_checkpoint` |
| an encoded image is zeros or has a flipped bit, the index is torn | it is encoded again | `tests/engine/test_vision.py::test_damaged_features_are_computed_again_and_never_believed` |
| weights are zeros, and their size is right | refused, and fetched again by `load` | `tests/system/test_power.py::test_what_an_older_version_called_complete_is_not_believed_by_size` |
| answers or windows are torn, empty or zeros | used up to the last sound line | `tests/system/test_power.py::test_answers_are_taken_up_to_the_last_sound_line`, `tests/system/test_power.py::test_windows_are_taken_up_to_the_last_sound_line` |
| a call to the operating system fails (EIO, ESTALE, a full disk, quotas, limits of open files, memory, file size and threads) | an error that names the file that was read or written, the cause, and what helps with that; `train` says the command that resumes | `tests/system/test_oserrors.py::test_the_hint_fits_the_cause`, `tests/system/test_oserrors.py::test_a_full_disk_is_recognised_in_the_words_of_libraries`, `tests/system/test_oserrors.py::test_faults_in_the_middle_of_commands` |
| a run that may only be read | `compare` and `eval` work where all answers are there | `tests/system/test_oserrors.py::test_a_run_that_may_only_be_read_is_compared` |
| stdout is full when a result is printed; stdout is closed, or its reader has gone | an error and exit code 1; no failure, as nobody is there who wants it | `tests/system/test_streams.py::test_a_result_that_cannot_be_printed_is_a_failure`, `tests/system/test_streams.py::test_a_result_whose_reader_has_gone_is_no_failure` |
| a disk fails or is full while a map is written | an error that names the file; what stood there stays | `tests/system/test_power.py::test_a_disk_without_room_for_a_file_of_a_map`, `tests/system/test_power.py::test_a_call_that_fails_while_a_map_is_written` |
| a run is resumed with other threads, device or versions | it is said, and stands in `manifest.json` | `tests/system/test_power.py::test_resuming_in_other_circumstances_is_said_and_written_down` |
| a file system without locks (Lustre), or that cannot flush a folder (CIFS) | it is worked on, and said once | `tests/test_run.py::test_a_file_system_without_locks_is_worked_on_and_named_once` |
| the questions in the current folder are replaced, as by a second run | every run keeps its own in `data/` | `tests/training/test_fit.py::test_a_run_is_compared_on_its_own_questions` |
| Ctrl-C, SIGTERM, SIGHUP during training | it is said what is kept and how to resume; exit code 130, 143, 129 | `tests/training/test_interrupt.py::test_an_interrupted_training_says_what_is_kept_and_how_to_go_on` |
| an experiment tracker fails, or an interrupt reaches a training that ignores it | training goes on | `tests/training/test_interrupt.py::test_a_tracker_that_fails_does_not_end_training` |
| a second process in the folder of a run | refused | `tests/test_run.py::test_a_second_process_is_refused_until_the_first_is_gone` |

## Broken files

Valid files changed at random, those that reach new lines of ours changed further
(`tests/faults/fuzz.py`). A file may be read, or refused with one of our errors; anything else is a
finding: another exception, a crash, five seconds, two gigabytes.

{fuzz}

## Broken requests

To the server as its command starts it (`tests/faults/api.py`): Schemathesis makes requests from the
document at `/openapi.json`, right and wrong ones, once as it is and once with real images in it;
then sound bodies are changed at random. A request may be answered, or refused with a 4xx in
OpenAI's form; anything else is a finding, and so are five seconds and two gigabytes.

{api}

## Under load

{clients} clients for {minutes:.0f} minutes, one request in twenty broken (`tests/faults/load.py`).
Every sound request had to get the answer that the same request got alone before, every broken one a
4xx.

{load}

## Under siege

300 connections with half a head, 50 with a body that drips, all coming again when they are cut off,
and 4 clients that send image bombs without pause, beside 8 that ask (`tests/faults/siege.py`). The
8 have to get the same answers, their 99th percentile may be three times what it was.

{siege}

## Faults put into the code

`make mutants` puts faults into the code, one at a time (mutmut), and runs the default tests that
reach their function in their own process; tests that start programs are left out, so that the
default suite sees more than this. Of: {of} (`make mutants SINCE= MUTANTS="--sample 300"`). Some of
those that no test sees are such as no input can show.

{mutants}

## Dependencies

The oldest of every range and the newest: [dependencies](dependencies.md).

What was found on the way, and mended, stands in the [changelog](../CHANGELOG.md), each with a test.
"""


def table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, the first of them its head."""
    lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page() -> str:
    """The whole page."""
    faults, disk, fuzz, api, load, siege, mutants = (
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("faults", "disk", "fuzz", "api", "load", "siege", "mutants")
    )
    kills = [["stage", "tried", "killed", "same result", "lost or half-written"]]
    for name, one in faults.items():
        broken = len({problem.partition(":")[0] for problem in one["problems"]})
        tried = one["points"]
        kills.append([name, str(tried), str(one["killed"]), str(tried - broken), str(broken)])
    small = [["stage", "tried", "refused by the disk", "problems"]]
    small += [
        [name, str(one["points"]), str(one["full"]), str(len(one["problems"]))]
        for name, one in disk.items()
    ]
    broken_files = [["format", "inputs", "findings left", "lines reached", "peak memory, GiB"]]
    for name, one in fuzz.items():
        broken_files.append(
            [name, f"{one['inputs']:,}", str(one["findings"]), str(one["lines"]),
             str(one["peak_gib"])]
        )  # fmt: skip
    requests = [["requests", "inputs", "findings", "peak memory, GiB"]]
    requests += [
        [name, f"{one['inputs']:,}", str(one["findings"]), str(one["peak_gib"])]
        for name, one in api.items()
    ]
    return TEXT.format(
        kills=table(kills), disk=table(small), fuzz=table(broken_files), api=table(requests),
        siege=table(under_siege(siege)), load=table(under_load(load)), clients=load["clients"], minutes=load["seconds"] / 60,
        mutants=table(put_in(mutants)), of=mutants["of"],
    )  # fmt: skip


def put_in(mutants: dict[str, Any]) -> list[list[str]]:
    """Rows of the faults by area."""
    return [
        ["area", "faults", "seen"],
        *([one["area"], f"{one['faults']:,}", f"{one['seen']:,}"] for one in mutants["areas"]),
    ]


def under_load(load: dict[str, Any]) -> list[list[str]]:
    """Rows of what the clients saw."""
    early, late = load["memory_mib"]
    return [
        ["", ""],
        ["sound requests answered", f"{load['sound']:,}"],
        ["broken requests refused", f"{load['broken']:,}"],
        ["told to wait (429)", f"{load.get('told to wait', 0):,}"],
        ["wrong answers, errors of the server", str(len(load["problems"]))],
        ["requests/s", str(load["requests_per_second"])],
        ["memory after a tenth of the time and at the end, MiB", f"{early:.0f}, {late:.0f}"],
    ]


def under_siege(siege: dict[str, Any]) -> list[list[str]]:
    """Rows of the clients that mean well, before and beside the others."""
    return [
        ["", "undisturbed", "under siege"],
        ["answers", *(f"{n:,}" for n in siege["answers"])],
        ["99th percentile, ms", *(f"{t:.0f}" for t in siege["p99_ms"])],
        ["memory before and at its peak, MiB", *(f"{m:.0f}" for m in siege["memory_mib"])],
        ["wrong answers, errors of the server", "", str(siege["failures"])],
    ]


def main() -> None:
    """Write the page, or check it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/reliability.md is out of date: python docs/make_reliability.py")


if __name__ == "__main__":
    main()
