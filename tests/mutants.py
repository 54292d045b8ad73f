"""Mutation testing: faults are put into the code one at a time; which do the default tests see?

    make mutants                     functions that differ from origin/main: minutes
    make mutants SINCE=v0.1.0        from another commit
    make mutants SINCE=              the whole engine, scoring, data, predictions: a night
    make mutants SINCE= MUTANTS="--sample 400"   as many of the whole, drawn by chance

mutmut makes the faults and runs, for each, the tests that reach its function in their own process
(tests that start programs are left out); this file says which functions, and lists what survived.
A run that is interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import collections
import fnmatch
import json
import os
import random
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
AREAS = {
    "engine": ("engine", "question_tree", "models"),
    "scoring": ("scoring", "questions"),
    "data": ("datasets",),
    "predictions": ("predict",),
}


KILLED = ("killed", "timeout", "segfault")


def mutated() -> list[Path]:
    """The files in which mutmut puts faults, as pyproject.toml says."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    names = (str(path.relative_to(ROOT)) for path in sorted(SOURCE.rglob("*.py")))
    return [
        ROOT / name
        for name in names
        if any(fnmatch.fnmatch(name, pattern) for pattern in settings["only_mutate"])
    ]


def changed_lines(path: Path, since: str) -> set[int]:
    """Lines of a file that a commit has otherwise, or not at all."""
    diff = subprocess.run(
        ["git", "diff", "-U0", since, "--", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines: set[int] = set()
    for start, count in re.findall(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", diff, re.MULTILINE):
        lines.update(range(int(start), int(start) + int(count or 1)))
    return lines


def functions(path: Path) -> Iterator[tuple[str, range]]:
    """mutmut's pattern for each function of a file, and the lines of the function."""
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    module = module.removesuffix(".__init__")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}.x_{node.name}__mutmut_*", range(node.lineno, node.end_lineno + 1)
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{module}.xǁ{node.name}ǁ{part.name}__mutmut_*"
                yield name, range(part.lineno, part.end_lineno + 1)


def patterns(since: str, only: list[str]) -> list[str]:
    """The functions to put faults in."""
    found = []
    for path in mutated():
        lines = changed_lines(path, since) if since else None
        found += [
            name
            for name, within in functions(path)
            if any(part in name for part in only or [""]) and (lines is None or lines & set(within))
        ]
    return found


def mutmut(*words: str) -> str:
    """Run mutmut; what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # it forks
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *words],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def outcomes(wanted: list[str]) -> dict[str, str]:
    """``killed``, ``survived``, … by mutant."""
    rows = re.findall(r"^\s*(\S+__mutmut_\d+): (.+)$", mutmut("results", "--all", "true"), re.M)
    return {
        name: state
        for name, state in rows
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
    }


def draw(wanted: list[str], size: int) -> tuple[list[str], int]:
    """As many faults of these functions, the same ones every time, and how many there are."""
    mutmut("run", wanted[0].replace("*", "1"))  # makes the faults of all files
    faults = sorted(outcomes(wanted))
    return random.Random(0).sample(faults, min(size, len(faults))), len(faults)


def summary(found: dict[str, str]) -> list[dict[str, Any]]:
    """A row for each area: how many faults, and how many the tests saw."""
    rows = []
    for area, packages in AREAS.items():
        own = tuple(f"qwen2vl_rs.{package}." for package in packages)
        states = collections.Counter(s for name, s in found.items() if name.startswith(own))
        if states:
            seen = sum(states[one] for one in KILLED)
            rows.append({"area": area, "faults": states.total(), "seen": seen, **states})
    return rows


def main() -> None:
    """Run, and list what survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--since", default="origin/main", help="a commit; empty for everything")
    parser.add_argument("--only", nargs="+", default=[], help="parts of functions' full names")
    parser.add_argument("--sample", type=int, help="so many faults, drawn by chance")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--processes", default=str(os.cpu_count()))
    chosen = parser.parse_args()
    wanted = patterns(chosen.since, chosen.only)
    if not wanted:
        print(f"no function in these files differs from {chosen.since}")
        return
    print(f"{len(wanted)} functions", file=sys.stderr)
    drawn, total = draw(wanted, chosen.sample) if chosen.sample else (wanted, 0)
    mutmut("run", "--max-children", chosen.processes, *drawn)
    found = outcomes(drawn)
    survivors = [name for name, state in found.items() if state not in KILLED]
    for name in survivors:
        print(f"\n{name}: {found[name]}\n{mutmut('show', name)}")
    rows = summary(found)
    for row in rows:
        print(row)
    if chosen.json:
        whole = f"what differs from {chosen.since}" if chosen.since else "all"
        of = ", ".join(chosen.only) or whole
        if total:
            of = f"{len(drawn):,} of {total:,} faults, drawn by chance"
        record = {"of": of, "functions": len(wanted), "areas": rows, "survivors": survivors}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
