"""The five commands on real RSVQA, with a small random base: slow, and only where the data is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plain import log_likelihood, plain_inputs, with_adapter
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.rsvqa import find_split
from qwen2vl_rs.datasets.split import group_by_image
from qwen2vl_rs.engine.candidates import choose_candidates
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.grammar import type_of
from random_base import Size, write_random_base

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
SETTINGS = [
    "training.learning_rate=3e-3", "training.bf16=false",
    "training.max_steps=60", "eval.max_new_tokens=8",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "train", "test"), [("rsvqa-lr", 6402, 1601), ("rsvqa-hr", 5903, 1101)]
)
def test_after_is_better_than_before_on_the_official_split(tmp_path, name, train, test):
    if not (DATA / name).is_dir():
        pytest.skip(f"no real RSVQA data in {DATA}")
    size = Size(hidden=128, layers=3, vision_hidden=96, vision_layers=2)
    write_random_base(tmp_path / "Qwen/Qwen2-VL-2B-Instruct", size)

    def run(script, *words):
        command = [sys.executable, str(ROOT / script), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    for split, n in (("train", train), ("val", test)):
        folder = str(DATA / name)
        told = run("data2csv.py", "--folder", folder, "--split", split, "-o", f"{split}.csv")
        assert f"wrote {n:,} questions" in told.stderr
        run("csv2json.py", "--input", f"{split}.csv", "--output", f"{split}.json")
    settings = [part for s in SETTINGS for part in ("--set", s)]
    run("train.py", "--train", "train.json", "--test", "val.json", *settings)
    results = json.loads((tmp_path / "output/Qwen2-VL-2B/compare.json").read_text())
    overall = results["protocols"]["official"]["OA"]
    assert overall["n"] == test
    assert overall["ci"][0] > 0  # better by more than chance
    report = tmp_path / "output/Qwen2-VL-2B/report.html"
    done = [sys.executable, "-m", "qwen2vl_rs", "report"]
    subprocess.run(done, cwd=tmp_path, check=True, capture_output=True)
    assert report.read_text(encoding="utf-8").count("data:image/jpeg") >= 12
    shown = run("compare_before_after.py", "--only", "fixed", "--json").stdout.splitlines()
    assert len(shown) == overall["wins"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["rsvqa-lr", "rsvqa-hr"])
def test_answers_to_all_real_questions_equal_generate(family_base, name):
    """Greedy answers of every val question, and closed probabilities of every 20th."""
    if not (DATA / name).is_dir():
        pytest.skip(f"no real RSVQA data in {DATA}")
    base = load_base(family_base, InputConfig(), torch.device("cpu"), torch.float32)
    model = with_adapter(base)
    files = find_split(DATA / name, "val")
    groups = group_by_image(list(read_samples(files.questions)))
    sets = answer_sets([], "LR" if name.endswith("lr") else "HR")
    asked = 0
    for group in groups:
        pixels = base.images.read(group[0].image)
        ((*found,),) = answer(base, model, [(pixels, [s.question for s in group])], budget=700,
                              max_new_tokens=4)  # fmt: skip
        for sample, one in zip(group, found, strict=True):
            prompt = [*base.prompts.root_ids(pixels.tokens),
                      *base.prompts.question_ids(sample.question)]  # fmt: skip
            ids = model.generate(**plain_inputs(base, pixels, prompt), max_new_tokens=4,
                                 do_sample=False, pad_token_id=base.prompts.end_id)  # fmt: skip
            expected = ids[0, len(prompt) :].tolist()
            assert one.ids == tuple(i for i in expected if i not in base.prompts.stop_ids)
            asked += 1
        some = [(s.question, sets[type_of(s)].texts) for s in group[::20]]
        (choices,) = choose_candidates(base, model, [(pixels, some)])
        for (question, texts), choice in zip(some, choices, strict=True):
            logs = [log_likelihood(base, model, pixels, question, t) for t in texts[:5]]
            assert choice.logs[:5] == pytest.approx(logs, abs=1e-4)
    assert asked == {"rsvqa-lr": 1601, "rsvqa-hr": 1101}[name]
