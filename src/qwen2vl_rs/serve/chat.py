"""OpenAI's chat completions: parse a request, format the response.

One image (a data: URL) and one question form the prompt, as in training. `conversation` selects
them; earlier messages are not used, and the answer says so. Unsupported parameters that would
change the answer are refused, not ignored. Decoding is greedy at any temperature.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool

from ..system.jsonl import to_json
from .api_errors import Refusal
from .conversation import ALONE, PURPOSE, Message, read_conversation
from .limits import Limits
from .parameters import SCHEMA, check_parameters
from .requests import WHOLE, Upload, data_url, parse_json, validate, validate_question

if TYPE_CHECKING:
    from ..predict.session import ModelAnswer

NOTE_HEADER = "X-Qwen2VL-RS-Note"


Length = Annotated[int, Field(strict=True, ge=1), WHOLE]  # maximum tokens of an answer


class StreamOptions(BaseModel, extra="forbid"):
    """Options of a stream.

    Attributes:
        include_usage: whether the stream ends with token counts.
        include_obfuscation: ignored: the answer is always a single event.
        continuous_usage_stats: not supported.
    """

    include_usage: StrictBool | None = None
    include_obfuscation: StrictBool | None = None
    continuous_usage_stats: Literal[False] | None = None


def _with_unused(schema: dict[str, Any]) -> None:
    schema["properties"] |= SCHEMA
    schema["additionalProperties"] = False


class ChatRequest(BaseModel, json_schema_extra=_with_unused):
    """A request; `parameters` checks its other fields.

    Attributes:
        max_tokens, max_completion_tokens: maximum tokens; None for the server's limit.
        stream: whether the answer is sent as server-sent events.
        strict: whether the answer must contain nothing but the model's text.
    """

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: Length | None = None
    max_completion_tokens: Length | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=1), WHOLE] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    strict: StrictBool | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """The question of a request.

    Attributes:
        body: the request.
        image: the image; None if none was sent.
        question: the question without the prompt's instruction; empty without an image.
        unused: whether earlier text of the conversation is not used.
        needs_note: whether the answer has to mention that.
    """

    body: ChatRequest
    image: Upload | None = None
    question: str = ""
    unused: bool = False
    needs_note: bool = False


def parse(content: bytearray, instruction: str, limits: Limits, *, plain: bool = False) -> Chat:
    """Parse a request.

    Args:
        content: the JSON body.
        instruction: text that the prompt contains already; it is removed from the question.
        limits: of the server.
        plain: whether answers never contain notes.

    Raises:
        Refusal: something is missing, wrong or not supported.
    """
    value = parse_json(content, limits)
    check_parameters(value, ChatRequest.model_fields)
    body = validate(ChatRequest, value, limits)
    asked = read_conversation(body.messages, instruction)
    body.messages.clear()  # frees their images, as the answer may take a while
    for_programs = [value.get(name) is not None for name in ("response_format", "logprobs")]
    bare = plain or body.strict or any(for_programs)
    if asked.images:
        image = data_url(asked.images[0], limits, "messages")
        question = validate_question(asked.question, limits, "messages")
        needs_note = asked.unused and not asked.noted_before and not bare
        return Chat(body, image, question, asked.unused, needs_note)
    if bare:
        raise Refusal(
            400, "no_image", "there is no image, one is needed", hint=PURPOSE, param="messages"
        )
    return Chat(body)


@dataclass(frozen=True, slots=True)
class Completion:
    """A response.

    Attributes:
        asked: the request.
        said: the model's answer; None if the model was not called.
    """

    asked: Chat
    said: ModelAnswer | None = None
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        return {NOTE_HEADER: ALONE} if self.asked.unused else {}

    def completion(self) -> dict[str, Any]:
        """The response as one JSON object."""
        message = {"role": "assistant", "content": self._text + self._line, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, **self._end()}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    def events(self) -> Iterator[str]:
        """Yield server-sent events; the answer is complete already, so its text is one event."""
        steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"role": "assistant", "content": ""}, {"finish_reason": None}),
            ({"content": self._text}, {"finish_reason": None}),
            *([({"content": self._line}, {"finish_reason": None})] if self._line else []),
            ({}, self._end()),
        ]
        head = self._head("chat.completion.chunk")
        for delta, rest in steps:
            choice = {"index": 0, "delta": delta, "logprobs": None, **rest}
            yield _event({**head, "choices": [choice]})
        options = self.asked.body.stream_options
        if options and options.include_usage:
            yield _event({**head, "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    @property
    def _line(self) -> str:
        return f"\n\n{ALONE}" if self.asked.needs_note else ""

    @property
    def _text(self) -> str:
        return self.said.text if self.said else PURPOSE

    def _head(self, kind: str) -> dict[str, Any]:
        model = self.asked.body.model
        head = {"id": self.id, "object": kind, "created": self.created, "model": model}
        return {**head, "note": ALONE} if self.asked.unused else head

    def _end(self) -> dict[str, Any]:
        if self.said is None:
            return {"finish_reason": "stop"}
        reason = "stop" if self.said.whole else "length"
        return {"finish_reason": reason, "confidence": round(self.said.confidence, 6)}

    def _usage(self) -> dict[str, int]:
        said = self.said
        given, written = (said.prompt_tokens, len(said.ids) + said.whole) if said else (0, 0)
        return {
            "prompt_tokens": given,
            "completion_tokens": written,
            "total_tokens": given + written,
        }


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {to_json(value)}\n\n"
