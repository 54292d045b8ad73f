"""Parse and validate request bodies: JSON, forms, data: URLs.

Nothing here opens a path or a URL from a request.
"""

from __future__ import annotations

import asyncio
import binascii
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from starlette.datastructures import Headers, ImmutableMultiDict, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from .api_errors import Refusal, too_large
from .limits import MIB, Limits

_HEAD = 2**12  # maximum characters before the comma of a data: URL
_DATA = re.compile(rb'"(data:[^"]{4000,}+)"')  # URLs that are parsed separately
_PIECE = 2**16  # bytes of a form parsed at a time
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,20}\s*")
_MESSAGES = "messages has to be a list of messages of the user, the assistant and the system"
ASK = "send a message of the user with an image and a question"
Content = bytes | bytearray
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded image file.

    Attributes:
        name: the client's name for it; for messages only.
        content: its bytes.
    """

    name: str
    content: bytes


def parse_json(body: Content, limits: Limits) -> dict[str, Any]:
    """Parse a JSON object.

    Text takes up to four times its bytes in memory, and is copied more than once: only images, as
    data: URLs in base64, may be long.

    Raises:
        Refusal: it is invalid, too deep, has too many parts, or too much text beside images.
    """
    text, images = _lifted(body, limits)
    if sum(map(text.count, (b"[", b"{", b","))) > limits.json_parts:
        raise Refusal(400, "json_too_complex", "the JSON has too many parts")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise Refusal(400, "json_too_deep", "the JSON is nested too deeply") from error
    except ValueError as error:  # also UnicodeDecodeError, and numbers with thousands of digits
        raise Refusal(400, "invalid_json", f"the body is not JSON: {error}"[:200]) from error
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_json", "the body has to be a JSON object")
    _put_back(value, images)
    return value


def _lifted(body: Content, limits: Limits) -> tuple[Content, dict[str, bytes]]:
    """Replace the long data: URLs in a JSON text; return them by their placeholders."""
    images: dict[str, bytes] = {}

    def lift(found: re.Match[bytes]) -> bytes:
        url = found[1].replace(b"\\/", b"/")  # PHP escapes slashes
        if b"\\" in url or not url.isascii():
            return found[0]
        name = f"data:#{len(images)}"
        images[name] = url
        return f'"{name}"'.encode()

    crowded = body.count(b'"data:') > limits.json_parts  # too many to parse each
    text = body if crowded else _DATA.sub(lift, body)
    if len(text) > limits.json_text_bytes:
        raise Refusal(
            400,
            "json_too_large",
            f"the JSON has more than {limits.json_text_bytes // MIB} MiB beside its images",
            hint="an image is a data: URL in base64 without line breaks",
        )
    return text, images


def _put_back(value: dict[str, Any], images: dict[str, bytes]) -> None:
    ahead: list[Any] = [value]
    while ahead and images:
        node = ahead.pop()
        for key, one in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if isinstance(one, str):
                node[key] = images[one].decode("ascii") if one in images else one
            elif isinstance(one, dict | list):
                ahead.append(one)


def data_url(url: object, limits: Limits, param: str) -> Upload:
    """Decode the image in a data: URL.

    Raises:
        Refusal: it is not such a URL (others are not fetched), or is too large.
    """
    if isinstance(url, Upload):
        return url  # from a form
    if not isinstance(url, str) or url[:5].lower() != "data:":
        raise Refusal(
            400,
            "image_url_not_supported",
            "an image has to be a data: URL",
            param=param,
            hint="URLs and paths are not opened; send data:image/png;base64,…",
        )
    comma = url.find(",", 0, _HEAD)
    if comma < 0 or not url[:comma].lower().endswith(";base64"):
        raise Refusal(400, "invalid_image", "the data: URL is not in base64", param=param)
    text = url[comma + 1 :]
    if len(text) * 3 // 4 > limits.image_bytes + 2:
        raise too_large(f"the image has more than {limits.image_bytes // MIB} MiB", param=param)
    try:
        return Upload("the image", binascii.a2b_base64(text, strict_mode=True))
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "invalid_image", f"broken base64: {error}", param=param) from error


def validate_question(text: object, limits: Limits, param: str) -> str:
    """Validate a question.

    Raises:
        Refusal: it is not text, is empty or too long, or contains lone surrogates.
    """
    if not isinstance(text, str):
        raise Refusal(400, "invalid_question", "a question has to be text", param=param)
    question = text.strip()
    if not question:
        raise Refusal(400, "empty_question", "a question is empty", param=param)
    if len(question) > limits.question_chars:
        raise Refusal(
            400,
            "question_too_long",
            f"a question has {len(question):,} characters, at most {limits.question_chars:,}",
            param=param,
        )
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise Refusal(400, "invalid_question", "a question is not Unicode", param=param) from error
    return question


def validate_questions(values: Sequence[object], limits: Limits) -> list[str]:
    """Validate all questions of a request."""
    if not values:
        raise Refusal(400, "no_question", "there is no question", param="questions")
    if len(values) > limits.questions:
        raise Refusal(
            400,
            "too_many_questions",
            f"{len(values):,} questions, at most {limits.questions}",
            param="questions",
        )
    questions = [validate_question(v, limits, "questions") for v in values]
    if sum(len(question.encode()) for question in questions) > limits.questions_bytes:
        raise Refusal(
            400,
            "questions_too_long",
            f"the questions have more than {limits.questions_bytes // 2**10} KiB together",
            hint="ask them in several requests",
            param="questions",
        )
    return questions


def _whole(value: object) -> object:
    """Convert a JSON number without fraction to an integer: 4.0 is 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _ordered(box: list[int]) -> list[int]:
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError("it has no pixels")
    return box


