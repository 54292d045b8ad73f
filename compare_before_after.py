"""The same as `qwen2vl-rs compare`."""

import sys

from qwen2vl_rs.cli import main

sys.exit(main(["compare", *sys.argv[1:]]))
