"""Evaluation speed: all questions about an image at once, compared with `generate` on each alone.

Generated answers must equal those of `generate` (greedy); closed-set answers are yes or no, or one
of four buckets. The base model has random weights and never ends an answer, so both sides decode
exactly ``--new-tokens``: 2 is a word and the end token, which is enough for most RSVQA answers.

    python benchmarks/eval.py                         small model, CPU, a few minutes
    python benchmarks/eval.py --model 2b --bf16       full size, requires a GPU
"""

from __future__ import annotations

from typing import Any

import torch
from common import arguments, make_base, make_samples, plain_batch, show, timed

from qwen2vl_rs.engine.candidates import choose_candidates
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.engine.memory import token_budget
from qwen2vl_rs.models.loader import Base
from qwen2vl_rs.types import Sample

ANSWERS = {"How": ("0", "between 0 and 10", "between 10 and 100", "more than 1000")}


def one_by_one(base: Base, samples: list[Sample], new_tokens: int) -> list[str]:
    """Return the answers of the model's own `generate`, one question at a time."""
    found = []
    for sample in samples:
        batch = plain_batch(base, [sample], [base.images.read(sample.image)])
        labels = batch.pop("labels")[0]
        prompt = int((labels == -100).sum())
        batch["input_ids"] = batch["input_ids"][:, :prompt]
        batch["attention_mask"] = batch["attention_mask"][:, :prompt]
        batch["mm_token_type_ids"] = batch["mm_token_type_ids"][:, :prompt]
        ids = base.model.generate(
            **batch, max_new_tokens=new_tokens, do_sample=False, pad_token_id=base.prompts.end_id
        )
        found.append(base.prompts.decode(ids[0, prompt:].tolist()))
    return found


def compare(base: Base, side: int, questions: int, new_tokens: int, repeats: int) -> dict[str, Any]:
    """Return one row: generated and closed-set answers, compared with `generate`."""
    budget = token_budget(base.model)
    few, samples = make_samples(1, 8, side), make_samples(1, questions, side)

    def free() -> list[str]:
        group = (base.images.read(samples[0].image), [s.question for s in samples])
        (found,) = answer(base, base.model, [group], max_new_tokens=new_tokens, budget=budget)
        return [a.text for a in found]

    def closed() -> None:
        asked = [(s.question, ANSWERS.get(s.question.split()[0], ("yes", "no"))) for s in samples]
        choose_candidates(
            base, base.model, [(base.images.read(samples[0].image), asked)], budget=budget
        )

    slow = len(few) / timed(lambda: one_by_one(base, few, new_tokens), 2)
    free_speed, closed_speed = (questions / timed(way, repeats) for way in (free, closed))
    alone = one_by_one(base, samples[:25], new_tokens)
    same = sum(a == b for a, b in zip(free(), alone, strict=False))
    row = {
        "side": side,
        "questions/image": questions,
        "answer tokens": new_tokens,
        "generate questions/s": round(slow, 2),
        "free questions/s": round(free_speed, 2),
        "free ratio": round(free_speed / slow, 1),
        "closed questions/s": round(closed_speed, 2),
        "closed ratio": round(closed_speed / slow, 1),
        "same answers": f"{same} of {len(alone)}",
    }
    print(row, flush=True)
    return row


def main() -> None:
    """Measure and print ratios."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--questions", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[2, 4])
    chosen = parser.parse_args()
    base = make_base(chosen.model, torch.bfloat16 if chosen.bf16 else torch.float32)
    rows = [
        compare(base, side, questions, new_tokens, chosen.repeats)
        for side in chosen.sides
        for new_tokens in chosen.new_tokens
        for questions in chosen.questions
    ]
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
