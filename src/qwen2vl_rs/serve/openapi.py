"""Response models of the server's routes, and its OpenAPI document.

``tests/faults/api.py`` tests the server against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, PlainTextResponse

from ..version import VERSION
from .chat import ChatRequest
from .limits import Limits
from .requests import AskRequest

if TYPE_CHECKING:
    from ..predict.session import ModelAnswer

Schema = dict[str, Any]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

_SCHEMAS = "#/components/schemas/"
_TEXT: Schema = {"type": "string"}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
_EVENTS = {"type": "object", "properties": {"data": _TEXT}, "required": ["data"]}


class PreviewForm(BaseModel):
    """A form with an image file."""

    image: str = Field(json_schema_extra={"format": "binary"})


class AskForm(PreviewForm):
    """A form with an image file and questions."""

    questions: str = Field(pattern=r"\S", description="one per line")
    box: str = Field("", description="left, top, right, bottom in pixels")


class Fault(BaseModel):
    """The reason why there is no answer."""

    message: str
    type: str
    param: str | None
    code: str
    hint: str | None


class Error(BaseModel):
    """An error in OpenAI's format."""

    error: Fault


class Health(BaseModel):
    """Whether the server answers questions."""

    status: Literal["ok", "stopping"]


class Card(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"] = "model"
    created: Count
    owned_by: str = "qwen2vl-rs"


class Cards(BaseModel):
    """All served models."""

    object: Literal["list"] = "list"
    data: list[Card]


class Bounds(BaseModel, from_attributes=True):
    """Limits of requests; see `Limits`."""

    image_bytes: int
    questions: int
    question_chars: int


class Info(BaseModel):
    """Configuration for the web page."""

    model: str
    tuned: bool
    limits: Bounds


class Preview(BaseModel):
    """Size of an image in pixels, and a picture of it as a data: URL."""

    width: Count
    height: Count
    preview: str


class Said(BaseModel):
    """A model's answer; ``chosen`` if it was chosen among candidate answers."""

    text: str
    confidence: Share
    chosen: bool

    @classmethod
    def of(cls, answer: ModelAnswer) -> Said:
        """Convert a model's answer."""
        share, chosen = round(answer.confidence, 6), answer.shares is not None
        return cls(text=answer.text, confidence=share, chosen=chosen)


class Row(BaseModel):
    """A question with its answers, by model."""

    question: str
    answers: dict[str, Said]


class Answers(BaseModel):
    """Answers of all models."""

    models: list[str]
    answers: list[Row]


class Message(BaseModel):
    """Text of the answer."""

    role: str
    content: str


class Choice(BaseModel):
    """The answer, with its confidence if a model was called."""

    index: Count
    message: Message
    finish_reason: Literal["stop", "length"]
    confidence: Share = 0


class Usage(BaseModel):
    """Numbers of tokens."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class ChatAnswer(BaseModel):
    """OpenAI's chat completion, with a note if earlier text was not used."""

    id: str
    object: Literal["chat.completion"]
    created: Count
    model: str
    choices: Annotated[list[Choice], Field(min_length=1, max_length=1)]
    usage: Usage
    note: str = ""


def _refusals(*statuses: int) -> dict[int | str, Schema]:
    """Return the errors of a route, in OpenAI's format."""
    why = {"model": Error, "description": "error, in OpenAI's format"}
    return dict.fromkeys(statuses, why)


def _takes(*, form: type[BaseModel] | None = None, json: type[BaseModel] | None = None) -> Schema:
    """Return the request body of a route."""
    kinds = {"multipart/form-data": form, "application/json": json}
    content = {
        kind: {"schema": {"$ref": f"{_SCHEMAS}{model.__name__}"}}
        for kind, model in kinds.items()
        if model
    }
    return {"requestBody": {"required": True, "content": content}}


_POSTED = _refusals(400, 408, 413, 429)
_SENT = {200: {"content": {"text/event-stream": {"schema": _EVENTS}}}}
ALL = _refusals(401, 403)
#: Arguments of `FastAPI.add_api_route` for each route, beside the common ones.
ROUTES: dict[str, Schema] = {
    "/": {"response_class": HTMLResponse},
    "/health": {"responses": {503: {"model": Health, "description": "the server stops"}}},
    "/metrics": {"response_class": PlainTextResponse},
    "/openapi.json": {"include_in_schema": False},
    "/v1/models/{name:path}": {
        "responses": _refusals(404),
        "openapi_extra": {"parameters": [_NAME]},
    },
    "/v1/chat/completions": {
        "response_model": ChatAnswer,
        "responses": _POSTED | _refusals(404) | _SENT,
        "openapi_extra": _takes(json=ChatRequest),
    },
    "/api/preview": {"responses": _POSTED, "openapi_extra": _takes(form=PreviewForm)},
    "/api/ask": {"responses": _POSTED, "openapi_extra": _takes(form=AskForm, json=AskRequest)},
}


def document(app: FastAPI, models: Iterable[str], limits: Limits) -> Schema:
    """Return the OpenAPI document of a server.

    Args:
        app: its routes.
        models: names of the served models.
        limits: of requests.
    """
    made = get_openapi(title="Qwen2-VL-RS", version=VERSION, routes=app.routes)
    taken = (ChatRequest, AskRequest, AskForm, PreviewForm)
    _, bodies = models_json_schema(
        [(model, "validation") for model in taken], ref_template=f"{_SCHEMAS}{{model}}"
    )
    schemas = made["components"]["schemas"] | bodies["$defs"]
    schemas["ChatRequest"]["properties"]["model"] = {"enum": sorted(models)}
    questions = schemas["AskRequest"]["properties"]["questions"]
    questions |= {"maxItems": limits.questions}
    questions["items"] = questions["items"] | {"maxLength": limits.question_chars}
    token = {"type": "http", "scheme": "bearer"}
    return made | {"components": {"schemas": schemas, "securitySchemes": {"token": token}}}
