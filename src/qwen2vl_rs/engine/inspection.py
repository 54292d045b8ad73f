"""Show a training question token by token: ids, positions, parts, and which tokens carry loss.

Everything is read from the packed sequence that training feeds (`packing.pack`), so that nothing is
shown that is not trained on.

Shapes: T tokens of a sequence, L loss tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..config import TrainingSettings
from ..datasets.base import Dataset
from ..models.images import ImageInput
from ..models.model_inputs import ModelInputs
from ..models.prompt import PromptFormat
from ..question_tree.tree import Layout
from ..raster import image_size
from ..types import Sample
from .packing import ImageQuery, pack, plan_epoch, prefix_order

Piece = Literal["header", "image", "instruction", "question", "close", "answer", "end"]
_NO_LIMIT = 1 << 40  # tokens: packs are cut by memory only, with the same result


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the training sequence; the visual tokens of an image are one entry.

    Attributes:
        index: place in the sequence; that of the first visual token of an image. The end token of
            an answer is predicted but never fed: its index is None.
        id: token id.
        text: its text; control tokens by name.
        positions: rotary positions on all axes (time, height, width); first and last of an image.
        part: ``header`` (chat template), ``image``, ``instruction``, ``question``, ``close``
            (between question and answer), ``answer`` or ``end``.
        loss: whether the model is trained to predict it.
        count: number of tokens: 1, or the visual tokens of the image.
    """

    index: int | None
    id: int
    text: str
    positions: tuple[tuple[int, ...], ...]
    part: Piece
    loss: bool
    count: int = 1


@dataclass(frozen=True, slots=True)
class Branch:
    """A stretch of tokens in the question tree.

    Attributes:
        depth: 0 below the image; a branch continues the one above it with a smaller depth.
        text: its text.
        tokens: number of its tokens, without an end token, which is never fed.
        loss: whether it is an answer.
    """

    depth: int
    text: str
    tokens: int
    loss: bool


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """How the questions about the image in one training step share their prefix.

    Attributes:
        step: optimizer step of the first epoch, counted from 1.
        questions: number of these questions.
        tokens: tokens that are fed for them.
        separate: tokens that would be fed for them as separate sequences.
        image: tokens saved by feeding header, image and instruction once.
        wording: tokens saved by feeding common beginnings of questions once.
        loss: number of loss tokens.
        branches: the tree below the image, in the order of the sequence.
    """

    step: int
    questions: int
    tokens: int
    separate: int
    image: int
    wording: int
    loss: int
    branches: Sequence[Branch] = field(repr=False)


@dataclass(frozen=True, slots=True)
class InspectedSample:
    """A training question as the trainer sees it.

    Attributes:
        sample: the question.
        part: name of its part: ``train`` or, if it is never trained on, another.
        size: width and height of the image in pixels.
        resized: width and height that the model sees.
        visual_tokens: number of visual tokens.
        tokens: the sequence of this question alone.
        text: the sequence as text.
        prefix: how it shares its prefix with other questions in its training step.
    """

    sample: Sample
    part: str
    size: tuple[int, int]
    resized: tuple[int, int]
    visual_tokens: int
    tokens: list[Token]
    text: str
    prefix: SharedPrefix


def inspect_sample(
    data: Dataset,
    row: int,
    inputs: ModelInputs,
    settings: TrainingSettings,
    part: str = "train",
) -> InspectedSample:
    """Lay out a question as training does.

    Args:
        data: the questions of a part.
        row: index of the question.
        inputs: prompt format and image reader of the base model.
        settings: questions per image, images per step, and the seed of their order.
        part: name of the part.

    Raises:
        ImageError: the image cannot be used.
    """
    sample, prompts = data[row], inputs.prompts
    pixels = inputs.images.read(sample.image)
    layout = _layout(pixels, [sample], inputs)
    tokens = list(_tokens(layout, prompts, len(prompts.close)))
    step, others = _turn(data, row, settings)
    return InspectedSample(
        sample,
        part,
        image_size(sample.image),
        inputs.resized(pixels.grid),
        pixels.tokens,
        tokens,
        "".join(f"[image: {t.count} tokens]" if t.part == "image" else t.text for t in tokens),
        _shared(_layout(pixels, others, inputs), others, pixels, step, prompts),
    )


