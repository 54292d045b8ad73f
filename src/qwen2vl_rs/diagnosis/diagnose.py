"""Put the report together."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config_file import load_config
from .computer import hardware
from .expected import expected
from .lines import Diagnosis
from .plan import Plan, base_model, used
from .questions import questions
from .software import software


def diagnose(
    config: Path | None = None,
    settings: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Diagnosis:
    """Report on this machine and on what a training with these settings would use.

    Nothing is written, nothing is downloaded, and the weights are not read.

    Args:
        config: a TOML file with the settings that differ from the defaults; None for none.
        settings: ``key=value``, such as ``lora.r=16``.
        values: values by key.
        device: the device; None for the first GPU, else the CPU.

    Raises:
        ConfigError: the settings are invalid.
    """
    loaded = load_config(config, settings, values)
    report, plan = Diagnosis(), Plan(loaded, device)
    figures = report.figures
    with contextlib.redirect_stdout(sys.stderr):  # some libraries print when they are imported
        report.add("Software", software())
        report.add("Machine", hardware(Path(loaded.output), figures))
        report.add("Base model", base_model(plan, figures))
        report.add("Questions", questions(loaded, plan.questions, figures))
        report.add("Will be used", used(plan, figures))
        report.add("Expected", expected(plan, figures))
    return report
