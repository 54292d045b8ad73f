"""Run in LLaMA-Factory's environment: the tokens and labels it makes of an exported folder."""

import json
import sys
from pathlib import Path

from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

base, folder, work, template_name = sys.argv[1:]
model_args, data_args, training_args, _, _ = get_train_args(
    {
        "model_name_or_path": base, "template": template_name, "stage": "sft", "do_train": True,
        "finetuning_type": "lora", "dataset_dir": folder, "dataset": "rsvqa",
        "output_dir": work, "overwrite_cache": True, "use_cpu": True,
        "report_to": "none", "remove_unused_columns": False,
    }
)  # fmt: skip
module = load_tokenizer(model_args)
template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
found = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)
collate = SFTDataCollatorWith4DAttentionMask(template=template, **module)
with Path(work, "labels.jsonl").open("w") as file:
    for row in found["train_dataset"]:
        batch = collate([row])
        one = {key: batch[key][0].tolist() for key in ("input_ids", "labels")}
        file.write(json.dumps(one) + "\n")
