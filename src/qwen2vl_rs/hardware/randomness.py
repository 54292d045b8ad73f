"""Save and restore the global random states (Python, NumPy, torch)."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from ..system.scopes import KEEP, SharedChange


def _states() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _set_states(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    if states[3] is not None:
        torch.cuda.set_rng_state(states[3])


#: Restore all global random states after the block.
preserve_random_state = SharedChange((_states, _set_states, KEEP))
