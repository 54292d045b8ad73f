"""All settings of a run with their defaults.

Keys have the names of ``TrainingArguments`` and ``LoraConfig`` where these define them. An unknown
key is an error that suggests the nearest one; all errors are reported together (`config_file`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from .adapter_settings import LoraSettings as LoraSettings
from .adapter_settings import Section as Section
from .adapter_settings import Way as Way
from .instruction import bare_question
from .known_datasets import known_name
from .validation_record import Metric

Percent = Annotated[float, Field(ge=0, le=100)]
BandNumber = Annotated[int, Field(ge=1)]


class RasterToRGB(Section):
    """How image files become 8-bit RGB pixels; stored with checkpoints.

    Attributes:
        bands: numbers of the red, green and blue bands, counted from 1. None: the bands that the
            file tags as such, else its first three.
        stretch: lower and upper percentile of the contrast stretch: these become 0 and 255, per
            image and band, in data that are not 8-bit.
        value_range: values that become 0 and 255 in all bands of data that are not 8-bit, e.g.
            ``(0, 4096)`` for Sentinel-2, instead of the percentiles. Equal values then look
            equal in all images, and a crop looks like its scene.
    """

    bands: tuple[BandNumber, BandNumber, BandNumber] | None = None
    stretch: tuple[Percent, Percent] = (2.0, 98.0)
    value_range: tuple[FiniteFloat, FiniteFloat] | None = None

    @field_validator("stretch", "value_range")
    @classmethod
    def _low_below_high(cls, pair: tuple[float, float] | None) -> tuple[float, float] | None:
        if pair is not None and not pair[0] < pair[1]:
            raise ValueError(f"the first number must be below the second, not {pair}")
        return pair


class InputConfig(Section):
    """Image and instruction settings of the model's input, the same in training and inference.

    Attributes:
        image: conversion from file to RGB pixels.
        min_pixels: smaller images are upsampled to this many pixels (width times height).
        max_pixels: larger images are downsampled to this many pixels.
        instruction: text between image and question, shared by all questions of an image.
    """

    image: RasterToRGB = RasterToRGB()
    # a visual token of Qwen2-VL has 784 pixels; the published limits are 4 and 1,280 tokens
    min_pixels: int = Field(3_136, ge=784)
    max_pixels: int = Field(1_003_520, ge=784)
    instruction: str = "Answer the question using a single word or phrase."

    def bare(self, question: str) -> str:
        """Return a question without the instruction, see `bare_question`."""
        return bare_question(question, self.instruction)

    @model_validator(mode="after")
    def _ordered(self) -> InputConfig:
        if self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels is larger than max_pixels")
        return self


Tracker = Literal["swanlab", "tensorboard", "wandb", "mlflow", "trackio"]


def _one_precision(section: Any) -> Any:
    if section.bf16 and section.fp16:
        raise ValueError("set bf16 or fp16, not both")
    return section


class TrainingSettings(Section):
    """Training settings, with the names of ``TrainingArguments`` where it defines them.

    Attributes:
        learning_rate: peak learning rate, after warmup.
        num_train_epochs: number of passes over all training questions.
        warmup_ratio: share of the steps over which the learning rate rises from 0.
        lr_scheduler_type: shape of the learning rate schedule after warmup.
        weight_decay: weight decay of AdamW.
        max_grad_norm: larger gradients are clipped to this norm.
        gradient_checkpointing: recompute activations instead of storing them: slower, with far
            less memory and the same result. None: only if they do not fit in memory.
        seed: seed of the split, the order of the images, and the adapter's initial weights.
        images_per_step: images in one optimizer step, over all processes.
        questions_per_image: questions per image in one step; the remaining ones follow in later
            steps of the epoch.
        max_tokens_per_pack: token budget of one packed sequence (one forward pass); a larger step
            is split, with the same result. None: chosen for the device.
        vision_cache_gb: the frozen vision tower's features of all images are kept on disk for all
            epochs when they take no more than this (and half of the free space); 0: never. A tower
            or merger that is trained encodes the images in every step.
        vision_tower: ``frozen``; ``lora``: its linear layers get adapters of the same r and alpha;
            ``full``: its own weights are trained, and stored in the checkpoint.
        merger: the same choice for the layers between vision tower and language model.
        vision_learning_rate, merger_learning_rate: peak learning rates of vision tower and merger;
            None: ``learning_rate``.
        attention: ``flex`` (CUDA only) or ``branches``, with the same result; None: chosen for the
            device.
        bf16, fp16: 16-bit type in which training computes. With neither: bfloat16 on a GPU or CPU
            that supports it, float16 on a GPU that does not (T4, V100), float32 on other CPUs.
            False: float32.
        max_steps: number of steps in place of ``num_train_epochs``, as in ``TrainingArguments``;
            None: all epochs.
        save_steps: steps between two checkpoints (the last step always gets one). With validation
            questions, each checkpoint is validated.
        metric_for_best_model: validation score of the best checkpoint: ``OA`` or ``AA`` (official
            protocol, higher is better), or ``loss`` (of the answers, lower is better).
        early_stopping_patience: training ends after this many validations in a row without a
            better score; None: after all steps.
        save_total_limit: number of newest checkpoints to keep, beside the best one; 0: all.
        report_to: trackers; SwanLab runs offline unless you are logged in.
    """

    learning_rate: float = Field(1e-4, gt=0)
    num_train_epochs: int = Field(3, ge=1)
    max_steps: int | None = Field(None, ge=1)
    images_per_step: int = Field(4, ge=1)
    questions_per_image: int = Field(25, ge=1)
    max_tokens_per_pack: int | None = Field(None, ge=64)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    vision_cache_gb: float = Field(16.0, ge=0)
    gradient_checkpointing: bool | None = None
    vision_tower: Way = "frozen"
    merger: Way = "frozen"
    vision_learning_rate: float | None = Field(None, gt=0)
    merger_learning_rate: float | None = Field(None, gt=0)
    attention: Literal["branches", "flex"] | None = None
    bf16: bool | None = None
    fp16: bool | None = None
    save_steps: int = Field(100, ge=1)
    save_total_limit: int = Field(2, ge=0)
    metric_for_best_model: Metric = "OA"
    early_stopping_patience: int | None = Field(None, ge=1)
    seed: int = Field(42, ge=0)
    report_to: tuple[Tracker, ...] = ("swanlab",)

    _one_precision = model_validator(mode="after")(_one_precision)

    @model_validator(mode="after")
    def _of_what_is_trained(self) -> TrainingSettings:
        for part, rate in (("vision_tower", "vision"), ("merger", "merger")):
            if getattr(self, part) == "frozen" and getattr(self, f"{rate}_learning_rate"):
                raise ValueError(f"{rate}_learning_rate has no effect: {part} is frozen")
        return self


class DataConfig(Section):
    """Source and split of the questions.

    Attributes:
        conversations: file to split into train and test, unless ``train`` and ``test`` are given.
        train, test: existing splits (conversations, CSV or official question files).
        images: folder to which the images were moved; a path's longest suffix that is a file there
            is used. None: the paths are used unchanged.
        max_train: maximum number of training questions, filled image by image (a single image with
            more questions is cut); None: all.
        max_train_images: maximum number of training images; ``max_train`` limits their questions.
        test_fraction: share of the images (or questions) that is held out.
        val: validation questions, answered at each checkpoint (see ``training.save_steps``); the
            best checkpoint is then the one that is tested and used.
        val_fraction: share of the training images (or questions) that is held out for validation
            instead; 0: none.
        max_val: maximum number of validation questions, filled image by image; None: all.
        split_by: ``image`` keeps an image on one side; ``question`` leaks images, with a warning.
        dataset: data set that defines the classes in scoring, such as ``LR``; None: the one named
            in the question files, else counts and areas are compared exactly.
    """

    conversations: str = "data_vl.json"
    train: str | None = None
    test: str | None = None
    images: str | None = None
    max_train: int | None = Field(None, ge=1)
    max_train_images: int | None = Field(None, ge=1)
    test_fraction: float = Field(0.1, gt=0, lt=1)
    val: str | None = None
    val_fraction: float = Field(0.0, ge=0, lt=1)
    max_val: int | None = Field(None, ge=1)
    split_by: Literal["image", "question"] = "image"
    dataset: Annotated[str, AfterValidator(known_name)] | None = None

    @model_validator(mode="after")
    def _both(self) -> DataConfig:
        if (self.train is None) != (self.test is None):
            raise ValueError("give both train and test, or neither")
        if self.train is not None and self.conversations != "data_vl.json":
            raise ValueError("give conversations to split, or train and test, not both")
        if self.val is not None and self.val_fraction:
            raise ValueError("give val or val_fraction, not both")
        if self.max_val is not None and not self.has_validation:
            raise ValueError("max_val needs validation questions: val or val_fraction")
        return self

    @property
    def has_validation(self) -> bool:
        """Whether there are validation questions."""
        return self.val is not None or self.val_fraction > 0


class EvalConfig(Section):
    """Evaluation settings.

    Attributes:
        answers: ``free``: the model generates its answer (greedy decoding); ``closed``: the most
            probable of the candidate answers is chosen.
        max_eval: maximum number of test questions, filled image by image (a single image with more
            questions is cut); None: all.
        max_new_tokens: maximum length of a generated answer in tokens.
        samples: number of answers printed at the end of training.
        max_tokens_per_pack, attention: as in ``training``, but for evaluation; None: the value in
            ``training``.
        bf16, fp16: as in ``training``, but for evaluation, which is in float32 on a CPU; None: the
            value in ``training``.
        seed: seed of the shuffled-images baseline; None: the seed in ``training``.
    """

    answers: Literal["free", "closed"] = "free"
    max_eval: int | None = Field(None, ge=1)
    max_new_tokens: int = Field(32, ge=1)
    samples: int = Field(8, ge=0)
    max_tokens_per_pack: int | None = Field(None, ge=64)
    attention: Literal["branches", "flex"] | None = None
    bf16: bool | None = None
    fp16: bool | None = None
    seed: int | None = Field(None, ge=0)

    _one_precision = model_validator(mode="after")(_one_precision)


class Config(Section):
    """All settings of a run.

    Attributes:
        model: folder of the base model, in the published layout.
        output: run folder.
    """

    model: str = "Qwen/Qwen2-VL-2B-Instruct"
    output: str = "output/Qwen2-VL-2B"
    data: DataConfig = DataConfig()
    view: InputConfig = InputConfig()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _patience_for_something(self) -> Config:
        if self.training.early_stopping_patience is not None and not self.data.has_validation:
            raise ValueError(
                "training.early_stopping_patience needs validation questions: data.val or "
                "data.val_fraction"
            )
        return self


def setting_names(section: type[Section] = Config, prefix: str = "") -> Iterator[str]:
    """Yield the full name of every setting, such as ``training.learning_rate``."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name
