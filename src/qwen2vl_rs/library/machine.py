"""A report on this machine from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..system.calls import public
from .rows import Rows
from .scores import Source

if TYPE_CHECKING:
    from ..diagnosis.lines import Diagnosis


class MachineReport(Rows):
    """What `doctor` found.

    Attributes:
        usable: whether nothing prevents a training.
        figures: numbers, such as ``expected_seconds``; those that are unknown are missing.
    """

    def __init__(self, diagnosis: Diagnosis) -> None:
        self._diagnosis = diagnosis
        self.usable = diagnosis.usable
        self.figures: dict[str, Any] = dict(diagnosis.figures)

    def __repr__(self) -> str:
        return str(self._diagnosis)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return self._diagnosis.to_dict()

    def rows(self) -> list[dict[str, Any]]:
        """One row per line."""
        return [
            {"section": section["title"], **line}
            for section in self.to_dict()["sections"]
            for line in section["lines"]
        ]


@public
def doctor(
    config: Source | None = None, *, device: str | None = None, **settings: Any
) -> MachineReport:
    """Report on this machine, and on what a training would use on it.

    Nothing is trained, written or downloaded.

    Args:
        config: a TOML file with the settings that differ from the defaults; None for none.
        device: ``cpu`` or ``cuda:1``; None for the first GPU, else the CPU.
        settings: as in `rs.train`: ``model="base"``, ``training={"bf16": True}``.

    Raises:
        ConfigError: the settings are invalid.

    Examples:
        >>> questions = {"conversations": "data.json"}
        >>> report = rs.doctor(model="base", output="output/new", data=questions)
        >>> report.usable
        True
        >>> report.figures["train_questions"] > 0
        True
    """
    from ..diagnosis.diagnose import diagnose
    from .runs import flat_settings

    values = dict(flat_settings(settings))
    return MachineReport(diagnose(Path(config) if config else None, (), values, device))
