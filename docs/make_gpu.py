"""Write docs/gpu.md from docs/results/gpu*.json; ``--check`` only compares."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("gpu.md")
RESULTS = Path(__file__).with_name("results")

INTRO = """\
# On a GPU

<!-- Written by `python docs/make_gpu.py` from docs/results/gpu*.json. -->

One command makes all measurements that need a GPU. It takes ten minutes and needs no network:

```bash
benchmarks/gpu/pack.sh --python 3.12 -o kit.tar.xz    # here: wheels and repository, 40 MiB
tar -xJf kit.tar.xz                                    # on the GPU machine
project/benchmarks/gpu/run.sh -o results               # writes results/gpu.json, results/gpu.log
```

The GPU machine needs CPython of that version on x86-64 with torch, accelerate, peft, safetensors,
tokenizers, huggingface_hub, numpy, pillow and pyarrow; `pack.sh --everything` packs all of them but
torch. `run.sh` runs the steps in order of importance, each with a time limit, and writes the JSON
after every step, so an interrupted run keeps its results. `--device cpu --model tiny` tries it
without a GPU. To add the results to this page, save the JSON as `docs/results/gpu-CARD.json` and
run `python docs/make_gpu.py`.

With several GPUs, a command uses the first visible one. `--device cuda:1` selects another,
`--device cpu` none, and the environment variable `CUDA_VISIBLE_DEVICES=2,3` limits the visible ones
(`cuda:0` is then GPU 2). `torchrun --nproc-per-node gpu -m qwen2vl_rs train` uses all visible GPUs.
"""


def records() -> list[dict[str, Any]]:
    """Return the records of all GPUs, docs/results/gpu*.json, sorted by file name."""
    found = sorted(RESULTS.glob("gpu*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def card(record: dict[str, Any]) -> str:
    """Return the short name of a record's GPU, such as H100."""
    words: list[str] = record["device"].split(",")[0].split()
    return words[1] if words[0] == "NVIDIA" else words[0]


def rows_of(record: dict[str, Any], step: str) -> list[dict[str, Any]]:
    """Return the table of a step; of an interrupted step, the rows it has."""
    rows: list[dict[str, Any]] = record["steps"].get(step, {}).get("rows", [])
    return rows


Cell = tuple[float, str] | None  # a value, and the configuration that reached it


def best(rows: list[dict[str, Any]], key: str, **wanted: Any) -> Cell:
    """Return the best value of the matching rows, and its configuration."""
    fitting = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    if not fitting:
        return None
    row = max(fitting, key=lambda r: float(r[key]))
    if "images" not in row:
        return row[key], f"{row['questions/image']} questions per image"
    how = "" if row["checkpointing"] else ", no checkpointing"
    return row[key], f"{row['images']} images per step{how}"


def measured(record: dict[str, Any]) -> list[tuple[str, str, Cell]]:
    """Return each goal with its name, its bound, and the value on this GPU."""
    trained, evaluated = rows_of(record, "training"), rows_of(record, "evaluation")
    lines = []
    for name, side, speed, ratio in (("LR, 256 px", 256, 1500, 8), ("HR, 512 px", 512, 800, 20)):
        of: dict[str, Any] = {"side": side, "questions/image": 25}
        usual = {**of, "images": 4, "checkpointing": True}
        lines += [
            (f"training, {name}, defaults: questions/s", f"≥ {speed:,}",
             best(trained, "questions/s", **usual)),
            (f"training, {name}, best: questions/s", f"≥ {speed:,}",
             best(trained, "questions/s", **of)),
            (f"training, {name}: share of the peak of matrix products", "≥ 0.40",
             best(trained, "share of peak", **of)),
            (f"training, {name}, defaults: ratio to plain Hugging Face", f"≥ {ratio} ×",
             best(trained, "ratio", **usual)),
        ]  # fmt: skip
    capped = record["steps"].get("memory_cap", {})
    peak = capped.get("peak_allocated_gb")
    packs = f"packed sequences of at most {capped.get('tokens_at_once', 0):,} tokens"
    return [
        *lines,
        ("evaluation, closed set: questions/s", "≥ 3,000", best(evaluated, "closed questions/s")),
        ("evaluation, generated: questions/s", "≥ 1,500", best(evaluated, "free questions/s")),
        ("peak memory, defaults, 12 GB cap: GB", "≤ 10", None if peak is None else (peak, packs)),
    ]


def goals(found: list[dict[str, Any]]) -> str:
    """Return the table of goals and measured values."""
    columns = [measured(record) for record in found]
    head = ["on one GPU, bfloat16", "goal", *map(card, found)]
    lines = [head, ["---"] * len(head)]
    missed = []
    for cells in zip(*columns, strict=True):
        name, goal = cells[0][:2]
        values = [value for _, _, value in cells]
        lines.append([name, goal, *("–" if v is None else f"{v[0]:,} ({v[1]})" for v in values)])
        if not any(v is not None and _reached(goal, v[0]) for v in values):
            missed.append(name)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## Goals\n\n{table}\n" + (_next_step(found, missed) if missed else "")


def _reached(goal: str, value: float) -> bool:
    bound = float(goal.strip("≥≤ ×").replace(",", ""))
    return value >= bound if goal.startswith("≥") else value <= bound


def _next_step(found: list[dict[str, Any]], missed: list[str]) -> str:
    """Return the missed goals, and the largest cause in the profile of a step."""
    text = "\nMissed: " + "; ".join(missed) + "."
    profiled = [r for r in found if r["steps"].get("profile", {}).get("status") == "done"]
    if not profiled:
        return text + " There is no profile.\n"
    profile = profiled[-1]["steps"]["profile"]
    name, count, ms = profile["largest"][0]
    idle = profile.get("idle_share", 0.0)
    busiest = f"the kernel {name} ({count} calls, {ms} ms of {1e3 * profile['seconds']:.0f} ms)"
    name = card(profiled[-1])
    cause = f"the {name} is idle for {idle:.0%} of a step" if idle > 0.25 else busiest
    return f"{text} Largest cause in the profile, to be improved next: {cause}.\n"


def section(step: str, found: dict[str, Any]) -> str:
    """Return the section of one step."""
    parts = [f"### {found.get('what', step)}\n"]
    if found["status"] != "done":
        parts.append(f"{found['status'].capitalize()}: {found.get('why', 'see the log')}.\n")
    if "rows" in found:
        names = list(found["rows"][0])
        lines = [names, ["---"] * len(names), *([str(r[n]) for n in names] for r in found["rows"])]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    plain = {k: v for k, v in found.items() if k not in ("rows", "status", "what", "why", "losses")}
    if plain:
        text = json.dumps(_rounded(plain), indent=1, ensure_ascii=False)
        text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", _on_one_line, text)
        parts.append(f"```json\n{text}\n```\n")
    return "\n".join(parts)


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r",\s+", ", ", found[1]) + "]"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.3g}") if abs(value) < 1 else round(value, 4)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def page() -> str:
    """Return the page."""
    found = records()
    if not found:
        return INTRO + "\n## Measured\n\nNothing yet: no GPU was available.\n"
    parts = [INTRO, goals(found)]
    for record in found:
        facts = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
        parts.append(f"## Measured on {record['device']}\n\n{facts}; {record['seconds']} s.\n")
        if "note" in record:
            parts.append(record["note"] + "\n")
        parts += [section(step, one) for step, one in record["steps"].items()]
    return "\n".join(parts)


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/gpu.md is out of date: python docs/make_gpu.py")


if __name__ == "__main__":
    main()
