"""Chat completions over HTTP: many at a time, not too fast, and again where that may help."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..errors import ConfigError, HubError
from ..predict.job import Reply

_ATTEMPTS = 8
_LONGEST_WAIT = 60.0  # seconds, of our own choice
_LONGEST_PAUSE = 900.0  # seconds, where the server asks for it
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
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

    async def ask(self, questions: Sequence[Question]) -> AsyncIterator[tuple[str, Reply]]:
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
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
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
        why = ""
        for attempt in range(_ATTEMPTS):
            if why:
                self.again[why] += 1
            await self._turn()
            wait = min(_LONGEST_WAIT, 0.5 * 2**attempt) * random.uniform(0.5, 1)
            reply, why, asked = await self._try(http, body)
            if reply is not None:
                return question.id, reply
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(wait if asked is None else asked)
        raise HubError(
            f"{self._address} failed {_ATTEMPTS} times in a row: {why}",
            hint="look after the server, then run the same command again: it goes on where it "
            "stopped; --concurrency and --rate ask less of it",
        )

    async def _try(
        self, http: httpx.AsyncClient, body: dict[str, Any]
    ) -> tuple[Reply | None, str, float | None]:
        """The reply to a request; or None, why, and the seconds that the server asks for."""
        try:
            response, data = await self._post(http, body)
        except httpx.TimeoutException:
            return None, "timeout", None
        except httpx.TransportError as error:
            return None, f"connection ({type(error).__name__})", None
        except httpx.RequestError as error:
            raise _strange(self._address, str(error)) from error
        if response.status_code == 200:
            return _reply(data, self._address), "", None
        if response.status_code not in _AGAIN:
            raise self._refusal(response, data)
        if (asked := _retry_after(response)) is not None:
            self._pause = max(self._pause, time.monotonic() + asked)
        return None, str(response.status_code), asked

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

    def _refusal(self, response: httpx.Response, data: bytes) -> HubError:
        said = _message(data)
        status = response.status_code
        if status in (401, 403):
            hint = "put the right key into OPENAI_API_KEY"
        elif status == 404:
            hint = "check the address (does it end in /v1?) and the name: --endpoint, --model"
        elif 300 <= status < 400:
            hint = "give the address it points to; redirects are not followed"
            said = said or response.headers.get("location", "")
        else:
            hint = "the server must take one image as a data URL, a text, and max_tokens"
        return HubError(f"{self._address} answers {status}: {said[:300]}", hint=hint)


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


def _reply(data: bytes, address: str) -> Reply:
    """The reply in a response; what a server sends as thoughts of their own is no part of it."""
    try:
        choice = json.loads(data)["choices"][0]
        text = _content(dict(choice["message"]).get("content"))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _strange(address, repr(data[:200].decode("utf-8", "replace"))) from error
    cut = choice.get("finish_reason") == "length"
    return Reply(text.encode("utf-8", "replace").decode(), cut)


def _content(value: Any) -> str:
    """The text of a message: none, one, or in parts."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "".join(_content(part["text"]) for part in value if part["type"] == "text")
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _strange(address: str, what: str) -> HubError:
    return HubError(
        f"{address} answers, but not as OpenAI's API does: {what}",
        hint="check the address: --endpoint",
    )


def _message(data: bytes) -> str:
    """What an error response says."""
    try:
        value: Any = json.loads(data)
        value = value.get("error", value)
        value = value.get("message", value) if isinstance(value, dict) else value
        return str(value)
    except (ValueError, AttributeError, RecursionError):
        return " ".join(data.decode("utf-8", "replace").split())
