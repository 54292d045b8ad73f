"""The same as `qwen2vl-rs train`."""

import sys

from qwen2vl_rs.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
