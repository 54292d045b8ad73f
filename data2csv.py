"""The same as `qwen2vl-rs data2csv`."""

import sys

from qwen2vl_rs.cli import main

sys.exit(main(["data2csv", *sys.argv[1:]]))
