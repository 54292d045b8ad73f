"""File listings of the hubs, and the hubs' error messages."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HubError
from ..system.console import clock
from ..system.oserrors import explain_os_error, process_limit

_NAMED = 20  # revisions listed in a hint


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a hub's listing.

    Attributes:
        name: path inside the repository.
        size: size in bytes.
        sha256: SHA-256 of its content, if the hub gives it.
        blob: git object name of its content, if the hub gives that instead.
        md5: MD5 of its content, if the hub gives that instead.
    """

    name: str
    size: int
    sha256: str | None = None
    blob: str | None = None
    md5: str | None = None

    @property
    def has_checksum(self) -> bool:
        """Whether the hub gives any checksum."""
        return bool(self.sha256 or self.blob or self.md5)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a model on a hub.

    Attributes:
        repo_id: the model's name.
        revision: revision to request these files by.
        commit: their commit, if the hub gives it.
        files: all of them.
    """

    repo_id: str
    revision: str
    commit: str | None
    files: tuple[RemoteFile, ...]


def remote_file(name: object, size: Any, sha256: object = None, blob: object = None) -> RemoteFile:
    """Parse a file of a hub's listing.

    Raises:
        ValueError: the entry is invalid.
    """
    number = int(size)
    if not isinstance(name, str) or number < 0:
        raise ValueError("not a file")
    return RemoteFile(
        name, number, str(sha256).lower() if sha256 else None, str(blob or "") or None
    )


class Interrupted(HubError):
    """The hub cannot be reached, or the transfer broke; a retry may succeed."""


class HubMessages:
    """Errors of a hub, for its client to raise."""

    title: str
    other: str
    endpoint: str  # environment variable that names a mirror
    token: str  # environment variable that holds the access token

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url

    @property
    def instead(self) -> str:
        """What to do if this hub does not work."""
        return f"use the other hub: --hub {self.other}"

    def unreachable(self, *, midway: bool, cause: OSError | None = None) -> Interrupted:
        """No connection, or (``midway``) a lost one; ``cause`` is the OS error."""
        why = f": {cause.strerror}" if cause else ""
        return Interrupted(
            f"the connection to {self.title} broke{why}"
            if midway
            else f"cannot reach {self.title} at {self._url}{why}",
            hint="check the network and start again (downloaded data are kept), set a mirror in "
            f"{self.endpoint}, copy a complete {self._folder} from another machine, or "
            f"{self.instead}; to try all steps offline: qwen2vl-rs demo",
        )

    def compressed(self, encoding: str) -> HubError:
        """The response is compressed."""
        return self._odd(f"sends a compressed response ({encoding}) although none was requested")

    def too_long(self, most: int) -> HubError:
        """The response exceeds ``most`` bytes."""
        return self._odd(f"sends more than expected: over {most:,} bytes")

    def _odd(self, what: str, between: str = "a proxy") -> HubError:
        hint = f"check for {between} in between, and check {self.endpoint}"
        return HubError(f"{self.title} {what}", hint=hint)

    def too_slow(self) -> HubError:
        """The response is too slow."""
        broken = self.unreachable(midway=True)
        return Interrupted(f"{self.title} has almost stopped sending", hint=broken.hint)

    def must_wait(self, seconds: float) -> HubError:
        """The hub requests a long pause."""
        return Interrupted(
            f"{self.title} asks to wait {clock(seconds)} before the next request",
            hint=f"start again then (downloaded data are kept), or {self.instead}",
        )

    def no_model(self, repo_id: str) -> HubError:
        """The model does not exist or is private."""
        return HubError(
            f"{self.title} has no model {repo_id}, or it is private",
            hint=f"check the spelling (a private one needs your access token in {self.token}), "
            f"or {self.instead}",
        )

    def no_revision(self, repo_id: str, revision: str | None, known: list[str]) -> HubError:
        """The branch, tag or commit does not exist."""
        some = [*known[:_NAMED], "…"] if len(known) > _NAMED else known
        hint = f"available: {', '.join(some)}" if known else "check the spelling of --revision"
        return HubError(f"{repo_id} has no revision {revision} on {self.title}", hint=hint)

    def http_error(self, repo_id: str, status: int | None) -> HubError:
        """The hub responds with an HTTP error status."""
        if status in (401, 403):
            return HubError(
                f"{self.title} refuses access to {repo_id}",
                hint=f"accept the model's terms on its page and set your access token in "
                f"{self.token}, or {self.instead}",
            )
        if status == 404:
            return self.no_model(repo_id)
        return Interrupted(
            f"{self.title} responded with an error (HTTP {status})",
            hint=f"try again later, or {self.instead}",
        )

    def damaged(self, file: RemoteFile, repo_id: str, kept: str = "") -> HubError:
        """A file was damaged in both attempts; ``kept`` names what is left of it."""
        what = f"{file.name} of {repo_id} was damaged twice when downloaded from {self.title}"
        return HubError(f"{what}{kept}", hint=f"try again later, or {self.instead}")

    @contextlib.contextmanager
    def valid_listing(self) -> Iterator[None]:
        """Turn parsing errors into the error for a response that is not a file list."""
        try:
            yield
        except _SENSELESS as error:
            what = "responded with something that is not a file list"
            raise self._odd(what, "a proxy or a login page") from error


def raise_local(error: BaseException | None) -> None:
    """Raise local errors (process limits, disk) that a client reports as network errors."""
    if error and (limit := process_limit(error)):
        raise explain_os_error(limit) from error
    network = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
    while error is not None:
        if isinstance(error, HubError):
            raise error
        if isinstance(error, OSError) and error.errno and not isinstance(error, network):
            if error.errno in _UNREACHABLE:
                return
            raise error
        error = error.__cause__


#: Network errors without an exception class of their own.
_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_SENSELESS = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
