"""The web application: routes, error responses, and the way of a request to the worker."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import time
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from . import chat, openapi, requests
from .api_errors import Refusal
from .bodies import Bodies, peer_of
from .decoders import Decoders, key_of
from .limits import Limits
from .metrics import Metrics
from .worker import Worker, WorkItem

if TYPE_CHECKING:
    from ..models.images import ImageInput
    from ..predict.session import ModelAnswer

T = TypeVar("T")
_PAGE = Path(__file__).with_name("page.html")
BASE = "base"  # name of the base model beside a fine-tuned one


class Service:
    """The routes of the API.

    Args:
        worker: holds the model.
        name: name of the served model.
        metrics: of the server.
        limits: of requests.
        plain: whether chat answers never contain a note about unused text.
    """

    def __init__(
        self, worker: Worker, name: str, metrics: Metrics, limits: Limits, plain: bool = False
    ) -> None:
        self._worker, self._metrics, self._limits = worker, metrics, limits
        self._plain = plain
        session = worker.session
        self._name = name if name != BASE or not session.has_adapter else "fine-tuned"
        self._models = (self._name, BASE) if session.has_adapter else (self._name,)
        self._bodies = Bodies(limits)
        self._decoders = Decoders(session.view.image, limits)
        self._over = asyncio.Event()
        metrics.images.set_function(self._decoders.waiting)
        self._started = int(time.time())
        self._html = _PAGE.read_text(encoding="utf-8")
        self._policy = _policy(self._html)

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        """Yield method, path and handler of each route."""
        yield "GET", "/", self.page
        yield "GET", "/health", self.health
        yield "GET", "/metrics", self.metrics
        yield "GET", "/openapi.json", self.document
        yield "GET", "/v1/models", self.models
        yield "GET", "/v1/models/{name:path}", self.model
        yield "POST", "/v1/chat/completions", self.completions
        yield "GET", "/api/info", self.info
        yield "POST", "/api/preview", self.preview
        yield "POST", "/api/ask", self.ask

    async def page(self, request: Request) -> Response:
        """The web page."""
        return HTMLResponse(self._html, headers={"Content-Security-Policy": self._policy})

    async def health(self, request: Request, response: Response) -> openapi.Health:
        """Health of the server: whether it answers questions."""
        alive = self._worker.alive
        response.status_code = 200 if alive else 503
        return openapi.Health(status="ok" if alive else "stopping")

    async def metrics(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def document(self, request: Request) -> Response:
        """The OpenAPI document."""
        names = {*self._models, BASE}
        return JSONResponse(openapi.document(request.app, names, self._limits))

    async def models(self, request: Request) -> openapi.Cards:
        """The served models, in OpenAI's format."""
        return openapi.Cards(data=[self._card(name) for name in self._models])

    async def model(self, request: Request) -> openapi.Card:
        """One of the served models."""
        name = request.path_params["name"]
        self._tuned(name)
        return self._card(name)

    async def info(self, request: Request) -> openapi.Info:
        """Configuration for the web page."""
        limits = openapi.Bounds.model_validate(self._limits)
        return openapi.Info(model=self._name, tuned=self._worker.session.has_adapter, limits=limits)

    async def completions(self, request: Request) -> Response:
        """OpenAI's chat completions."""
        async with self._bodies.of(request) as body:
            instruction = self._worker.session.view.instruction
            wanted = await asyncio.to_thread(
                chat.parse, body, instruction, self._limits, plain=self._plain
            )
            tuned = self._tuned(wanted.body.model)
            if wanted.image is None:
                return _sent(chat.Completion(wanted))
            seen = await self._see(request, wanted.image, None, [tuned])
            key, pixels = seen[tuned]
            most = wanted.body.max_completion_tokens or wanted.body.max_tokens
            peer, questions = peer_of(request), [wanted.question]
            job = WorkItem(key, pixels, questions, tuned, closed=False, most=most, peer=peer)
            ((said,),) = await self._answers(request, [job])
        return _sent(chat.Completion(wanted, said))

    async def preview(self, request: Request) -> openapi.Preview:
        """Preview of an uploaded image: its size, and a picture that browsers can show."""
        async with self._bodies.of(request) as body:
            image, _ = await requests.parse_form(body, request.headers, self._limits)
            shown = await self._while_there(
                request, self._decoders.preview(image, peer_of(request))
            )
        height, width = shown["shape"][:2]
        return openapi.Preview(width=width, height=height, preview=shown["preview"])

    async def ask(self, request: Request) -> openapi.Answers:
        """Many questions about an image, answered by all models."""
        async with self._bodies.of(request) as body:
            asked = await requests.parse_questions(body, request.headers, self._limits)
            tuned = [self._tuned(model) for model in self._models]
            seen = await self._see(request, asked.image, asked.box, tuned)
            peer = peer_of(request)
            jobs = [
                WorkItem(*seen[one], asked.questions, one, closed=True, peer=peer) for one in tuned
            ]
            found = await self._answers(request, jobs)
        rows = [
            openapi.Row(
                question=question,
                answers=dict(zip(self._models, map(openapi.Said.of, said), strict=True)),
            )
            for question, *said in zip(asked.questions, *found, strict=True)
        ]
        return openapi.Answers(models=list(self._models), answers=rows)

    def _card(self, name: str) -> openapi.Card:
        return openapi.Card(id=name, created=self._started)

    def _tuned(self, name: str) -> bool:
        """Return whether a model's name is that of the fine-tuned one.

        Raises:
            Refusal: there is no such model.
        """
        if name not in (*self._models, BASE):
            raise Refusal(
                404,
                "model_not_found",
                f"no model {name[:80]!r} here",
                param="model",
                hint=f"served: {', '.join(self._models)}",
            )
        return self._worker.session.has_adapter and name != BASE

    async def _see(
        self,
        request: Request,
        image: requests.Upload,
        box: requests.Box | None,
        models: Sequence[bool],
    ) -> dict[bool, tuple[str, ImageInput]]:
        """Return the image as input of models with (true) or without the adapter, with its keys.

        It is decoded only if it is not cached.
        """
        name = await asyncio.to_thread(key_of, image, box)
        keys = {tuned: self._worker.key_for(name, tuned) for tuned in models}
        known = {key: self._worker.cached(key) for key in dict.fromkeys(keys.values())}
        if None not in known.values():
            return {tuned: (key, found) for tuned, key in keys.items() if (found := known[key])}
        preprocess = self._worker.session.preprocess
        decoded = self._decoders.read(image, box, peer_of(request), preprocess)
        pixels = await self._while_there(request, decoded)
        return {tuned: (key, known[key] or pixels) for tuned, key in keys.items()}

    async def _answers(self, request: Request, jobs: Sequence[WorkItem]) -> list[list[ModelAnswer]]:
        """Put jobs into the queue and wait for them; cancel them if the client disconnects.

        Raises:
            Refusal: the queue is full, or the model failed.
            ClientDisconnect: the client has disconnected.
        """
        self._worker.submit(jobs)
        try:
            answers = [asyncio.wrap_future(job.answers) for job in jobs]
            return await self._while_there(request, asyncio.gather(*answers))
        except BaseException:
            self._worker.cancel(jobs)
            raise

    async def _while_there(self, request: Request, work: Awaitable[T]) -> T:
        """Do work for a client until it is done or the client disconnects.

        Raises:
            ClientDisconnect: it has disconnected; the work was cancelled.
            Refusal: the server has stopped before it was done.
        """
        doing, left = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
        over = asyncio.ensure_future(self._over.wait())
        first: set[asyncio.Future[Any]] = {doing, left, over}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            if over.done():
                raise Refusal(503, "stopping", "the server is stopping", retry_after=10)
            raise ClientDisconnect
        finally:
            over.cancel()
            left.cancel()
            if not doing.done():
                doing.cancel()
                with contextlib.suppress(asyncio.CancelledError, Refusal):
                    await doing

    def stop_reading(self) -> None:
        """Stop reading requests. Like `close`, it is called in the event loop."""
        self._bodies.stop()

    def close(self) -> None:
        """Cancel the work in progress."""
        self._over.set()
        self._decoders.close()


