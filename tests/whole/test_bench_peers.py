"""The comparison with other programs: what it concludes from their runs, and its page."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def programs():
    return load(ROOT / "benchmarks/peer_programs.py")


def row(side, program, setting, speed, error=None, phase="race"):
    return {
        "side": side, "phase": phase, "program": program, "setting": setting,
        "questions/s": speed, "questions": 8, "error": error, "used": {"dtype": "float32"},
    }  # fmt: skip


def raced(programs):
    """The machine slows down by half after the first round."""
    rows = {"256 tried ms-swift batch 16": row(256, "ms-swift", "batch 16", 99.0, phase="tried")}
    for turn, pace in enumerate((2.0, 1.0, 1.0)):
        for program, speed in (("ms-swift", 5.0), ("llamafactory", 2.5)):
            key = f"256 round {turn} {program} batch 4"
            rows[key] = row(256, program, "batch 4", speed * pace)
            beside = programs.beside_key(key)
            rows[beside] = row(256, programs.OURS, "all defaults", 60.0 * pace)
    return rows


def test_ratio_is_the_median_of_neighbours_and_the_fastest_peer_is_named(programs):
    every = list(programs.ratios(raced(programs)))
    assert [(one["program"], one["ratio"], one["pairs"]) for one in every] == [
        ("ms-swift", 12.0, 3),
        ("llamafactory", 24.0, 3),
    ]
    assert [one["program"] for one in programs.fastest(every)] == ["ms-swift"]


def test_failed_runs_do_not_count(programs):
    rows = raced(programs)
    for key in ("256 round 0 ms-swift batch 4", "256 round 1 ms-swift batch 4"):
        rows[key] = row(256, "ms-swift", "batch 4", None, "RuntimeError: out of memory")
    pairs = {one["program"]: one["pairs"] for one in programs.ratios(rows)}
    assert pairs == {"ms-swift": 1, "llamafactory": 3}


def test_a_failed_command_is_a_row_with_its_reason(programs, tmp_path):
    status, lines = programs._run(
        [sys.executable, "-c", "raise ValueError('no flash')"], {}, tmp_path
    )
    assert status == 1
    assert programs._last_error([text for _, text in lines]) == "ValueError: no flash"
    launcher = ["ValueError: no flash", "subprocess.CalledProcessError: returned 1", "", "[end]"]
    assert programs._last_error(launcher) == "ValueError: no flash"
    assert programs._last_error(["", "killed"]) == "killed"


def test_encoding_of_the_images_is_counted(programs):
    lines = [(1.0, "attention: branches"), (2.0, "each image is encoded once for all epochs (…)"),
             (5.5, "LoRA r 64 on 42 layers"), (9.0, "trained on")]  # fmt: skip
    assert programs._encoding(lines) == 3.5
    assert programs._encoding(lines[:1]) == 0.0


def test_page_names_the_fastest_peer_first(programs, tmp_path, monkeypatch):
    page = load(ROOT / "docs/make_benchmarks.py")
    rows = raced(programs)
    rows["256 tried ms-swift packing"] = row(256, "ms-swift", "packing", None, "ValueError: a | b")
    every = list(programs.ratios(rows))
    equal = {"labels": "answer", "trained": 1000, "losses": [2.0], "expected": [2.0]}
    machine = {"cpu": "a CPU", "16-bit instructions": "none", "threads": 2,
               "versions": {"ms-swift": {"ms-swift": "4.6.0", "torch": "2.14.1"}}}  # fmt: skip
    record = {
        "machine": machine, "rows": rows, "questions": "RSVQA", "ratios": every,
        "fastest": programs.fastest(every), "equal": {"ms-swift": equal | {"difference": 1e-5}},
    }  # fmt: skip
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert "make bench-peers" in page.page().partition("Not measured")[2]
    (tmp_path / "peers.json").write_text(json.dumps(record))
    text = page.page()
    assert "LLaMA" not in text.partition("Not measured")[2]
    found = text.partition("## Against other programs")[2]
    first = next(line for line in found.splitlines()[1:] if line)
    assert first.startswith("- **256 px: 12.0 times as fast as ms-swift**")
    assert r"ValueError: a \| b |" in found
