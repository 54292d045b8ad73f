"""OpenAI's chat completions: what a request asks, and the form of its answer.

One user message with one image (a data: URL) and one question: that is the prompt the model was
trained with. What would change the answer and cannot be honoured is refused, not ignored;
decoding is greedy whatever the temperature.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..jsonl import to_json
from .intake import Upload, checked_question, data_url, whole_number
from .limits import Limits
from .refusal import Refusal

_REFUSED = ("tools", "tool_choice", "functions", "function_call", "response_format", "logprobs",
            "top_logprobs", "logit_bias", "stop", "audio", "modalities")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chat:
    """A request.

    Attributes:
        model: as it was named.
        image: the picture.
        question: without the instruction that stands in every prompt.
        max_tokens: longest answer in tokens; None for the server's own bound.
        stream: whether the answer goes out as server-sent events.
        usage: whether a stream ends with the token counts.
    """

    model: str
    image: Upload
    question: str
    max_tokens: int | None
    stream: bool
    usage: bool


def parse(value: Mapping[str, Any], instruction: str, limits: Limits) -> Chat:
    """Read a request.

    Args:
        value: its JSON.
        instruction: text that the prompt holds already; one sent with the question is taken off.
        limits: of the server.

    Raises:
        Refusal: something in it is missing, wrong or not supported.
    """
    for name in _REFUSED:
        default: tuple[Any, ...] = (None, False, [], {}, "auto", "none", {"type": "text"}, ["text"])
        if value.get(name) not in default:
            raise Refusal(400, "unsupported_parameter", f"{name} is not supported", param=name)
    if value.get("n") not in (None, 1):
        raise Refusal(
            400, "unsupported_parameter", "one answer a request: n has to be 1", param="n"
        )
    model = value.get("model")
    if not isinstance(model, str):
        raise _invalid("model", "a name")
    options = value.get("stream_options")
    if not isinstance(options, dict | None):
        raise _invalid("stream_options", "an object")
    bounds = [_length(value, name) for name in ("max_completion_tokens", "max_tokens")]
    image, question = _read_messages(value.get("messages"), limits)
    question = question.removeprefix(instruction) if instruction else question
    return Chat(
        model=model,
        image=image,
        question=checked_question(question, limits, "messages"),
        max_tokens=bounds[0] or bounds[1],
        stream=_flag(value, "stream"),
        usage=_flag(options or {}, "include_usage"),
    )


def _invalid(name: str, wanted: str) -> Refusal:
    return Refusal(400, "invalid_parameter", f"{name} has to be {wanted}", param=name)


def _flag(value: Mapping[str, Any], name: str) -> bool:
    found = value.get(name)
    if not isinstance(found, bool | None):
        raise _invalid(name, "true or false")
    return found is True


def _length(value: Mapping[str, Any], name: str) -> int | None:
    """A bound on the answer's length in tokens, where there is one."""
    if value.get(name) is None:
        return None
    found = whole_number(value[name])
    if found is None or found < 1:
        raise _invalid(name, "a positive number")
    return found


def _read_messages(messages: object, limits: Limits) -> tuple[Upload, str]:
    """Image and text of the one message."""
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        raise Refusal(
            400, "unsupported_messages", "send one message: of the user, an image and a question",
            hint="the prompt is the one the model was trained with: no system message, no history",
            param="messages",
        )  # fmt: skip
    message = messages[0]
    if message.get("role") != "user":
        raise Refusal(
            400, "unsupported_messages", "the message has to be of the user", param="messages"
        )
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    images, texts = [], []
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": url} | url}:
                images.append(url)
            case _:
                raise Refusal(
                    400, "unsupported_content", "content parts are of type text or image_url",
                    param="messages",
                )  # fmt: skip
    if len(images) != 1:
        raise Refusal(
            400, "no_image", f"{len(images)} images in the message, one is needed",
            param="messages",
        )  # fmt: skip
    return data_url(images[0], limits, "messages"), "\n".join(texts)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way out.

    Attributes:
        model: as the request named it.
        text: the answer.
        whole: whether it ended by itself, and not by the bound on its length.
        confidence: probability of its tokens.
        prompt_tokens, answer_tokens: counts.
    """

    model: str
    text: str
    whole: bool
    confidence: float
    prompt_tokens: int
    answer_tokens: int
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": self.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, **self._end()}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    def events(self, usage: bool) -> Iterator[str]:
        """The answer as server-sent events; it is short and known, so its text is one event."""
        steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"role": "assistant", "content": ""}, {"finish_reason": None}),
            ({"content": self.text}, {"finish_reason": None}),
            ({}, self._end()),
        ]
        head = self._head("chat.completion.chunk")
        for delta, rest in steps:
            choice = {"index": 0, "delta": delta, "logprobs": None, **rest}
            yield _event({**head, "choices": [choice]})
        if usage:
            yield _event({**head, "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _end(self) -> dict[str, Any]:
        reason = "stop" if self.whole else "length"
        return {"finish_reason": reason, "confidence": round(self.confidence, 6)}

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.answer_tokens,
            "total_tokens": self.prompt_tokens + self.answer_tokens,
        }


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {to_json(value)}\n\n"
