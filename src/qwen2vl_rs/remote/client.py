"""Chat completions over HTTP: many at a time, not too fast, and again where that may help."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..errors import ConfigError, HubError

_ATTEMPTS = 8
_LONGEST_WAIT = 60.0  # seconds
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

    async def ask(self, questions: Sequence[Question]) -> AsyncIterator[tuple[str, str]]:
        """Ids and answers, in the order in which they come.

        Raises:
            HubError: the server refuses, answers something else, or fails again and again.
        """
        headers = {"User-Agent": "qwen2vl-rs"}
        if self._endpoint.key:
            headers["Authorization"] = f"Bearer {self._endpoint.key}"
        waiting = iter(questions)
        # A redirect would take the key and the images to another place.
        async with httpx.AsyncClient(
            headers=headers, timeout=self._endpoint.timeout, follow_redirects=False, trust_env=False
        ) as http:
            running: set[asyncio.Task[tuple[str, str]]] = set()
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

    async def _one(self, http: httpx.AsyncClient, question: Question) -> tuple[str, str]:
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
            try:
                response = await http.post(self._address, json=body)
            except httpx.TimeoutException:
                why = "timeout"
            except httpx.TransportError as error:
                why = f"connection ({type(error).__name__})"
            else:
                if response.status_code == 200:
                    return question.id, _text(response, self._address)
                if response.status_code not in _AGAIN:
                    raise self._refusal(response)
                why = str(response.status_code)
                if (asked := _retry_after(response)) is not None:
                    wait = asked
                    self._pause = max(self._pause, time.monotonic() + asked)
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(wait)
        raise HubError(
            f"{self._address} failed {_ATTEMPTS} times in a row: {why}",
            hint="look after the server, then run the same command again: it goes on where it "
            "stopped; --concurrency and --rate ask less of it",
        )

    async def _turn(self) -> None:
        """Wait until the next request may leave."""
        now = time.monotonic()
        start = max(now, self._next, self._pause)
        if self._endpoint.rate:
            self._next = start + 1 / self._endpoint.rate
        await asyncio.sleep(start - now)

    def _refusal(self, response: httpx.Response) -> HubError:
        said = _message(response)
        status = response.status_code
        if status in (401, 403):
            hint = "put the right key into OPENAI_API_KEY"
        elif status == 404:
            hint = "check the address (does it end in /v1?) and the name: --endpoint, --model"
        elif 300 <= status < 400:
            hint = "give the address it points to; redirects are not followed"
            said = said or response.headers.get("location", "")
        else:
            hint = "the server does not take such questions: an image as data URL, and a text"
        return HubError(f"{self._address} answers {status}: {said[:300]}", hint=hint)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that a server asks to wait; None where it does not say."""
    value = response.headers.get("retry-after", "")
    return min(_LONGEST_WAIT, float(value)) if value.replace(".", "", 1).isdecimal() else None


def _text(response: httpx.Response, address: str) -> str:
    """The answer in a response."""
    try:
        if len(response.content) > _LONGEST_REPLY:
            raise ValueError("too long")
        text = response.json()["choices"][0]["message"]["content"]
        if text is None:
            return ""
        if not isinstance(text, str):
            raise TypeError("no text")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise HubError(
            f"{address} answers, but not as OpenAI's API does: {response.text[:200]!r}",
            hint="check the address: --endpoint",
        ) from error
    return text.encode("utf-8", "replace").decode()


def _message(response: httpx.Response) -> str:
    """What an error response says."""
    try:
        value: Any = response.json()
        value = value.get("error", value)
        value = value.get("message", value) if isinstance(value, dict) else value
        return str(value)
    except (ValueError, AttributeError, RecursionError):
        return " ".join(response.text.split())
