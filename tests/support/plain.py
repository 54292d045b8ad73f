"""Plain transformers and PEFT, one question at a time: what the engine is held against."""

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from qwen2vl_rs.datasets.split import group_by_image
from qwen2vl_rs.engine.inputs import make_inputs
from qwen2vl_rs.engine.packing import ImageQuery, pack
from qwen2vl_rs.models.adapter_weights import quiet_peft
from qwen2vl_rs.training.steps import pack_loss


def with_adapter(base):
    """An adapter whose both halves are random, so that it matters."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj", "down_proj"],
                        exclude_modules=r".*visual\..*", init_lora_weights=False)  # fmt: skip
    with quiet_peft():
        return get_peft_model(base.model, config)


def plain_inputs(base, pixels, ids):
    ids = torch.tensor(np.array(ids))[None]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == base.prompts.image_id).int(),
        "pixel_values": pixels.patches,
        "image_grid_thw": torch.tensor([pixels.grid]),
    }
    return {name: value.to(base.model.device) for name, value in inputs.items()}


def plain_loss(base, model, samples):
    """Summed loss and its number of tokens, one ordinary sequence a question."""
    total, count = torch.zeros((), device=base.model.device), 0
    for s in samples:
        pixels = base.images.read(s.image)
        prompt = [*base.prompts.root_ids(pixels.tokens), *base.prompts.question_ids(s.question)]
        target = base.prompts.answer_ids(s.answer)
        logits = model(**plain_inputs(base, pixels, prompt + target)).logits[0]
        total = total + cross_entropy(
            logits[len(prompt) - 1 : -1].float(),
            torch.tensor(target, device=logits.device),
            reduction="sum",
        )
        count += len(target)
    return total, count


def tree_loss(base, model, samples, budget, images=None):
    asks = [
        ImageQuery(
            (images or base.images).read(group[0].image),
            [base.prompts.branch(s.question, s.answer) for s in group],
        )
        for group in group_by_image(samples)
    ]
    packs = list(pack(asks, base.prompts, 2, budget))
    losses = (pack_loss(model, make_inputs(p, model)) for p in packs)
    total = sum(losses, torch.zeros((), device=base.model.device))
    return total, sum(len(p.layout.targets) for p in packs)


def gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@torch.no_grad()
def log_likelihood(base, model, pixels, question, answer):
    prompt = [*base.prompts.root_ids(pixels.tokens), *base.prompts.question_ids(question)]
    target = base.prompts.answer_ids(answer)
    logits = model(**plain_inputs(base, pixels, prompt + target)).logits[0]
    logs = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
    return sum(logs[i, t].item() for i, t in enumerate(target))
