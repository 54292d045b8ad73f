"""The Python on a card, run as it stands there, against our own answers."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

from adapters import adapted
from factory import write_run
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig, RasterToRGB
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.models.adapter_weights import quiet_peft
from qwen2vl_rs.models.loader import load_base, write_metadata
from qwen2vl_rs.models.qwen_vl_usage import Usage, python, usage
from qwen2vl_rs.system.files import HUB_MANIFEST, read_json, write_json

VIEW = InputConfig(
    max_pixels=28 * 28 * 30, min_pixels=28 * 28 * 9, instruction='In "one" word, `please`.'
)
QUESTIONS = [
    "Is there a road?",
    "  How many buildings are there? ",
    "Is <|im_end|> <|image_pad|> é?",
]
NAME = "base_model_name_or_path"
SIZES = [(56, 56), (160, 90), (300, 200)]
DRIVER = """
import json, os, runpy, sys
answers = []
for folder in json.loads(sys.argv[1]):
    os.chdir(folder)
    ask = runpy.run_path("card.py")["ask"]
    answers.append([[ask(i, q) for q in json.loads(sys.argv[3])] for i in json.loads(sys.argv[2])])
print(json.dumps(answers))
"""


def block(card):
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    return code


def write_checkpoint(base_folder, folder, how=None):
    """A checkpoint as training leaves it; its adapter is random, so that it matters."""
    base = load_base(base_folder, VIEW, torch.device("cpu"), torch.float32)
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"],
                        init_lora_weights=False, exclude_modules=r".*visual\..*",
                        task_type="CAUSAL_LM")  # fmt: skip
    with quiet_peft():
        model = adapted(base, how) if how else get_peft_model(base.model, config)
    model.save_pretrained(folder)
    write_metadata(folder, base, VIEW, (None, 56))
    base.images.processor.save_pretrained(folder)


@pytest.mark.slow  # CI runs it
def test_the_python_on_each_card_gives_our_answers(small_base, tmp_path, capsys):
    run_the_cards(small_base, tmp_path, capsys)


@pytest.mark.slow
def test_so_it_does_for_each_family(family_base, tmp_path, capsys):
    run_the_cards(family_base, tmp_path, capsys)


@pytest.mark.slow
def test_so_it_does_for_dora_and_a_trained_vision_tower(small_base, tmp_path, capsys):
    run_the_cards(small_base, tmp_path, capsys, "DoRA-lora-full")
    assert "\nDoRA adapter for" in next(tmp_path.rglob("checkpoint-*/README.md")).read_text()


def test_a_base_known_by_its_name_is_named(small_base, tmp_path, capsys):
    base = shutil.copytree(small_base, tmp_path / "base")
    write_json(base / HUB_MANIFEST, {"repo_id": "owner/name"})
    write_checkpoint(base, tmp_path / "checkpoint-1")
    card = (tmp_path / "checkpoint-1/README.md").read_text()
    assert 'BASE = "owner/name"' in card
    assert card.startswith("---\nbase_model: owner/name\n")
    assert "the path of the base model" in card
    assert read_json(tmp_path / "checkpoint-1/adapter_config.json")[NAME] == "owner/name"


def test_a_place_on_this_machine_is_said_and_not_shown(small_base, tmp_path):
    write_checkpoint(small_base, tmp_path / "checkpoint-1")
    card = (tmp_path / "checkpoint-1/README.md").read_text()
    assert str(small_base) not in card
    assert "base_model:" not in card
    assert "The base model was a folder on the training machine" in card
    assert f"`{NAME}` in `adapter_config.json`" in card
    assert read_json(tmp_path / "checkpoint-1/adapter_config.json")[NAME] == str(small_base)


HOSTILE = "a \"b\" 'c' \\ ``` {x} $y ${base} \u2028 🛰 图"


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("instruction", ["", "One word.", "it's", HOSTILE, "two\nlines"])
def test_any_instruction_and_base_make_python_within_one_block(instruction, adapter):
    how = Usage(VIEW.model_copy(update={"instruction": instruction}), adapter, base=HOSTILE)
    code = block(usage(how))
    assert code == python(how)
    names = {
        node.targets[0].id: node.value.value
        for node in ast.parse(code).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert names["INSTRUCTION"] == instruction
    assert names.get("BASE") == (HOSTILE if adapter else None)
    assert "min_pixels=7056, max_pixels=23520" in code


def test_what_else_a_card_says():
    closed = usage(Usage(VIEW, adapter=False, closed=True, max_new_tokens=7))
    assert "max_new_tokens=7," in closed
    assert "probable of the candidate" in closed
    assert "adapter" not in closed
    rule = RasterToRGB(bands=(4, 3, 2), value_range=(0, 4096))
    shown = usage(Usage(VIEW.model_copy(update={"image": rule}), adapter=True))
    assert "bands 4, 3, 2 of a file; in data that are not 8-bit, the values 0 and 4096" in shown
    assert "used unchanged" not in shown
    load = "AutoTokenizer.from_pretrained"
    assert f"{load}(BASE)" in python(Usage(VIEW, adapter=True, own_tokenizer=False))
    assert f"{load}(FOLDER)" in python(Usage(VIEW, adapter=True))


def run_the_cards(base, tmp_path, capsys, how=None):
    """Those of a checkpoint, of its adapter exported, and of the merged model."""
    if find_spec("torchvision"):
        pytest.skip("torchvision is installed: what runs without it is tried without it")
    base = shutil.copytree(base, tmp_path / "base")
    # Qwen2.5-VL is published with such a penalty; no answer of ours knows it
    settings = read_json(base / "generation_config.json")
    write_json(base / "generation_config.json", settings | {"repetition_penalty": 1.5})
    run = write_run(tmp_path, images=12)
    shutil.rmtree(run / "checkpoint-40")
    write_checkpoint(base, run / "checkpoint-40", how)
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    assert main(["export", str(run), "-o", str(adapter)]) == 0
    assert main(["export", str(run), "--merge", "-o", str(merged)]) == 0
    images = []
    for number, size in enumerate(SIZES):
        images.append(str(tmp_path / f"{number}.png"))
        Image.effect_noise(size, 90).convert("RGB").save(images[-1])
    capsys.readouterr()
    batch = tmp_path / "batch.jsonl"
    rows = [{"image": i, "question": q} for i in images for q in QUESTIONS]
    batch.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["ask", str(adapter), "--batch", str(batch)]) == 0
    said = [json.loads(line)["answer"] for line in capsys.readouterr().out.splitlines()]
    ours = [said[k : k + len(QUESTIONS)] for k in range(0, len(said), len(QUESTIONS))]
    assert len({answer for row in ours for answer in row}) > 2

    folders = [run / "checkpoint-40", adapter, merged]
    for folder in folders:
        (folder / "card.py").write_text(block((folder / "README.md").read_text()))
        if folder != merged:
            (folder / "FOLDER_OF_THE_BASE").symlink_to(base)
    away = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(json.dumps, ([*map(str, folders)], images, QUESTIONS))],
        env=own | away, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    for folder, answers in zip(folders, theirs, strict=True):
        assert answers == ours, folder


def test_a_tokenizer_that_cannot_be_written_is_an_error_for_people(small_base, tmp_path):
    (tmp_path / "checkpoint-1" / "tokenizer.json").mkdir(parents=True)
    with pytest.raises(RunError, match=r"cannot write .*checkpoint-1"):  # not tokenizers' own
        write_checkpoint(small_base, tmp_path / "checkpoint-1")
