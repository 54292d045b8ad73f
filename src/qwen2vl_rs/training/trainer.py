"""Training loop: Hugging Face's `Trainer` on question trees, checkpoints, training log.

One item of the dataset is one optimizer step: packs of trees, with equal weight for every loss
token. Checkpoints are written atomically and record their base model and input settings.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from ..config import InputConfig, TrainingSettings
from ..datasets.base import Dataset as Table
from ..engine.forward import forward
from ..engine.inputs import Inputs, make_inputs
from ..engine.packing import ImageQuery, Plan, pack, plan_epoch, prefix_order
from ..engine.prefetch import Prefetcher
from ..engine.vision import EncodedImages
from ..errors import RunError
from ..hardware.devices import split_work
from ..models.adapter_files import ADAPTER
from ..models.images import ImageReader
from ..models.loader import Base, write_metadata
from ..models.prompt import PromptFormat
from ..question_tree.tree import Layout
from ..run import Run, read_metrics
from ..system.console import Progress, counted, warn
from ..system.disk import flush
from ..system.files import append_to, atomic_write, remove_folder, staged_folder
from ..system.jsonl import to_line
from ..system.named_files import reading
from ..system.oserrors import explain_read_errors, explain_write_errors
from ..types import Sample
from .trackers import isolate_errors

_MOST_SKIPPED = 20  # in a row; each halves the loss scale, which begins at 65,536
_IN_FLOAT32 = "train in float32: --set training.fp16=false"

_FROM_THE_START = (
    "nothing had been trained yet: the base model's weights are damaged or overflow; test it alone "
    "(qwen2vl-rs ask BASE …), and check its files: qwen2vl-rs load --verify"
)


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
        images: ImageReader | EncodedImages,
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
        mine = split_work(list(map(self._size, asked)), self._world)[rank]
        asks, _ = prefix_order([self._ask(asked[i]) for i in mine or [0]])
        packs = list(pack(asks, self._prompts, self._images.merge_size, self.budget))
        tokens = sum(len(self._prompts.answer_ids(s.answer)) for s in chain(*asked))
        inputs = [make_inputs(one, self._model) for one in packs]
        return Step([one.layout for one in packs], inputs, tokens, weight=int(bool(mine)))

    def _size(self, samples: list[Sample]) -> int:
        """Return the tokens of one image with questions about it."""
        text = sum(len(self._prompts.question_ids(s.question)) for s in samples)
        return self._images.tokens(samples[0].image) + text

    def _ask(self, samples: list[Sample]) -> ImageQuery:
        branches = [self._prompts.branch(s.question, s.answer) for s in samples]
        return ImageQuery(self._images.read(samples[0].image), branches)

    def _planned(self, epoch: int) -> Plan:
        s, sizes = self._settings, self._groups.sizes
        return plan_epoch(sizes, s.images_per_step, s.questions_per_image, s.seed, epoch)


class TreeTrainer(Trainer):
    """`Trainer` whose batches are `Step` objects.

    Args:
        base: the base model, recorded in every checkpoint.
        view: the input settings, recorded likewise.
        ground: resolution and tile size, likewise; see `models.loader.CheckpointMetadata`.
        steps: the training steps.
        keep: number of checkpoints kept, 0 for all.
        model, args: as for `Trainer`.
    """

    def __init__(
        self,
        base: Base,
        view: InputConfig,
        ground: tuple[float | None, int],
        steps: StepDataset,
        keep: int,
        model: Any,
        args: TrainingArguments,
    ) -> None:
        reporter = _Reporter(Path(args.output_dir), steps)
        super().__init__(
            model=model,
            args=args,
            train_dataset=steps,
            data_collator=lambda items: items[0],
            callbacks=[reporter],
        )
        self.reporter = reporter
        self.remove_callback(PrinterCallback)  # it prints to stdout
        handler = self.callback_handler
        handler.callbacks = isolate_errors(handler.callbacks)
        self._base, self._view, self._ground, self._keep = base, view, ground, keep
        self._skipped_in_a_row = 0
        if args.fp16 and self.accelerator.scaler is None:  # accelerate has none for a CPU
            self.accelerator.scaler = torch.amp.GradScaler("cpu")
            self.accelerator.native_amp = True
        self._folder = self._staging = Path(args.output_dir)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)

    def training_step(
        self, model: Any, inputs: dict[str, Step], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run forward and backward on all packs; return the mean loss of the loss tokens."""
        model.train()
        step = inputs["step"]
        total = torch.zeros((), device=self.args.device)
        # gradients are averaged over the processes, so shares are scaled by their number
        scale = step.weight * self.args.world_size / step.loss_tokens
        for n, one in enumerate(step.inputs, 1):
            last = n == len(step.inputs)
            together = contextlib.nullcontext() if last else self.accelerator.no_sync(model)
            with together:
                with self.compute_loss_context_manager():
                    loss = pack_loss(model, one) * scale
                self.accelerator.backward(loss)
            total += loss.detach()
        return total  # the host does not wait for it until it is logged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Raise an error for NaN before it is logged or a checkpoint is saved.

        Raises:
            RunError: the loss or the gradients are not finite.
        """
        if "loss" in logs:
            self._check_numbers(logs)
        super().log(logs, start_time)

    def _check_numbers(self, logs: dict[str, float]) -> None:
        step, norm = self.state.global_step, logs["grad_norm"]
        rate = "lower the learning rate: --set training.learning_rate=2e-5"
        if step == 1:  # no weights have changed yet, so it is not the learning rate
            rate = _FROM_THE_START
        if not math.isfinite(logs["loss"]):
            hint = rate
            if self.args.fp16:
                hint = f"{_IN_FLOAT32}, or {rate}"
            elif step == 1 and self.args.bf16:
                hint = f"train in float32: --set training.bf16=false, or {rate}"
            raise RunError(f"the loss became {logs['loss']} at step {step}", hint=hint)
        if self.accelerator.optimizer_step_was_skipped:
            self._skipped_in_a_row += 1
            logs["skipped_steps"] = 1
            del logs["grad_norm"]  # infinite: the loss scale was too large and will be reduced
            if self._skipped_in_a_row == _MOST_SKIPPED:
                raise RunError(
                    f"{_MOST_SKIPPED} steps in a row were skipped, the last is step {step}: their "
                    "gradients overflow float16 at any loss scale",
                    hint=f"{_IN_FLOAT32}, or {rate}",
                )
            return
        self._skipped_in_a_row = 0
        if not math.isfinite(norm):
            raise RunError(f"the gradient became {norm} at step {step}", hint=rate)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with explain_read_errors(Path(resume_from_checkpoint) / ADAPTER):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint to a temporary folder and rename it (atomic)."""
        name = f"checkpoint-{self.state.global_step}"
        self.reporter.flush()  # the checkpoint refers to its lines
        main, everyone = self.args.should_save, self.accelerator.wait_for_everyone
        self._staging = self._folder / f".{name}.tmp"  # the folder of `staged_folder`
        with staged_folder(self._folder / name) if main else contextlib.nullcontext():
            everyone()
            with explain_write_errors(self._folder / name):
                super()._save_checkpoint(model, trial)  # every process writes its random state
            everyone()
            if main:
                for path in list((self._staging / name).iterdir()):
                    path.rename(self._staging / path.name)
                (self._staging / name).rmdir()
                write_metadata(self._staging, self._base, self._view, self._ground)
                with explain_write_errors(self._folder / name):
                    self._base.images.processor.save_pretrained(self._staging)
        if main and self._keep:
            for old in Run(self._folder).checkpoints()[: -self._keep]:
                remove_folder(old)
        everyone()


