"""The training pipeline: split, fine-tune, evaluate before and after."""

from __future__ import annotations

import contextlib
import gc
import pickle
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState, TrainingArguments, set_seed

from ..config import Config, TrainingSettings
from ..config_file import write_config
from ..datasets.base import Dataset
from ..datasets.image_paths import relocate_images
from ..datasets.stored import read_stored
from ..engine.memory import (
    TrainingPlan,
    device_memory,
    memory_hint,
    plan_training,
    training_memory,
)
from ..engine.vision import ImageSource
from ..errors import RunError
from ..hardware.devices import choose_device, processes
from ..hardware.launch import check_precision, check_strategy
from ..hardware.precision import Precision, choose_precision
from ..hardware.randomness import preserve_random_state
from ..models.adapter import add_adapter, check_targets, recompute_activations
from ..models.loader import Base, load_base, quiet_libraries, read_config
from ..models.shapes import meta_network
from ..predict.evaluation import Outcome, before_and_after
from ..question_tree.attention import Kind
from ..question_tree.attention_check import Heads, choose_attention
from ..questions.class_sets import resolve_dataset
from ..raster.scenes import typical_resolution
from ..run import TEST_FILE, TRAIN_FILE, VAL_FILE, Run, read_metrics, step_of
from ..system.console import counted, say, warn
from ..system.files import discard, is_there, read_json, run_lock, sha256, write_json
from ..system.scopes import preserve_environment
from ..validation_record import read_record
from .circumstances import circumstances, differences
from .continuing import load_first_weights, with_adapter_settings
from .encoding import encode_once
from .preparation import (
    IMAGES,
    check_images,
    check_run,
    choose_checkpoint,
    decisive_settings,
    extensions,
    part_names,
    prepare_questions,
    record_settings,
)
from .steps import StepDataset, step_tokens
from .trackers import installed, tracking
from .trainer import TreeTrainer
from .validation import Validator


@dataclass(frozen=True, slots=True)
class Split:
    """Training, test and validation questions; None without validation."""

    train: Dataset
    test: Dataset
    val: Dataset | None = None

    def parts(self) -> dict[str, Dataset]:
        """Return the parts by file name."""
        val = {} if self.val is None else {VAL_FILE: self.val}
        return {TRAIN_FILE: self.train, TEST_FILE: self.test, **val}


@quiet_libraries
@preserve_environment
def train(config: Config, *, resume: bool = False, copies: Path | None = Path()) -> Outcome | None:
    """Fine-tune a base model and evaluate it before and after.

    Write everything to ``config.output``, and copies of the split to a folder.

    Args:
        config: all settings.
        copies: folder of ``data_vl_train.json`` and ``data_vl_test.json``; None for none.
        resume: continue from the newest valid checkpoint of ``config.output``.

    Returns:
        The results before and after; None in all processes but the first.

    Raises:
        Qwen2VLRSError: data, images, base model or run folder are not usable.
    """
    check_strategy()
    run = Run(Path(config.output))
    team = processes()
    config = run.with_recorded_base(config) if resume else config
    config = with_adapter_settings(config, resume)
    wanted = config.training
    check_precision(choose_precision(choose_device(), wanted.bf16, wanted.fp16))
    with run_lock(run.folder) if team.is_main_process else contextlib.nullcontext():
        if team.is_main_process:
            base = read_config(Path(config.model))
            check_targets(meta_network(base), config.lora.target_modules)
            check_run(run, config, resume)
            record_settings(run, config, resume)
            prepare_questions(config, run, resume, copies)
        # before any checkpoint is set aside, and the manifest is written
        finished = resume and run.is_finished() and not extensions(run.manifest(), config)
        team.wait_for_everyone()
        # read from the run's copies, like in the other processes and in `compare` later
        files = [run.questions_copy(name) for name in part_names(config)]
        images = config.data.images
        split = Split(*(relocate_images(read_stored(file), images) for file in files))
        if team.is_main_process:
            parts = split.parts().values()
            named = list(dict.fromkeys(i for part in parts for i in part.distinct("image")))
            check_images(named, run.folder / IMAGES, resume, images)
            if resume and not finished:
                choose_checkpoint(run, config.training.save_steps)
            write_config(run.folder / "config.toml", config)
        team.wait_for_everyone()
        if not finished:
            fit(config, split, run, resume)
        outcome = before_and_after(config, run, split.train, split.test)
        return outcome if team.is_main_process else None


