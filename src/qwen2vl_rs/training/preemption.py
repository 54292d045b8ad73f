"""Signals of batch systems: finish the step, save a checkpoint, then end as the signal asks.

A signal may reach one process of several; all of them stop after the same step.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import torch

from ..hardware.devices import processes
from ..system.console import say
from ..system.scopes import preserve_signals

# SIGTERM: Slurm at a preemption or the end of the time limit, Kubernetes, torchrun;
# SIGUSR1: Slurm's ``--signal=USR1@120``
_NAMES = [name for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # not on Windows


class StopRequest:
    """The first signal that asked this process to stop; further ones are ignored.

    Attributes:
        number: of the signal; 0 if there was none.
    """

    def __init__(self) -> None:
        self.number = 0

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch signals inside the block; afterwards a caught one takes its usual effect."""
        # ignored signals stay ignored
        free = [n for n in _NAMES if signal.getsignal(getattr(signal, n)) is not signal.SIG_IGN]
        with preserve_signals(free, self._catch):
            yield
        if self.number:
            signal.raise_signal(self.number)

    def _catch(self, number: int, frame: object) -> None:
        if not self.number:
            self.number = number

    def of_all(self, device: torch.device) -> bool:
        """Whether a process of the run was asked to stop; all get the same result.

        Args:
            device: the device of this process.
        """
        team, number = processes(), self.number
        if team.num_processes > 1:
            highest = torch.tensor(number, device=device)
            torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
            number = int(highest)
        if number and not self.number:
            self.number = number
        if number:
            say(f"{signal.Signals(number).name}: saving a checkpoint")
        return number != 0
