"""Select from a conversation: its last question and its newest image.

Chat clients send the whole history with every request, system messages of their own, and image
and text in one message or in several. The model was trained on one image with one question, so
nothing else can be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from ..instruction import bare_question
from .api_errors import Refusal
from .requests import ASK

#: Note in the first answer of a conversation with unused text.
ALONE = "Each question is answered on its own, about the newest image."
#: Answer to a conversation without an image.
PURPOSE = (
    "This server answers questions about remote-sensing images: send an image with a question."
)

_SYSTEM = ("system", "developer")
# default system messages of clients and chat templates
_DEFAULTS = {
    "you are a helpful assistant",
    "you are a helpful ai assistant",
    "you are a helpful, respectful and honest assistant",
    "you are qwen, created by alibaba cloud. you are a helpful assistant",
    "你是一个有用的助手",
    "你是一个有帮助的助手",
}


_LONGEST = 1000  # maximum characters of a system message that may be a default
_LONGEST_QUESTION = 20_000  # characters, with instruction and whitespace


class TextPart(BaseModel):
    """Text of the user."""

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """An image of the user; only the newest is read."""

    type: Literal["image_url"]
    image_url: Any

    @property
    def url(self) -> object:
        """The URL of the image."""
        place = self.image_url
        return place.get("url", place) if isinstance(place, dict) else place


class SaidPart(BaseModel):
    """Text of the assistant or the system."""

    type: Literal["text"]
    text: str | None


class RefusalPart(BaseModel):
    """A refusal of the assistant; its text is not used."""

    type: Literal["refusal"]
    text: ClassVar[None] = None


OtherPart = Annotated[SaidPart | RefusalPart, Field(discriminator="type")]


class UserMessage(BaseModel):
    """A message of the user."""

    role: Literal["user"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class OtherMessage(BaseModel):
    """A message of the system or the assistant."""

    role: Literal["system", "developer", "assistant"]
    content: str | list[Annotated[SaidPart | RefusalPart, Field(discriminator="type")]] | None = (
        None
    )


Message = Annotated[UserMessage | OtherMessage, Field(discriminator="role")]


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """The part of a conversation that gets answered.

    Attributes:
        images: URL of the newest image, not validated yet; may be empty.
        question: the last one, without the instruction; may be empty.
        unused: whether the conversation has other text that could matter.
        noted_before: whether an earlier answer has a note about it.
    """

    images: list[object]
    question: str
    unused: bool
    noted_before: bool


@dataclass(slots=True)
class _Turn:
    """Consecutive messages of the user.

    Attributes:
        texts: of all of the messages.
        images: URLs, by message.
    """

    texts: list[str] = field(default_factory=list)
    images: list[list[object]] = field(default_factory=list)

    def question(self, instruction: str) -> str:
        """Return the question without the instruction; of too long a text only the start."""
        texts: list[str] = []
        size = 0
        for text in self.texts:
            if text and not text.isspace():
                texts.append(text)
                size += len(text)
            if size > _LONGEST_QUESTION:
                break  # long enough to be refused
        return bare_question("\n".join(texts), instruction)


def read_conversation(messages: Sequence[Message], instruction: str) -> ChatQuestion:
    """Find question and image.

    Args:
        messages: of the request.
        instruction: the prompt's instruction, which does not count as unused text.

    Raises:
        Refusal: the last message is not the user's, or it has several images.
    """
    turns: list[_Turn] = []
    said: list[str] = []  # by others than the user
    unused = False
    speaks = ""
    for message in messages:
        role = message.role
        texts, images = _parts(message)
        if role == "user":
            if speaks != "user":
                turns.append(_Turn())
            turns[-1].texts += texts
            turns[-1].images.append(images)
        elif role in _SYSTEM:
            unused |= not _is_silent(texts, instruction)
            continue  # it does not end the user's turn
        else:
            said += texts
        speaks = role
    if speaks != "user":
        why = "the last message has to be from the user"
        raise Refusal(400, "unsupported_messages", why, hint=ASK, param="messages")
    newest_first = ((turn.question(instruction), n) for n, turn in reversed([*enumerate(turns)]))
    question, last = next((found for found in newest_first if found[0]), ("", len(turns) - 1))
    images = next((found for t in reversed(turns) for found in reversed(t.images) if found), [])
    if len(images) > 1:
        raise Refusal(
            400,
            "no_image",
            f"{len(images)} images in the message, one is needed",
            param="messages",
        )
    unused = unused or any(text and not text.isspace() for text in said)
    return ChatQuestion(
        images=images,
        question=question,
        unused=unused or any(turn.question(instruction) for turn in turns[:last]),
        noted_before=any(ALONE in text for text in said),
    )


def _parts(message: UserMessage | OtherMessage) -> tuple[list[str], list[object]]:
    """Return texts and image URLs of a message."""
    if not isinstance(message.content, list):
        return [message.content or ""], []
    texts = [part.text or "" for part in message.content if isinstance(part, TextPart | SaidPart)]
    images = [part.url for part in message.content if isinstance(part, ImagePart)]
    return texts, images


def _is_silent(texts: Sequence[str], instruction: str) -> bool:
    """Return whether a system message is a default one or the instruction."""
    if sum(map(len, texts)) > len(instruction) + _LONGEST:
        return all(not text or text.isspace() for text in texts)
    plain = " ".join(bare_question("\n".join(texts), instruction).lower().split())
    return not plain or plain.rstrip(".!。！") in _DEFAULTS