@preserve_random_state
def fit(config: Config, split: Split, run: Run, resume: bool) -> None:
    """Train the adapter and write checkpoints, ``metrics.jsonl`` and ``train_results.json``."""
    checkpoint = next(reversed(run.checkpoints()), None) if resume else None
    settings, device, team = config.training, choose_device(), processes()
    precision = choose_precision(device, settings.bf16, settings.fp16)
    trackers, cache = installed(settings.report_to), run.folder / "vision-cache"
    trainer, now = _prepare(config, split, run, cache, precision, trackers)
    first = None if checkpoint else load_first_weights(trainer.model, config, run)
    if team.is_main_process:
        now |= {"adapter": first} if (first := first or run.manifest().get("adapter")) else {}
        _write_manifest(config, split, trainer.base, run, now, checkpoint)
    budget = now["tokens_per_pack"]
    with tracking(trackers if team.is_main_process else [], run.folder), memory_hint(budget):
        _run(trainer, checkpoint, settings)
    if team.is_main_process:
        _write_results(run)
        discard(cache)  # on NFS, open files remain as .nfs…
    team.wait_for_everyone()
    del trainer
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _prepare(
    config: Config, split: Split, run: Run, cache: Path, precision: Precision, trackers: list[str]
) -> tuple[TreeTrainer, dict[str, Any]]:
    """Load the base model, encode the images and add the adapter.

    Returns:
        The trainer, and its environment (`circumstances`).
    """
    settings, device = config.training, choose_device()
    base, kind = _load(config, device, precision)
    base = replace(base, images=replace(base.images, digests=read_json(run.folder / IMAGES) or {}))
    paths = split.train.distinct("image")
    if not settings.vision_tower == settings.merger == "frozen":
        say(
            "images are encoded in every step: their features change, as training.vision_tower or "
            "training.merger is trained"
        )
    images, shown = encode_once(base, paths, cache, settings, precision.compute), None
    if split.val:  # answered in the precision of `eval`
        named = split.val.distinct("image")
        shown = encode_once(base, named, cache / "validation", settings, precision.weights)
    set_seed(settings.seed)
    model = add_adapter(base.model, config.lora, settings.vision_tower, settings.merger)
    plan = _plan(model, base, split.train, images, settings)
    if plan.checkpointing:
        recompute_activations(model)
    given = (settings, plan.tokens, base.model, processes().num_processes)
    steps = StepDataset(split.train, base.prompts, images or base.images, *given)
    _describe(base.folder, model, steps, settings, precision, plan)
    args = _arguments(config, run, trackers, precision, plan)
    ground, validator = typical_resolution(paths), None
    if split.val:
        once = settings.model_copy(update={"num_train_epochs": 1, "max_steps": None})
        held_out = StepDataset(split.val, base.prompts, shown or base.images, once, *given[1:])
        autocast = partial(_autocast, device, precision)
        parts = (split.val, split.train)
        validator = Validator(config, run, *parts, base, model, shown, held_out, autocast)
    trainer = TreeTrainer(base, config.view, ground, steps, settings, model, args, validator)
    return trainer, circumstances(precision, kind, plan)


