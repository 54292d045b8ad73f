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

Results of the fault tests. `make torture` repeats them; it takes about an hour on two cores.

## Kill and restart

Every stage was killed with SIGKILL at random times until it had been hit as often as the table
says, and started again with the same command (`train` with `--resume`), also if it had ended before
its kill. Each time the files had to be byte-identical to those of an uninterrupted run (except
recorded times), with no incomplete file under a final name after the kill, and no temporary file at
the end (`tests/faults/kill.py`). The folder names had 255 bytes with spaces and Chinese characters,
and the clock went back by an hour whenever it was read.

{kills}

## Full and read-only disks

Every stage ran on a disk with 5, 40 and 80 % of the space that its files need, and on a read-only
disk. It had to end with exit code 1 and a hint, without an incomplete file under a final name, and
give the same bytes once there was enough space.

{disk}

## Damaged files and concurrent processes

| fault | behaviour | test |
|---|---|---|
| a training image changes, but is still readable | training stops and names the image; after the file is restored, `--resume` ends with the losses of an uninterrupted run | `tests/training/test_fit.py::test_an_image_that_rots_stops_the_training` |
| a bit of a checkpoint flips, or one of its files is missing | `--resume` names the file, renames the checkpoint (`checkpoint-40.damaged`) and resumes from the previous one, with the same losses; without another checkpoint it stops | `tests/training/test_fit.py::test_resuming_gives_the_same_losses_and_adapter`, `tests/training/test_preparation.py::test_training_never_starts_over_by_itself` |
| a file of a checkpoint or of the run cannot be read (EIO) | the command stops and names the file; nothing is deleted | `tests/training/test_preparation.py::test_a_read_error_stops_and_removes_nothing` |
| power failure (every flush and rename is recorded: `tests/faults/power.py`) | files that mark something as complete are written after everything they refer to is on disk: checkpoints, downloaded models, answers, maps, data sets | `tests/system/test_power.py::test_a_sealed_checkpoint_relies_on_nothing_that_may_be_lost`, `tests/system/test_power.py::test_what_commands_leave_is_on_disk` |
| `metrics.jsonl` is empty, contains zeros, or is shorter than the checkpoint | `--resume` restores the lines from the checkpoint and says which; a report says what is missing | `tests/system/test_power.py::test_figures_that_were_lost_are_in_the_checkpoint` |
| a cached image feature contains zeros or a flipped bit, or the index is truncated | the image is encoded again | `tests/engine/test_vision.py::test_damaged_features_are_computed_again_and_never_believed` |
| weights contain zeros, with the right file size | refused; `load` downloads them again | `tests/system/test_power.py::test_what_an_older_version_called_complete_is_not_believed_by_size` |
| files of answers or windows are truncated, empty or contain zeros | used up to the last valid line | `tests/system/test_power.py::test_answers_are_taken_up_to_the_last_sound_line`, `tests/system/test_power.py::test_windows_are_taken_up_to_the_last_sound_line` |
| a system call fails (EIO, ESTALE, a full disk, quotas, limits of open files, memory, file size and threads) | the error names the file, the cause, and a hint for that cause; `train` gives the command that resumes | `tests/system/test_oserrors.py::test_the_hint_fits_the_cause`, `tests/system/test_oserrors.py::test_a_full_disk_is_recognised_in_the_words_of_libraries`, `tests/system/test_oserrors.py::test_faults_in_the_middle_of_commands` |
| a read-only run | `compare` and `eval` work if all answers are there | `tests/system/test_oserrors.py::test_a_run_that_may_only_be_read_is_compared` |
| stdout is full when a result is printed; stdout is closed, or its reader has ended | full: an error with exit code 1; closed: no error, because nobody reads the result | `tests/system/test_streams.py::test_a_result_that_cannot_be_printed_is_a_failure`, `tests/system/test_streams.py::test_a_result_whose_reader_has_gone_is_no_failure` |
| a disk fails or is full while a map is written | an error that names the file; the previous file is kept | `tests/system/test_power.py::test_a_disk_without_room_for_a_file_of_a_map`, `tests/system/test_power.py::test_a_call_that_fails_while_a_map_is_written` |
| a run is resumed with another number of threads, device or versions | a message, and a record in `manifest.json` | `tests/system/test_power.py::test_resuming_in_other_circumstances_is_said_and_written_down` |
| a file system without locks (Lustre), or that cannot flush a folder (CIFS) | the command works, with one warning | `tests/test_run.py::test_a_file_system_without_locks_is_worked_on_and_named_once` |
| the questions in the current folder are replaced, for example by a second run | every run keeps its own copy in `data/` | `tests/training/test_fit.py::test_a_run_is_compared_on_its_own_questions` |
| Ctrl-C, SIGTERM, SIGHUP during training | a message says what is kept and how to resume; exit code 130, 143, 129 | `tests/training/test_interrupt.py::test_an_interrupted_training_says_what_is_kept_and_how_to_go_on` |
| an experiment tracker fails, or an interrupt reaches a training that ignores interrupts | training continues | `tests/training/test_interrupt.py::test_a_tracker_that_fails_does_not_end_training` |
| a second process in the folder of a run | an error | `tests/test_run.py::test_a_second_process_is_refused_until_the_first_is_gone` |

