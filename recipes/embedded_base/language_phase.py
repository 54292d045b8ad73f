"""Second phase: train the language model on questions and answers about scenes.

The vision tower is frozen, so each scene is encoded once. Many questions share an image
(`qwen2vl_rs.question_tree.tree`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import torch
from scenes import CELLS, Scenes
from sentences import INSTRUCTIONS, Talk
from torch.nn.functional import cross_entropy
from vision_phase import GRID, visual_tokens

from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.engine.forward import forward
from qwen2vl_rs.engine.inputs import make_inputs
from qwen2vl_rs.engine.packing import ImageQuery, pack, prefix_order
from qwen2vl_rs.models.folder import model_files
from qwen2vl_rs.models.images import ImageInput
from qwen2vl_rs.models.loader import Base
from qwen2vl_rs.models.prompt import PromptFormat, load_prompt_format
from qwen2vl_rs.system.console import Progress


@torch.no_grad()
def encode(base: Base, scenes: Scenes) -> Any:
    """Return (N, CELLS², H) half-precision visual tokens of scenes, cached in their folder."""
    visual = base.model.model.visual
    digest = hashlib.sha256(
        b"".join(w.cpu().numpy().tobytes() for w in visual.state_dict().values())
    )
    width = base.model.config.get_text_config().hidden_size
    shape = (len(scenes), CELLS**2, width)
    path = scenes.folder / f"seen-{digest.hexdigest()[:12]}-{len(scenes)}.bin"
    if not path.exists():
        values = np.memmap(path.with_suffix(".tmp"), np.float16, "w+", shape=shape)
        with Progress("encoding", len(scenes), "scenes") as bar:
            for start in range(0, len(scenes), 20):
                part = slice(start, start + 20)
                seen = visual_tokens(visual, scenes.pixels[part])
                values[part] = seen.cpu().numpy()
                bar.advance(len(seen))
        values.flush()
        path.with_suffix(".tmp").rename(path)
    return np.memmap(path, np.float16, "r", shape=shape)


def image_input(features: Any) -> ImageInput:
    """Return the visual tokens (CELLS², H) of a scene as input of the engine."""
    seen = torch.from_numpy(features.astype(np.float32))
    return ImageInput(GRID, CELLS**2, features=seen[:, None])


class Lessons:
    """Questions and answers about scenes, in training steps.

    Args:
        base: the model to train.
        scenes: the scenes.
        features: their visual tokens, from `encode`.
        images: number of scenes per step.
        questions: number of questions per scene.
        seed: seed of the random choice.
    """

    def __init__(
        self, base: Base, scenes: Scenes, features: Any, images: int, questions: int, seed: int
    ) -> None:
        self.base, self.features, self.scenes = base, features, scenes
        self.images, self.questions, self.seed = images, questions, seed
        chunks = -(-len(scenes) // len(scenes.elements(0)))
        self.elements = [one for k in range(chunks) for one in scenes.elements(k)]
        self.prompts = [
            load_prompt_format(model_files(base.folder), base.model.config, text)
            for text in INSTRUCTIONS
        ]

    def loss(self, step: int) -> torch.Tensor:
        """Return the mean cross-entropy of a step's answers."""
        rng = np.random.default_rng([self.seed, step])
        prompts = self.prompts[int(rng.integers(len(self.prompts)))]
        chosen = rng.choice(len(self.scenes), self.images, replace=False)
        asks = [self._ask(rng, int(n), prompts) for n in chosen]
        asks, _ = prefix_order(asks)
        (batch,) = pack(asks, prompts, 2, 1 << 20)
        inputs = make_inputs(batch, self.base.model)
        logits = forward(self.base.model, inputs)
        return cross_entropy(logits, inputs.targets.to(logits.device))

    def _ask(self, rng: np.random.Generator, n: int, prompts: PromptFormat) -> ImageQuery:
        side, elements = self.elements[n]
        pairs = Talk(rng, elements, side).pairs(self.questions)
        branches = [prompts.branch(p.question, p.answer) for p in pairs]
        return ImageQuery(image_input(self.features[n]), branches)


def sentence_scores(
    base: Base, scenes: Scenes, features: Any, most: int, *, wrong: bool = False
) -> dict[str, float]:
    """Return the share of exactly right answers by kind, on held-out scenes.

    Args:
        base: the model, with a prompt without instruction.
        scenes: the scenes.
        features: their visual tokens, from `encode`.
        most: maximum number of scenes.
        wrong: show another scene with each question, to measure the share that is guessed.
    """
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    elements = [one for k in range(-(-most // 100)) for one in scenes.elements(k)]
    base.model.eval()
    for n in range(min(most, len(scenes))):
        side, things = elements[n]
        pairs = list(Talk(np.random.default_rng([5, n]), things, side).pairs(24))
        seen = image_input(features[(n + 1) % len(scenes) if wrong else n])
        answers = answer(base, base.model, [(seen, [p.question for p in pairs])])[0]
        for pair, one in zip(pairs, answers, strict=True):
            total.update([pair.kind, "all"])
            right.update([pair.kind, "all"] if one.text == pair.answer else [])
    base.model.train()
    return {kind: right[kind] / total[kind] for kind in sorted(total)}
