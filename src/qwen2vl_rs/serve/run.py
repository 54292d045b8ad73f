"""From a socket to a running server, and its end."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from ..errors import ConfigError, RunError
from ..system.console import say
from ..system.scopes import preserve_signals
from .app import Service, make_app
from .connections import protocol
from .guard import Guard, is_loopback
from .limits import DEFAULT, Limits
from .logs import bound_logs
from .metrics import Metrics
from .worker import WAITING, Worker

if TYPE_CHECKING:
    from ..predict.session import Session

TOKEN = "QWEN2VL_RS_TOKEN"
# Connections accepted before anything else is done: what a flood brings is looked at, and others
# are answered, in between.
_ACCEPTED = 16
_LAST = 5  # seconds in which what was given up has to end
_QUEUED = 512  # by the system, until they are accepted


def bind(host: str, port: int, token: str | None) -> socket.socket:
    """A listening address; port 0 takes a free one.

    Raises:
        ConfigError: others could reach it, and there is no token; or there is no such address.
        RunError: the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"no address {host}: {error}", hint="e.g. --host 127.0.0.1") from error
    if token is None and not is_loopback(str(address[0])):
        raise ConfigError(
            f"{host} can be reached by others, so a token is needed",
            hint=f"set {TOKEN} (python -c 'import secrets; print(secrets.token_urlsafe())')",
        )
    # Only with its protocol named does asyncio turn off Nagle's delay: 44 ms of every answer.
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise RunError(
            f"cannot listen at {host}, port {port}: {error.strerror}",
            hint="choose another: --port 0 takes a free one",
        ) from error
    return sock


def url_of(sock: socket.socket) -> str:
    """Where a socket is reached by HTTP."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Loop(uvicorn.Server):
    """Accepts connections some at a time, and stops in bounded time."""

    def __init__(self, config: uvicorn.Config, service: Service, limits: Limits) -> None:
        super().__init__(config)
        self._service, self._limits = service, limits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_QUEUED)  # asyncio queues as few as it accepts at a time

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop, limits, service = asyncio.get_running_loop(), self._limits, self._service
        later = [
            loop.call_later(limits.stop_body_seconds, service.stop_reading),
            loop.call_later(limits.stop_seconds, service.close),
        ]
        try:
            await super().shutdown(sockets)
        finally:
            for one in later:
                one.cancel()
            service.close()


class Server:
    """A server around a model; `run` serves until told to stop, then finishes what runs.

    Args:
        session: the model.
        name: under which it is served.
        sock: from `bind`.
        token: see `Guard`.
        limits: of requests.
        waiting: most jobs in the queue.
        plain: see `Service`.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        sock: socket.socket,
        token: str | None = None,
        limits: Limits = DEFAULT,
        waiting: int = WAITING,
        plain: bool = False,
    ) -> None:
        self._sock = sock
        self.url = url_of(sock)
        self.metrics = Metrics()
        self.worker = Worker(session, self.metrics, waiting)
        service = Service(self.worker, name, self.metrics, limits, plain)
        host = str(sock.getsockname()[0])
        guarded = Guard(
            make_app(service),
            self.metrics,
            frozenset(path for _, path, _ in service.routes()),
            token,
            host if is_loopback(host) else None,
            limits.head_bytes,
        )
        config = uvicorn.Config(
            guarded,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            http=protocol(limits),
            h11_max_incomplete_event_size=limits.head_bytes,
            timeout_keep_alive=math.ceil(limits.wait_seconds),
            timeout_graceful_shutdown=math.ceil(limits.stop_seconds) + _LAST,
            backlog=_ACCEPTED,
            ws="none",
            proxy_headers=False,  # nothing here believes what a request says of its sender
        )
        self._server = _Loop(config, service, limits)

    def run(self, ready: Callable[[str], Any] | None = None) -> None:
        """Serve until `stop`, SIGTERM or Ctrl-C; requests that came before are answered.

        Args:
            ready: called with the address once connections are accepted.
        """
        self._sock.listen(_QUEUED)
        if ready is not None:
            ready(self.url)
        try:
            # a signal that uvicorn has obeyed, and raises again afterwards, ends nothing more
            with bound_logs(), preserve_signals(["SIGTERM"], lambda *_: None):
                self._server.run(sockets=[self._sock])
        finally:
            self.worker.close()
            self._sock.close()

    def stop(self) -> None:
        """Ask it to finish; any thread may call this."""
        self._server.should_exit = True


def serve(
    folder: Path,
    base_folder: Path | None,
    host: str,
    port: int,
    token: str | None,
    ready: Callable[[str], Any],
    plain: bool = False,
) -> None:
    """Load a model and serve it until SIGTERM or Ctrl-C.

    Args:
        folder: a run, a checkpoint or a base.
        base_folder: the base of a checkpoint; None for where it was.
        host: address to listen at.
        port: 0 for a free one.
        token: what clients have to send; needed beyond loopback.
        ready: called with the address once connections are accepted.
        plain: see `Service`.

    Raises:
        ConfigError: see `bind`.
        ModelError: the folder holds no model of ours.
    """
    sock = bind(host, port, token)
    try:
        from ..predict.session import Session

        say(f"loading {folder}")
        session = Session.open(folder, base_folder)
    except BaseException:
        sock.close()
        raise
    Server(session, folder.resolve().name, sock, token, plain=plain).run(ready)
