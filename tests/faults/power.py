"""What a power cut would take: which files stand on disk, and since when.

A file stands on disk when it was flushed (``fsync``) after it was written last, and its name does
when the folder was flushed after the name was given. What was not may be empty, zeros or gone after
a power cut, whatever a later file says of it. `watched` records every flush and every renaming of
this process, and so what would have been lost at the very moment at which a file got its name.

Files are told by their size and time of change, so it does not matter who wrote them (GDAL, SQLite,
safetensors); a flush counts only where Python asked for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

Node = tuple[int, int]  # device and inode


@dataclass
class Watch:
    """What stands on disk of a folder.

    Attributes:
        root: the folder.
        moments: for each path below it, what was not on disk when it got its name, oldest first.
        removals: for each path that was deleted, what was not on disk then, oldest first.
    """

    root: Path
    moments: list[tuple[Path, set[str]]] = field(default_factory=list)
    removals: list[tuple[Path, set[str]]] = field(default_factory=list)
    _flushed: dict[Node, object] = field(default_factory=dict)

    def begin(self) -> None:
        """Take all that is there for flushed."""
        for path in (self.root, *self.root.rglob("*")):
            self._flush(path)

    def lost(self) -> set[str]:
        """What a power cut would take now, but for hidden and growing files."""
        return {str(p.relative_to(self.root)) for p in self._files() if not self._stands(p)}

    def when(self, name: str) -> set[str]:
        """What a power cut would have taken when a file or folder got its name the last time."""
        return next(lost for path, lost in reversed(self.moments) if path.match(name))

    def removed(self, name: str) -> set[str]:
        """What a power cut would have taken, beside it, when something so named was deleted."""
        found = [lost for path, lost in self.removals if path.match(name)]
        assert found, f"nothing was deleted that is called {name}"
        return set().union(*found)

    def removing(self, path: Path) -> None:
        """A file or an empty folder is about to be deleted."""
        kept = (p for p in self._files() if p != path and not self._stands(p))
        self.removals.append((path, {str(p.relative_to(self.root)) for p in kept}))

    def _files(self) -> Iterator[Path]:
        return (p for p in self.root.rglob("*") if p.is_file())

    def _stands(self, path: Path) -> bool:
        if self._flushed.get(_node(path)) != _state(path):
            return False
        for one in (path, *path.parents):
            if one == self.root:
                return True
            names = self._flushed.get(_node(one.parent))
            if not isinstance(names, dict) or names.get(one.name) != _node(one):
                return False
        return True

    def _flush(self, path: Path) -> None:
        self._flushed[_node(path)] = _state(path)

    def flushed(self, handle: int) -> None:
        """An open file or folder was flushed."""
        self._flush(Path(os.readlink(f"/proc/self/fd/{handle}")))

    def renamed(self, path: Path) -> None:
        """A file or folder got its name: what of the rest would be lost?

        Its own name is not flushed yet, but what is in it has to be.
        """
        lost = {p for p in self._files() if not self._stands(p)}
        own = {p for p in lost if p == path or path in p.parents}
        named = {p for p in own if self._stands_but_for(p, path)}
        self.moments.append((path, {str(p.relative_to(self.root)) for p in lost - named}))

    def _stands_but_for(self, path: Path, name: Path) -> bool:
        names = self._flushed.get(_node(name.parent))
        if not isinstance(names, dict):
            return False
        before = dict(names)
        names[name.name] = _node(name)
        try:
            return self._stands(path)
        finally:
            names.clear()
            names.update(before)


def _node(path: Path) -> Node:
    facts = path.lstat()
    return facts.st_dev, facts.st_ino


def _state(path: Path) -> object:
    if path.is_dir():
        return {one.name: _node(one) for one in path.iterdir()}
    facts = path.lstat()
    return facts.st_size, facts.st_mtime_ns


def _removing(watch: Watch, real: Callable[..., None]) -> Callable[..., None]:
    """A call that deletes a file or folder, and tells it beforehand."""

    def call(path: str, *, dir_fd: int | None = None) -> None:
        folder = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        whole = Path(os.path.abspath(os.path.join(folder, os.fspath(path))))
        if watch.root in whole.parents and os.path.lexists(whole):
            watch.removing(whole)
        real(path, dir_fd=dir_fd)

    return call


@contextlib.contextmanager
def watched(root: Path) -> Iterator[Watch]:
    """Watch what this process flushes, renames and deletes below a folder."""
    watch = Watch(root.resolve())
    watch.begin()

    def after(name: str, done: object) -> None:
        real = getattr(os, name)

        def call(*words: object, **more: object) -> object:
            result = real(*words, **more)
            done(*words)  # type: ignore[operator]
            return result

        patch.setattr(os, name, call)

    def renamed(_: object, target: object) -> None:
        path = Path(os.path.abspath(os.fspath(target)))  # type: ignore[call-overload]
        if watch.root in path.parents:
            watch.renamed(path)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("unlink", "remove", "rmdir"):
            patch.setattr(os, name, _removing(watch, getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            after(name, watch.flushed)
        for name in ("rename", "replace"):
            after(name, renamed)
        yield watch
