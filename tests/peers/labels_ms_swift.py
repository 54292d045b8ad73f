"""Run in ms-swift's environment: the tokens and labels it trains on of an exported folder."""

import json
import os
import sys
from pathlib import Path

base, folder, work, family = sys.argv[1:]
os.environ["ROOT_IMAGE_DIR"] = folder

from swift.pipelines import SwiftSft  # noqa: E402

job = SwiftSft(
    [
        "--model", base, "--check_model", "false", "--model_type", family, "--template", family,
        "--dataset", f"{folder}/train.jsonl", "--output_dir", work, "--add_version", "false",
        "--tuner_type", "lora", "--torch_dtype", "float32", "--fp16", "false", "--bf16", "false",
        "--use_cpu", "true", "--split_dataset_ratio", "0", "--dataset_shuffle", "false",
        "--eval_strategy", "no", "--save_strategy", "no", "--report_to", "none",
        "--strict", "true",
    ]
)  # fmt: skip
rows, _ = job._prepare_dataset()
with Path(work, "labels.jsonl").open("w") as file:
    for row in rows:
        batch = job.template.data_collator([row])
        one = {key: batch[key][0].tolist() for key in ("input_ids", "labels")}
        file.write(json.dumps(one) + "\n")