def pack_loss(model: Any, inputs: Inputs) -> torch.Tensor:
    """Return the summed cross-entropy of a pack's loss tokens, in nats."""
    logits = forward(model, inputs)  # (L, V)
    targets = inputs.targets.to(logits.device, non_blocking=True)
    return cross_entropy(logits.float(), targets, reduction="sum")


class _Reporter(TrainerCallback):
    """Writes a line of ``metrics.jsonl`` per step, and the progress bar.

    A checkpoint contains all lines so far (``log_history`` in its ``trainer_state.json``), so that
    a damaged or incomplete file is repaired at a resume.
    """

    def __init__(self, folder: Path, steps: StepDataset) -> None:
        self._path, self._steps = folder / "metrics.jsonl", steps
        self._progress: Progress | None = None
        self._start = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Keep the lines up to the resumed checkpoint, and add up their time."""
        if not state.is_world_process_zero:
            return
        kept = self._lines_until(state)
        with atomic_write(self._path) as file:
            file.writelines(map(_metrics_line, kept))
        self._progress = Progress("training", state.max_steps, "steps", state.global_step)
        self._start = time.monotonic() - max((one.get("seconds", 0) for one in kept), default=0)

    def _lines_until(self, state: TrainerState) -> list[dict[str, Any]]:
        """Return the lines of all completed steps; missing ones are taken from the checkpoint.

        Checkpoints of older versions do not contain the times.
        """
        known = {line["step"]: line for line in read_metrics(self._path)}
        history = {line["step"]: line for line in state.log_history if "loss" in line}
        done = range(1, state.global_step + 1)
        if gone := [step for step in done if step not in known]:
            if not history.keys() >= set(gone):
                raise RunError(
                    f"neither {self._path} nor checkpoint-{state.global_step} has the metrics of "
                    f"step {gone[0]:,}",
                    hint="restore a copy of the file, or train in another folder: --output",
                )
            timed = all("seconds" in history[step] for step in gone)
            said = "" if timed else "; their times are lost"
            warn(
                f"{self._path} lacks {counted(len(gone), 'step')} of {state.global_step:,}, from "
                f"step {gone[0]:,}: taken from checkpoint-{state.global_step}{said}"
            )
        questions = self._steps.questions
        return [
            known.get(step) or {"questions": questions(step - 1), **history[step]} for step in done
        ]

    def on_log(self, args: Any, state: TrainerState, control: Any, **more: Any) -> None:
        """Write the step's metrics."""
        logs: dict[str, float] | None = more.get("logs")
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        logs["epoch"] = round(state.global_step / self._steps.per_epoch, 4)
        line = {"step": state.global_step, **logs}
        line["questions"] = self._steps.questions(state.global_step - 1)
        line["seconds"] = round(time.monotonic() - self._start, 3)
        state.log_history[-1] |= line  # becomes part of checkpoints
        with append_to(self._path) as file:
            file.write(_metrics_line(line))
        if self._progress:
            self._progress.advance(1, f"loss {logs['loss']:.4f}")

    def flush(self) -> None:
        """Flush the lines so far to disk."""
        if self._path.is_file():
            flush([self._path])

    def close(self) -> None:
        """End the progress bar, however training ended."""
        if self._progress:
            self._progress.__exit__(None, None, None)


def _metrics_line(values: dict[str, Any]) -> str:
    """Return a line of ``metrics.jsonl``; a gradient norm that overflowed is null."""
    finite = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()
    }
    return to_line(finite)
