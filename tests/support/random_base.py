"""A small base with random weights in the published file layout.

It knows nothing, but every part is the real one: architecture, file names, weight names,
sharded safetensors, tokenizer, chat template, preprocessor. Tests, benchmarks and (until the
trained embedded base exists) the demo run on it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import CONFIG_MAPPING
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from qwen2vl_rs.models.family import FAMILIES
from qwen2vl_rs.system.disk import apply_umask

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Written for this project; renders as the published template does for text and images.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CORPUS = """Is there a road? Is a water area present in the image? How many buildings are there?
What is the number of residential buildings? What is the amount of commercial buildings?
Are there more roads than grass areas? Are there less forests than farmlands? yes no rural urban
Is the number of small buildings equal to the number of large roads? Is it a rural or an urban area
What is the area covered by parkings next to a  road? on the left of, on the right of the
at the top of a  square, at the bottom of a circular, rectangular medium between 0 and 10
system user assistant You are a helpful assistant. Answer the question with one word or number."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and depth of a random base.

    Attributes:
        hidden: width of the language model.
        layers: its depth.
        vision_hidden: width of the vision tower.
        vision_layers: its depth.
        kv_heads: number of key/value heads.
        head: width of an attention head.
        intermediate: width of the language model's MLP.
        vision_head: width of an attention head of the vision tower.
    """

    hidden: int = 128
    layers: int = 2
    vision_hidden: int = 64
    vision_layers: int = 2
    kv_heads: int = 2
    head: int = 32
    intermediate: int = 256
    vision_head: int = 32


def write_random_base(
    folder: Path,
    size: Size = Size(),
    *,
    family: str = "qwen2_vl",
    vocabulary: Path | None = None,
    corpus: Iterable[str] | None = None,
    seed: int = 0,
    shard: str = "100MB",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    tied: bool = True,
) -> Path:
    """Write a random base.

    Args:
        folder: written to, created if missing.
        size: width and depth.
        family: ``qwen2_vl``, ``qwen2_5_vl`` or ``qwen3_vl``.
        vocabulary: a ``qwen.tiktoken`` merges file for the real 151,936-token vocabulary; None
            for a cut-down one of some 600 tokens, whose special-token ids differ.
        corpus: texts whose words the cut-down vocabulary holds (then some 900 tokens); None for
            the words of RSVQA's questions.
        seed: of the weights.
        shard: largest size of one weights file.
        dtype: of the stored weights.
        device: where they are drawn; another device draws others.
        tied: whether the head's weights are those of the embeddings.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(folder, vocabulary, corpus)
    words_known = 151936 if vocabulary else 64 * -(-(max(ids.values()) + 1) // 64)
    config = {**_config(family, size, ids, words_known), "tie_word_embeddings": tied}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device(device):
            # of a copy: it puts defaults into what it is given, which no published file has
            model = FAMILIES[family].network()(CONFIG_MAPPING[family](**deepcopy(config)))
    # The head is tied to the embeddings: with words of length 2 a hidden state can point at one
    # of them clearly enough to be learnt; at the initial length no word can get above 5 %.
    words = model.get_input_embeddings().weight.data
    words *= 2 / words.norm(dim=1).mean()
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    kind = str(dtype).removeprefix("torch.")
    named = {"architectures": [type(model).__name__], **config, "torch_dtype": kind}
    (folder / "config.json").write_text(json.dumps(named, indent=2))  # as published, not as saved
    _write_preprocessor(folder, config["vision_config"]["patch_size"])
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    apply_umask(folder)
    return folder


def _write_preprocessor(folder: Path, patch: int) -> None:
    preprocessor = {
        "min_pixels": 56 * 56,
        "max_pixels": 28 * 28 * 16384,
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2))


def _config(family: str, size: Size, ids: dict[str, int], vocab_size: int) -> dict[str, Any]:
    """``config.json`` in the form in which the family was published."""
    half = size.head // 2
    axis = 3 * half // 8
    text = {
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": size.hidden,
        "initializer_range": size.hidden**-0.5,  # keeps a small net's signals alive
        "intermediate_size": size.intermediate,
        "max_position_embeddings": 32768,
        "num_attention_heads": size.hidden // size.head,
        "num_hidden_layers": size.layers,
        "num_key_value_heads": size.kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [half - 2 * axis, axis, axis]},
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    whole = {
        "model_type": family,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    vision = {
        "depth": size.vision_layers,
        "initializer_range": size.vision_hidden**-0.5,
        "num_heads": size.vision_hidden // size.vision_head,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if family == "qwen2_vl":
        vision |= {"embed_dim": size.vision_hidden, "hidden_size": size.hidden, "mlp_ratio": 4,
                   "in_chans": 3, "spatial_patch_size": 14}  # fmt: skip
        return {**whole, **text, "vision_token_id": ids["<|vision_pad|>"], "vision_config": vision}
    vision |= {"hidden_size": size.vision_hidden, "intermediate_size": 2 * size.vision_hidden,
               "out_hidden_size": size.hidden}  # fmt: skip
    if family == "qwen2_5_vl":
        vision |= {"window_size": 112, "fullatt_block_indexes": [size.vision_layers - 1],
                   "in_chans": 3, "spatial_patch_size": 14, "tokens_per_second": 2}  # fmt: skip
        return {**whole, **text, "vision_config": vision}
    vision |= {"patch_size": 16, "num_position_embeddings": 256,
               "deepstack_visual_indexes": list(range(min(2, size.vision_layers)))}  # fmt: skip
    text |= {"head_dim": size.head, "model_type": "qwen3_vl_text"}
    text["rope_scaling"] = {"rope_type": "default", "mrope_interleaved": True,
                            "mrope_section": [half - 2 * axis, axis, axis]}  # fmt: skip
    return {**whole, "text_config": text, "vision_config": vision}


def _write_tokenizer(
    folder: Path, vocabulary: Path | None, corpus: Iterable[str] | None
) -> dict[str, int]:
    vocab, merges = _read_tiktoken(vocabulary) if vocabulary else _train_merges(corpus)
    special = {token: len(vocab) + n for n, token in enumerate(SPECIAL_TOKENS)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    tokenizer_config = {
        "added_tokens_decoder": {
            str(i): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for token, i in special.items()
        },
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "chat_template": CHAT_TEMPLATE,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 32768,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _cut_words()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    return special


def _cut_words() -> pre_tokenizers.PreTokenizer:
    """Cuts text where no token may reach across: between words, and between digits."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _train_merges(corpus: Iterable[str] | None) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A small byte-level vocabulary from the words of texts, or of RSVQA's questions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _cut_words()
    trainer = trainers.BpeTrainer(
        vocab_size=900 if corpus else 600,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(corpus or _CORPUS.splitlines(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    return model["vocab"], merges


def _read_tiktoken(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges from a rank file (one base64 token and its rank a line)."""
    rows = (line.split() for line in path.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
    letter = _byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letter[b] for b in token)

    merges = [
        (spell(left), spell(right))
        for token in sorted(ranks, key=ranks.__getitem__)
        if len(token) > 1
        for left, right in [_parents(token, ranks)]
    ]
    return {spell(token): rank for token, rank in ranks.items()}, merges


def _parents(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merge made ``token``: apply all earlier merges to its bytes."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        pairs: Iterable[tuple[int, int]] = (
            (ranks.get(parts[i] + parts[i + 1], len(ranks)), i) for i in range(len(parts) - 1)
        )
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-ins for bytes, as byte-level BPE files spell them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    others = (b for b in range(256) if b not in letters)
    return letters | {b: chr(256 + n) for n, b in enumerate(others)}
