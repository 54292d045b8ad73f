"""``python -m qwen2vl_rs``: the same as the command ``qwen2vl-rs``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line, or say which package it lacks; returns the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a script in a clone is checked by no pip
        print("error: Python 3.11 or newer is needed", file=sys.stderr)  # noqa: T201
        return 1
    from .system import streams
    from .system.install import missing_module
    from .system.openmp import let_threads_sleep

    streams.guard()
    let_threads_sleep()
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        found = missing_module(error)
        if found is None:
            raise
        print(f"error: {found.message}\nhint: {found.hint}", file=sys.stderr)  # noqa: T201
        return 1
    code = run(args)
    if code == 0 and (why := streams.output_failure()):
        print(f"error: cannot print the result: {why}", file=sys.stderr)  # noqa: T201
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
