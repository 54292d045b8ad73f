"""HTTP client for chat completions: concurrency, rate limit, retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..errors import ConfigError, HubError
from ..system.console import clock, say
from ..system.oserrors import explain_os_error, process_limit, root_cause
from ..system.pauses import retry_after
from .endpoint_bodies import decoded
from .endpoint_replies import AGAIN, Failure, message, read_reply, refusal, strange
from .predictor import Reply

_ATTEMPTS = 8
_LONGEST_WAIT = 60.0  # seconds, of our own backoff
_LONGEST_PAUSE = 900.0  # seconds, if the server asks for it
_LONGEST_REPLY = 1 << 20  # bytes, also after decompression
_SAID_PAUSE = 5.0  # seconds; longer pauses are printed


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, a model on it, and the limits of requests.

    Attributes:
        url: base URL of the API, e.g. ``http://127.0.0.1:8000/v1``.
        model: the model's name on the server.
        key: the API key, sent as ``Authorization: Bearer``; optional.
        concurrency: maximum simultaneous requests.
        rate: maximum requests per second; None for no limit.
        timeout: seconds for one request, until its response is complete.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    rate: float | None = None
    timeout: float = 120.0

    @property
    def address(self) -> str:
        """The URL of the chat completions.

        Raises:
            ConfigError: ``url`` is not a URL, or contains a password.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"{self.url!r} is not a server's URL",
                hint="such as --endpoint http://127.0.0.1:8000/v1",
            )
        if parts.username or parts.password:
            raise ConfigError(
                "the URL contains a password", hint="set OPENAI_API_KEY in the environment instead"
            )
        return f"{self.url.rstrip('/')}/chat/completions"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request.

        Raises:
            ConfigError: the key contains invalid characters.
        """
        said = {"User-Agent": "qwen2vl-rs"}
        if key := (self.key or "").strip():
            if not (key.isascii() and key.isprintable() and " " not in key):
                raise ConfigError(
                    "OPENAI_API_KEY contains invalid characters",
                    hint="set it again, without quotes or blanks",
                )
            said["Authorization"] = f"Bearer {key}"
        return said


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request.

    Attributes:
        id: the sample's id.
        text: instruction and question.
        image: returns the data URL of the image.
        most: maximum tokens of the answer.
    """

    id: str
    text: str
    image: Callable[[], str]
    most: int


