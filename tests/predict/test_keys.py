"""What is used again and what is resumed: for every setting, which of it the setting must change.

Features are the cache of the frozen vision tower, answers the predictions of a model on this
machine, replies those of a server's, and training is a run that is resumed.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from endpoints import running, said
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import Config
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.engine.vision import encode_all
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.hardware.precision import choose_precision
from qwen2vl_rs.models.fingerprint import fingerprint
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.predict.job import Job
from qwen2vl_rs.run import Run
from qwen2vl_rs.system.files import write_json
from qwen2vl_rs.training import preparation
from qwen2vl_rs.types import Sample

CPU = torch.device("cpu")
SPLIT = ("data.train=a.json", "data.test=b.json")
# another value, and what it changes: Features, Answers, Replies, Training
# not what this processor would choose
BF16 = choose_precision(CPU).compute is torch.float32
EXPECTED = {
    "model": (None, "FAT"),
    "output": ("elsewhere", ""),
    "data.conversations": ("other.json", "T"),
    "data.train": ("c.json", "T"),
    "data.test": ("c.json", "T"),
    "data.images": ("moved", ""),
    "data.max_train": (3, "T"),
    "data.max_train_images": (1, "T"),
    "data.test_fraction": (0.2, "T"),
    "data.val": ("c.json", "T"),
    "data.val_fraction": (0.2, "T"),
    "data.max_val": (3, "T"),
    "data.split_by": ("question", "T"),
    "data.dataset": ("LR", ""),
    "view.image.bands": ([3, 2, 1], "FART"),
    "view.image.stretch": ([1, 99], "FART"),
    "view.image.value_range": ([0, 255], "FART"),
    "view.min_pixels": (28 * 28 * 5, "FART"),
    "view.max_pixels": (28 * 28 * 1281, "FART"),
    "view.instruction": ("Answer briefly.", "ART"),
    "lora.r": (3, "T"),
    "lora.lora_alpha": (3, "T"),
    "lora.lora_dropout": (0.3, "T"),
    "lora.target_modules": (["q_proj"], "T"),
    "lora.use_rslora": (True, "T"),
    "lora.use_dora": (True, "T"),
    "lora.adapter": ("first", "T"),
    "training.learning_rate": (3e-4, "T"),
    "training.num_train_epochs": (2, "T"),
    "training.max_steps": (5, "T"),
    "training.images_per_step": (5, "T"),
    "training.questions_per_image": (5, "T"),
    "training.max_tokens_per_pack": (5000, ""),
    "training.warmup_ratio": (0.5, "T"),
    "training.lr_scheduler_type": ("cosine", "T"),
    "training.weight_decay": (0.5, "T"),
    "training.max_grad_norm": (0.5, "T"),
    "training.vision_cache_gb": (5, ""),
    "training.gradient_checkpointing": (False, ""),
    "training.vision_tower": ("lora", "T"),
    "training.merger": ("lora", "T"),
    "training.vision_learning_rate": (3e-4, "T"),
    "training.merger_learning_rate": (3e-4, "T"),
    "training.attention": ("branches", ""),
    "training.bf16": (BF16, "FAT"),
    "training.fp16": (True, "FAT"),
    "training.save_steps": (5, "T"),
    "training.save_total_limit": (5, ""),
    "training.metric_for_best_model": ("AA", "T"),
    "training.early_stopping_patience": (5, "T"),
    "training.seed": (5, "T"),
    "training.report_to": ([], ""),
    "eval.answers": ("closed", "A"),
    "eval.max_eval": (1, "AR"),
    "eval.max_new_tokens": (2, "AR"),
    "eval.samples": (5, ""),
    "eval.max_tokens_per_pack": (5000, ""),
    "eval.attention": ("branches", ""),
    "eval.bf16": (True, "A"),
    "eval.fp16": (True, "A"),
    "eval.seed": (5, ""),
}
NOT_FROZEN = {
    "training.vision_learning_rate": ("training.vision_tower=lora",),
    "training.merger_learning_rate": ("training.merger=lora",),
}
OF_A_SPLIT = ("data.train", "data.test")
# not beside data.conversations, or bf16
ALONE = (*OF_A_SPLIT, "data.val_fraction", "training.fp16", "eval.fp16")
VALIDATED = ("data.max_val", "training.early_stopping_patience")  # need validation questions


def leaves(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_for_every_setting_it_is_stated_what_it_changes():
    assert list(EXPECTED) == list(leaves(Config().model_dump()))


@pytest.fixture(scope="module")
def done(small_base, tmp_path_factory):
    """A folder with questions about two images, and all that can be used again of it."""
    folder = tmp_path_factory.mktemp("keys")
    samples = make_samples(folder / "images", images=2)[::8]
    shutil.copytree(folder / "images", folder / "moved/images")
    other = shutil.copytree(small_base, folder / "other base")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "unused": 1}))
    with pytest.MonkeyPatch.context() as patch, running(lambda *_: said("yes")) as api:
        patch.chdir(folder)
        patch.delenv("OPENAI_API_KEY", raising=False)
        write_conversations(Path("test.json"), samples)
        for ask in (answered, replied):
            ask(Path("first"), (small_base, api.url), "eval.max_new_tokens=1")
        encoded(Path("first"), (small_base, api.url), "eval.max_new_tokens=1")
        yield folder, (small_base, api.url)


def encoded(folder, whose, *settings):
    config = load_config(None, [f"model={whose[0]}", *settings])
    precision = choose_precision(CPU, config.training.bf16, config.training.fp16)
    base = load_base(Path(config.model), config.view, CPU, precision.weights)
    encode_all(base, ["images/0.tif"], folder / "cache", 1 << 30, precision.compute)
    lines = (folder / "cache/index.jsonl").read_text().splitlines()
    return {json.loads(line)["key"] for line in lines}


def answered(folder, whose, *settings):
    settings = dict(one.split("=", 1) for one in settings)
    base = str(settings.pop("model", whose[0]))
    words = [word for pair in settings.items() for word in ("--set", "=".join(pair))]
    run = ["eval", base, "--test", "test.json", "--train-questions", "test.json", *words]
    assert main([*run, "-o", str(folder / "answers")]) == 0
    return json.loads((folder / "answers/inputs.json").read_text())["key"]


def replied(folder, whose, *settings):
    words = [word for one in settings for word in ("--set", one)]
    run = ["eval", "--endpoint", whose[1], "--model", "m", "--test", "test.json", *words]
    assert main([*run, "-o", str(folder / "replies")]) == 0
    return json.loads((folder / "replies/inputs.json").read_text())["key"]


def resumed(folder, whose, settings, changed):
    """Whether a run that was started with the settings is refused with others."""
    config = load_config(None, [f"model={whose[0]}", *settings])
    base = {"folder": str(whose[0]), "fingerprint": fingerprint(whose[0])}
    known = {"settings": preparation.decisive_settings(config), "base": base}
    folder.mkdir(exist_ok=True)
    write_json(folder / "manifest.json", known)
    (folder / "config.toml").write_text("")
    preparation.check_run(Run(folder), config, resume=True)
    try:
        preparation.check_run(Run(folder), load_config(None, changed), resume=True)
    except RunError as error:
        return str(error)
    return None


def with_setting(name, whose):
    """The settings before and after one is changed."""
    value = EXPECTED[name][0]
    needed = ("data.val=c.json",) if name in VALIDATED else NOT_FROZEN.get(name, ())
    given = SPLIT if name in OF_A_SPLIT else needed
    text = "other base" if name == "model" else value if isinstance(value, str) else None
    setting = f"{name}={text if text is not None else json.dumps(value)}"
    before = (*given, "eval.max_new_tokens=1")
    return before, (*(one for one in before if not one.startswith(f"{name}=")), setting)


MAKERS = {"Features": encoded, "Answers": answered, "Replies": replied}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_setting_is_compared_when_a_run_is_resumed_or_is_not(done, tmp_path, name):
    _, whose = done
    before, after = with_setting(name, whose)
    told = resumed(tmp_path / "run", whose, before, [f"model={whose[0]}", *after])
    assert (told is not None) is ("T" in EXPECTED[name][1])
    assert not told or name in told or name == "model"


@pytest.mark.parametrize("name", ["eval.answers", "eval.max_new_tokens", "data.dataset"])
def test_what_decides_the_best_checkpoint_is_compared_where_there_is_validation(
    done, tmp_path, name
):
    _, whose = done
    before, after = with_setting(name, whose)
    both = [(f"model={whose[0]}", "data.val=c.json", *some) for some in (before, after)]
    told = resumed(tmp_path / "run", whose, *both)
    assert told is not None
    assert name in told


@pytest.mark.parametrize(
    ("what", "name"),
    [(what, name) for what in MAKERS for name, (_, must) in EXPECTED.items() if what[0] in must],
)
def test_each_setting_that_decides_is_in_the_key(done, tmp_path, monkeypatch, what, name):
    folder, whose = done
    monkeypatch.chdir(folder)
    copy = Path(shutil.copytree(folder / "first", tmp_path / "copy"))
    before = known(what, copy, whose)
    assert made(what, copy, whose, with_setting(name, whose)[1]) != before


@pytest.mark.parametrize("what", MAKERS)
def test_no_other_setting_is_in_the_key(done, tmp_path, monkeypatch, what):
    """All at once; where this fails, halve them."""
    folder, whose = done
    monkeypatch.chdir(folder)
    copy = Path(shutil.copytree(folder / "first", tmp_path / "copy"))
    others = [n for n, (_, must) in EXPECTED.items() if what[0] not in must and n not in ALONE]
    if what == "Replies":  # a server is not asked for closed answers
        others.remove("eval.answers")
    settings = dict.fromkeys(s for name in others for s in with_setting(name, whose)[1])
    before = known(what, copy, whose)
    assert made(what, copy, whose, tuple(settings)) == before


@pytest.mark.parametrize(
    "change",
    [{"id": "8"}, {"question": "Is there a lake?"}, {"answer": "no"}, {"type": "comp"},
     {"image": "other.png"}],
)  # fmt: skip
def test_all_that_is_asked_is_in_the_key_and_where_it_lies_is_not(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    for name, colour in {"a.png": "red", "other.png": "blue", "moved.png": "red"}.items():
        Image.new("RGB", (8, 8), colour).save(name)
    sample = Sample("7", "a.png", "Is there a road?", "yes", "presence")

    def key(**changed):
        return Job([replace(sample, **changed)], tmp_path / "job", ["model"]).key

    assert key(**change) != key() == key(image="moved.png")


def test_another_server_or_model_gives_other_answers(done, tmp_path, monkeypatch):
    folder, whose = done
    monkeypatch.chdir(folder)
    copy = Path(shutil.copytree(folder / "first", tmp_path / "copy"))
    before = known("Replies", copy, whose)
    with running(lambda *_: said("yes")) as other:
        assert replied(copy, (whose[0], other.url), "eval.max_new_tokens=1") != before
    run = ["eval", "--endpoint", whose[1], "--test", "test.json", "--set", "eval.max_new_tokens=1"]
    assert main([*run, "-o", str(copy / "replies"), "--model", "n"]) == 0
    assert known("Replies", copy, whose) != before


def made(what, folder, whose, settings):
    return MAKERS[what](folder, whose, *settings)


def known(what, folder, whose):
    if what == "Features":
        return made(what, folder, whose, ("eval.max_new_tokens=1",))
    return json.loads((folder / what.lower() / "inputs.json").read_text())["key"]