WHOLE = BeforeValidator(_whole)
Side = Annotated[int, Field(strict=True, ge=0, lt=2**31), WHOLE]
Box = Annotated[list[Side], Field(min_length=4, max_length=4), AfterValidator(_ordered)]
_DATA_URL: dict[str, Any] = {
    "type": "string",
    "pattern": "^[dD][aA][tT][aA]:[^,]*;base64,[A-Za-z0-9+/]*={0,2}$",
}
_QUESTION: dict[str, Any] = {"type": "string", "pattern": r"\S"}


class AskRequest(BaseModel, extra="forbid"):
    """A request of the web page: questions about an image, or about a part of it.

    Attributes:
        box: left, top, right, bottom in pixels of the image; None for the whole image.
    """

    questions: Annotated[
        list[Any], AfterValidator(lambda values, info: validate_questions(values, info.context))
    ] = Field(min_length=1, json_schema_extra={"items": _QUESTION})
    image: Annotated[
        Any, AfterValidator(lambda image, info: data_url(image, info.context, "image"))
    ] = Field(json_schema_extra=_DATA_URL)
    box: Box | None = None


# errors of fields with an invalid value: code, text and hint
_WRONG: dict[str, tuple[str, str, str | None]] = {
    "box": ("invalid_box", "a box is [left, top, right, bottom] in pixels", None),
    "content": (
        "unsupported_content",
        "content parts are of type text or image_url",
        "an image stands in a message of the user",
    ),
    "image": ("image_url_not_supported", "there is no image", None),
    "messages": ("unsupported_messages", _MESSAGES, ASK),
    "n": ("unsupported_parameter", "n has to be 1: there is one answer per request", None),
    "questions": ("no_question", "there is no question", None),
}


def validate(model: type[M], value: Mapping[str, Any], limits: Limits) -> M:
    """Validate a request with its model.

    Raises:
        Refusal: for the first missing or invalid field.
    """
    try:
        return model.model_validate(value, context=limits)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = [str(step) for step in first["loc"]]
        if first["type"] == "extra_forbidden":
            name = place[-1][:80]
            raise Refusal(
                400, "unknown_parameter", f"unknown parameter {name!r}", param=name
            ) from error
        other = ("invalid_parameter", f"{'.'.join(place)}: {_said(first['msg'])}", None)
        code, text, hint = next((_WRONG[n] for n in reversed(place) if n in _WRONG), other)
        raise Refusal(400, code, text, hint=hint, param=place[0]) from error


def _said(message: str) -> str:
    """Return pydantic's message without the names of our classes."""
    return message.partition(" or instance of ")[0]


async def parse_questions(body: Content, headers: Headers, limits: Limits) -> AskRequest:
    """Parse a request of the web page: JSON, or a form with a file.

    Raises:
        Refusal: something is missing or invalid.
    """
    value: dict[str, Any]
    if headers.get("content-type", "").startswith("multipart/form-data"):
        image, fields = await parse_form(body, headers, limits)
        lines = [line for text in fields.getlist("questions") for line in text.splitlines()]
        value = {name: "" for name in fields if name not in ("questions", "box")}
        value |= {"image": image, "questions": [line for line in lines if line.strip()]}
        if raw := next(iter(fields.getlist("box")), ""):
            value["box"] = [int(v) if _INTEGER.fullmatch(v) else v for v in raw.split(",")]
    else:
        value = await asyncio.to_thread(parse_json, body, limits)
    return await asyncio.to_thread(validate, AskRequest, value, limits)


async def parse_form(
    body: Content, headers: Headers, limits: Limits
) -> tuple[Upload, ImmutableMultiDict[str, str]]:
    """Return the file ``image`` of a form, and its text fields.

    Raises:
        Refusal: the form is broken, has too much text or no such file.
    """
    # In a thread of its own, because a hostile form takes seconds.
    return await asyncio.to_thread(lambda: asyncio.run(_form(body, headers, limits)))


async def _form(
    body: Content, headers: Headers, limits: Limits
) -> tuple[Upload, ImmutableMultiDict[str, str]]:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _PIECE):
            yield bytes(body[start : start + _PIECE])

    if not body[:8].lstrip(b"\r\n").startswith(b"--"):
        raise Refusal(400, "invalid_form", "the form does not begin with its boundary")
    parser = MultiPartParser(
        headers,
        pieces(),
        max_files=1,
        max_fields=limits.questions + 10,
        max_part_size=limits.text_bytes,
    )
    try:
        parsed = await parser.parse()
    except (MultiPartException, LookupError, ValueError) as error:
        why = error.message if isinstance(error, MultiPartException) else "it is broken"
        raise Refusal(400, "invalid_form", f"the form is not readable: {why}"[:200]) from error
    try:
        image = parsed.get("image")
        if not isinstance(image, UploadFile):
            raise Refusal(400, "no_image", "the form has no file 'image'", param="image")
        content = await image.read()
        if len(content) > limits.image_bytes:
            raise too_large(f"the image has more than {limits.image_bytes // MIB} MiB")
        texts = [(key, field) for key, field in parsed.multi_items() if isinstance(field, str)]
        if sum(len(field) for _, field in texts) > limits.text_bytes:  # before splitting lines
            raise Refusal(400, "invalid_form", "the form has too much text", param="questions")
        name = _printable(image.filename or "the image")
        return Upload(name, content), ImmutableMultiDict(texts)
    finally:
        await parsed.close()


def _printable(name: str) -> str:
    """Return the last part of a file name, without characters that cannot be printed."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[:80] or "the image"