class EndpointClient:
    """A client of one endpoint.

    Args:
        endpoint: the server.

    Attributes:
        again: number of repeated requests, by reason.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._address = endpoint, endpoint.address
        self._next = 0.0  # earliest time of the next request
        self._pause = 0.0  # end of the pause that the server asked for
        self.again: Counter[str] = Counter()

    async def ask(self, questions: Sequence[ChatRequest]) -> AsyncGenerator[tuple[str, Reply]]:
        """Yield ids and replies in the order of arrival.

        Raises:
            HubError: the server refuses, the response is invalid, or all attempts failed.
        """
        waiting = iter(questions)
        # A redirect would send the key and the images to another host.
        async with httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", **self._endpoint.headers},
            timeout=None,  # httpx's applies to each read: `_post` limits the whole request
            limits=httpx.Limits(max_connections=self._endpoint.concurrency),
            follow_redirects=False,
            trust_env=False,
        ) as http:
            running: set[asyncio.Task[tuple[str, Reply]]] = set()
            try:
                while True:
                    while len(running) < self._endpoint.concurrency:
                        question = next(waiting, None)
                        if question is None:
                            break
                        running.add(asyncio.create_task(self._one(http, question)))
                    if not running:
                        return
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    # completed replies are yielded before an error ends the loop
                    for task in sorted(done, key=lambda task: task.exception() is not None):
                        yield task.result()
                        running.remove(task)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    async def _one(self, http: httpx.AsyncClient, question: ChatRequest) -> tuple[str, Reply]:
        image = await asyncio.to_thread(question.image)
        content = [
            {"type": "image_url", "image_url": {"url": image}},
            {"type": "text", "text": question.text},
        ]
        body = {
            "model": self._endpoint.model,
            "temperature": 0,
            "max_tokens": question.most,
            "messages": [{"role": "user", "content": content}],
        }
        await self._turn()
        attempt = 1
        while isinstance(reply := await self._try(http, body), Failure) and attempt < _ATTEMPTS:
            wait = min(_LONGEST_WAIT, 0.25 * 2**attempt) * random.uniform(0.5, 1)
            # a server that asks for fewer requests would not be helped by eight retries at once
            await asyncio.sleep(max(wait, reply.wait or 0))
            self.again[reply.why] += 1
            attempt += 1
            await self._turn()
        if isinstance(reply, Reply):
            return question.id, reply
        said = f": {reply.said[:300]}" if reply.said else ""
        raise HubError(
            f"{self._address} failed {_ATTEMPTS} times in a row: {reply.why}{said}",
            hint="check the server, then run the same command again: it resumes; "
            "--concurrency and --rate reduce the load",
        )

    async def _try(self, http: httpx.AsyncClient, body: dict[str, Any]) -> Reply | Failure:
        """Send a request once; return the reply or the failure."""
        try:
            response, data = await self._post(http, body)
        except TimeoutError:
            return Failure("timeout", f"no complete answer within {self._endpoint.timeout:g} s")
        except httpx.TransportError as error:
            if limit := process_limit(error):
                raise explain_os_error(limit) from error
            cause = root_cause(error)
            why = cause.strerror if cause else type(error).__name__
            return Failure(f"connection ({why})")
        except httpx.RequestError as error:
            raise strange(self._address, str(error)) from error
        status = response.status_code
        data = self._unpacked(response, data)
        if status == 200:
            failed = read_reply(data, self._address)
            if isinstance(failed, Reply):
                return failed
        elif status in AGAIN:
            failed = Failure(str(status), message(data))
        else:
            said = message(data) or response.headers.get("location", "")
            raise refusal(status, said, self._address)
        asked = _retry_after(response)
        if asked is not None:
            self._hold_back(asked, status)
        return replace(failed, wait=asked)

    def _unpacked(self, response: httpx.Response, data: bytes) -> bytes:
        """Decompress a body; an error's body may be dropped.

        Raises:
            HubError: a reply is too long or cannot be decompressed.
        """
        encoding, good = response.headers.get("content-encoding", ""), response.status_code == 200
        try:
            data = decoded(data, encoding, _LONGEST_REPLY)
        except ValueError as error:
            if good:
                raise strange(self._address, f"{error} (Content-Encoding: {encoding})") from error
            return b""
        if good and len(data) > _LONGEST_REPLY:
            raise strange(self._address, "a reply of more than 1 MB")
        return data

    def _hold_back(self, seconds: float, status: int) -> None:
        """Send nothing for some seconds, as the server asks."""
        until = time.monotonic() + seconds
        if until > self._pause + _SAID_PAUSE and seconds > _SAID_PAUSE:
            say(f"the server asks to wait {clock(seconds)} ({status})")
        self._pause = max(self._pause, until)

    async def _post(
        self, http: httpx.AsyncClient, body: dict[str, Any]
    ) -> tuple[httpx.Response, bytes]:
        """Send one request and read the response's body up to a limit, without decompression.

        An error's body may be incomplete.

        Raises:
            TimeoutError: the response was not complete in time.
            httpx.RequestError: sending failed, or the response is broken.
        """
        response, data = None, bytearray()
        try:
            async with (
                asyncio.timeout(self._endpoint.timeout),
                http.stream("POST", self._address, json=body) as response,
            ):
                async for part in response.aiter_raw():
                    data += part
                    if len(data) > _LONGEST_REPLY:
                        break
        except (TimeoutError, httpx.TransportError):
            if response is None or response.status_code == 200:
                raise
        assert response is not None
        return response, bytes(data)

    async def _turn(self) -> None:
        """Wait until the next request may be sent; the server may extend a pause meanwhile."""
        while (wait := max(self._next, self._pause) - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if self._endpoint.rate:  # applies after a pause, too
            self._next = time.monotonic() + 1 / self._endpoint.rate


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds in ``Retry-After``; None if missing or invalid."""
    seconds = retry_after(response.headers.get("retry-after", ""))
    return None if seconds is None else min(_LONGEST_PAUSE, seconds)
