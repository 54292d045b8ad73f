"""Estimate memory and time of a training before it starts, without the weights.

The time is that of the matrix products of some real steps at the share of the device's peak that
training reaches, and of launching the layers. Both constants are measured (``docs/benchmarks.md``,
``docs/gpu.md``).

Shapes: T tokens of a pack, N patches of an image.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import Config, TrainingSettings
from ..datasets.base import Dataset
from ..models.adapter import add_adapter
from ..models.family import family_of
from ..models.folder import ModelFiles
from ..models.images import ImageInput, ImageReader, load_image_reader
from ..models.prompt import PromptFormat
from ..models.shapes import meta_network
from ..question_tree.tree import Layout
from ..types import Sample
from .packing import ImageQuery, pack, plan_epoch, prefix_order

# Matrix products of training, divided by a large square one. H200 in bfloat16: from the slope of
# seconds over tokens, 1,787 to 14,477 in a pack (docs/results/gpu-h200.json). CPU in float32: with
# `_VALUE`, the two values that give 0.473 for the 84 M model (train-cpu-fp32-cached.json) and 159
# questions/s for the bundled base model (run-demo.json), if its machine had 140 GFLOP/s: assumed.
_SHARE = {"cpu": 0.74, "cuda": 0.48}
# FLOPs in whose time the other work on one value of the activations is done (dropout, norms,
# copies); on a GPU it is in the share.
_VALUE = {"cpu": 810.0, "cuda": 0.0}
# Seconds that a pack takes per layer, however short it is: launching kernels. The same rows of the
# H200 at 0 tokens; with checkpointing the forward pass is launched twice.
_LAUNCH = {False: 6.1e-3, True: 10.8e-3}
_STEPS = 6  # steps of the first epoch whose packs are made
_IMAGES = 200  # images whose headers are read for the work of the vision tower
SPREAD = 1.7  # of the printed range; a choice, as other programs change the speed by as much


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A base model with a new adapter as it would be on a device; it has no weights.

    Attributes:
        network: on the meta device.
        device: the device of the training.
        dtype: of the frozen weights.
    """

    network: Any
    device: torch.device
    dtype: torch.dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of trained parameters, and of all."""
        trained, total = self.network.get_nb_trainable_parameters()
        return int(trained), int(total)


def planned_model(
    config: Any, settings: Config, device: torch.device, dtype: torch.dtype
) -> PlannedModel:
    """Return the model that a training would train.

    Raises:
        ConfigError: a target module of the adapter does not exist.
    """
    training = settings.training
    network = meta_network(config).to(dtype)
    adapted = add_adapter(network, settings.lora, training.vision_tower, training.merger)
    return PlannedModel(adapted, device, dtype)


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """Estimated time of a training.

    Attributes:
        seconds: of all steps, with encoding the images.
        encoding: seconds of these before the first step, for encoding the images; 0 if they are
            encoded in every step.
        questions: number of questions in all steps.
        steps: number of optimizer steps.
        tokens: mean tokens of a step.
    """

    seconds: float
    encoding: float
    questions: int
    steps: int
    tokens: float

    @property
    def rate(self) -> float:
        """Questions per second, from the first step on."""
        return self.questions / (self.seconds - self.encoding)


def training_time(
    model: PlannedModel,
    samples: Dataset,
    prompts: PromptFormat,
    images: ImageReader,
    settings: TrainingSettings,
    *,
    budget: int,
    checkpointing: bool,
    peak: float,
    cached: bool,
    world: int = 1,
) -> TrainingTime:
    """Estimate the time of a training.

    Args:
        model: see `planned_model`.
        samples: the training questions.
        prompts: of the base model.
        images: of the base model.
        settings: those of the training.
        budget: maximum tokens per pack.
        checkpointing: whether activations are recomputed.
        peak: FLOP/s of a large matrix product on the device.
        cached: whether each image is encoded once for all epochs.
        world: number of processes that share a step.

    Raises:
        ImageError: an image cannot be used.
    """
    sizes = samples.groups.sizes
    plan = plan_epoch(
        sizes, settings.images_per_step, settings.questions_per_image, settings.seed, 0
    )
    steps = settings.max_steps or len(plan) * settings.num_train_epochs
    per_epoch = min(steps, len(plan))
    chosen = sorted({int(k) for k in np.linspace(0, per_epoch - 1, _STEPS)})
    again = checkpointing
    kind, layers = model.device.type, model.config.get_text_config().num_hidden_layers
    launch = _LAUNCH[again] * layers if kind == "cuda" else 0.0
    speed = peak * _SHARE[kind] * world
    seconds = tokens = asked = 0.0
    for step in chosen:
        layouts, part = _step(plan[step], samples, prompts, images, budget)
        targets = sum(len(prompts.answer_ids(sample.answer)) for sample in part)
        work = step_flops(model.network, layouts, targets, checkpointing=again)
        work += _VALUE[kind] * step_values(model.config, layouts, checkpointing=again)
        seconds += work / speed
        seconds += launch * math.ceil(len(layouts) / world)
        tokens += sum(one.size for one in layouts)
        asked += len(part)
    # steps differ in their number of questions, which is known for all of them
    epochs, rest = divmod(steps, len(plan))
    questions = sum(map(plan.questions, range(rest))) + epochs * int(sizes.sum())
    seconds *= questions / asked
    turns = len(sizes) if cached else steps * settings.images_per_step
    encoding = turns * _encoding(model.network, samples, images) / speed
    before = encoding if cached else 0.0
    tokens *= questions / asked / steps
    return TrainingTime(seconds + encoding, before, questions, steps, tokens)


def _step(
    turns: Sequence[tuple[int, Any]],
    samples: Dataset,
    prompts: PromptFormat,
    images: ImageReader,
    budget: int,
) -> tuple[list[Layout], list[Sample]]:
    """Return the layouts and questions of a step, from the headers of its images."""
    asks, asked = [], []
    for image, questions in turns:
        part = list(samples.take(samples.groups[image][questions]))
        grid = images.grid(part[0].image)
        pixels = ImageInput(grid, math.prod(grid) // images.merge_size**2)
        asks.append(ImageQuery(pixels, [prompts.branch(s.question, s.answer) for s in part]))
        asked += part
    ordered, _ = prefix_order(asks)
    packs = pack(ordered, prompts, images.merge_size, budget)
    return [one.layout for one in packs], asked


def step_flops(
    network: Any, layouts: Sequence[Layout], targets: int, *, checkpointing: bool
) -> float:
    """Return the FLOPs of all matrix products of a step, forward and backward.

    A frozen layer takes 4 FLOPs per weight and token (it needs no weight gradient), an adapter 6;
    with checkpointing the forward pass is computed again: 2 more.

    Args:
        network: the network with its adapter.
        layouts: those of the step's packs.
        targets: number of loss tokens.
        checkpointing: whether activations are recomputed.
    """
    config = network.config.get_text_config()
    is_block = family_of(network.config).is_block
    blocks = [(n, p.numel()) for n, p in network.named_parameters() if p.ndim == 2 and is_block(n)]
    adapters = sum(size for name, size in blocks if "lora_" in name)
    frozen = sum(size for name, size in blocks if "lora_" not in name)
    fed = sum(one.size for one in layouts)
    pairs = sum(int(one.visible(np.arange(one.size)).sum()) for one in layouts)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attended = config.num_hidden_layers * config.num_attention_heads * width * pairs
    again = 2.0 if checkpointing else 0.0
    layers = (4 + again) * frozen * fed + (6 + again) * adapters * fed + (12 + 2 * again) * attended
    return layers + 4.0 * config.hidden_size * config.vocab_size * targets


def step_values(config: Any, layouts: Sequence[Layout], *, checkpointing: bool) -> float:
    """Return the number of values of the activations of a step, in all layers.

    Those that checkpointing computes again count a third: forward and backward are three passes.
    """
    text = config.get_text_config()
    each = text.num_hidden_layers * (12 * text.hidden_size + 8 * text.intermediate_size)
    return sum(one.size for one in layouts) * each * (4 / 3 if checkpointing else 1.0)


def _encoding(network: Any, samples: Dataset, images: ImageReader) -> float:
    """Return the mean FLOPs of encoding an image: the products with the tower's weights."""
    pattern = family_of(network.config).vision_layers
    weights = sum(
        p.numel()
        for name, p in network.named_parameters()
        if p.ndim == 2 and re.fullmatch(pattern, name)
    )
    _, some = _some_images(samples)
    patches = sum(math.prod(images.grid(path)) for path in some) / len(some)
    return 2.0 * weights * patches


def cache_size(
    files: ModelFiles, model_config: Any, settings: Config, samples: Dataset, dtype: torch.dtype
) -> tuple[float, int]:
    """Estimate the bytes of the features of all images, from some of them; return the free bytes.

    Args:
        files: those of the base model.
        model_config: its configuration.
        settings: those of the training.
        samples: the training questions.
        dtype: of the features.

    Raises:
        ImageError: an image cannot be used.
    """
    reader = load_image_reader(files, model_config, settings.view)
    layers, width = family_of(model_config).feature_shape(model_config)
    paths, some = _some_images(samples)
    tokens = sum(reader.tokens(path) for path in some) / len(some) * len(paths)
    output = Path(settings.output).absolute()
    there = next(one for one in (output, *output.parents) if one.exists())
    return tokens * layers * width * dtype.itemsize, shutil.disk_usage(there).free


def _some_images(samples: Dataset) -> tuple[list[str], list[str]]:
    """Return all images, and some of them."""
    paths = samples.distinct("image")
    return paths, paths[:: max(1, len(paths) // _IMAGES)]
