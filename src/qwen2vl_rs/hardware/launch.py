"""Refuse unsupported settings of ``accelerate launch`` and batch systems.

``accelerate launch`` passes its configuration in environment variables, which `Trainer` obeys.
Training is data parallel or single-process. Other strategies either step the optimizer at each
packed sequence (DeepSpeed, Megatron-LM) or shard the vision tower, which is called outside the
wrapped forward (FSDP).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from ..errors import ConfigError
from .precision import Precision

_STRATEGIES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config (tensor, context or sequence "
    "parallel)",
}
# number of processes, and rank of this one, as accelerate reads them
_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = (
    *("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    *(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "LOCAL_RANK", "LOCAL_SIZE")),
    *(f"MV2_COMM_WORLD_{name}" for name in ("RANK", "LOCAL_RANK", "LOCAL_SIZE")),
)
_NEEDED = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")  # required by torch
_KNOWN = {DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU}
_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_INSTEAD = (
    "use plain data parallelism: torchrun --nproc-per-node gpu -m qwen2vl_rs …, or accelerate "
    "launch --multi_gpu --mixed_precision no --dynamo_backend no -m qwen2vl_rs …"
)


def check_environment() -> None:
    """Refuse incomplete multi-process variables of a batch system or launcher.

    A single one of them makes accelerate wait for processes that were never started.

    Raises:
        ConfigError: names the variables that are set, and those that are missing.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return
    found = {name: os.environ[name] for name in (*_COUNTS, *_RANKS) if os.environ.get(name)}
    several = [name for name in found if name in _COUNTS and found[name] != "1"]
    if "LOCAL_RANK" in found and found["LOCAL_RANK"] != "-1":
        several.append("LOCAL_RANK")
    lacking = [name for name in _NEEDED if not os.environ.get(name)]
    odd = [name for name, value in found.items() if not value.lstrip("-").isdecimal()]
    if not several or not (lacking or odd):
        return
    values = ", ".join(f"{name}={value}" for name, value in found.items())
    why = f"and {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set"
    raise ConfigError(
        f"the environment declares several processes ({values}), "
        + (why if lacking else f"and {odd[0]} is not a number"),
        hint=f"for one process: env {' '.join(f'-u {name}' for name in found)} qwen2vl-rs …; for "
        "several: torchrun --nproc-per-node gpu -m qwen2vl_rs …",
    )


def check_strategy() -> None:
    """Refuse every distributed strategy but data parallelism.

    Raises:
        ConfigError: names the strategy, and what to use instead.
    """
    check_environment()
    on = [name for variable, name in _STRATEGIES.items() if _flag(variable)]
    if _flag("ACCELERATE_USE_SAGEMAKER"):
        kind = os.environ.get("ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE", "NO")
        on += [] if kind == "NO" else [f"SageMaker's {kind}"]
    started = PartialState._shared_state.get("distributed_type", DistributedType.NO)
    if not on and started not in _KNOWN:  # started by a program that uses this library
        on = [str(getattr(started, "value", started))]
    if on:
        raise ConfigError(f"{' and '.join(on)} cannot be used here", hint=_INSTEAD)


def check_precision(precision: Precision) -> None:
    """Refuse launcher settings that contradict the settings of the run.

    Args:
        precision: precision of the run.

    Raises:
        ConfigError: names each contradiction.
    """
    if problems := list(_contradictions(precision)):
        raise ConfigError(
            "accelerate's configuration contradicts the run: " + "; ".join(problems),
            hint="launch with --mixed_precision no --dynamo_backend no and set the rest with "
            "--set training.…",
        )


def _contradictions(precision: Precision) -> Iterator[str]:
    requested = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if requested not in ("no", *_PRECISIONS):
        yield f"mixed precision {requested} is not supported, only {' and '.join(_PRECISIONS)}"
    elif requested != "no" and precision.compute is not _PRECISIONS[requested]:
        yield f"mixed precision {requested}, but the run is in {precision.name} " + (
            f"(--set training.{requested}=true)"
        )
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() != "no":
        yield f"torch.compile ({backend.lower()}) is not supported"
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        yield (
            f"gradient accumulation over {steps} steps would be ignored: the size of a step is "
            "set by training.images_per_step and questions_per_image"
        )
    if torch.cuda.is_available() and _flag("ACCELERATE_USE_CPU"):
        yield 'the CPU, but the run is on CUDA (for the CPU: CUDA_VISIBLE_DEVICES="")'


def _flag(variable: str) -> bool:
    """Whether a variable has a value that accelerate treats as true."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "y", "on", "t")
