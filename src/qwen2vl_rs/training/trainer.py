"""Training loop: Hugging Face's `Trainer` on question trees, checkpoints, training log.

Checkpoints are written atomically and record their base model and input settings.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from ..config import InputConfig, TrainingSettings
from ..errors import RunError
from ..models.adapter import without_casts
from ..models.adapter_files import read_adapter
from ..models.adapter_weights import place_weights, read_weights
from ..models.family import family_of
from ..models.loader import Base, write_metadata
from ..run import Run, read_metrics, step_of
from ..system.console import Progress, counted, warn
from ..system.disk import flush
from ..system.files import append_to, atomic_write, remove_folder, staged_folder
from ..system.jsonl import to_line
from ..system.named_files import reading
from ..system.oserrors import explain_write_errors
from ..validation_record import ValidationRecord, next_record, write_record
from .optimizer import check_gradients, parameter_groups
from .preemption import StopRequest
from .steps import Step, StepDataset, pack_loss
from .trackers import isolate_errors
from .validation import Validator, flat_metrics

_MOST_SKIPPED = 20  # in a row; each halves the loss scale, which begins at 65,536
_IN_FLOAT32 = "train in float32: --set training.fp16=false"

_FROM_THE_START = (
    "nothing had been trained yet: the base model's weights are damaged or overflow; test it alone "
    "(qwen2vl-rs ask BASE …), and check its files: qwen2vl-rs load --verify"
)


class TreeTrainer(Trainer):
    """`Trainer` whose batches are `Step` objects.

    Args:
        base: the base model, recorded in every checkpoint.
        view: the input settings, recorded likewise.
        ground: resolution and tile size, likewise; see `models.loader.CheckpointMetadata`.
        steps: the training steps.
        settings: the settings of training.
        model, args: as for `Trainer`.
        validator: answers the validation questions at each checkpoint; None without any.

    Attributes:
        validated: the last validation; set it to that of the checkpoint to resume from.
        stop: the signal, if any, after which training ends with a checkpoint.
    """

    def __init__(
        self,
        base: Base,
        view: InputConfig,
        ground: tuple[float | None, int],
        steps: StepDataset,
        settings: TrainingSettings,
        model: Any,
        args: TrainingArguments,
        validator: Validator | None = None,
    ) -> None:
        reporter = _Reporter(Path(args.output_dir), steps)
        self.stop = StopRequest()
        super().__init__(
            model=model,
            args=args,
            train_dataset=steps,
            data_collator=lambda items: items[0],
            callbacks=[reporter, _Stopping(self.stop)],
        )
        self.reporter = reporter
        self.remove_callback(PrinterCallback)  # it prints to stdout
        handler = self.callback_handler
        handler.callbacks = isolate_errors(handler.callbacks)
        self.base, self._view, self._ground, self._settings = base, view, ground, settings
        self._validator = validator
        self.validated: ValidationRecord | None = None
        self._skipped_in_a_row = 0
        if args.fp16 and self.accelerator.scaler is None:  # accelerate has none for a CPU
            self.accelerator.scaler = torch.amp.GradScaler("cpu")
            self.accelerator.native_amp = True
        self._folder = self._staging = Path(args.output_dir)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create AdamW; vision tower and merger may have learning rates of their own."""
        settings, model = self._settings, model or self.model
        if self.optimizer is not None or settings.vision_tower == settings.merger == "frozen":
            made: torch.optim.Optimizer = super().create_optimizer(model)
            return made
        names = self.get_decay_parameter_names(model)
        groups = parameter_groups(model, family_of(self.base.model.config), settings, names)
        adam, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
        self.optimizer: torch.optim.Optimizer = adam(groups, **arguments)
        return self.optimizer

    def training_step(
        self, model: Any, inputs: dict[str, Step], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run forward and backward on all packs; return the mean loss of the loss tokens."""
        model.train()
        with without_casts(self.model, self.args.bf16 or self.args.fp16):
            return self._step(model, inputs["step"])

    def _step(self, model: Any, step: Step) -> torch.Tensor:
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
        check_gradients(model, self.state.global_step)
        return total  # the host does not wait for it until it is logged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, with its validation if a checkpoint follows.

        NaN is an error before it is logged or a checkpoint is saved.

        Raises:
            RunError: the loss or the gradients are not finite.
        """
        if "loss" in logs:
            self._check_numbers(logs)
            if self._validator and self.control.should_save and self._is_due():
                logs |= self._validate(self._validator)
        super().log(logs, start_time)

    def _is_due(self) -> bool:
        """Whether the checkpoint is a planned one, not one after a signal."""
        step = self.state.global_step
        return step % self._settings.save_steps == 0 or step == self.state.max_steps

    def _validate(self, validator: Validator) -> dict[str, float]:
        """Validate the model, and end training if patience is exhausted."""
        settings, step = self._settings, self.state.global_step
        with self.reporter.paused():
            scores = validator.run(step)
        if not math.isfinite(scores["loss"]):
            raise RunError(
                f"the validation loss became {scores['loss']} at step {step}",
                hint="lower the learning rate: --set training.learning_rate=2e-5",
            )
        metric = settings.metric_for_best_model
        self.validated = next_record(self.validated, step, metric, scores)
        if self.validated.stops(settings.early_stopping_patience):
            self.control.should_training_stop = True
        return flat_metrics(scores)

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
        """Place the adapter's weights; PEFT would only warn of names that it does not find."""
        folder = Path(resume_from_checkpoint)
        place_weights(model or self.model, read_weights(read_adapter(folder)), str(folder))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint:  # the number of steps may have grown: take the rates of the new schedule
            plan = self.lr_scheduler
            both = zip(plan.base_lrs, plan.lr_lambdas, strict=True)
            plan._last_lr = [peak * share(plan.last_epoch) for peak, share in both]  # it is logged
            for group, rate in zip(self.optimizer.param_groups, plan._last_lr, strict=True):
                group["lr"] = rate

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
                write_metadata(self._staging, self.base, self._view, self._ground)
                if self.validated:
                    write_record(self._staging, self.validated)
                with explain_write_errors(self._folder / name):
                    self.base.images.processor.save_pretrained(self._staging)
        if main and self._settings.save_total_limit:
            self._remove_old(self._settings.save_total_limit)
        everyone()

    def _remove_old(self, kept: int) -> None:
        """Remove all checkpoints but the newest and the best, with their validation answers."""
        run = Run(self._folder)
        best = self.validated.best_step if self.validated else None
        for old in run.checkpoints()[:-kept]:
            if (step := step_of(old)) != best:
                remove_folder(old)
                Validator.discard(run, step)


class _Stopping(TrainerCallback):
    """Ends training with a checkpoint after a signal."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Stop after this step if any process was asked to."""
        if self._stop.of_all(args.device):
            control.should_save = control.should_training_stop = True


class _Reporter(TrainerCallback):
    """Writes a line of ``metrics.jsonl`` per step, and the progress bar.

    A checkpoint contains all lines so far (``log_history`` in its ``trainer_state.json``), so that
    a damaged or incomplete file is repaired at a resume.
    """

    def __init__(self, folder: Path, steps: StepDataset) -> None:
        self._path, self._steps = folder / "metrics.jsonl", steps
        self._progress: Progress | None = None
        self._start = 0.0
        self._validated = ""  # the last validation, for the progress bar

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Keep the lines up to the resumed checkpoint, and add up their time."""
        if state.is_world_process_zero:
            kept = self.repair(state)
            self._progress = Progress("training", state.max_steps, "steps", state.global_step)
            self._start = time.monotonic() - max((one.get("seconds", 0) for one in kept), default=0)

    def repair(self, state: TrainerState) -> list[dict[str, Any]]:
        """Rewrite the file with the lines of all completed steps, and return them."""
        kept = self._lines_until(state)
        with atomic_write(self._path) as file:
            file.writelines(map(_metrics_line, kept))
        return kept

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time of validation as time of training."""
        begun = time.monotonic()
        yield
        self._start += time.monotonic() - begun

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
        if "eval_OA" in logs:
            self._validated = f", validation OA {logs['eval_OA']:.1%}"
        if self._progress:
            self._progress.advance(1, f"loss {logs['loss']:.4f}{self._validated}")

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
