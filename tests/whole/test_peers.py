"""What other programs make of the data that are exported for them, judged by their own code.

Each program has an environment of its own: ``make peers`` builds them and runs this file.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.types import Sample

pytestmark = pytest.mark.slow
HERE = Path(__file__).parents[1]
ENVIRONMENTS = Path(os.environ.get("PEERS", HERE.parent / ".peers")).resolve()
NOT_TRAINED = -100
INSTRUCTION = InputConfig().instruction
# question and answer as they are asked of us, and what of them is written for others
ASKED = {
    ("Is there a road?", "yes"): None,
    (" How many buildings are there?  ", "12"): ("How many buildings are there?", "12"),
    ("What is the area covered by roads?", "between 10m2 and 100m2"): None,
    ("图中有没有道路？", "有，两条。"): None,
    ("Is it 1 < 2 > 0, {{content}} or {x}?", "a, b\nand c"): None,
    ("Is <image> of <|im_end|> a\u2028<video>?", "<|im_end|> no"): (
        "Is < image> of < |im_end|> a\u2028< video>?",
        "< |im_end|> no",
    ),
}
SIZES = [(96, 96), (300, 200), (512, 512)]


@dataclass(frozen=True)
class Peer:
    """A program: the name of its template for a family, and what it trains behind the answer."""

    templates: dict[str, str]
    added: str = "\n"  # all of them also train the line end that the chat format puts there


PEERS = {
    "trl": Peer({}),
    "ms-swift": Peer({"qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_5_vl", "qwen3_vl": "qwen3_vl"}),
    "llamafactory": Peer(
        {"qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_vl", "qwen3_vl": "qwen3_vl_nothink"}
    ),
}


def interpreter(name):
    found = ENVIRONMENTS / name / "bin" / "python"
    if not found.exists():
        pytest.skip(f"no environment of {name} in {ENVIRONMENTS}: make peers")
    return found


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    samples = []
    for number, size in enumerate(SIZES):
        place = folder / f"{number}.png"
        Image.effect_noise(size, 60).convert("RGB").save(place)
        samples += [
            Sample(f"rsvqa_{number}_{k}", str(place), question, answer, "presence")
            for k, (question, answer) in enumerate(ASKED)
        ]
    write_conversations(folder / "data.json", samples)
    return folder / "data.json"


@pytest.fixture(scope="module")
def base(real_family_base):
    """With the family's own chat template: that of Qwen3-VL names no system."""
    if real_family_base.parent.name.startswith("qwen3"):
        for name in ("tokenizer_config.json", "chat_template.json"):
            tree = json.loads((real_family_base / name).read_text())
            start, system, rest = tree["chat_template"].partition("{% if loop.first")
            assert system
            tree["chat_template"] = start + rest.partition("{% endif %}")[2]
            (real_family_base / name).write_text(json.dumps(tree))
    return real_family_base


@pytest.mark.parametrize("name", PEERS)
def test_labels_are_the_answer_and_its_end(name, base, questions, tmp_path):
    from qwen2vl_rs.models.images import load_image_reader
    from qwen2vl_rs.models.loader import read_base
    from qwen2vl_rs.models.prompt import load_prompt_format

    python, peer = interpreter(name), PEERS[name]
    data = tmp_path / "data"
    assert main(["export", "--data", str(questions), "--format", name, "-o", str(data)]) == 0
    files, config = read_base(base)
    template = peer.templates.get(config.model_type)
    script = HERE / "peers" / f"labels_{name.replace('-', '_')}.py"
    words = [python, script, base, data, tmp_path, *([template] if template else [])]
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONWARNINGS")}
    changes = HERE / "peers" / name  # a sitecustomize.py for its environment
    if changes.is_dir():
        own["PYTHONPATH"] = str(changes)
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "WANDB_DISABLED": "true"}
    done = subprocess.run(
        [str(word) for word in words], env=own | offline | {"CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]

    prompts = load_prompt_format(files, config, INSTRUCTION)
    reader = load_image_reader(files, config, InputConfig())
    expected = [
        (prompts.root_ids(reader.tokens(questions.parent / f"{number}.png")), written or asked)
        for number in range(len(SIZES))
        for asked, written in ASKED.items()
    ]
    assert len(made) == len(expected)
    for found, (root, (question, answer)) in zip(made, expected, strict=True):
        asked = [*root.tolist(), *prompts.question_ids(question)]
        trained = [*prompts.answer_ids(answer), *prompts.text_ids(peer.added)]
        assert found["input_ids"] == asked + trained
        assert found["labels"] == [NOT_TRAINED] * len(asked) + trained
