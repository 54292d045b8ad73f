"""Zenodo: list the files of a record, download one.

Its API gives size and MD5 of every file (https://developers.zenodo.org). Guests may send 60
requests per minute; a refused request is repeated after the pause that Zenodo asks for.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ..errors import ConfigError, HubError
from ..system.console import clock, say
from ..system.named_files import open_named
from ..system.oserrors import root_cause
from ..system.pauses import retry_after
from .limits import LONGEST_PAUSE, PLAIN, HeadTimer, Limits, Watched
from .messages import HubMessages, Interrupted, Listing, RemoteFile, raise_local, remote_file

URL = "https://zenodo.org"
_ATTEMPTS = 5
_AGAIN = (408, 429, 500, 502, 503, 504)
_TIMEOUT = httpx.Timeout(30, read=60)  # seconds, for each read; `Limits` has the minimum speed
_SAID_PAUSE = 3.0  # seconds; longer pauses are printed


def endpoint_url(given: str | None) -> str:
    """Return the URL of Zenodo or of a mirror with the same API.

    Args:
        given: the URL; None for the environment variable ZENODO_ENDPOINT, else Zenodo itself.

    Raises:
        ConfigError: it is not a URL, or contains a password.
    """
    url = given or os.environ.get(Zenodo.endpoint) or URL
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        valid = False
    if not valid or not url.isprintable() or "?" in url or "#" in url:
        raise ConfigError(f"{url!r} is not a server's URL", hint=f"such as --endpoint {URL}")
    if parts.username or parts.password:
        raise ConfigError("the URL contains a password", hint="use a mirror that needs none")
    return url.rstrip("/")


class Zenodo(HubMessages):
    """A Zenodo server.

    Args:
        folder: target folder, for hints.
        url: base URL, see `endpoint_url`.
        record: number of the record.
    """

    title = "Zenodo"
    endpoint = "ZENODO_ENDPOINT"

    def __init__(self, folder: Path, url: str, record: str) -> None:
        super().__init__(folder, url)
        self._record = record
        self._limits = Limits(self)

    @property
    def instead(self) -> str:
        """What to do if Zenodo does not work."""
        return (
            f"download the files of {URL}/records/{self._record} by hand into {self._folder}: the "
            "same command then verifies them"
        )

    def http_error(self, repo_id: str, status: int | None) -> HubError:
        """Zenodo responds with an HTTP error status."""
        if status in (404, 410):
            return HubError(
                f"{self.title} at {self._url} has no {repo_id}",
                hint=f"check {self.endpoint}; the record is {URL}/records/{self._record}",
            )
        if status in (401, 403):
            return HubError(f"{self.title} refuses access to {repo_id}", hint=self.instead)
        if status == 416:
            return self._changed(repo_id)
        return super().http_error(repo_id, status)

    def listing(self) -> Listing:
        """List the files of the record.

        Raises:
            HubError: there is no such record, or no network.
        """
        name = f"record {self._record}"
        self._limits.for_listing()
        url = f"{self._url}/api/records/{self._record}"
        with self.valid_listing(), self._get(url, {}, name) as response:
            found = json.loads(response.read())
            files = tuple(self._file(entry) for entry in found["files"])
            if len({file.name for file in files}) != len(files):
                raise ValueError("duplicate names")
            return Listing(name, self._record, None, files)

    @staticmethod
    def _file(entry: Any) -> RemoteFile:
        kind, _, digest = str(entry.get("checksum")).partition(":")
        md5 = digest.lower() if kind == "md5" and len(digest) == 32 else None
        file = remote_file(entry["key"], entry["size"])
        return RemoteFile(file.name, file.size, md5=md5)

    def fetch(
        self, listing: Listing, file: RemoteFile, into: Path, moved: Callable[[int], None]
    ) -> None:
        """Download a file to ``into / file.name``, resuming ``<name>.incomplete`` there.

        Raises:
            Interrupted: the network failed; the partial file is kept.
            HubError: Zenodo refuses access, or sends more than it has listed.
        """
        partial = into / f"{file.name}.incomplete"
        self._limits.for_file(file.size)
        start = partial.stat().st_size if partial.exists() else 0
        if start > file.size:
            partial.unlink()
            start = 0
        if start < file.size or not file.size:
            self._append(file, partial, start, moved)
        partial.replace(into / file.name)

    def _append(
        self, file: RemoteFile, partial: Path, start: int, moved: Callable[[int], None]
    ) -> None:
        """Download the rest of a file, or all of it from a server that cannot resume."""
        url = f"{self._url}/api/records/{self._record}/files/{quote(file.name, safe='')}/content"
        rest = {"Range": f"bytes={start}-"} if start else {}
        with self._get(url, rest, file.name, partial) as response:
            resumed = response.status_code == 206
            if resumed:
                self._require_rest(response, file, partial, start)
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) != file.size - start * resumed:
                partial.unlink(missing_ok=True)
                raise self._changed(file.name)
            with open_named(partial, "ab" if resumed else "wb") as target:
                watched = Watched(target, moved, file.size, self)
                moved(target.tell())
                for part in response.iter_raw():
                    watched.write(part)
        if partial.stat().st_size < file.size:
            raise self.unreachable(midway=True)

    def _require_rest(
        self, response: httpx.Response, file: RemoteFile, partial: Path, start: int
    ) -> None:
        """Check that a response is the requested part of the listed file."""
        part = response.headers.get("Content-Range", "")
        if part != f"bytes {start}-{file.size - 1}/{file.size}":
            partial.unlink(missing_ok=True)
            raise self._changed(file.name)

    def _changed(self, name: str) -> HubError:
        return Interrupted(
            f"{name} has another size on {self.title} than it lists",
            hint=f"start again, or {self.instead}",
        )

    @contextlib.contextmanager
    def _get(
        self, url: str, headers: dict[str, str], name: str, partial: Path | None = None
    ) -> Iterator[httpx.Response]:
        """Send a request, repeatedly if it is refused, and explain its errors."""
        attempt = 0
        with self._explained(partial is not None), contextlib.ExitStack() as stack:
            client = stack.enter_context(self._client())
            while True:
                attempt += 1
                response = stack.enter_context(client.stream("GET", url, headers=headers))
                status = response.status_code
                if status in (200, 206 if headers else 200):
                    break
                if status == 416 and partial is not None:
                    partial.unlink(missing_ok=True)  # not the beginning of the remote file
                if status not in _AGAIN or attempt == _ATTEMPTS:
                    raise self.http_error(name, status)
                response.close()
                self._wait(response, attempt)
            yield response

    def _client(self) -> httpx.Client:
        try:
            client = httpx.Client(
                headers={**PLAIN, "User-Agent": "qwen2vl-rs"},
                timeout=_TIMEOUT,
                follow_redirects=True,
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:  # or a SOCKS proxy
            raise ConfigError(
                "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used",
                hint="set it to http://host:port, or unset it",
            ) from error
        head = HeadTimer(client.close)
        client.event_hooks = {
            "request": [head.start],
            "response": [head.stop, self._limits.on_httpx],
        }
        return client

    def _wait(self, response: httpx.Response, attempt: int) -> None:
        """Wait before the next attempt, as long as Zenodo asks for.

        Raises:
            Interrupted: it asks for a long pause.
        """
        asked = retry_after(response.headers.get("Retry-After", ""))
        reset = response.headers.get("X-RateLimit-Reset", "")
        if asked is None and response.status_code == 429 and reset.isdecimal():
            asked = max(0.0, float(reset) - time.time())
        if asked is not None and asked > LONGEST_PAUSE:
            raise self.must_wait(min(asked, 1e6))
        pause = max(2.0 ** (attempt - 1), asked or 0)
        if pause > _SAID_PAUSE:
            say(f"{self.title} is busy ({response.status_code}): waiting {clock(pause)}")
        time.sleep(pause)

    @contextlib.contextmanager
    def _explained(self, midway: bool) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise_local(error)
            raise self.unreachable(midway=midway, cause=root_cause(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise_local(error)
            raise self.unreachable(midway=midway) from error
        except RuntimeError as error:
            if "closed" not in str(error):  # by the timer of the response's head
                raise
            raise self.unreachable(midway=midway) from error
