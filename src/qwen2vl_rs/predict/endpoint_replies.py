"""What comes back from a server: a reply, or an error, which some send inside a success."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import HubError
from .predictor import Reply

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 524, 529})
"""HTTP statuses after which a request is repeated."""
_BROKEN_OFF = ("error", "abort")  # finish_reason of OpenRouter; of vLLM and SGLang
_PASSING = re.compile(
    r"rate.?limit|too.?many|overload|server.?error|internal|time.?out|unavailable|exhausted"
    r"|upstream|bad.?gateway|connection",
    re.IGNORECASE,
)
_SERVER = "look at the server's own log; then run the same command again: it goes on where it \
stopped"
_HINTS = {
    401: "put the right key into OPENAI_API_KEY",
    402: "the account with the server has no credit left: see to that, then run the same command "
    "again: it goes on where it stopped",
    403: "put the right key into OPENAI_API_KEY",
    404: "check the address (does it end in /v1?) and the name: --endpoint, --model",
}
_REQUEST = "the server must take one image as a data URL, a text, and max_tokens"


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed, and may be repeated.

    Attributes:
        why: in a word or two, e.g. ``503``.
        said: what the server said.
        wait: seconds that it asks to wait; None where it does not.
    """

    why: str
    said: str = ""
    wait: float | None = None


def read_reply(data: bytes, address: str) -> Reply | Failure:
    """What a response of status 200 holds.

    What a server sends as thoughts of their own is no part of the reply. An error in place of
    the answer, or beside a part of it, is an error and no answer.

    Args:
        data: the response's body.
        address: where it came from.

    Raises:
        HubError: it is an error that asking again does not mend, or no chat completion.
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
    """The error for a status that asking again does not mend."""
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
    """The error for what is no chat completion."""
    return HubError(f"{address} answers, but not as OpenAI's API does: {what}", hint=hint)


def message(data: bytes) -> str:
    """What an error response says."""
    try:
        value: Any = json.loads(data)
        return _words(value.get("error") or value)
    except (ValueError, AttributeError, RecursionError):
        return " ".join(data.decode("utf-8", "replace").split())


def _failed(value: dict[str, Any], address: str) -> Failure | None:
    """The error that a response, or one of its choices, holds; None where it holds none.

    Raises:
        HubError: asking again does not mend it.
    """
    error = value.get("error")
    if not error and value.get("object") == "error":  # of older vLLM, FastChat
        error = value
    reason = value.get("finish_reason")
    if isinstance(reason, dict):
        reason = reason.get("type")
    if not error:
        if reason in _BROKEN_OFF:
            return Failure(f"finish_reason {reason}", "the server broke the answer off")
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
    """The HTTP status that an error names."""
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
    """The text of a message: none, one, or in parts."""
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
            "it sends an event stream though none was asked for",
            "turn streaming off at the server or at the proxy before it",
        )
    return strange(address, _shown(data))


def _no_completion(value: Any, data: bytes, address: str) -> HubError:
    choices = value.get("choices") if isinstance(value, dict) else None
    if choices == []:
        return strange(address, f"no answer at all ({_shown(data)})", _SERVER)
    first = choices[0] if isinstance(choices, list) else None
    if isinstance(first, dict) and "message" not in first and "text" in first:
        return strange(
            address,
            f"a completion without a message ({_shown(data)})",
            "the server answers as the older completions API, which takes no images: turn its "
            "chat completions on, or take another server",
        )
    return strange(address, _shown(data))


def _shown(data: bytes) -> str:
    return repr(data[:200].decode("utf-8", "replace"))
