"""``python -m qwen2vl_rs``: the same as the command ``qwen2vl-rs``."""

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line, or say which package it lacks; returns the exit code."""
    if sys.version_info < (3, 11):
        print("error: Python 3.11 or newer is needed", file=sys.stderr)  # noqa: T201
        return 1
    from . import console
    from .errors import Qwen2VLRSError
    from .install import lacking

    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        found: Qwen2VLRSError | None = lacking(error)
        if found is None:
            raise
        console.fail(found)
        return 1
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
