"""Chat completions over HTTP: many at a time, not too fast, and again where that may help."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..errors import ConfigError, HubError
from ..predict.job import Reply
from .replies import AGAIN, Failure, message, read_reply, refusal, strange

_ATTEMPTS = 8
_LONGEST_WAIT = 60.0  # seconds, of our own choice
_LONGEST_PAUSE = 900.0  # seconds, where the server asks for it
_LONGEST_REPLY = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and how hard.

    Attributes:
        url: of the API, e.g. ``http://127.0.0.1:8000/v1``.
        model: its name there.
        key: sent as ``Authorization: Bearer``; None for none.
        concurrency: requests at a time.
        rate: most requests a second; None for no bound.
        timeout: seconds for one request.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    rate: float | None = None
    timeout: float = 120.0

    @property
    def address(self) -> str:
        """Where questions are sent.

        Raises:
            ConfigError: ``url`` is no address, or carries a password.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"{self.url!r} is no address of a server",
                hint="such as --endpoint http://127.0.0.1:8000/v1",
            )
        if parts.username or parts.password:
            raise ConfigError(
                "the address holds a password", hint="set OPENAI_API_KEY in the environment instead"
            )
        return f"{self.url.rstrip('/')}/chat/completions"

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with every question.

        Raises:
            ConfigError: the key cannot be sent.
        """
        said = {"User-Agent": "qwen2vl-rs"}
        if key := (self.key or "").strip():
            if not (key.isascii() and key.isprintable() and " " not in key):
                raise ConfigError(
                    "OPENAI_API_KEY holds characters that no key has",
                    hint="set it again, without quotes or blanks",
                )
            said["Authorization"] = f"Bearer {key}"
        return said


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        id: of the sample.
        text: instruction and question.
        image: gives the data URL of its image.
        most: longest answer in tokens.
    """

    id: str
    text: str
    image: Callable[[], str]
    most: int


class Client:
    """Asks one endpoint.

    Args:
        endpoint: where.

    Attributes:
        again: how often a request was repeated, by reason.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._address = endpoint, endpoint.address
        self._next = 0.0  # when the next request may leave
        self._pause = 0.0  # until when the server asked for silence
        self.again: Counter[str] = Counter()

    async def ask(self, questions: Sequence[Question]) -> AsyncGenerator[tuple[str, Reply]]:
        """Ids and replies, in the order in which they come.

        Raises:
            HubError: the server refuses, answers something else, or fails again and again.
        """
        waiting = iter(questions)
        # A redirect would take the key and the images to another place.
        async with httpx.AsyncClient(
            headers=self._endpoint.headers,
            timeout=self._endpoint.timeout,
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
                    # what was answered is handed on before a failure ends it all
                    for task in sorted(done, key=lambda task: task.exception() is not None):
                        yield task.result()
                        running.remove(task)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    async def _one(self, http: httpx.AsyncClient, question: Question) -> tuple[str, Reply]:
        image = await asyncio.to_thread(question.image)
        content = [
            {"type": "image_url", "image_url": {"url": image}},
            {"type": "text", "text": question.text},
        ]
        body = {
            "model": self._endpoint.model, "temperature": 0, "max_tokens": question.most,
            "messages": [{"role": "user", "content": content}],
        }  # fmt: skip
        failed: Failure | None = None
        for attempt in range(_ATTEMPTS):
            if failed:
                self.again[failed.why] += 1
            await self._turn()
            wait = min(_LONGEST_WAIT, 0.5 * 2**attempt) * random.uniform(0.5, 1)
            reply = await self._try(http, body)
            if isinstance(reply, Reply):
                return question.id, reply
            failed = reply
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(wait if failed.wait is None else failed.wait)
        assert failed
        said = f": {failed.said[:300]}" if failed.said else ""
        raise HubError(
            f"{self._address} failed {_ATTEMPTS} times in a row: {failed.why}{said}",
            hint="look after the server, then run the same command again: it goes on where it "
            "stopped; --concurrency and --rate ask less of it",
        )

    async def _try(self, http: httpx.AsyncClient, body: dict[str, Any]) -> Reply | Failure:
        """The reply to a request, or why there is none."""
        try:
            response, data = await self._post(http, body)
        except httpx.TimeoutException:
            return Failure("timeout")
        except httpx.TransportError as error:
            return Failure(f"connection ({type(error).__name__})")
        except httpx.RequestError as error:
            raise strange(self._address, str(error)) from error
        status = response.status_code
        if status == 200:
            failed = read_reply(data, self._address)
            if isinstance(failed, Reply):
                return failed
        elif status in AGAIN:
            failed = Failure(str(status), message(data))
        else:
            said = message(data) or response.headers.get("location", "")
            raise refusal(status, said, self._address)
        if (asked := _retry_after(response)) is not None:
            self._pause = max(self._pause, time.monotonic() + asked)
        return replace(failed, wait=asked)

    async def _post(
        self, http: httpx.AsyncClient, body: dict[str, Any]
    ) -> tuple[httpx.Response, bytes]:
        """Send one request; the response's body is read up to a bound."""
        async with http.stream("POST", self._address, json=body) as response:
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > _LONGEST_REPLY:
                    break
            return response, bytes(data)

    async def _turn(self) -> None:
        """Wait until the next request may leave; a server may ask for silence meanwhile."""
        if self._endpoint.rate:
            mine = max(time.monotonic(), self._next)
            self._next = mine + 1 / self._endpoint.rate
        else:
            mine = 0.0
        while (wait := max(mine, self._pause) - time.monotonic()) > 0:
            await asyncio.sleep(wait)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that a server asks to wait; None where it does not say."""
    value = response.headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal():
        return min(_LONGEST_PAUSE, float(value))
    try:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None
    return min(_LONGEST_PAUSE, max(0.0, seconds))