def _layout(pixels: ImageInput, samples: Sequence[Sample], inputs: ModelInputs) -> Layout:
    """Return the packed sequence of an image with some questions, as `StepDataset` makes it."""
    branches = [inputs.prompts.branch(s.question, s.answer) for s in samples]
    asks, _ = prefix_order([ImageQuery(pixels, branches)])
    (one,) = pack(asks, inputs.prompts, inputs.images.merge_size, _NO_LIMIT)
    return one.layout


def _turn(data: Dataset, row: int, settings: TrainingSettings) -> tuple[int, list[Sample]]:
    """Return the step of the first epoch with a question, and the questions of its image in it."""
    s = settings
    groups = data.groups
    plan = plan_epoch(groups.sizes, s.images_per_step, s.questions_per_image, s.seed, epoch=0)
    image = int(data.codes("image")[0][row])
    for turn in np.flatnonzero(plan.images == image).tolist():
        rows = groups[image][plan.order[plan.starts[turn] : plan.stops[turn]]]
        if row in rows:
            return turn // plan.per_step + 1, list(data.take(rows))
    raise AssertionError("an epoch has every question")


def _tokens(layout: Layout, prompts: PromptFormat, close: int) -> Iterator[Token]:
    """Yield the tokens of a sequence with one question."""
    targets = dict(zip((layout.predictors + 1).tolist(), layout.targets.tolist(), strict=True))
    (_, root), *_ = layout.roots.tolist()
    image = np.flatnonzero(layout.ids[:root] == prompts.image_id)
    first, last = int(image[0]), int(image[-1])
    answer = min(targets)  # the first loss token
    parts: list[tuple[int, Piece]] = [
        (first, "header"),
        (last + 1, "image"),
        (root, "instruction"),
        (answer - close, "question"),
        (answer, "close"),
        (layout.size, "answer"),
    ]
    for index in (*range(first + 1), *range(last + 1, layout.size)):
        part = next(name for stop, name in parts if index < stop)
        ends = (first, last) if part == "image" else (index,)
        yield Token(
            index,
            int(layout.ids[index]),
            _text(prompts, int(layout.ids[index])),
            tuple(tuple(layout.positions[:, k].tolist()) for k in ends),
            part,
            targets.get(index) == int(layout.ids[index]),
            len(image) if part == "image" else 1,
        )
    for index, target in sorted(targets.items()):
        if index >= layout.size:
            yield Token(None, target, _text(prompts, target), (), "end", loss=True)


def _text(prompts: PromptFormat, *ids: int) -> str:
    """Return the text of tokens; a part of a character as the tokenizer names it."""
    found: str = prompts.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    if len(ids) == 1 and "\N{REPLACEMENT CHARACTER}" in found:
        return str(prompts.tokenizer.convert_ids_to_tokens(ids[0]))
    return found


def _shared(
    layout: Layout,
    samples: Sequence[Sample],
    pixels: ImageInput,
    step: int,
    prompts: PromptFormat,
) -> SharedPrefix:
    root = len(prompts.root_ids(pixels.tokens))
    branches = [
        len(prompts.question_ids(s.question)) + len(prompts.text_ids(s.answer)) for s in samples
    ]
    separate = root * len(samples) + sum(branches)
    image = root * (len(samples) - 1)
    return SharedPrefix(
        step,
        len(samples),
        layout.size,
        separate,
        image,
        separate - image - layout.size,
        len(layout.targets),
        list(_branches(layout, prompts)),
    )


def _branches(layout: Layout, prompts: PromptFormat) -> Iterator[Branch]:
    """Yield the nodes of a tree below its root: stretches of tokens with the same subtree."""
    (_, start), *_ = layout.roots.tolist()
    ends = layout.subtree_end
    answers = _answer_tokens(layout)
    above: list[int] = []  # subtree ends of the nodes on the path
    while start < layout.size:
        stop = start + 1
        while stop < layout.size and (ends[stop], answers[stop]) == (ends[start], answers[start]):
            stop += 1
        while above and above[-1] <= start:
            above.pop()
        text = _text(prompts, *layout.ids[start:stop].tolist())
        yield Branch(len(above), text, stop - start, bool(answers[start]))
        above.append(int(ends[start]))
        start = stop


def _answer_tokens(layout: Layout) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return (T,) whether a token is predicted and fed.

    It follows the token that predicts it, below it in the tree; an end token is not fed.
    """
    found = np.zeros(layout.size, dtype=np.bool_)
    following = layout.predictors + 1
    found[following[layout.subtree_end[layout.predictors] > following]] = True
    return found
