"""Prompt format: the chat template as token ids around image, instruction and question.

A prompt is the chat template of the base model, split into pieces:

    head    <|im_start|>system … <|im_start|>user ⏎ <|vision_start|>
    image   one pad token per visual token
    tail    <|vision_end|> + the instruction, shared by all questions of an image
    question (plain text: nothing in it can become a control token)
    close   <|im_end|> ⏎ <|im_start|>assistant ⏎
    answer (plain text) + end token

Pieces are tokenised separately and joined, so that training, evaluation and serving use the same
ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from ..errors import ModelError, Qwen2VLRSError
from ..instruction import bare_question
from ..question_tree.tree import Ints, Node
from ..system.oserrors import explain_read_errors
from .family import Family, Grid, family_of
from .folder import (
    CONFIG,
    FETCH,
    GENERATION,
    ModelFiles,
    first_line,
    link_files,
    model_errors,
    read_object,
)
from .template import try_template

_MARK = "\N{SNOWMAN}question\N{SNOWMAN}"
_ANSWER = "\N{SNOWMAN}answer\N{SNOWMAN}"


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """Token ids of the fixed pieces of a prompt, for one base model and one instruction.

    Attributes:
        family: family of the base model.
        tokenizer: tokenizer of the base model.
        head, tail, close: ids of the pieces above.
        image_id: placeholder of a visual token.
        end_id: token that ends an answer.
        stop_ids: tokens at which generation stops, including the end token.
        instruction: instruction at the end of the tail; it is removed from questions.
    """

    family: Family
    tokenizer: Any
    head: tuple[int, ...]
    tail: tuple[int, ...]
    close: tuple[int, ...]
    image_id: int
    end_id: int
    stop_ids: frozenset[int]
    instruction: str = ""

    def text_ids(self, text: str) -> list[int]:
        """Return the ids of plain text; control tokens in it are treated as text."""
        ids: list[int] = self.tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return ids

    def root_ids(self, visual_tokens: int) -> Ints:
        """Return the (P,) ids of head, image and tail."""
        ids = [*self.head, *[self.image_id] * visual_tokens, *self.tail]
        return np.array(ids, dtype=np.int64)

    def root_positions(self, grid: Grid, merge: int) -> Ints:
        """Return their (3, P) rotary positions, for an image grid and merge size."""
        return self.family.root_positions(len(self.head), grid, merge, len(self.tail))

    def question_ids(self, question: str) -> list[int]:
        """Return the ids of a question, up to the start of its answer.

        Whitespace and the instruction at either end are removed.
        """
        return [*self.text_ids(bare_question(question, self.instruction)), *self.close]

    def answer_ids(self, answer: str) -> list[int]:
        """Return the ids of an answer with its end token."""
        return [*self.text_ids(answer), self.end_id]

    def branch(self, question: str, answer: str | None = None) -> Node:
        """Return a question node; the loss is on the answer and its end token, if given."""
        ids = self.question_ids(question)
        if answer is None:
            return Node(ids)
        words = self.text_ids(answer)
        if not words:
            return Node(ids, extra_targets=(self.end_id,))
        return Node(ids, (Node(words, loss=True, extra_targets=(self.end_id,)),))

    def decode(self, ids: list[int]) -> str:
        """Decode generated ids, without control tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()


def load_prompt_format(files: ModelFiles, config: Any, instruction: str) -> PromptFormat:
    """Read tokenizer and chat template of a base model.

    Args:
        files: files of the base model.
        config: its config, for the id of the image token.
        instruction: text between image and question; may be empty.

    Raises:
        ModelError: tokenizer or chat template is missing, or does not support an image.
    """
    folder = files.folder
    tokenizer = _load_tokenizer(files)
    family = family_of(config)
    image_id = family.image_token(config)
    pad = tokenizer.convert_ids_to_tokens(image_id)
    if pad is None:
        raise ModelError(
            f"no usable tokenizer in {folder}: it has no token {image_id}",
            hint="fetch the model again: qwen2vl-rs load",
        )
    prompt, with_answer = _rendered(folder, tokenizer)
    if prompt.count(pad) != 1 or prompt.count(_MARK) != 1:
        raise ModelError(
            f"the chat template in {folder} does not contain one image and one question",
            hint="use an Instruct model, e.g. Qwen/Qwen2-VL-2B-Instruct: qwen2vl-rs load",
        )
    head, rest = prompt.split(pad)
    tail, close = rest.split(_MARK)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    end_id = ids(with_answer.split(_ANSWER)[1])[0]
    lead = f"{instruction}\n" if instruction else ""
    plain = tokenizer.encode(lead, add_special_tokens=False, split_special_tokens=True)
    return PromptFormat(
        family=family,
        tokenizer=tokenizer,
        head=ids(head),
        tail=(*ids(tail), *plain),
        close=ids(close),
        image_id=image_id,
        end_id=end_id,
        stop_ids=frozenset({end_id, *_generation_ends(folder)}),
        instruction=instruction,
    )


def _load_tokenizer(files: ModelFiles) -> Any:
    """Load the tokenizer and set its chat template."""
    folder = files.folder
    try:
        given = (folder / CONFIG, *files.tokenizer)
        with explain_read_errors(*given), link_files(given) as place:
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
    except Qwen2VLRSError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions
        for path in files.tokenizer:
            if path.suffix == ".json":
                read_object(path)  # names the file that is not JSON
        raise ModelError(
            f"no usable tokenizer in {folder}: {first_line(error)}",
            hint="fetch the model again: qwen2vl-rs load",
        ) from error
    if not files.template:
        raise ModelError(
            f"{folder} has no chat template",
            hint="use an Instruct model, e.g. Qwen/Qwen2-VL-2B-Instruct: qwen2vl-rs load",
        )
    tokenizer.chat_template = files.template
    return tokenizer


def _rendered(folder: Path, tokenizer: Any) -> tuple[str, str]:
    """Render a prompt with one image and one question, without and with an answer."""
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _MARK}]}
    reply = {"role": "assistant", "content": [{"type": "text", "text": _ANSWER}]}
    named = json.dumps({k: str(v) for k, v in tokenizer.special_tokens_map.items()})
    try_template(folder, tokenizer.chat_template, json.dumps([[user], [user, reply]]), named)
    with model_errors(f"the chat template in {folder} is broken"):
        with_answer = tokenizer.apply_chat_template([user, reply], tokenize=False)
        prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    return prompt, with_answer


def _generation_ends(folder: Path) -> list[int]:
    """Return the stop tokens in ``generation_config.json``.

    Nothing else of that file is used: decoding is greedy, without a repetition penalty.
    """
    ends = read_object(folder / GENERATION).get("eos_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(isinstance(end, int) for end in ends):
        raise ModelError(f"{folder / GENERATION}: eos_token_id is {ends}", hint=FETCH)
    return ends
