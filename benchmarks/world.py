"""Measure generated data sets: similarity to RSVQA, question-only baseline, speed.

Command: ``python benchmarks/world.py`` (about ten minutes on two cores); writes
docs/results/world.json and docs/img/scenes.jpg, from which ``docs/make_world.py`` makes the page.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))  # the data sets and statistics of the tests

from qwen2vl_rs.synthetic.layout import SETTINGS  # noqa: E402
from qwen2vl_rs.synthetic.scene import make_scene  # noqa: E402
from worlds import PUBLISHED, legacy, question_only, statistics  # noqa: E402

IMAGES = 260  # per legacy data set
SCENES = 400  # per style of questions


def speed(count: int = 200) -> float:
    """Return the CPU milliseconds for a scene of 256 pixels."""
    make_scene(1, 0).draw()  # textures are made once a process
    start = time.process_time()
    for number in range(count):
        make_scene(1, number).draw()
    return 1000 * (time.process_time() - start) / count


def contact_sheet(path: Path, side: int = 168) -> None:
    """Write the picture of scenes of all settings, at different resolutions."""
    wanted = [(name, None) for name in SETTINGS] + [("suburb", 0.15), ("village", 2.0),
                                                    ("farm", 10.0)]  # fmt: skip
    sheet = Image.new("RGB", (6 * (side + 4) - 4, 2 * (side + 4) - 4), "white")
    for k, (setting, resolution) in enumerate(wanted):
        scene = make_scene(12, k, setting=setting, resolution=resolution)
        small = Image.fromarray(scene.draw()).resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (k % 6 * (side + 4), k // 6 * (side + 4)))
    path.parent.mkdir(exist_ok=True)
    sheet.save(path, quality=82)


def main() -> None:
    """Measure and write."""
    rounded = {
        like: {k: round(v, 4) for k, v in statistics(legacy(like, IMAGES)).items()}
        for like in PUBLISHED
    }
    blind = {
        manner: {k: round(v, 3) for k, v in question_only(manner, SCENES, 50).items()}
        for manner in ("legacy", "corrected", "balanced")
    }
    record = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "images": IMAGES,
        "scenes": SCENES,
        "published": PUBLISHED,
        "legacy": rounded,
        "question_only": blind,
        "core_ms_per_scene": round(speed(), 1),
    }
    path = ROOT / "docs" / "results" / "world.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    contact_sheet(ROOT / "docs" / "img" / "scenes.jpg")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
