"""Usage section of a model card: Python code that runs the model with transformers only.

The code is complete and gives the same answers as this package. It needs neither this package nor
torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Final

from ..config import InputConfig, RasterToRGB
from .folder import TEMPLATE

# the base model's tokenizer with the used chat template, in checkpoints and exports
TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json", TEMPLATE)
_UNKNOWN_BASE: Final = "FOLDER_OF_THE_BASE"

_PYTHON: Final = Template('''\
import torch
${peft}from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
)

FOLDER = "."  # the folder of this model card, or its name on the hub
${base}INSTRUCTION = ${instruction}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

tokenizer = AutoTokenizer.from_pretrained(${tokenizer})
# not AutoProcessor: it needs torchvision, which resizes slightly differently
processor = AutoImageProcessor.from_pretrained(
    FOLDER, backend="pil", min_pixels=${min_pixels}, max_pixels=${max_pixels}
)
model = AutoModelForImageTextToText.from_pretrained(${source}, dtype=torch.float32)
model.generation_config = GenerationConfig(  # greedy decoding, without repetition penalty
    max_new_tokens=${max_new_tokens},
    eos_token_id=tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]),
    pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
)
${adapter}model.to(DEVICE).eval()

PAD, MARK = tokenizer.convert_ids_to_tokens(model.config.image_token_id), "[QUESTION]"
content = [{"type": "image"}, {"type": "text", "text": MARK}]
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
)


def encode(text, plain=False):
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)


@torch.inference_mode()
def ask(image, question):
    """Answer a question about an 8-bit RGB image file."""
    picture = processor(images=[Image.open(image).convert("RGB")], return_tensors="pt")
    tokens = int(picture["image_grid_thw"].prod()) // processor.merge_size**2
    before, after = prompt.replace(PAD, PAD * tokens).split(MARK)
    text = encode(${asked}, plain=True)  # no control tokens
    ids = torch.tensor([encode(before) + text + encode(after)], device=DEVICE)
    answer = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        **picture.to(DEVICE),
    )
    return tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True).strip()


if __name__ == "__main__":
    print(ask("image.png", "Is there a road?"))
''')
_SERVED: Final = (
    " Servers use the stored dtype of the weights by default; to change it: "
    "`transformers serve --dtype float32`, `vllm serve --dtype float32`."
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Facts about a model folder for its usage section.

    Attributes:
        view: input settings.
        adapter: whether the folder contains an adapter; else a whole model.
        base: hub name of the adapter's base model; None if it is unknown.
        own_tokenizer: whether an adapter has `TOKENIZER` beside it (not in old checkpoints).
        max_new_tokens: maximum length of an answer in tokens.
        closed: whether the reported results are from candidate ranking (closed answers).
        exported: whether it is an export, not a checkpoint in a run.
    """

    view: InputConfig
    adapter: bool
    base: str | None = None
    own_tokenizer: bool = True
    max_new_tokens: int = 32
    closed: bool = False
    exported: bool = False


def usage(how: Usage) -> str:
    """Return the usage section as Markdown: Python code and notes."""
    packages = "torch 'transformers>=5.23' pillow" + (" peft" if how.adapter else "")
    notes = "\n".join(f"- {note}" for note in _notes(how))
    return (
        f"`pip install {packages}`, then, in this folder:\n\n"
        f"```python\n{python(how)}```\n\n{notes}\n"
    )


def python(how: Usage) -> str:
    """Return the Python code of `usage`."""
    instruction = how.view.instruction
    return _PYTHON.substitute(
        peft="from peft import PeftModel\n" if how.adapter else "",
        base=f"BASE = {_literal(how.base or _UNKNOWN_BASE)}\n" if how.adapter else "",
        source="BASE" if how.adapter else "FOLDER",
        instruction=_literal(instruction),
        asked='f"{INSTRUCTION}\\n{question.strip()}"' if instruction else "question.strip()",
        tokenizer="BASE" if how.adapter and not how.own_tokenizer else "FOLDER",
        min_pixels=how.view.min_pixels,
        max_pixels=how.view.max_pixels,
        max_new_tokens=how.max_new_tokens,
        adapter="model = PeftModel.from_pretrained(model, FOLDER)\n" if how.adapter else "",
    )


def _notes(how: Usage) -> list[str]:
    notes = [
        "In `torch.float32` the answers are those of Qwen2-VL-RS in float32. `torch.bfloat16` "
        "needs half the memory; if two answers are almost equally probable it may give the other "
        "one. `torch.float16` can overflow." + ("" if how.adapter else _SERVED),
        "`mm_token_type_ids` marks the image tokens. Without it they get text positions, and some "
        "answers change silently.",
        "The instruction is between image and question, as in training.",
        _images(how.view.image),
    ]
    if how.closed:
        notes.append(
            "The results here are from candidate ranking: the most probable of the candidate "
            'answers (`eval.answers = "closed"`). The code above generates answers freely.'
        )
    if how.adapter and how.base is None:
        notes.append(
            "The base model was a folder on the training machine, and its hub name is unknown. "
            f"Replace `{_UNKNOWN_BASE}` by the folder or hub name of the same base model; the "
            "adapter does not work with another one. `base_model_name_or_path` in "
            "`adapter_config.json`, and `base` in `qwen2vl_rs.json`, are the path on the training "
            "machine."
        )
    elif how.adapter and how.exported:
        notes.append(
            "With Qwen2-VL-RS: `qwen2vl-rs ask . image.png 'Is there a road?' --base "
            f"FOLDER`. Without `--base` the base model is expected in `{how.base}` below the "
            "current folder, where `qwen2vl-rs load` puts it."
        )
    elif how.adapter:
        notes.append(
            "`base` in `qwen2vl_rs.json` is the path of the base model on the training machine."
        )
    return notes


def _images(rule: RasterToRGB) -> str:
    """Describe the conversion of files to RGB."""
    low, high = rule.value_range or rule.stretch
    ends = f"the values {low:g} and {high:g}"
    if rule.value_range is None:
        ends = f"the percentiles {low:g} and {high:g} of each band"
    bands = "red, green and blue are the bands tagged as such, else the first three"
    if rule.bands:
        bands = f"red, green and blue are the bands {', '.join(map(str, rule.bands))} of a file"
    as_they_are = "" if rule.bands else "Images with three 8-bit bands are used unchanged. "
    return (
        f"{as_they_are}Convert others to 8-bit RGB first, as in training: {bands}; in data that "
        f"are not 8-bit, {ends} become 0 and 255."
    )


def _literal(text: str) -> str:
    """Return a text as a Python literal that cannot end a Markdown code block."""
    spelt = repr(text)
    if "'" not in text and '"' not in text:
        spelt = f'"{spelt[1:-1]}"'
    return spelt.replace("`", "\\x60")


_CHECKPOINT: Final = """\
---
{front}library_name: peft
pipeline_tag: image-text-to-text
tags: [remote-sensing, rsvqa, lora]
---

{method} adapter for {base}, trained by Qwen2-VL-RS on questions about aerial and satellite images.
`qwen2vl_rs.json` contains its base model and the input settings (image conversion, instruction).

## Use

{usage}"""


def checkpoint_readme(view: InputConfig, base: str | None, method: str = "LoRA") -> str:
    """Return the ``README.md`` of a checkpoint; see `Usage`."""
    return _CHECKPOINT.format(
        front=f"base_model: {base}\n" if base else "",
        method=method,
        base=base or "a base model in a local folder",
        usage=usage(Usage(view, adapter=True, base=base)),
    )
