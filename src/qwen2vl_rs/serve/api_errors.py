"""Errors of the API: HTTP status, code, message and hint."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any


@dataclass(eq=False)
class Refusal(Exception):
    """A request that cannot be answered, reported in OpenAI's error format.

    Args:
        status: HTTP status, 4xx or 503.
        code: for programs, e.g. ``image_too_large``.
        message: what is wrong, in one line.
        hint: what to do.
        param: the invalid field.
        retry_after: seconds after which to try again.
        closes: whether the connection is closed after it.
    """

    status: int
    code: str
    message: str
    _: KW_ONLY
    hint: str | None = None
    param: str | None = None
    retry_after: int | None = None
    closes: bool = False

    def __post_init__(self) -> None:
        if self.status in (408, 413, 431):  # the rest of the body is not read
            self.closes = True

    def __str__(self) -> str:
        return self.message

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        found = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if self.closes:
            found["Connection"] = "close"
        return found

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's format, plus the hint."""
        kinds = {
            401: "authentication_error",
            403: "permission_error",
            404: "not_found_error",
            429: "rate_limit_error",
        }
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        text = f"{self.message} ({self.hint})" if self.hint else self.message
        named = {"param": self.param, "code": self.code, "hint": self.hint}
        return {"error": {"message": text, "type": kind, **named}}


def too_large(what: str, hint: str | None = None, param: str | None = "image") -> Refusal:
    """Return the error for an image that is too large."""
    return Refusal(413, "image_too_large", what, hint=hint, param=param)