def _plan(
    model: Any, base: Base, train: Dataset, images: ImageSource | None, settings: TrainingSettings
) -> TrainingPlan:
    step = step_tokens(train, base.prompts, images or base.images, settings)
    mine = -(-step // processes().num_processes)
    return plan_training(model, mine, settings.max_tokens_per_pack, settings.gradient_checkpointing)


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    enabled = precision.compute is not torch.float32
    return torch.autocast(device.type, precision.compute, enabled=enabled)


def _run(trainer: TreeTrainer, checkpoint: Path | None, settings: TrainingSettings) -> None:
    """Train from the beginning or from a checkpoint, unless it ended there by patience."""
    record = trainer.validated = read_record(checkpoint) if checkpoint else None
    best = checkpoint and record and checkpoint.with_name(f"checkpoint-{record.best_step}")
    if record and best and not is_there(best):
        warn(f"{record.describe()}, is gone: the best is chosen among the following ones")
        record = trainer.validated = None
    try:
        if checkpoint and record and record.stops(settings.early_stopping_patience):
            state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            if processes().is_main_process:
                trainer.reporter.repair(state)
        else:
            with trainer.stop.caught():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except pickle.UnpicklingError as error:  # only tensors and numbers are loaded
        why = str(error).splitlines()[0]
        raise RunError(
            f"the training state in {checkpoint} is not readable: {why}",
            hint="remove that checkpoint; the one before it is then used",
        ) from error
    finally:
        trainer.reporter.close()
    if (last := trainer.validated) and last.stops(settings.early_stopping_patience):
        say(
            f"training ended at step {last.step:,}: {counted(last.since_best, 'validation')} "
            f"without a better {last.metric} than at step {last.best_step:,}"
        )


def _load(config: Config, device: torch.device, precision: Precision) -> tuple[Base, Kind]:
    """Load the base model; return its attention implementation, too."""
    folder = Path(config.model)
    heads = Heads.of(read_config(folder))
    kind, why = choose_attention(device, precision.compute, heads, config.training.attention)
    say(f"attention: {kind} ({why})")
    return load_base(folder, config.view, device, precision.weights, kind), kind


def _arguments(
    config: Config, run: Run, trackers: list[str], precision: Precision, plan: TrainingPlan
) -> TrainingArguments:
    settings, half = config.training, precision.compute is torch.float16
    args = TrainingArguments(
        output_dir=str(run),
        run_name=run.folder.name,
        per_device_train_batch_size=1,
        num_train_epochs=1,  # `StepDataset` holds all epochs
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        lr_scheduler_type=settings.lr_scheduler_type,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=precision.compute is torch.bfloat16,
        fp16=half,
        # a fused step would skip inside the kernel, where accelerate does not notice it
        optim="adamw_torch" if half else "adamw_torch_fused",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=settings.save_steps,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=trackers,
        seed=settings.seed,
    )
    args._n_gpu = 1  # several GPUs in one process would mean DataParallel, which cannot split packs
    if torch.cuda.device_count() > processes().num_processes:
        say("one GPU of several is used; for all of them: torchrun --nproc-per-node gpu …")
    return args


def _describe(
    folder: Path,
    model: Any,
    steps: StepDataset,
    settings: Any,
    precision: Precision,
    plan: TrainingPlan,
) -> None:
    trained, total = model.get_nb_trainable_parameters()
    name = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "CPU"
    say(
        f"training {trained / 1e6:.2f} M of {total / 1e6:.1f} M parameters of {folder} "
        f"on {name} in {precision.name} ({precision.why})"
    )
    say(
        f"{steps.steps:,} steps, each up to {settings.questions_per_image} questions about "
        f"{settings.images_per_step} images, at most {steps.budget:,} tokens at once"
    )
    needed = training_memory(model, steps.budget, plan.checkpointing) / 1e9
    room = device_memory(model.device) / 1e9
    say(f"memory: {needed:.1f} GB at most, of {room:.1f} GB (estimate)")
    say(f"gradient checkpointing: {'on' if plan.checkpointing else 'off'} ({plan.why})")


def _write_manifest(
    config: Config,
    split: Split,
    base: Base,
    run: Run,
    now: dict[str, Any],
    checkpoint: Path | None,
) -> None:
    """Record the environment of the start, and what has changed at a resume.

    ``now`` is the result of `circumstances`; ``checkpoint`` is the one to resume from, if any.
    """
    before = run.manifest()
    other = differences(before, now) if checkpoint else []  # without one, nothing is continued
    if other:
        warn(
            f"resumed in another environment ({'; '.join(other)}): the adapter will differ "
            "slightly from that of an uninterrupted training"
        )
    resumed = before.get("resumed", []) if checkpoint else []
    if checkpoint and "versions" in before:
        changed = {key: value for key, value in now.items() if value != before.get(key, value)}
        if longer := extensions(before, config):
            changed["settings"] = longer
        once = {"step": step_of(checkpoint), **changed}
        resumed = [*resumed, once] if other or longer else resumed
        now = {key: before[key] for key in now if key in before}
    write_json(
        run.folder / "manifest.json",
        {
            **now,
            "seed": config.training.seed,
            "settings": decisive_settings(config),
            "dataset": _dataset(config, split.test),
            "base": {"folder": str(base.folder.resolve()), "fingerprint": base.fingerprint},
            "data": {
                name: {
                    "sha256": sha256(run.questions_copy(name)),
                    "questions": len(part),
                    "images": len(part.distinct("image")),
                }
                for name, part in split.parts().items()
            },
            **({"resumed": resumed} if resumed else {}),
        },
    )


def _dataset(config: Config, samples: Dataset) -> dict[str, str]:
    """Return the dataset of the questions, how it was found, and the style of generated ones."""
    found = resolve_dataset(samples, config.data.dataset)
    manners = sorted(filter(None, samples.distinct("manner")))
    return {"name": found.name, "from": found.how, "manner": ", ".join(manners)}


def _write_results(run: Run) -> None:
    lines = read_metrics(run.folder / "metrics.jsonl")
    done = sum(line["questions"] for line in lines)
    timed = all("seconds" in line for line in lines)  # else some are lost, see `trainer`
    seconds = lines[-1]["seconds"] if timed else None
    results = {
        "train_loss": sum(line["loss"] for line in lines) / len(lines),
        "train_steps": lines[-1]["step"],
        "train_runtime": seconds,
        "train_questions": done,
        "train_questions_per_second": round(done / seconds, 3) if seconds else None,
        "skipped_steps": sum(line.get("skipped_steps", 0) for line in lines),
    }
    write_json(run.folder / "train_results.json", results)
    pace = f" in {seconds:,.0f} s, {done / seconds:,.1f} questions/s" if seconds else ""
    say(f"trained on {done:,} questions{pace}; last loss {lines[-1]['loss']:.4f}")
    if skipped := results["skipped_steps"]:
        say(f"{skipped:,} of {len(lines):,} steps were skipped: their gradients overflowed float16")
