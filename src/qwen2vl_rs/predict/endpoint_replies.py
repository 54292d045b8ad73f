"""Parse responses of a server: replies, and errors, which some servers return with HTTP 200."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import HubError
from .predictor import Reply

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 524, 529})
"""HTTP statuses that lead to another attempt."""
_BROKEN_OFF = ("error", "abort")  # finish_reason of OpenRouter; of vLLM and SGLang
_PASSING = re.compile(
    r"rate.?limit|too.?many|overload|server.?error|internal|time.?out|unavailable|exhausted"
    r"|upstream|bad.?gateway|connection",
    re.IGNORECASE,
)
_SERVER = "check the server's log, then run the same command again: it resumes"
_HINTS = {
    401: "put the right key into OPENAI_API_KEY",
    402: "the account has no credit left: add some, then run the same command again: it resumes",
    403: "put the right key into OPENAI_API_KEY",
    404: "check the address (does it end in /v1?) and the name: --endpoint, --model",
}
_REQUEST = "the server must take one image as a data URL, a text, and max_tokens"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request, which may be repeated.

    Attributes:
        why: a short reason, e.g. ``503``.
        said: the server's message.
        wait: seconds that the server asks to wait, if any.
    """

    why: str
    said: str = ""
    wait: float | None = None


def read_reply(data: bytes, address: str) -> Reply | Failure:
    """Parse a response of status 200.

    Separate reasoning content is not part of the reply. A response with an error counts as an
    error, even beside a part of an answer.

    Args:
        data: the response's body.
        address: the URL, for messages.

    Raises:
        HubError: it is a permanent error, or not a chat completion.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _no_json(data, address) from error
    if isinstance(value, dict) and (failed := _failed(value, address)):
        return failed
    try:
        choice = value["choices"][0]
        if (failed := _failed(choice, address)) is not None:
            return failed
        text = _content(dict(choice["message"]).get("content"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _no_completion(value, data, address) from error
    cut = choice.get("finish_reason") == "length"
    return Reply(text.encode("utf-8", "replace").decode(), cut)


def refusal(status: int, said: str, address: str) -> HubError:
    """Return the error for a status that is permanent."""
    if status in _HINTS:
        hint = _HINTS[status]
    elif 300 <= status < 400:
        hint = "give the address it points to; redirects are not followed"
    elif status >= 500:
        hint = _SERVER
    else:
        hint = _REQUEST
    return HubError(f"{address} answers {status}: {said[:300]}", hint=hint)


def strange(address: str, what: str, hint: str = "check the address: --endpoint") -> HubError:
    """Return the error for a response that is not a chat completion."""
    return HubError(f"{address} answers, but not as OpenAI's API does: {what}", hint=hint)


def message(data: bytes) -> str:
    """Return the message of an error response."""
    try:
        value: Any = json.loads(data)
        return _words(value.get("error") or value)
    except (ValueError, AttributeError, RecursionError):
        return " ".join(data.decode("utf-8", "replace").split())


def _failed(value: dict[str, Any], address: str) -> Failure | None:
    """Return the temporary error in a response or one of its choices, if any.

    Raises:
        HubError: the error is permanent.
    """
    error = value.get("error")
    if not error and value.get("object") == "error":  # of older vLLM, FastChat
        error = value
    reason = value.get("finish_reason")
    if isinstance(reason, dict):
        reason = reason.get("type")
    if not error:
        if reason in _BROKEN_OFF:
            return Failure(f"finish_reason {reason}", "the server aborted the answer")
        return None
    said, status = _words(error), _status(error)
    if status is None:
        kind = (
            " ".join(str(error.get(k) or "") for k in ("type", "code", "status"))
            if isinstance(error, dict)
            else str(error)
        )
        if reason in _BROKEN_OFF or _PASSING.search(kind):
            return Failure("error in a reply", said)
        raise HubError(f"{address} answers with an error: {said[:300]}", hint=_SERVER)
    if status in AGAIN:
        return Failure(f"{status} in a reply", said)
    raise refusal(status, said, address)


def _status(error: Any) -> int | None:
    """Return the HTTP status in an error, if any."""
    if isinstance(error, dict):
        for key in ("code", "status", "status_code"):
            text = str(error.get(key, ""))
            if text.isdecimal() and 400 <= int(text[:9]) < 600:
                return int(text)
    return None


def _words(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return " ".join(str(error).split())


def _content(value: Any) -> str:
    """Return the text of a message, which may be null, a string or a list of parts."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "".join(_content(part["text"]) for part in value if part["type"] == "text")
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _no_json(data: bytes, address: str) -> HubError:
    if data.lstrip().startswith((b"data:", b"event:")):
        return strange(
            address,
            "it sends an event stream though none was requested",
            "turn streaming off at the server or the proxy",
        )
    return strange(address, _shown(data))


def _no_completion(value: Any, data: bytes, address: str) -> HubError:
    choices = value.get("choices") if isinstance(value, dict) else None
    if choices == []:
        return strange(address, f"an empty answer ({_shown(data)})", _SERVER)
    first = choices[0] if isinstance(choices, list) else None
    if isinstance(first, dict) and "message" not in first and "text" in first:
        return strange(
            address,
            f"a completion without a message ({_shown(data)})",
            "the server uses the older completions API, which takes no images: enable its chat "
            "completions, or use another server",
        )
    return strange(address, _shown(data))


def _shown(data: bytes) -> str:
    return repr(data[:200].decode("utf-8", "replace"))
