"""The same as `qwen2vl-rs csv2json`."""

import sys

from qwen2vl_rs.cli import main

sys.exit(main(["csv2json", *sys.argv[1:]]))
