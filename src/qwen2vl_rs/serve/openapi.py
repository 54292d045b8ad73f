"""What the server's routes give, and the OpenAPI document of what they take and give.

``tests/faults/api.py`` holds the server to it.
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
    """The same with what is asked."""

    questions: str = Field(pattern=r"\S", description="a line each")
    box: str = Field("", description="left, top, right, bottom in pixels")


class Fault(BaseModel):
    """Why there is no answer."""

    message: str
    type: str
    param: str | None
    code: str
    hint: str | None


class Error(BaseModel):
    """The same in OpenAI's form."""

    error: Fault


class Health(BaseModel):
    """Whether questions are answered."""

    status: Literal["ok", "stopping"]


class Card(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: Count
    owned_by: str = "qwen2vl-rs"


class Cards(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Card]


class Bounds(BaseModel, from_attributes=True):
    """Of requests; see `Limits`."""

    image_bytes: int
    questions: int
    question_chars: int


class Info(BaseModel):
    """What the page has to know."""

    model: str
    tuned: bool
    limits: Bounds


class Preview(BaseModel):
    """Size of an image in pixels, and a picture of it as a data: URL."""

    width: Count
    height: Count
    preview: str


class Said(BaseModel):
    """A model's answer; ``chosen`` where it was among those of the question's answer set."""

    text: str
    confidence: Share
    chosen: bool

    @classmethod
    def of(cls, answer: ModelAnswer) -> Said:
        """What a model said."""
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
    """The answer; its confidence is there where a model was asked."""

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
    """OpenAI's chat completion, and a note where earlier text was not used."""

    id: str
    object: Literal["chat.completion"]
    created: Count
    model: str
    choices: Annotated[list[Choice], Field(min_length=1, max_length=1)]
    usage: Usage
    note: str = ""


def _refusals(*statuses: int) -> dict[int | str, Schema]:
    """Errors of a route, in OpenAI's form."""
    why = {"model": Error, "description": "why not, in OpenAI's form"}
    return dict.fromkeys(statuses, why)


def _takes(*, form: type[BaseModel] | None = None, json: type[BaseModel] | None = None) -> Schema:
    """The body of a route."""
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
#: What a route takes and gives beside the usual, in the words of `FastAPI.add_api_route`.
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
    """The document of a server.

    Args:
        app: its routes.
        models: names that it answers to.
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
