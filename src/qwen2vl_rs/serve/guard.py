"""Authentication and origin checks, before the body of a request is read.

- With a token, everything except the page's own files and ``/health`` requires it.
- Requests from other sites' pages are refused (their Origin is not this server).
- On loopback, a Host that is not a name of this machine is refused: a site whose name resolves to
  127.0.0.1 (DNS rebinding) would otherwise count as the same origin.
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

OPEN = {"/", "/health"}  # without token: the page contains no data
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """ASGI middleware: refuses, counts, and adds the headers of all responses.

    Args:
        app: the application.
        metrics: counts requests.
        routes: paths that are counted by name.
        token: the required ``Authorization: Bearer`` token; None for none.
        host: the server's address, if it is loopback; None to accept any Host.
        head_bytes: maximum size of a request's head; h11 limits only heads in several pieces.
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
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _by_path(scope)
        path = scope["path"]
        route = path if path in self._routes else "other"
        start, status = time.monotonic(), "499"  # the client has disconnected without a response

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
                "this server accepts requests from this machine only",
                hint=f"open it as http://{self._host}, or start it with --host and a token",
            )
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if any(_netloc(origin) != host.lower() for origin in headers.getlist("origin")):
            foreign = True
        if foreign and (method not in ("GET", "HEAD") or path not in OPEN):
            raise Refusal(403, "wrong_origin", "pages of other sites may not use this server")
        if self._token is not None and path not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode("latin-1"), self._token.encode())
            if not right or scheme.lower() != "bearer":
                raise Refusal(
                    401,
                    "invalid_api_key",
                    "the token is missing or wrong",
                    hint="send it as Authorization: Bearer TOKEN",
                )


def _by_path(scope: Scope) -> Scope:
    """Convert a request whose target is a whole URL (RFC 9112, 3.2.2) to one for path and host."""
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
    """Refuse a request that a proxy could delimit differently (request smuggling).

    RFC 9112, 6.1: with two lengths, proxy and server may use different ones, and the rest would
    count as another request. The connection is then closed.
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
    """Return whether an IP address is a loopback address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _netloc(origin: str) -> str | None:
    """Return host and port of an Origin header; None if it has none, like ``null``."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_local(name: str, served: str) -> bool:
    try:
        return is_loopback(name)
    except ValueError:
        return name in ("localhost", served.lower())
