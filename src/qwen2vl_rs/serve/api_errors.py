"""What a request is refused for: a status, and a text for the person who sent it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any


@dataclass(eq=False)
class Refusal(Exception):
    """A request cannot be answered; becomes an error in OpenAI's form.

    Args:
        status: HTTP status, 4xx or 503.
        code: a word for programs, e.g. ``image_too_large``.
        message: what is wrong, in one line.
        hint: what to do about it.
        param: the field that is wrong.
        retry_after: seconds after which to try again.
        closes: whether no more is read from the connection.
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
        """Headers of the answer."""
        found = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if self.closes:
            found["Connection"] = "close"
        return found

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it, with the hint beside."""
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
    """An image is."""
    return Refusal(413, "image_too_large", what, hint=hint, param=param)
