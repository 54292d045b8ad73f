"""Data sets from Python: download one from Zenodo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..system.calls import public, require_one_of
from .scores import Source


@public
def fetch_dataset(
    name: str,
    output: Source | None = None,
    *,
    splits: Sequence[str] = (),
    only: Literal["questions", "images"] | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download RSVQA-LR, -HR or xBEN from Zenodo; every file is verified, and a download resumes.

    A complete folder is left as it is, also without a network.

    Args:
        name: ``LR``, ``HR`` or ``xBEN``.
        output: target folder; None for one with its name, such as ``RSVQA_LR``.
        splits: such as ``["train", "test"]``; empty for all published splits.
        only: ``questions`` for the lists alone, ``images`` for the image files alone.
        endpoint: URL of a mirror of Zenodo; None for the environment variable ZENODO_ENDPOINT,
            else Zenodo.

    Returns:
        The folder, for `rs.datasets.RSVQA`.

    Raises:
        ConfigError: there is no such data set or split.
        HubError: the data set cannot be downloaded, or the disk has too little space.
        DataError: an archive is broken.

    Examples:
        >>> folder = rs.fetch_dataset("LR", splits=["test"])  # doctest: +SKIP
        >>> data = rs.datasets.RSVQA(folder, split="test")  # doctest: +SKIP
    """
    from ..hub.fetch_data import fetch_data

    require_one_of("only", only, None, "questions", "images")
    place = None if output is None else Path(output)
    return fetch_data(name, place, splits=tuple(splits), only=only, endpoint=endpoint).folder
