"""The embedded base: a small Qwen2-VL that sees drawn scenes; README.md is its card."""

from __future__ import annotations

from pathlib import Path

#: In the published layout; every command takes it as ``--model``.
FOLDER = Path(__file__).parent
