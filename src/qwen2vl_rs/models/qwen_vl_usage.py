"""How a folder is run elsewhere, in plain transformers: a part of its model card.

The Python in it is whole: as it stands there, it gives the answers that the engine gives. It
needs neither this package nor torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Final

from ..config import InputConfig, RasterToRGB
from .folder import TEMPLATE

# the tokenizer of the base with the chat template in force, in a checkpoint and what is exported
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

FOLDER = "."  # the folder of this card, or its name on the hub
${base}INSTRUCTION = ${instruction}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

tokenizer = AutoTokenizer.from_pretrained(${tokenizer})
# not AutoProcessor: that needs torchvision, which resizes a little differently
processor = AutoImageProcessor.from_pretrained(
    FOLDER, backend="pil", min_pixels=${min_pixels}, max_pixels=${max_pixels}
)
model = AutoModelForImageTextToText.from_pretrained(${source}, dtype=torch.float32)
model.generation_config = GenerationConfig(  # greedy, without the penalties some bases set
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
    """The answer to a question about an image file with 8-bit colours."""
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
    " Servers take the type in which the weights are stored unless told otherwise: "
    "`transformers serve --dtype float32`, `vllm serve --dtype float32`."
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What has to be known to run a folder.

    Attributes:
        view: how images and questions were shown.
        adapter: whether the folder holds an adapter; else a whole model.
        base: of an adapter, by its name on the hub; None where that is not known.
        own_tokenizer: whether `TOKENIZER` lies beside an adapter (not in old checkpoints).
        max_new_tokens: longest answer in tokens.
        closed: whether the figures beside it are of answers chosen from an answer set.
        exported: whether it is a folder of its own, and no checkpoint of a run.
    """

    view: InputConfig
    adapter: bool
    base: str | None = None
    own_tokenizer: bool = True
    max_new_tokens: int = 32
    closed: bool = False
    exported: bool = False


def usage(how: Usage) -> str:
    """Markdown that says how a folder is run: the Python, and what there is to know about it."""
    packages = "torch 'transformers>=5.23' pillow" + (" peft" if how.adapter else "")
    notes = "\n".join(f"- {note}" for note in _notes(how))
    return (
        f"`pip install {packages}`, then, in this folder:\n\n"
        f"```python\n{python(how)}```\n\n{notes}\n"
    )


def python(how: Usage) -> str:
    """The Python of `usage`."""
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
        "needs half the memory; where two answers are nearly as probable it can give the other "
        "one. `torch.float16` can overflow." + ("" if how.adapter else _SERVED),
        "`mm_token_type_ids` says which tokens are the image. Without it they get the positions of "
        "text, and some answers change, without any message.",
        "The instruction stands between image and question, as in training.",
        _images(how.view.image),
    ]
    if how.closed:
        notes.append(
            "The figures here are of the most probable answer of an answer set "
            '(`eval.answers = "closed"`); the Python above lets the model write its answer.'
        )
    if how.adapter and how.base is None:
        notes.append(
            "The base was a folder on the machine of the training, and its name on a hub is not "
            f"known. Put the folder or the hub name of the same base for `{_UNKNOWN_BASE}`; on "
            "another one the adapter means nothing. `base_model_name_or_path` in "
            "`adapter_config.json`, and `base` in `qwen2vl_rs.json`, are the place on that machine."
        )
    elif how.adapter and how.exported:
        notes.append(
            f"`qwen2vl-rs ask . image.png 'Is there a road?' --base FOLDER` asks it too; without "
            f"`--base` the base is looked for in `{how.base}`, below the current folder, where "
            "`qwen2vl-rs load` puts it."
        )
    elif how.adapter:
        notes.append(
            "`base` in `qwen2vl_rs.json` is where the base lay on the machine of the training."
        )
    return notes


def _images(rule: RasterToRGB) -> str:
    """How files became colours, in words."""
    low, high = rule.value_range or rule.stretch
    ends = f"the values {low:g} and {high:g}"
    if rule.value_range is None:
        ends = f"the percentiles {low:g} and {high:g} of each band"
    bands = "red, green and blue are the bands tagged as such, else the first three"
    if rule.bands:
        bands = f"red, green and blue are the bands {', '.join(map(str, rule.bands))} of a file"
    as_they_are = "" if rule.bands else "Images with three 8-bit bands are taken as they are. "
    return (
        f"{as_they_are}Others become 8-bit RGB first, as they did in training: {bands}; in data "
        f"that are not 8-bit, {ends} become 0 and 255."
    )


def _literal(text: str) -> str:
    """A text in Python's spelling that ends no Markdown code block."""
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

LoRA adapter for {base}, trained by Qwen2-VL-RS on questions about aerial and satellite images.
`qwen2vl_rs.json` says which base it belongs to and how images and questions were shown to it.

## Use

{usage}"""


def checkpoint_readme(view: InputConfig, base: str | None) -> str:
    """``README.md`` of a checkpoint; see `Usage`."""
    return _CHECKPOINT.format(
        front=f"base_model: {base}\n" if base else "",
        base=base or "a base in a local folder",
        usage=usage(Usage(view, adapter=True, base=base)),
    )
