"""What hubs tell, a model's files, and what goes wrong with them, in words for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HubError
from ..system.console import clock

_NAMED = 20  # revisions, in a hint


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as a hub lists it.

    Attributes:
        name: path inside the repository.
        size: in bytes.
        sha256: of its content, where the hub tells.
        blob: git's name for its content, where the hub tells that instead.
    """

    name: str
    size: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A model's files.

    Attributes:
        repo_id: the model's name.
        revision: what to ask the hub for to get these files.
        commit: the commit they belong to, where the hub tells.
        files: all of them.
    """

    repo_id: str
    revision: str
    commit: str | None
    files: tuple[RemoteFile, ...]


def remote_file(name: object, size: Any, sha256: object = None, blob: object = None) -> RemoteFile:
    """A file as a hub lists it.

    Raises:
        ValueError: a hub lists nothing of the kind.
    """
    number = int(size)
    if not isinstance(name, str) or number < 0:
        raise ValueError("no file")
    return RemoteFile(
        name, number, str(sha256).lower() if sha256 else None, str(blob or "") or None
    )


class Interrupted(HubError):
    """The hub cannot be reached, or the transfer broke: it may go better next time."""


class HubMessages:
    """What goes wrong with a hub, in words for people."""

    title: str
    other: str
    endpoint: str  # environment variable that names a mirror
    token: str  # environment variable that holds the access token

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url

    def unreachable(self, *, midway: bool, cause: OSError | None = None) -> Interrupted:
        """There is no connection, or ``midway`` no more; ``cause`` is what the system says."""
        said = f": {cause.strerror}" if cause else ""
        return Interrupted(
            f"the connection to {self.title} broke{said}"
            if midway
            else f"cannot reach {self.title} at {self._url}{said}",
            hint=f"check the network and start again (what has arrived is kept), take the other "
            f"hub with --hub {self.other}, name a mirror in {self.endpoint}, or copy a complete "
            f"{self._folder} from another machine; all steps without a model from a hub: "
            "qwen2vl-rs demo",
        )

    def compressed(self, encoding: str) -> HubError:
        """A response is compressed."""
        return self._odd(f"sends what is compressed ({encoding}) though that was not asked for")

    def too_long(self, most: int) -> HubError:
        """A response has more than ``most`` bytes."""
        return self._odd(f"sends more than belongs to it: over {most:,} bytes")

    def _odd(self, what: str, between: str = "a proxy") -> HubError:
        hint = f"is there {between} between? is {self.endpoint} right?"
        return HubError(f"{self.title} {what}", hint=hint)

    def too_slow(self) -> HubError:
        """A response comes too slowly to wait for its end."""
        broken = self.unreachable(midway=True)
        return Interrupted(f"{self.title} hardly sends anything any more", hint=broken.hint)

    def must_wait(self, seconds: float) -> HubError:
        """The hub asks to wait for long."""
        return Interrupted(
            f"{self.title} asks to wait {clock(seconds)} before the next request",
            hint=f"start again then: what has arrived is kept; or take the other hub: "
            f"--hub {self.other}",
        )

    def no_model(self, repo_id: str) -> HubError:
        """The hub does not know a model, or does not say so to everybody."""
        return HubError(
            f"{self.title} has no model {repo_id}, or it is private",
            hint=f"check the spelling (a private one needs your access token in {self.token}), "
            f"or take the other hub: --hub {self.other}",
        )

    def no_revision(self, repo_id: str, revision: str | None, known: list[str]) -> HubError:
        """The hub does not know a branch, tag or commit of a model."""
        some = [*known[:_NAMED], "…"] if len(known) > _NAMED else known
        hint = f"there are: {', '.join(some)}" if known else "check the spelling of --revision"
        return HubError(f"{repo_id} has no revision {revision} on {self.title}", hint=hint)

    def http_error(self, repo_id: str, status: int | None) -> HubError:
        """The hub answers with an HTTP status that is an error."""
        if status in (401, 403):
            return HubError(
                f"{self.title} refuses access to {repo_id}",
                hint=f"accept the model's terms on its page and put your access token into "
                f"{self.token}, or take the other hub: --hub {self.other}",
            )
        if status == 404:
            return self.no_model(repo_id)
        return Interrupted(
            f"{self.title} answered with an error (HTTP {status})",
            hint=f"try again later, or take the other hub: --hub {self.other}",
        )

    @contextlib.contextmanager
    def valid_listing(self) -> Iterator[None]:
        """Explain what comes of reading an answer that is no list of files."""
        try:
            yield
        except _SENSELESS as error:
            said = "answered with something that is no list of files"
            raise self._odd(said, "a proxy or a login page") from error


_SENSELESS = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
