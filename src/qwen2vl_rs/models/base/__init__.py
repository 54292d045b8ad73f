"""The bundled base model: a small Qwen2-VL trained on synthetic scenes; see README.md."""

from __future__ import annotations

from pathlib import Path

#: Folder in the published layout, for ``--model`` of every command.
FOLDER = Path(__file__).parent
