"""The same as `qwen2vl-rs load`."""

import sys

from qwen2vl_rs.cli import main

sys.exit(main(["load", *sys.argv[1:]]))
