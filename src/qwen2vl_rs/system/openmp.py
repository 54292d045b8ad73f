"""How threads of a computation wait for each other.

OpenMP lets them spin at the end of every operation. Where another process holds a core, they spin
until they are interrupted, and small models become tens of times slower (docs/benchmarks.md).
"""

from __future__ import annotations

import os

# of GNU's, LLVM's and Intel's OpenMP; read when the library is loaded, with torch
_SAID = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_ROUNDS = "10000"  # some 30 µs; without it they are 30 times as many


def let_threads_sleep() -> None:
    """Let threads that wait sleep soon, unless the user has said how they wait.

    For programs, before torch is imported: the environment belongs to the whole process.
    """
    if not any(name in os.environ for name in _SAID):
        os.environ["GOMP_SPINCOUNT"] = _ROUNDS
