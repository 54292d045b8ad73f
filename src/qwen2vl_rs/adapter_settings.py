"""Settings of the adapter, and the base class of all sections of settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Way = Literal["frozen", "lora", "full"]  # how a part of the model is trained


class Section(BaseModel):
    """Base class of all sections: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LoraSettings(Section):
    """The adapter, with the names of PEFT's ``LoraConfig`` and the defaults of the original system.

    Attributes:
        r: rank of the adapter.
        lora_alpha: the adapter is scaled by lora_alpha / r.
        lora_dropout: dropout probability of the adapter's inputs in training.
        target_modules: names of the language model's layers that get an adapter; the settings
            ``training.vision_tower`` and ``training.merger`` decide about the others.
        use_rslora: scale the adapter by lora_alpha / √r instead (rsLoRA, Kalajdzievski 2023).
        use_dora: learn the length of each row of an adapted weight, too (DoRA, Liu et al. 2024).
        adapter: folder of an adapter to continue from: a run, a checkpoint, or another LoRA, rsLoRA
            or DoRA of this base model in PEFT's format. r, lora_alpha, target_modules, use_rslora,
            use_dora, ``training.vision_tower`` and ``training.merger`` are then the adapter's.
    """

    r: int = Field(64, ge=1)
    lora_alpha: int = Field(16, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] = (
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    )
    use_rslora: bool = False
    use_dora: bool = False
    adapter: str | None = None

    @property
    def method(self) -> str:
        """Name of the method, such as rsLoRA."""
        return method_name(self.use_rslora, self.use_dora)

    @field_validator("target_modules", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                'name the layers in a list, e.g. ["q_proj", "v_proj"]; by default all linear '
                f"layers of the language model are adapted, not {value!r}"
            )
        return value


def method_name(rslora: bool, dora: bool) -> str:
    """Return the name of an adapter's method."""
    return ("rs" if rslora else "") + ("DoRA" if dora else "LoRA")
