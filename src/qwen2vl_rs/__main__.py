"""``python -m qwen2vl_rs``: the same as the command ``qwen2vl-rs``."""

import sys

from .cli import main

sys.exit(main())
