"""Optimizer steps: packs of question trees, and their loss.

One item of the dataset is one optimizer step, with equal weight for every loss token.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..config import TrainingSettings
from ..datasets.base import Dataset as Table
from ..engine.forward import forward
from ..engine.head_loss import loss_of_head
from ..engine.inputs import Inputs, make_inputs
from ..engine.packing import ImageQuery, Plan, pack, plan_epoch, prefix_order
from ..engine.prefetch import Prefetcher
from ..engine.vision import ImageSource
from ..hardware.devices import split_work
from ..models.family import family_of
from ..models.prompt import PromptFormat
from ..question_tree.tree import Layout
from ..types import Sample


@dataclass(frozen=True, slots=True)
class Step:
    """One process's share of an optimizer step.

    Attributes:
        layouts: the layout of each pack.
        inputs: the tensors of each pack, on the host.
        loss_tokens: number of answer and end tokens in the whole step.
        weight: 1, or 0 for a process without work, which repeats another's because all processes
            have to take part in the gradient exchange.
    """

    layouts: list[Layout]
    inputs: list[Inputs]
    loss_tokens: int
    weight: int


class StepDataset(Dataset[dict[str, Step]]):
    """All optimizer steps of all epochs, in order; an item is always the same.

    With several processes a step is divided by images: item ``i * world + rank`` is one process's
    share of step i, which is how accelerate distributes items.

    Args:
        samples: the training questions.
        prompts: of the base model.
        images: the source of images or of their features.
        settings: images and questions per step, and the seed of their order.
        budget: maximum tokens per pack.
        model: the model that the packs are for.
        world: number of processes.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        prompts: PromptFormat,
        images: ImageSource,
        settings: TrainingSettings,
        budget: int,
        model: Any,
        world: int = 1,
    ) -> None:
        self._samples = Table.of(samples)
        self._groups = self._samples.groups
        self._prompts, self._images, self._settings = prompts, images, settings
        self.budget, self._model, self._world = budget, model, world
        self._plan = lru_cache(1)(self._planned)
        self.per_epoch = len(self._plan(0))
        self._ahead = Prefetcher(self._make)

    def questions(self, step: int) -> int:
        """Return the number of questions in an optimizer step, over all processes."""
        return self._plan(step // self.per_epoch).questions(step % self.per_epoch)

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""
        return self._settings.max_steps or self.per_epoch * self._settings.num_train_epochs

    def __len__(self) -> int:
        return self.steps * self._world

    def __getitem__(self, index: int) -> dict[str, Step]:
        then = index + self._world
        return {"step": self._ahead.get(index, then if then < len(self) else None)}

    def _make(self, index: int) -> Step:
        step, rank = divmod(index, self._world)
        turns = self._plan(step // self.per_epoch)[step % self.per_epoch]
        asked = [list(self._samples.take(self._groups[image][chosen])) for image, chosen in turns]
        sizes = [_image_tokens(one, self._prompts, self._images) for one in asked]
        mine = split_work(sizes, self._world)[rank]
        asks, _ = prefix_order([self._ask(asked[i]) for i in mine or [0]])
        packs = list(pack(asks, self._prompts, self._images.merge_size, self.budget))
        tokens = sum(len(self._prompts.answer_ids(s.answer)) for s in chain(*asked))
        inputs = [make_inputs(one, self._model) for one in packs]
        return Step([one.layout for one in packs], inputs, tokens, weight=int(bool(mine)))

    def _ask(self, samples: list[Sample]) -> ImageQuery:
        branches = [self._prompts.branch(s.question, s.answer) for s in samples]
        return ImageQuery(self._images.read(samples[0].image), branches)

    def _planned(self, epoch: int) -> Plan:
        s, sizes = self._settings, self._groups.sizes
        return plan_epoch(sizes, s.images_per_step, s.questions_per_image, s.seed, epoch)


def step_tokens(samples: Table, prompts: PromptFormat, images: ImageSource, settings: Any) -> int:
    """Return the tokens of an optimizer step about the images with the most questions.

    The arguments are those of `StepDataset`. A prefix that questions share counts for each of them.
    """
    groups, most = samples.groups, settings.questions_per_image
    largest = np.argsort(-groups.sizes, kind="stable")[: settings.images_per_step]
    asked = (list(samples.take(groups[image][:most])) for image in largest)
    return sum(_image_tokens(one, prompts, images) for one in asked)


def _image_tokens(samples: list[Sample], prompts: PromptFormat, images: ImageSource) -> int:
    """Return the tokens of one image with questions about it."""
    text = sum(len(prompts.question_ids(s.question)) for s in samples)
    return images.tokens(samples[0].image) + text


def pack_loss(model: Any, inputs: Inputs) -> torch.Tensor:
    """Return the summed cross-entropy of a pack's loss tokens, in nats."""
    inner = getattr(model, "module", model)  # behind DDP
    head = family_of(inner.config).head(inner)
    targets = inputs.targets.to(head.weight.device, non_blocking=True)
    with loss_of_head(head, targets):
        return forward(model, inputs).sum()
