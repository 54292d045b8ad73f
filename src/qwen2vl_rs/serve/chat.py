"""OpenAI's chat completions: what a request asks, and the form of its answer.

One image (a data: URL) and one question: that is the prompt the model was trained with. Which
ones of a conversation they are says `conversation`; what else was said is not used, and the answer
says so. Parameters that would change the answer and cannot be honoured are refused, not ignored;
decoding is greedy whatever the temperature.
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
from .requests import WHOLE, Upload, checked, checked_question, data_url, parse_json

if TYPE_CHECKING:
    from ..predict.session import ModelAnswer

NOTE_HEADER = "X-Qwen2VL-RS-Note"


Length = Annotated[int, Field(strict=True, ge=1), WHOLE]  # of an answer in tokens


class StreamOptions(BaseModel, extra="forbid"):
    """What a stream holds beside the answer.

    Attributes:
        include_usage: whether it ends with the token counts.
        include_obfuscation: not used: the answer is one event, whatever its length.
        continuous_usage_stats: not supported.
    """

    include_usage: StrictBool | None = None
    include_obfuscation: StrictBool | None = None
    continuous_usage_stats: Literal[False] | None = None


def _with_unused(schema: dict[str, Any]) -> None:
    schema["properties"] |= SCHEMA
    schema["additionalProperties"] = False


class ChatRequest(BaseModel, json_schema_extra=_with_unused):
    """A request; what else it may hold says `parameters`.

    Attributes:
        max_tokens, max_completion_tokens: longest answer; None for the server's own bound.
        stream: whether the answer goes out as server-sent events.
        strict: whether a program asks, which reads the answer and nothing else.
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
    """What a request asks.

    Attributes:
        body: the request.
        image: the picture; None where none was sent.
        question: without the instruction that stands in every prompt; empty without image.
        unused: whether earlier text of the conversation plays no part in the answer.
        told: whether the answer itself is to say so.
    """

    body: ChatRequest
    image: Upload | None = None
    question: str = ""
    unused: bool = False
    told: bool = False


def parse(content: bytearray, instruction: str, limits: Limits, *, plain: bool = False) -> Chat:
    """Read a request.

    Args:
        content: its JSON.
        instruction: text that the prompt holds already; one sent with the question is taken off.
        limits: of the server.
        plain: whether answers never say anything but what the model says.

    Raises:
        Refusal: something in it is missing, wrong or not supported.
    """
    value = parse_json(content, limits)
    check_parameters(value, ChatRequest.model_fields)
    body = checked(ChatRequest, value, limits)
    asked = read_conversation(body.messages, instruction)
    body.messages.clear()  # their images are large, and the answer is waited for
    for_programs = [value.get(name) is not None for name in ("response_format", "logprobs")]
    bare = plain or body.strict or any(for_programs)
    if asked.images:
        image = data_url(asked.images[0], limits, "messages")
        question = checked_question(asked.question, limits, "messages")
        told = asked.unused and not asked.told_before and not bare
        return Chat(body, image, question, asked.unused, told)
    if bare:
        raise Refusal(
            400, "no_image", "there is no image, one is needed", hint=PURPOSE, param="messages"
        )
    return Chat(body)


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer on its way out.

    Attributes:
        asked: the request.
        said: what the model says; None where it was not asked.
    """

    asked: Chat
    said: ModelAnswer | None = None
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {NOTE_HEADER: ALONE} if self.asked.unused else {}

    def completion(self) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": self._text + self._line, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, **self._end()}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    def events(self) -> Iterator[str]:
        """The answer as server-sent events; it is short and known, so its text is one event."""
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
        return f"\n\n{ALONE}" if self.asked.told else ""

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
