"""Remember what was found in intact image files, in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

from ..config import RasterToRGB
from ..raster import image_facts
from ..system.jsonl import to_json
from ..version import VERSION

_BATCH = 500  # below SQLite's oldest limit of 999 parameters in one statement
_SECONDS = 1.0  # to wait for another process
_TABLE = (
    "CREATE TABLE IF NOT EXISTS picture (path BLOB, rule TEXT, facts TEXT, width INTEGER, "
    "height INTEGER, format TEXT, digest TEXT, blank INTEGER, PRIMARY KEY (path, rule))"
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What was found in an image file.

    Attributes:
        width, height: size in pixels.
        format: name of the file format.
        digest: digest of its RGB pixels: equal for copies in other formats.
        blank: whether all pixels are equal.
    """

    width: int
    height: int
    format: str
    digest: str
    blank: bool


class Remembered:
    """A small database of the pictures in image files, by path, size and mtime.

    It only saves time: if it cannot be read or written, the files are decoded again. Writes are
    transactions, so that several processes may use it, and a killed one leaves nothing half done.

    Args:
        rule: how files are converted to RGB; another rule gives other pixels.
    """

    def __init__(self, rule: RasterToRGB) -> None:
        self._rule = f"{VERSION} {to_json(rule.model_dump(mode='json'))}"
        self._known: dict[str, tuple[str, Picture]] = {}
        self._new: list[tuple[bytes, str, str, int, int, str, str, bool]] = []
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        place = cache_file()
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(2):
            try:
                self._db = sqlite3.connect(place, timeout=_SECONDS, isolation_level=None)
                self._db.execute(_TABLE)
                self._db.execute("SELECT rule, facts, blank FROM picture LIMIT 1")
                break
            except sqlite3.OperationalError:  # no such folder, read-only, in use
                self._close()
                break
            except sqlite3.DatabaseError:  # damaged: it is begun anew
                self._close()
                with contextlib.suppress(OSError):
                    if attempt == 0:
                        place.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._close()

    def look_up(self, paths: Sequence[str]) -> None:
        """Read what is known about some files."""
        self._known = {}
        for start in range(0, len(paths), _BATCH):
            keys = {_key(path): path for path in paths[start : start + _BATCH]}
            marks = ", ".join("?" * len(keys))
            query = f"SELECT * FROM picture WHERE rule = ? AND path IN ({marks})"
            for path, _, facts, width, height, form, digest, blank in self._run(
                query, (self._rule, *keys)
            ):
                picture = Picture(width, height, form, digest, bool(blank))
                self._known[keys[bytes(path)]] = (facts, picture)

    def get(self, path: str, facts: str) -> Picture | None:
        """Return the picture in a file that was looked up, if its facts are the same; else None."""
        before, picture = self._known.get(path, ("", None))
        return picture if facts and facts == before else None

    def add(self, path: str, facts: str, picture: Picture) -> None:
        """Remember a picture, with the facts of its file before it was read."""
        self._new.append((_key(path), self._rule, facts, *astuple(picture)))
        if len(self._new) == _BATCH:
            self._write()

    def _write(self) -> None:
        new, self._new = self._new, []
        if self._db is None or not new:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO picture VALUES (?,?,?,?,?,?,?,?)", new)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._close()

    def _run(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        if self._db is None:
            return []
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error:
            self._close()
            return []

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


def cache_file() -> Path:
    """Return the path of the database."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "qwen2vl-rs" / "pictures.sqlite"


def _key(path: str) -> bytes:
    return os.fsencode(os.path.realpath(path))


def facts_of(path: str) -> str:
    """Return size and mtime of a file and its sidecars; empty if they cannot be told."""
    try:
        return repr(image_facts(path))
    except OSError:
        return ""
