"""The door: who may ask. Runs before anything of a request's body is read.

- With a token, everything but the page's own files and ``/health`` wants it.
- A request that a browser sends from another site's page is refused (its Origin is not ours).
- On loopback, a Host that is no name of this machine is refused: a site whose name was pointed at
  127.0.0.1 (DNS rebinding) would otherwise be read as ours.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_errors import Refusal
from .limits import DEFAULT
from .metrics import Metrics

OPEN = {"/", "/health"}  # without token: the page holds no data
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """Wraps an application; refuses, counts, and adds the headers that all answers have.

    Args:
        app: what answers.
        metrics: where requests are counted.
        routes: paths that are counted by name.
        token: what has to be sent as ``Authorization: Bearer``; None asks for none.
        host: the address served at, where it is loopback; None where others may name us freely.
        head_bytes: most of a request's head; h11 bounds those alone that come in pieces.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        routes: frozenset[str],
        token: str | None,
        host: str | None,
        head_bytes: int = DEFAULT.head_bytes,
    ) -> None:
        self._app, self._metrics, self._routes = app, metrics, routes
        self._token, self._host, self._head_bytes = token, host, head_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _by_path(scope)
        path = scope["path"]
        route = path if path in self._routes else "other"
        start, status = time.monotonic(), "499"  # no answer: the client has left

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message["headers"], *_SAFE]
            await send(message)

        try:
            try:
                self._check_size(scope)
                _check_framing(scope)
                self._check(scope["method"], path, Headers(scope=scope))
            except Refusal as refusal:
                answer = JSONResponse(refusal.body(), refusal.status, refusal.headers)
                await answer(scope, receive, counted)
            else:
                await self._app(scope, receive, counted)
        finally:
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - start)

    def _check_size(self, scope: Scope) -> None:
        size = len(scope["raw_path"]) + len(scope["query_string"])
        if size + sum(len(k) + len(v) + 4 for k, v in scope["headers"]) > self._head_bytes:
            raise Refusal(431, "head_too_large", f"a head has {self._head_bytes:,} bytes at most")

    def _check(self, method: str, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._host is not None and not _is_local(_name(host), self._host):
            raise Refusal(
                403,
                "wrong_host",
                "this server answers on this machine only",
                hint=f"open it as http://{self._host}, or start it with --host and a token",
            )
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if any(_netloc(origin) != host.lower() for origin in headers.getlist("origin")):
            foreign = True
        if foreign and (method not in ("GET", "HEAD") or path not in OPEN):
            raise Refusal(403, "wrong_origin", "a page of another site may not ask here")
        if self._token is not None and path not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode("latin-1"), self._token.encode())
            if not right or scheme.lower() != "bearer":
                raise Refusal(
                    401,
                    "invalid_api_key",
                    "a token is needed, and this is not it",
                    hint="send it as Authorization: Bearer TOKEN",
                )


def _by_path(scope: Scope) -> Scope:
    """A request whose target is a whole URL (RFC 9112, 3.2.2), as one for its path at its host."""
    target: bytes = scope["raw_path"]
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        return scope
    host, slash, path = rest.partition(b"/")
    headers = [(k, v) for k, v in scope["headers"] if k != b"host"]
    raw = slash + path or b"/"
    return {
        **scope,
        "raw_path": raw,
        "path": unquote(raw.decode("latin-1")),
        "headers": [*headers, (b"host", host)],
    }


def _check_framing(scope: Scope) -> None:
    """Refuse a request of which others on its way may see another end than we do.

    RFC 9112, 6.1: of two lengths the one may have been meant, the other taken, and what is behind
    would be another request. Such a connection is not used again.
    """
    names = [name for name, _ in scope["headers"]]
    coded = b"transfer-encoding" in names
    if coded and (b"content-length" in names or scope["http_version"] != "1.1"):
        raise Refusal(
            400,
            "ambiguous_length",
            "a body has Content-Length or Transfer-Encoding, not both",
            closes=True,
        )
    if scope["http_version"] not in ("1.0", "1.1"):
        raise Refusal(505, "http_version", "this is an HTTP/1.1 server", closes=True)


def is_loopback(address: str) -> bool:
    """Whether an IP address is of this machine alone."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _netloc(origin: str) -> str | None:
    """Host and port of an Origin header; None where it names none, as ``null``."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_local(name: str, served: str) -> bool:
    try:
        return is_loopback(name)
    except ValueError:
        return name in ("localhost", served.lower())
