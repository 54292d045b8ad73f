"""How threads of a computation wait for each other.

OpenMP lets them spin at the end of every operation. Where another process holds a core, they spin
until they are interrupted, and small models become tens of times slower (docs/benchmarks.md).
"""

from __future__ import annotations

import os

# of GNU's, LLVM's and Intel's OpenMP; read when the library is loaded, with torch
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_threads_sleep() -> None:
    """Let waiting threads sleep, unless the user has said how they wait.

    For programs, before torch is imported: the environment belongs to the whole process.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
