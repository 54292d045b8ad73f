"""The same as `qwen2vl-rs train`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # also where not installed

from qwen2vl_rs.__main__ import main

sys.exit(main(["train", *sys.argv[1:]]))
