"""The training command: split, fine-tune, evaluate before and after."""

from __future__ import annotations

import contextlib
import gc
import pickle
import platform
import shlex
import shutil
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from .. import __version__
from ..config import Config, load_config, write_config
from ..console import Progress, say, warn
from ..data.georaster import usual_ground
from ..data.raster import image_size
from ..data.sources import read_samples
from ..data.split import leak, split_by_image, split_by_question
from ..data.tables import read_conversations, write_conversations
from ..errors import DataError, RunError
from ..files import damage, read_json, run_lock, sha256, write_json
from ..records import Sample
from ..run import TEST_FILE, TRAIN_FILE, checkpoints, read_metrics
from .adapter import add_adapter
from .attention import choose
from .evaluate import Outcome, before_and_after
from .fingerprint import same_base
from .images import UnchangedImages, changed
from .loader import (
    Base,
    choose_device,
    choose_dtype,
    load_base,
    processes,
    read_config,
    weights_dtype,
)
from .memory import explained_shortage, token_budget
from .track import tracking, usable
from .trainer import Steps, TreeTrainer
from .vision import encode_all

IMAGES = "images.json"


@dataclass(frozen=True, slots=True)
class Split:
    """Questions to train on and to be tested on, and the files that hold them."""

    train: list[Sample]
    test: list[Sample]


def train(config: Config, *, resume: bool = False) -> Outcome | None:
    """Fine-tune a base and evaluate it before and after.

    Writes the two split files in the current folder and everything else in ``config.output``.

    Args:
        config: all settings.
        resume: go on from the newest sound checkpoint of ``config.output``.

    Returns:
        What was measured before and after; None in all processes but the first.

    Raises:
        Qwen2VLRSError: for data, images, base or run folder that cannot be used.
    """
    run = Path(config.output)
    team = processes()
    with run_lock(run) if team.is_main_process else contextlib.nullcontext():
        if team.is_main_process:
            read_config(Path(config.model))
            _check_run(run, config, resume)
            if not (resume and _same_questions(run)):
                make_split(config)
        team.wait_for_everyone()
        # read back, so that every process, and `compare` later, sees the very same samples
        split = Split(*(list(read_conversations(Path(f))) for f in (TRAIN_FILE, TEST_FILE)))
        if team.is_main_process:
            _check_images(split, run / IMAGES, resume)
            write_config(run / "config.toml", config)
        finished = resume and (run / "train_results.json").is_file()
        team.wait_for_everyone()
        if not finished:
            fit(config, split, run, resume)
        outcome = before_and_after(config, run, split.train, split.test)
        return outcome if team.is_main_process else None


def make_split(config: Config) -> None:
    """Read the questions, split them, and write the two split files.

    Raises:
        DataError: a file is missing or malformed, or too small to split.
    """
    data, seed = config.data, config.training.seed
    if data.train and data.test:
        train_set = list(read_samples(Path(data.train)))
        test_set = list(read_samples(Path(data.test)))
        how = "as given"
    else:
        samples = list(read_samples(Path(data.conversations)))
        by = split_by_image if data.split_by == "image" else split_by_question
        train_set, test_set = by(samples, data.test_fraction, seed)
        how = f"at random by {data.split_by}, seed {seed}"
    if not train_set or not test_set:
        raise DataError(
            "no questions to " + ("train on" if not train_set else "test on"),
            hint="check the files given as training and test data",
        )
    if leaked := leak(train_set, test_set):
        warn(f"{leaked} images stand on both sides of the split: the test will look too good")
    write_conversations(Path(TRAIN_FILE), train_set)
    write_conversations(Path(TEST_FILE), test_set)
    for name, part in ((TRAIN_FILE, train_set), (TEST_FILE, test_set)):
        say(f"{name}: {len(part):,} questions about {len({s.image for s in part}):,} images")
    say(f"split {how}")


