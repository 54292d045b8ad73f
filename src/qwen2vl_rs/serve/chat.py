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
from typing import Any

from ..system.jsonl import to_json
from .api_errors import Refusal
from .conversation import ALONE, PURPOSE, read_conversation
from .limits import Limits
from .requests import Upload, checked_question, data_url, whole_number

_REFUSED = ("tools", "tool_choice", "functions", "function_call", "response_format", "logprobs",
            "top_logprobs", "logit_bias", "stop", "audio", "modalities")  # fmt: skip

NOTE_HEADER = "X-Qwen2VL-RS-Note"


@dataclass(frozen=True, slots=True)
class Chat:
    """A request.

    Attributes:
        model: as it was named.
        image: the picture; None where none was sent.
        question: without the instruction that stands in every prompt; empty without image.
        unused: whether earlier text of the conversation plays no part in the answer.
        told: whether the answer itself is to say so.
        max_tokens: longest answer in tokens; None for the server's own bound.
        stream: whether the answer goes out as server-sent events.
        usage: whether a stream ends with the token counts.
    """

    model: str
    image: Upload | None
    question: str
    unused: bool
    told: bool
    max_tokens: int | None
    stream: bool
    usage: bool


def parse(
    value: Mapping[str, Any], instruction: str, limits: Limits, *, plain: bool = False
) -> Chat:
    """Read a request.

    Args:
        value: its JSON.
        instruction: text that the prompt holds already; one sent with the question is taken off.
        limits: of the server.
        plain: whether answers never say anything but what the model says.

    Raises:
        Refusal: something in it is missing, wrong or not supported.
    """
    for name in _REFUSED:
        default: tuple[Any, ...] = (None, False, [], {}, "auto", "none", {"type": "text"}, ["text"])
        if value.get(name) not in default:
            raise Refusal(400, "unsupported_parameter", f"{name} is not supported", param=name)
    if value.get("n") is not None and whole_number(value["n"]) != 1:
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
    bare = plain or _for_programs(value)
    asked = read_conversation(value.get("messages"), instruction)
    if not asked.images and bare:
        raise Refusal(
            400, "no_image", "there is no image, one is needed", hint=PURPOSE, param="messages"
        )
    image = question = None
    if asked.images:
        image = data_url(asked.images[0], limits, "messages")
        question = checked_question(asked.question, limits, "messages")
    return Chat(
        model=model,
        image=image,
        question=question or "",
        unused=asked.unused,
        told=asked.unused and not asked.told_before and not bare,
        max_tokens=bounds[0] or bounds[1],
        stream=_flag(value, "stream"),
        usage=_flag(options or {}, "include_usage"),
    )


def _for_programs(value: Mapping[str, Any]) -> bool:
    """Whether a request is a program's, which reads the answer and nothing else."""
    asked = [value.get(name) is not None for name in ("response_format", "logprobs")]
    return _flag(value, "strict") or any(asked)


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


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer on its way out.

    Attributes:
        model: as the request named it.
        text: the answer.
        whole: whether it ended by itself, and not by the bound on its length.
        confidence: probability of its tokens; None where the model was not asked.
        prompt_tokens, answer_tokens: counts.
        unused: whether earlier text of the conversation played no part.
        told: whether the text itself says so, on a line of its own.
    """

    model: str
    text: str
    whole: bool = True
    confidence: float | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    unused: bool = False
    told: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {NOTE_HEADER: ALONE} if self.unused else {}

    def completion(self) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": self.text + self._line, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, **self._end()}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    def events(self, usage: bool) -> Iterator[str]:
        """The answer as server-sent events; it is short and known, so its text is one event."""
        steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"role": "assistant", "content": ""}, {"finish_reason": None}),
            ({"content": self.text}, {"finish_reason": None}),
            *([({"content": self._line}, {"finish_reason": None})] if self.told else []),
            ({}, self._end()),
        ]
        head = self._head("chat.completion.chunk")
        for delta, rest in steps:
            choice = {"index": 0, "delta": delta, "logprobs": None, **rest}
            yield _event({**head, "choices": [choice]})
        if usage:
            yield _event({**head, "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    @property
    def _line(self) -> str:
        return f"\n\n{ALONE}" if self.told else ""

    def _head(self, kind: str) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "note": ALONE} if self.unused else head

    def _end(self) -> dict[str, Any]:
        end: dict[str, Any] = {"finish_reason": "stop" if self.whole else "length"}
        if self.confidence is not None:
            end["confidence"] = round(self.confidence, 6)
        return end

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.answer_tokens,
            "total_tokens": self.prompt_tokens + self.answer_tokens,
        }


def purpose(model: str) -> Completion:
    """The answer to a request without an image."""
    return Completion(model, PURPOSE)


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {to_json(value)}\n\n"