## Broken files

Coverage-guided fuzzing: valid files are mutated at random, and files that reach new lines of our
code are mutated further (`tests/faults/fuzz.py`). A file may be read, or refused with one of our
errors. Anything else is a finding: another exception, a crash, more than five seconds or two
gigabytes.

{fuzz}

## Broken requests

The server runs as started by its command (`tests/faults/api.py`). Schemathesis generates valid and
invalid requests from `/openapi.json`, once unchanged and once with real images; then valid bodies
are mutated at random. A request may be answered, or refused with a 4xx in OpenAI's format. Anything
else is a finding, and so are more than five seconds or two gigabytes.

{api}

## Under load

{clients} clients for {minutes:.0f} minutes; one request in twenty is invalid (`tests/faults/load.py`).
Every valid request had to get the same answer as without load, every invalid one a 4xx.

{load}

## Under attack

300 connections with an incomplete head and 50 with a slow body, all reconnecting when they are
closed, and 4 clients that send decompression bombs without pause, next to 8 normal clients
(`tests/faults/siege.py`). The 8 must get the same answers, with a 99th percentile of the latency of
at most three times the undisturbed one.

{siege}

## Mutation testing

`make mutants` inserts faults into the code, one at a time (mutmut), and runs the default tests that
reach the changed function in the test process. Tests that start programs are excluded, so the full
suite detects more. Of: {of} (`make mutants SINCE= MUTANTS="--sample 300"`). Some undetected mutants
are equivalent: no input shows a difference.

{mutants}

## Dependencies

Tested with the oldest and the newest version of every range: [dependencies](dependencies.md).

The [changelog](../CHANGELOG.md) lists what was found and fixed, each with a test.
"""


def table(rows: list[list[str]]) -> str:
    """Return rows as a Markdown table; the first row is the head."""
    lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page() -> str:
    """Return the page."""
    faults, disk, fuzz, api, load, siege, mutants = (
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("faults", "disk", "fuzz", "api", "load", "siege", "mutants")
    )
    kills = [["stage", "tried", "killed", "same result", "lost or incomplete"]]
    for name, one in faults.items():
        broken = len({problem.partition(":")[0] for problem in one["problems"]})
        tried = one["points"]
        kills.append([name, str(tried), str(one["killed"]), str(tried - broken), str(broken)])
    small = [["stage", "tried", "refused, with a hint", "problems"]]
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
        siege=table(under_attack(siege)), load=table(under_load(load)), clients=load["clients"], minutes=load["seconds"] / 60,
        mutants=table(mutation(mutants)), of=mutants["of"],
    )  # fmt: skip


def mutation(mutants: dict[str, Any]) -> list[list[str]]:
    """Return the rows about mutants, by area."""
    return [
        ["area", "faults", "detected"],
        *([one["area"], f"{one['faults']:,}", f"{one['seen']:,}"] for one in mutants["areas"]),
    ]


def under_load(load: dict[str, Any]) -> list[list[str]]:
    """Return the rows about the load test."""
    early, late = load["memory_mib"]
    return [
        ["", ""],
        ["valid requests answered", f"{load['sound']:,}"],
        ["invalid requests refused", f"{load['broken']:,}"],
        ["asked to wait (429)", f"{load.get('told to wait', 0):,}"],
        ["wrong answers, server errors", str(len(load["problems"]))],
        ["requests/s", str(load["requests_per_second"])],
        ["memory after a tenth of the time and at the end, MiB", f"{early:.0f}, {late:.0f}"],
    ]


def under_attack(siege: dict[str, Any]) -> list[list[str]]:
    """Return the rows about the normal clients, before and during the attack."""
    return [
        ["", "undisturbed", "under attack"],
        ["answers", *(f"{n:,}" for n in siege["answers"])],
        ["99th percentile, ms", *(f"{t:.0f}" for t in siege["p99_ms"])],
        ["memory before, and peak, MiB", *(f"{m:.0f}" for m in siege["memory_mib"])],
        ["wrong answers, server errors", "", str(siege["failures"])],
    ]


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/reliability.md is out of date: python docs/make_reliability.py")


if __name__ == "__main__":
    main()