def fit(config: Config, split: Split, run: Path, resume: bool) -> None:
    """Train the adapter and write checkpoints, ``metrics.jsonl`` and ``train_results.json``."""
    checkpoint = _sound_checkpoint(run) if resume else None
    settings, device = config.training, choose_device()
    bf16 = choose_dtype(device, settings.bf16) is torch.bfloat16
    kind, why = choose(device, settings.attention)
    say(f"attention: {kind} ({why})")
    dtype = weights_dtype(device, settings.bf16)
    base = load_base(Path(config.model), config.view, device, dtype, kind)
    team = processes()
    reader = base.images
    unchanged = UnchangedImages(reader.processor, reader.rule, read_json(run / IMAGES))
    base = replace(base, images=unchanged)
    cache = run / "vision-cache"
    paths = list(dict.fromkeys(sample.image for sample in split.train))
    for turn in (team.is_main_process, not team.is_main_process):  # the others find it written
        if turn:
            images = encode_all(base, paths, cache, int(settings.vision_cache_gb * 1e9), bf16)
        team.wait_for_everyone()
    set_seed(settings.seed)
    model = add_adapter(base.model, config.lora)
    budget = token_budget(model, settings.max_tokens_per_pack)
    steps = Steps(
        split.train,
        base.prompts,
        images or base.images,
        settings,
        budget,
        team.num_processes,
    )
    _describe(base, model, steps, settings, device, bf16)
    trackers = usable(settings.report_to)
    args = _arguments(config, run, trackers, bf16)
    ground = usual_ground(paths)
    trainer = TreeTrainer(base, config.view, ground, steps, settings.save_total_limit, model, args)
    if team.is_main_process:
        _write_manifest(config, split, base, run, bf16)
    with tracking(trackers if team.is_main_process else [], run):
        try:
            with explained_shortage(budget):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except pickle.UnpicklingError as error:  # nothing but numbers is read from such files
            why = str(error).splitlines()[0]
            raise RunError(
                f"the state of training in {checkpoint} cannot be read: {why}",
                hint="remove that checkpoint; the one before it is used then",
            ) from error
        finally:
            trainer.reporter.close()
    if team.is_main_process:
        _write_results(run)
        shutil.rmtree(cache)
    team.wait_for_everyone()
    del trainer, model, base
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _arguments(config: Config, run: Path, trackers: list[str], bf16: bool) -> TrainingArguments:
    settings = config.training
    args = TrainingArguments(
        output_dir=str(run),
        run_name=run.name,
        per_device_train_batch_size=1,
        num_train_epochs=1,  # `Steps` holds all epochs
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        lr_scheduler_type=settings.lr_scheduler_type,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        bf16=bf16,
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
    args._n_gpu = 1  # several GPUs in one process would mean DataParallel, which knows no packs
    if torch.cuda.device_count() > processes().num_processes:
        say("one GPU of several is used; for all of them: torchrun --nproc-per-node gpu …")
    return args


_FREE = {"attention", "max_tokens_per_pack", "report_to", "save_total_limit", "vision_cache_gb"}


def _check_run(run: Path, config: Config, resume: bool) -> None:
    """Refuse to mix two runs in one folder."""
    started = bool(checkpoints(run)) or (run / "train_results.json").is_file()
    if started and not resume:
        raise RunError(
            f"{run} already holds a run",
            hint="go on with it: --resume; or choose another folder: --output",
        )
    if not resume:
        return
    if not (run / "config.toml").is_file():
        raise RunError(f"nothing to resume in {run}", hint="start without --resume")
    before = load_config(run / "config.toml")
    changed = _differences(_what_matters(before), _what_matters(config))
    manifest = read_json(run / "manifest.json") or {}
    known = manifest.get("base", {}).get("fingerprint")
    if known and not same_base(Path(config.model), known):
        changed.append(f"the base is not the one it was started with ({before.model})")
    if changed:
        raise RunError(
            f"{run} was started with other settings: {'; '.join(changed)}",
            hint=f"resume with its own: qwen2vl-rs train {shlex.quote(str(run))}/config.toml "
            "--resume",
        )


def _what_matters(config: Config) -> dict[str, Any]:
    """The settings that decide the result of training."""
    tree = config.model_dump(include={"data", "view", "lora", "training"})
    tree["training"] = {k: v for k, v in tree["training"].items() if k not in _FREE}
    return tree


def _same_questions(run: Path) -> bool:
    """Whether the split files are those of the run; False where it has not got so far.

    Raises:
        RunError: they are others now.
    """
    known = (read_json(run / "manifest.json") or {}).get("data", {})
    for name, facts in known.items():
        if not Path(name).is_file() or sha256(Path(name)) != facts["sha256"]:
            raise RunError(
                f"{name} in this folder is not the one {run} was started with",
                hint="go to the folder it was started in, or start anew: --output",
            )
    return bool(known)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in old.items():
        if isinstance(value, dict):
            found += _differences(value, new[key], f"{prefix}{key}.")
        elif value != new[key]:
            found.append(f"{prefix}{key} was {value}, is {new[key]}")
    return found


def _sound_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint whose files are as they were written; None if there is none."""
    for checkpoint in reversed(checkpoints(run)):
        if (problem := damage(checkpoint)) is None:
            say(f"resuming from {checkpoint}")
            return checkpoint
        warn(f"{checkpoint} is not used, and removed: {problem}")
        shutil.rmtree(checkpoint)
    say("no checkpoint yet: starting from the beginning")
    return None


def _check_images(split: Split, known: Path, resume: bool) -> None:
    """Look at every image before the long work starts, and write down or compare its digest."""
    images = dict.fromkeys(s.image for part in (split.train, split.test) for s in part)
    digests = {}
    with Progress("checking images", len(images), "images") as progress:
        for image in images:
            image_size(Path(image))
            digests[image] = sha256(Path(image))
            progress.advance()
    before = (read_json(known) if resume else None) or {}
    other = [image for image in images if before.get(image, digests[image]) != digests[image]]
    if other:
        raise changed(other)
    write_json(known, digests)


def _describe(
    base: Base, model: Any, steps: Steps, settings: Any, device: torch.device, bf16: bool
) -> None:
    trained, total = model.get_nb_trainable_parameters()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    say(
        f"training {trained / 1e6:.2f} M of {total / 1e6:.1f} M parameters of {base.folder} "
        f"on {name} in {'bfloat16' if bf16 else 'float32'}"
    )
    say(
        f"{steps.steps:,} steps, each up to {settings.questions_per_image} questions about "
        f"{settings.images_per_step} images, at most {steps.budget:,} tokens at once"
    )


def versions() -> dict[str, str]:
    """Versions of everything that can change a result."""
    names = ("torch", "transformers", "peft", "accelerate", "rasterio", "numpy", "pillow")
    own = {"qwen2vl-rs": __version__, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in names}


def _write_manifest(config: Config, split: Split, base: Base, run: Path, bf16: bool) -> None:
    device = choose_device()
    cuda = device.type == "cuda"
    write_json(
        run / "manifest.json",
        {
            "versions": versions(),
            "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or "CPU",
            "threads": torch.get_num_threads(),
            "dtype": "bfloat16" if bf16 else "float32",
            "seed": config.training.seed,
            "base": {"folder": str(base.folder.resolve()), "fingerprint": base.fingerprint},
            "data": {
                name: {
                    "sha256": sha256(Path(name)),
                    "questions": len(part),
                    "images": len({s.image for s in part}),
                }
                for name, part in ((TRAIN_FILE, split.train), (TEST_FILE, split.test))
            },
        },
    )


def _write_results(run: Path) -> None:
    lines = read_metrics(run / "metrics.jsonl")
    done, seconds = sum(line["questions"] for line in lines), lines[-1]["seconds"]
    results = {
        "train_loss": sum(line["loss"] for line in lines) / len(lines),
        "train_steps": len(lines),
        "train_runtime": seconds,
        "train_questions": done,
        "train_questions_per_second": round(done / seconds, 3),
    }
    write_json(run / "train_results.json", results)
    say(
        f"trained on {done:,} questions in {seconds:,.0f} s, {done / seconds:,.1f} questions/s; "
        f"last loss {lines[-1]['loss']:.4f}"
    )
