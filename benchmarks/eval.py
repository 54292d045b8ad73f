"""Evaluation speed: all questions of an image at once against `generate` on each alone.

Free answers are compared word for word with `generate` (greedy); closed answers choose among the
official answer set. The base is random, so answers are of any length: both sides decode at most
``--new-tokens``.

    python benchmarks/eval.py                         small model, CPU, a few minutes
    python benchmarks/eval.py --model 2b --bf16       full size, wants a GPU
"""

from __future__ import annotations

from typing import Any

import torch
from common import arguments, make_base, make_samples, plain_batch, show, timed

from qwen2vl_rs.model.answer import answer
from qwen2vl_rs.model.closed import choose
from qwen2vl_rs.model.loader import Base
from qwen2vl_rs.model.memory import token_budget
from qwen2vl_rs.records import Sample

ANSWERS = {"How": ("0", "between 0 and 10", "between 10 and 100", "more than 1000")}


def one_by_one(base: Base, samples: list[Sample], new_tokens: int) -> list[str]:
    """Answers of the model's own `generate`, a question at a time."""
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


def main() -> None:
    """Measure and print ratios."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--questions", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--new-tokens", type=int, default=4)
    chosen = parser.parse_args()
    base = make_base(chosen.model, torch.bfloat16 if chosen.bf16 else torch.float32)
    budget = token_budget(base.model)
    rows: list[dict[str, Any]] = []
    for side in chosen.sides:
        few = make_samples(1, 8, side)
        slow = len(few) / timed(lambda f=few: one_by_one(base, f, chosen.new_tokens), 2)
        for questions in chosen.questions:
            samples = make_samples(1, questions, side)

            def free(samples: list[Sample] = samples) -> list[str]:
                group = (base.images.read(samples[0].image), [s.question for s in samples])
                found = answer(
                    base, base.model, [group], max_new_tokens=chosen.new_tokens, budget=budget
                )
                return [a.text for a in found[0]]

            def closed(samples: list[Sample] = samples) -> None:
                asked = [
                    (s.question, ANSWERS.get(s.question.split()[0], ("yes", "no"))) for s in samples
                ]
                choose(
                    base, base.model, [(base.images.read(samples[0].image), asked)], budget=budget
                )

            seconds, closed_seconds = timed(free, chosen.repeats), timed(closed, chosen.repeats)
            checked = samples[:25]
            alone = one_by_one(base, checked, chosen.new_tokens)
            rows.append(
                {
                    "side": side,
                    "questions/image": questions,
                    "generate questions/s": round(slow, 2),
                    "free questions/s": round(questions / seconds, 2),
                    "free ratio": round(questions / seconds / slow, 1),
                    "closed questions/s": round(questions / closed_seconds, 2),
                    "closed ratio": round(questions / closed_seconds / slow, 1),
                    "same answers": f"{sum(a == b for a, b in zip(free(), alone, strict=False))}"
                    f" of {len(alone)}",
                }
            )
            print(rows[-1], flush=True)
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
