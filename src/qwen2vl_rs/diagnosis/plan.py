"""What a training would use on this machine, and why: device, precision, attention, packs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..run import Run
from ..system.console import counted
from ..system.oserrors import is_folder
from .computer import gigabytes
from .lines import Line, guarded, problem, warning
from .questions import Questions

if TYPE_CHECKING:
    from ..engine.estimate import PlannedModel
    from ..hardware.precision import Precision
    from ..models.folder import ModelFiles


@dataclass(slots=True)
class Plan:
    """What is known about a training; None for what could not be determined.

    Attributes:
        config: the settings.
        device_name: the device that the user chose.
        questions: the training questions.
        files: files of the base model.
        model: the model to be trained, without weights.
        device: the device.
        precision: the precision.
        budget: maximum tokens per pack.
        cached: whether each image is encoded once for all epochs.
    """

    config: Config
    device_name: str | None = None
    questions: Questions = field(default_factory=Questions)
    files: ModelFiles | None = None
    model_config: Any = None
    model: PlannedModel | None = None
    device: Any = None
    precision: Precision | None = None
    budget: int | None = None
    checkpointing: bool = True
    cached: bool = True


def base_model(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    """Yield lines about the base model; its weights are not read.

    Raises:
        ModelError: there is no usable base model.
    """
    from ..models.folder import model_files
    from ..models.manifest import INCOMING, read_manifest

    folder = Path(plan.config.model)
    if is_folder(folder / INCOMING) and read_manifest(folder) is None:
        yield warning(
            "download", f"{folder} is not completely downloaded", "resume it: qwen2vl-rs load"
        )
    files = model_files(folder)
    size = sum(path.stat().st_size for path in files.weights)
    kind = files.config.get("model_type")
    weights = f"{counted(len(files.weights), 'file')} of weights, {gigabytes(size)}"
    yield Line("folder", f"{folder}: {kind}, {weights}")
    yield _checksums(folder)
    if files.left_out:
        yield warning("other files", f"not used: {', '.join(files.left_out)}")
    from ..models.loader import read_base

    plan.files, plan.model_config = read_base(folder)
    figures["model_type"] = kind


def _checksums(folder: Path) -> Line:
    from ..models.manifest import read_manifest

    manifest = read_manifest(folder)
    if manifest is None:
        text = "none: the folder was not made by load, so its content cannot be verified"
        return Line("checksums", text)
    command = f"qwen2vl-rs load {manifest.repo_id} --folder {folder} --hub {manifest.hub} --verify"
    wrong = [
        name
        for name, record in manifest.files.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != record.size
    ]
    if wrong:
        return problem("checksums", f"missing or changed: {', '.join(wrong)}", command)
    text = f"{manifest.repo_id} from {manifest.hub}, sizes as downloaded; to hash it again: "
    return Line("checksums", f"{text}{command}")


def used(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    """Yield lines about what will be used."""
    yield from guarded("device", _device(plan))
    if plan.device is not None:
        yield from guarded("precision", _precision(plan, figures))
    if plan.precision is not None:
        yield from guarded("launcher", _launcher(plan))
    if plan.precision is not None and plan.model_config is not None:
        yield from guarded("attention", _attention(plan, figures))
        yield from guarded("adapter", _adapter(plan, figures))
    yield from guarded("vision cache", _vision_cache(plan), "warning")
    yield from _trackers(plan.config)
    yield from guarded("output", _output(plan.config))


def _device(plan: Plan) -> Iterator[Line]:
    from ..hardware.devices import choose_device
    from ..hardware.gpus import gpus

    plan.device = choose_device(plan.device_name)
    if plan.device_name:
        yield Line("device", f"{plan.device} (as given)")
        return
    if plan.device.type == "cpu":
        yield Line("device", "cpu (no CUDA device)")
        return
    more = len(gpus()[0]) - 1
    if more and world() == 1:
        hint = "use all of them: torchrun --nproc-per-node gpu -m qwen2vl_rs train …"
        yield warning("device", f"{plan.device}, one of {more + 1} GPUs", hint)
        return
    yield Line("device", f"{plan.device} (the first visible GPU)")


def _precision(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    from ..hardware.precision import choose_precision

    settings = plan.config.training
    plan.precision = choose_precision(plan.device, settings.bf16, settings.fp16)
    weights = str(plan.precision.weights).removeprefix("torch.")
    text = f"{plan.precision.name} ({plan.precision.why}); frozen weights in {weights}"
    yield Line("precision", text)
    figures |= {"device": str(plan.device), "precision": plan.precision.name}


def world() -> int:
    """Return the number of processes that a launcher started."""
    value = os.environ.get("WORLD_SIZE", "1")
    return int(value) if value.isdecimal() and int(value) else 1


def _launcher(plan: Plan) -> Iterator[Line]:
    from ..hardware.launch import check_precision, check_strategy

    assert plan.precision is not None
    check_strategy()
    check_precision(plan.precision)
    started = "TORCHELASTIC_RUN_ID" in os.environ or world() > 1
    how = "torchrun or accelerate launch" if started else "none"
    yield Line("launcher", f"{how}; {counted(world(), 'process').replace('processs', 'processes')}")


def _attention(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    from ..question_tree.attention_check import Heads, choose_attention

    assert plan.device is not None
    assert plan.precision is not None
    heads = Heads.of(plan.model_config)
    wanted = plan.config.training.attention
    kind, why = choose_attention(plan.device, plan.precision.compute, heads, wanted)
    figures["attention"] = kind
    text = f"{kind} ({why})"
    slow = kind == "branches" and plan.device.type == "cuda" and wanted is None
    hint = "slower; to see the error: QWEN2VL_RS_DEBUG=1"
    yield warning("attention", text, hint) if slow else Line("attention", text)


def _adapter(plan: Plan, figures: dict[str, Any]) -> Iterator[Line]:
    from ..adapter_settings import method_name
    from ..engine.estimate import planned_model
    from ..engine.memory import plan_training
    from ..training.continuing import with_adapter_settings

    assert plan.device is not None
    assert plan.precision is not None
    plan.config = config = with_adapter_settings(plan.config, resume=False)
    settings = config.training
    plan.model = planned_model(plan.model_config, config, plan.device, plan.precision.weights)
    trained, total = plan.model.sizes
    figures |= {"trained_parameters": trained, "parameters": total}
    kind = method_name(config.lora.use_rslora, config.lora.use_dora)
    ways = {"vision tower": settings.vision_tower, "merger": settings.merger}
    also = "".join(f", {part}: {way}" for part, way in ways.items() if way != "frozen")
    text = f"{kind} r {config.lora.r}{also}: {trained:,} of {total:,} parameters trained"
    yield Line("adapter", text)
    found = plan_training(
        plan.model,
        _step_tokens(plan),
        settings.max_tokens_per_pack,
        settings.gradient_checkpointing,
    )
    plan.budget, plan.checkpointing = found.tokens, found.checkpointing
    yield Line("checkpointing", f"{'on' if found.checkpointing else 'off'} ({found.why})")
    figures["tokens_per_pack"] = plan.budget
    given = settings.max_tokens_per_pack is not None
    why = "as set by training.max_tokens_per_pack" if given else "for the memory of the device"
    yield Line("tokens per pack", f"at most {plan.budget:,} ({why})")


def _step_tokens(plan: Plan) -> int:
    """Return the tokens of a large step in one process; 0 if the questions are unknown."""
    from ..models.images import load_image_reader
    from ..models.prompt import load_prompt_format
    from ..training.steps import step_tokens

    train = plan.questions.train
    if train is None or plan.files is None:
        return 0
    prompts = load_prompt_format(plan.files, plan.model_config, plan.config.view.instruction)
    images = load_image_reader(plan.files, plan.model_config, plan.config.view)
    settings = plan.config.training
    if plan.questions.counted:
        return -(-step_tokens(train, prompts, images, settings) // world())
    first = train[0]  # it stands for all of them
    text = settings.questions_per_image * len(prompts.question_ids(first.question))
    return -(-settings.images_per_step * (images.tokens(first.image) + text) // world())


def _vision_cache(plan: Plan) -> Iterator[Line]:
    from ..engine.estimate import cache_size

    settings = plan.config.training
    most = settings.vision_cache_gb * 1e9
    if not settings.vision_tower == settings.merger == "frozen":
        yield Line("vision cache", "none: the features change, images are encoded in every step")
        return
    if plan.files is None or plan.questions.train is None or plan.precision is None:
        return
    if not plan.questions.counted:
        yield Line("vision cache", f"at most {gigabytes(most)} of features on disk")
        return
    size, free = cache_size(
        plan.files, plan.model_config, plan.config, plan.questions.train, plan.precision.compute
    )
    plan.cached = size <= min(most, free / 2)
    text = f"each image is encoded once for all epochs ({gigabytes(size)} on disk)"
    if plan.cached:
        yield Line("vision cache", text)
        return
    why = "training.vision_cache_gb" if size > most else "half of the free disk space"
    hint = f"--set training.vision_cache_gb={size / 1e9 + 1:.0f}"
    hint = hint if size > most else "free some disk space"
    text = f"images are encoded in every epoch: {gigabytes(size)} of features exceed {why}"
    yield warning("vision cache", text, hint)


def _trackers(config: Config) -> Iterator[Line]:
    wanted = config.training.report_to
    if not wanted:
        yield Line("trackers", "none (training.report_to)")
    for name in wanted:
        if find_spec(name):
            yield Line("trackers", f"{name}, offline without an account")
        else:
            text = f"{name} is not installed: nothing is sent to it"
            yield warning("trackers", text, f"pip install {name}")


def _output(config: Config) -> Iterator[Line]:
    run = Run(Path(config.output))
    if run.checkpoints() or run.is_finished():
        text = f"{run} already holds a run"
        hint = f"resume it: {run.resume_command()}; or choose another: --set output=FOLDER"
        yield problem("output", text, hint)
        return
    there = next(one for one in (run.folder, *run.folder.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield problem("output", f"cannot write to {there}", "choose another: --set output=FOLDER")
    else:
        yield Line("output", str(run))
