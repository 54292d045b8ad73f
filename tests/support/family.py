"""Families of test cases of which the default suite sees some, and ``-m slow`` the others."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def few(cases: Iterable[object], *kept: int) -> list[object]:
    """The cases in their order; those that are not at the places ``kept`` are slow.

    Args:
        cases: as `pytest.mark.parametrize` takes them.
        kept: places of those in the default suite.
    """
    listed = list(cases)
    assert kept
    assert max(kept) < len(listed)
    assert len(set(kept)) == len(kept)
    return [case if n in kept else _slow(case) for n, case in enumerate(listed)]


def _slow(case: object) -> object:
    marks: tuple[object, ...] = (pytest.mark.slow,)
    if hasattr(case, "marks"):
        return case._replace(marks=(*case.marks, *marks))
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks)
