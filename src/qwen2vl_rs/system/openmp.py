"""OpenMP: limit the busy waiting of threads.

OpenMP threads spin at the end of every operation. If another process occupies a core, they spin
for a whole time slice, and small models become tens of times slower (docs/benchmarks.md).
"""

from __future__ import annotations

import os

# of GNU, LLVM and Intel OpenMP; read when the library is loaded, with torch
_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_ROUNDS = "10000"  # about 30 µs; the default is 30 times longer


def let_threads_sleep() -> None:
    """Let waiting threads sleep early, unless the user has set how they wait.

    Call it before torch is imported, and only in programs: it sets an environment variable.
    """
    if not any(name in os.environ for name in _VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = _ROUNDS
