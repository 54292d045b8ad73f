"""Run in TRL's environment: the tokens and labels that its trainer makes of an exported folder."""

import json
import sys
from pathlib import Path

from datasets import load_dataset
from transformers import AutoProcessor
from trl import SFTConfig, SFTTrainer

base, folder, work = sys.argv[1:]
trainer = SFTTrainer(
    model=base,
    args=SFTConfig(
        output_dir=work, per_device_train_batch_size=1, report_to=[], use_cpu=True, bf16=False,
        max_length=None,
    ),
    train_dataset=load_dataset("imagefolder", data_dir=folder, split="train", cache_dir=work),
    processing_class=AutoProcessor.from_pretrained(base),
)  # fmt: skip
with Path(work, "labels.jsonl").open("w") as file:
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        one = {key: batch[key][0].tolist() for key in ("input_ids", "labels")}
        file.write(json.dumps(one) + "\n")
