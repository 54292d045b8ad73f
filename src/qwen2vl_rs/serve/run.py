"""Start and stop the server: listening socket, uvicorn, signals."""

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
# Connections accepted per turn of the event loop, so that a flood does not delay other requests.
_ACCEPTED = 16
_LAST = 5  # seconds for cancelled work to end
_QUEUED = 512  # connections in the system's queue


def bind(host: str, port: int, token: str | None) -> socket.socket:
    """Return a listening socket; port 0 selects a free port.

    Raises:
        ConfigError: the address is reachable by others and there is no token; or is invalid.
        RunError: the port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"no address {host}: {error}", hint="e.g. --host 127.0.0.1") from error
    if token is None and not is_loopback(str(address[0])):
        raise ConfigError(
            f"{host} is reachable by other machines, so a token is required",
            hint=f"set {TOKEN} (python -c 'import secrets; print(secrets.token_urlsafe())')",
        )
    # asyncio turns off Nagle's delay (44 ms per answer) only if the socket names its protocol.
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise RunError(
            f"cannot listen at {host}, port {port}: {error.strerror}",
            hint="choose another port: --port 0 selects a free one",
        ) from error
    return sock


def url_of(sock: socket.socket) -> str:
    """Return the URL of a socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Loop(uvicorn.Server):
    """Accepts connections in small batches, and stops in bounded time."""

    def __init__(self, config: uvicorn.Config, service: Service, limits: Limits) -> None:
        super().__init__(config)
        self._service, self._limits = service, limits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_QUEUED)  # asyncio's queue is only as long as its batch

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
    """A server around a model; `run` serves until asked to stop, then finishes open requests.

    Args:
        session: the model.
        name: name of the served model.
        sock: from `bind`.
        token: see `Guard`.
        limits: of requests.
        waiting: maximum jobs in the queue.
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
            proxy_headers=False,  # headers about the sender are not trusted
        )
        self._server = _Loop(config, service, limits)

    def run(self, ready: Callable[[str], Any] | None = None) -> None:
        """Serve until `stop`, SIGTERM or Ctrl-C; earlier requests are still answered.

        Args:
            ready: called with the URL as soon as connections are accepted.
        """
        self._sock.listen(_QUEUED)
        if ready is not None:
            ready(self.url)
        try:
            # uvicorn raises a handled signal again after its end; it has no further effect
            with bound_logs(), preserve_signals(["SIGTERM"], lambda *_: None):
                self._server.run(sockets=[self._sock])
        finally:
            self.worker.close()
            self._sock.close()

    def stop(self) -> None:
        """Ask the server to stop; thread-safe."""
        self._server.should_exit = True


def serve(
    folder: Path,
    base_folder: Path | None,
    host: str,
    port: int,
    token: str | None,
    ready: Callable[[str], Any],
    plain: bool = False,
    checkpoint: str | None = None,
) -> None:
    """Load a model and serve it until SIGTERM or Ctrl-C.

    Args:
        folder: a run, a checkpoint or a base model.
        base_folder: the base model of a checkpoint; None for the one that it records.
        host: address to listen at.
        port: 0 for a free one.
        token: required of clients; needed beyond loopback.
        ready: called with the URL as soon as connections are accepted.
        plain: see `Service`.
        checkpoint: the checkpoint of a run, see `Run.choose_checkpoint`.

    Raises:
        ConfigError: see `bind`.
        ModelError: the folder does not hold a usable model.
    """
    sock = bind(host, port, token)
    try:
        from ..predict.session import Session

        say(f"loading {folder}")
        session = Session.open(folder, base_folder, checkpoint=checkpoint)
    except BaseException:
        sock.close()
        raise
    Server(session, folder.resolve().name, sock, token, plain=plain).run(ready)