def make_app(service: Service) -> FastAPI:
    """Return the application of a service; its errors have OpenAI's format."""
    app = FastAPI(openapi_url=None, responses=openapi.ALL)  # no pages with third-party scripts
    for method, path, handler in service.routes():
        app.add_api_route(path, handler, methods=[method], **openapi.ROUTES.get(path, {}))

    async def failed(request: Request, error: Exception) -> Response:
        match error:
            case ClientDisconnect():  # before its answer
                return Response(status_code=499)  # nobody reads it
            case Refusal():
                refusal, headers = error, error.headers
            case HTTPException(status_code=status, detail=detail):
                what = f"{request.method[:20]} {request.url.path[:80]}: {detail}"
                refusal, headers = Refusal(status, "not_found", what), {**(error.headers or {})}
            case _:
                why = "internal error; see the server's log"
                refusal, headers = Refusal(500, "internal_error", why), {}
        return JSONResponse(refusal.body(), refusal.status, headers)

    for kind in (ClientDisconnect, Refusal, HTTPException, Exception):
        app.add_exception_handler(kind, failed)
    return app


def _sent(reply: chat.Completion) -> Response:
    """Return a completion as JSON or as a stream, as requested."""
    if reply.asked.body.stream:
        return StreamingResponse(
            reply.events(), headers=reply.headers, media_type="text/event-stream"
        )
    return JSONResponse(reply.completion(), headers=reply.headers)


async def _left(request: Request) -> None:
    """Wait until the client closes the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _policy(html: str) -> str:
    """Return the Content-Security-Policy of the page: its own style and script, this server."""
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
