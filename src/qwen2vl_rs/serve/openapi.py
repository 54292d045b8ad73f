"""What the server's routes take and give, as an OpenAPI 3.1 document for clients and test tools.

``tests/faults/api.py`` holds the server to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import __version__
from .limits import Limits

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def document(models: Sequence[str], limits: Limits) -> Schema:
    """The document of a server.

    Args:
        models: names that it answers to, the fine-tuned one first.
        limits: of requests.
    """
    card = _object(id=_TEXT, object=_TEXT, created=_NUMBER, owned_by=_TEXT)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Qwen2-VL-RS", "version": __version__},
        "paths": {
            "/": {"get": _route("The page for people", {"text/html": _TEXT})},
            "/health": {
                "get": _route("Whether questions are answered", _json(_object(status=_TEXT)), [503])
            },
            "/metrics": {"get": _route("Figures for Prometheus", {"text/plain": _TEXT})},
            "/v1/models": {
                "get": _route("The models", _json(_object(object=_TEXT, data=_list(card))))
            },
            "/v1/models/{name}": {"get": _model_route(card)},
            "/v1/chat/completions": {"post": _chat_route(models, limits)},
            "/api/info": {"get": _route("What the page has to know", _json({"type": "object"}))},
            "/api/preview": {"post": _preview_route()},
            "/api/ask": {"post": _ask_route(models, limits)},
        },
        "components": {
            "schemas": {"Error": _object(error=_error())},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _object(optional: Sequence[str] = (), /, **fields: Schema) -> Schema:
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required}


def _list(of: Schema, least: int = 0, most: int | None = None) -> Schema:
    bounds = {} if most is None else {"maxItems": most}
    return {"type": "array", "items": of, "minItems": least, **bounds}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _json(schema: Schema) -> Schema:
    return {"application/json": schema}


def _error() -> Schema:
    return _object(
        message=_TEXT, type=_TEXT, code=_TEXT, param=_or_null(_TEXT), hint=_or_null(_TEXT)
    )


def _route(
    summary: str, answer: Schema, refused: Sequence[int] = (), body: Schema | None = None
) -> Schema:
    """An operation: media types to schemas of its answer and its body."""
    error = _content(_json({"$ref": "#/components/schemas/Error"}))
    responses: Schema = {"200": {"description": "the answer", **_content(answer)}}
    for status in (*refused, 401, 403):
        responses[str(status)] = {"description": "why not, in OpenAI's form", **error}
    if 503 in refused:
        responses["503"] = {"description": "the server stops", **_content(answer)}
    if body is None:
        return {"summary": summary, "responses": responses}
    request = {"required": True, **_content(body)}
    return {"summary": summary, "requestBody": request, "responses": responses}


def _content(media: Schema) -> Schema:
    return {"content": {kind: {"schema": schema} for kind, schema in media.items()}}


_POSTED = (400, 408, 413, 429)


def _model_route(card: Schema) -> Schema:
    name = {"name": "name", "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
    return {**_route("One model", _json(card), [404]), "parameters": [name]}


def _data_url() -> Schema:
    return {**_TEXT, "pattern": "^[dD][aA][tT][aA]:[^,]*;base64,[A-Za-z0-9+/]*={0,2}$"}


def _question(limits: Limits) -> Schema:
    return {**_TEXT, "maxLength": limits.question_chars, "pattern": r"\S"}


def _chat_route(models: Sequence[str], limits: Limits) -> Schema:
    text = _object(type={"const": "text"}, text=_question(limits))
    url = _data_url()
    image = _object(type={"const": "image_url"}, image_url={"anyOf": [url, _object(url=url)]})
    # what is not asked about is not looked at
    loose = [_object(type={"const": "text"}, text=_TEXT),
             _object(type={"const": "image_url"}, image_url={})]  # fmt: skip
    content: Schema = {"anyOf": [_TEXT, _list({"anyOf": loose})]}
    part = {"anyOf": [
        _object(type={"const": "text"}, text=_or_null(_TEXT)), _object(type={"const": "refusal"})
    ]}  # fmt: skip
    said: Schema = {"anyOf": [_TEXT, {"type": "null"}, _list(part)]}
    user = _object(role={"const": "user"}, content=content)
    other = _object(["content"], role={"enum": ["system", "developer", "assistant"]}, content=said)
    # ends with the last question, about the newest image
    last = {
        **_list({"anyOf": [text, image]}, least=2),
        "contains": image, "minContains": 1, "maxContains": 1,
    }  # fmt: skip
    messages: Schema = {"anyOf": [
        _list(_object(role={"const": "user"}, content=last), 1, 1),
        _list({"anyOf": [user, other]}, 1),
    ]}  # fmt: skip
    body = _object(
        ["max_tokens", "max_completion_tokens", "n", "stream", "stream_options", "strict"],
        model={"enum": sorted({*models, "base"})},
        messages=messages,
        max_tokens=_or_null({"type": "integer", "minimum": 1}),
        max_completion_tokens=_or_null({"type": "integer", "minimum": 1}),
        n=_or_null({"const": 1}),
        stream=_or_null({"type": "boolean"}),
        strict=_or_null({"type": "boolean"}),
        stream_options=_or_null(
            _object(["include_usage"], include_usage=_or_null({"type": "boolean"}))
        ),
    )
    choice = _object(
        ["confidence"],
        index=_NUMBER,
        message=_object(role=_TEXT, content=_TEXT),
        finish_reason={"enum": ["stop", "length"]},
        confidence=_SHARE,
    )
    usage = _object(prompt_tokens=_NUMBER, completion_tokens=_NUMBER, total_tokens=_NUMBER)
    done = _object(
        ["note"],
        id=_TEXT, object={"const": "chat.completion"}, created=_NUMBER, model=_TEXT,
        choices=_list(choice, 1, 1), usage=usage, note=_TEXT,
    )  # fmt: skip
    answer = {**_json(done), "text/event-stream": _object(data=_TEXT)}
    return _route("OpenAI's chat completions", answer, [*_POSTED, 404], _json(body))


def _preview_route() -> Schema:
    body = {"multipart/form-data": _object(image={**_TEXT, "format": "binary"})}
    answer = _json(_object(width=_NUMBER, height=_NUMBER, preview=_TEXT))
    return _route("What the model sees of an image", answer, _POSTED, body)


def _ask_route(models: Sequence[str], limits: Limits) -> Schema:
    side: Schema = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31}
    body = {
        **_json(
            _object(
                ["box"],
                image=_data_url(),
                questions=_list(_question(limits), 1, limits.questions),
                box=_or_null(_list(side, 4, 4)),
            )
        ),
        "multipart/form-data": _object(
            ["box"],
            image={**_TEXT, "format": "binary"},
            questions={**_TEXT, "description": "a line each", "pattern": r"\S"},
            box={**_TEXT, "description": "left, top, right, bottom in pixels"},
        ),
    }
    said = _object(text=_TEXT, confidence=_SHARE, chosen={"type": "boolean"})
    row = _object(question=_TEXT, answers=_object(**dict.fromkeys(models, said)))
    answer = _json(_object(models=_list(_TEXT), answers=_list(row)))
    return _route("Many questions about an image, asked of all models", answer, _POSTED, body)
