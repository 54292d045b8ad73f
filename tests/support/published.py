"""Small random bases in the file layouts in which the Qwen-VL families were published.

Nothing of the package is used: a layout must not follow from what our own code writes or reads.
What the published files look like is known from these places:

- Names of weights: ``model.layers…``, ``visual…`` of Qwen2-VL and Qwen2.5-VL and their
  translation stand in transformers' ``conversion_mapping.py`` and, for 4.52 to 4.57, in
  ``Qwen2VLForConditionalGeneration._checkpoint_conversion_mapping``; Qwen3-VL was published with
  ``model.language_model…``, ``model.visual…``.
- ``config.json``: text settings at the top, ``rope_scaling`` of type mrope, ``rope_theta`` beside
  it (``Qwen2VLConfig`` of transformers 4.45); Qwen3-VL with ``text_config`` and
  ``mrope_interleaved`` (``Qwen3VLConfig`` of 4.57).
- Heads: Qwen2-VL-2B, Qwen2.5-VL-3B, Qwen3-VL-2B and -4B are tied, Qwen2-VL-7B, Qwen2.5-VL-7B and
  Qwen3-VL-8B are not (``tie_word_embeddings`` in the models' own files; for 2.5-VL-7B also
  emergentmind.com/topics/qwen2-5-vl-7b-architecture, for 3-VL-8B's sisters
  github.com/QwenLM/Qwen3-VL-Embedding/issues/89).
- ``generation_config.json``: huggingface.co/Qwen/Qwen2-VL-2B-Instruct (temperature 0.01, top_k 1),
  Qwen2.5-VL-3B-Instruct (repetition_penalty 1.05, temperature 0.000001), and github.com/QwenLM/
  Qwen3-VL/issues/1825 (top_p 0.8, top_k 20, temperature 0.7, repetition_penalty 1.0).
- Templates: with images in ``chat_template.json``; that of Qwen2.5-VL's tokenizer is for text
  alone and fails on a list of parts (github.com/Blaizzy/mlx-vlm/issues/840).
- As transformers 5 saves them: ``ProcessorMixin.save_pretrained`` writes ``processor_config.json``
  with ``image_processor`` inside, and ``chat_template.jinja``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText


class Model(NamedTuple):
    """A published model: its family and whether its head is tied to the embeddings."""

    family: str
    tied: bool


MODELS = {
    "Qwen2-VL-2B": Model("qwen2_vl", True),
    "Qwen2-VL-7B": Model("qwen2_vl", False),
    "Qwen2.5-VL-3B": Model("qwen2_5_vl", True),
    "Qwen2.5-VL-7B": Model("qwen2_5_vl", False),
    "Qwen3-VL-2B": Model("qwen3_vl", True),
    "Qwen3-VL-4B": Model("qwen3_vl", True),
    "Qwen3-VL-8B": Model("qwen3_vl", False),
}
LAYOUTS = ("published", "saved", "mixed")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>",
           "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
           "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",
           "<|video_pad|>"]  # fmt: skip
LATER = ["<tool_call>", "</tool_call>"]
WORDS = """Is there a road? Is a water area present? How many buildings are there? yes no rural
urban Are there more roads than buildings? Is it a rural or an urban area system user assistant
You are a helpful assistant. Answer the question with one word or number."""
_CUT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# Written for these tests; they render text and images as the published ones do.
_SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
_PARTS = (
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
)
_AROUND = (
    "{{% for message in messages %}}{system}<|im_start|>{{{{ message['role'] }}}}\n{content}"
    "<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
WITH_IMAGES = _AROUND.format(system=_SYSTEM, content=_PARTS)
WITHOUT_SYSTEM = _AROUND.format(system="", content=_PARTS)  # Qwen3-VL adds no system message
TEXT_ONLY = _AROUND.format(
    system=_SYSTEM, content="{{ message['content'] + '' }}"
)  # adding a string to a list of parts is an error
GENERATION = {
    "qwen2_vl": {"temperature": 0.01, "top_p": 0.001, "top_k": 1},
    "qwen2_5_vl": {"repetition_penalty": 1.05, "temperature": 0.000001},
    "qwen3_vl": {"top_p": 0.8, "top_k": 20, "temperature": 0.7, "repetition_penalty": 1.0},
}


def template_of(family: str) -> str:
    return WITHOUT_SYSTEM if family == "qwen3_vl" else WITH_IMAGES


def write_published(folder: Path, name: str, layout: str = "published", seed: int = 1) -> Path:
    """Write a base: as published, as transformers 5 saves it, or as a mixture of both."""
    folder.mkdir(parents=True)
    family, tied = MODELS[name]
    ids = _write_tokenizer(folder, family, layout)
    config = _config(family, tied, ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModelForImageTextToText.from_config(
            CONFIG_MAPPING[family](**json.loads(json.dumps(config)))
        )
    words = network.get_input_embeddings().weight.data
    words *= 2 / words.norm(dim=1).mean()  # long enough to be told apart by a tied head
    if not tied:
        network.lm_head.weight.data *= 4
    images = _image_settings(family)
    ends = {"eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"]}  # fmt: skip
    if layout == "saved":
        for key, value in ends.items():
            setattr(network.generation_config, key, value)
        network.save_pretrained(folder)
        inner = {"image_processor": images, "processor_class": images["processor_class"]}
        _write(folder, "processor_config.json", inner)
        (folder / "chat_template.jinja").write_text(template_of(family))
        return folder
    network.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    _write_shards(folder, {_old_name(family, k): w for k, w in weights.items()})
    named = {"architectures": [type(network).__name__], "transformers_version": "4.41.2"}
    _write(folder, "config.json", named | config)
    _write(folder, "preprocessor_config.json", images)
    if family == "qwen3_vl":
        video = {**images, "video_processor_type": "Qwen3VLVideoProcessor"}
        _write(folder, "video_preprocessor_config.json", video)
    _write(folder, "chat_template.json", {"chat_template": template_of(family)})
    sampling = {"bos_token_id": ids["<|endoftext|>"], "do_sample": True} | GENERATION[family]
    _write(folder, "generation_config.json", ends | sampling)
    if layout == "mixed":  # a template that is not in force, and settings that are
        (folder / "chat_template.jinja").write_text(TEXT_ONLY)
        _write(folder, "processor_config.json", {"image_processor": images})
        _write(folder, "preprocessor_config.json", images | {"image_mean": [0.0, 0.0, 0.0]})
    return folder


def _write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value, indent=2))


def _write_shards(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    places = {}
    vision = [name for name in weights if "visual" in name]
    for number, names in enumerate((vision, [n for n in weights if n not in vision]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        part = {name: weights[name].contiguous() for name in names}
        save_file(part, folder / file, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    size = sum(w.numel() * w.element_size() for w in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    _write(folder, "model.safetensors.index.json", index)


def _old_name(family: str, name: str) -> str:
    inside = name.removeprefix("model.").removeprefix("language_model.")
    if inside.startswith("lm_head"):
        return inside
    if family == "qwen3_vl":
        vision = inside.startswith("visual.")
        return f"model.{inside}" if vision else f"model.language_model.{inside}"
    return inside if inside.startswith("visual.") else f"model.{inside}"


def _image_settings(family: str) -> dict[str, Any]:
    common = {"temporal_patch_size": 2, "merge_size": 2}
    if family == "qwen3_vl":
        return common | {
            "size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
            "processor_class": "Qwen3VLProcessor",
            "image_processor_type": "Qwen2VLImageProcessorFast",
        }  # fmt: skip
    return common | {
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor" if family == "qwen2_vl" else "Qwen2_5_VLProcessor",
    }  # fmt: skip


def _write_tokenizer(folder: Path, family: str, layout: str) -> dict[str, int]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_CUT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=450, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(WORDS.splitlines(), trainer)
    tokens = SPECIAL + ([] if family == "qwen2_vl" else LATER)
    tokenizer.add_tokens([AddedToken(t, special=t in SPECIAL, normalized=False) for t in tokens])
    tokenizer.save(str(folder / "tokenizer.json"))
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "merges.txt").write_text("".join(f"{line}\n" for line in merges))
    ids = {token: tokenizer.token_to_id(token) for token in tokens}
    settings = {
        "added_tokens_decoder": {
            str(number): {"content": token, "lstrip": False, "normalized": False,
                          "rstrip": False, "single_word": False, "special": token in SPECIAL}
            for token, number in ids.items()
        },
        "additional_special_tokens": SPECIAL[1:], "bos_token": None, "errors": "replace",
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "model_max_length": 32768,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
    }  # fmt: skip
    if layout != "saved":
        settings["chat_template"] = TEXT_ONLY if family == "qwen2_5_vl" else template_of(family)
    _write(folder, "tokenizer_config.json", settings)
    return ids


def _config(family: str, tied: bool, ids: dict[str, int]) -> dict[str, Any]:
    text = {
        "attention_dropout": 0.0, "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"], "hidden_act": "silu", "hidden_size": 64,
        "initializer_range": 0.125, "intermediate_size": 128, "max_position_embeddings": 32768,
        "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-06, "use_cache": True,
        "vocab_size": 64 * -(-(max(ids.values()) + 1) // 64),
    }  # fmt: skip
    whole = {
        "model_type": family, "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"], "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"], "tie_word_embeddings": tied,
    }  # fmt: skip
    vision = {"depth": 2, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2,
              "temporal_patch_size": 2, "initializer_range": 0.125}  # fmt: skip
    if family == "qwen3_vl":
        text |= {"model_type": "qwen3_vl_text", "head_dim": 32, "rope_theta": 5000000,
                 "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 6, 6],
                                  "rope_type": "default"},
                 "tie_word_embeddings": tied, "dtype": "float32"}  # fmt: skip
        vision |= {"model_type": "qwen3_vl", "hidden_act": "gelu_pytorch_tanh", "in_channels": 3,
                   "patch_size": 16, "hidden_size": 64, "intermediate_size": 128,
                   "out_hidden_size": 64, "num_position_embeddings": 256,
                   "deepstack_visual_indexes": [0, 1]}  # fmt: skip
        return whole | {"text_config": text, "vision_config": vision}
    text |= {"rope_theta": 1000000.0, "torch_dtype": "float32", "max_window_layers": 2,
             "sliding_window": 32768, "use_sliding_window": False,
             "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}  # fmt: skip
    if family == "qwen2_vl":
        vision |= {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 4, "in_chans": 3,
                   "spatial_patch_size": 14}  # fmt: skip
    else:
        vision |= {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": 64,
                   "window_size": 112, "fullatt_block_indexes": [1], "in_chans": 3,
                   "spatial_patch_size": 14, "tokens_per_second": 2}  # fmt: skip
    return whole | text | {"vision_token_id": ids["<|vision_pad|>"], "vision_config": vision}
