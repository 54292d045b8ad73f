"""Training that continues from an adapter: of a run, of a checkpoint, or of plain PEFT."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from adapters import CPU, VIEW, adapted, saved
from bases import SETTINGS
from factory import make_samples
from family import few
from plain import plain_loss, tree_loss
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import Config, InputConfig
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import ConfigError, ModelError
from qwen2vl_rs.models.adapter import add_adapter
from qwen2vl_rs.models.adapter_weights import adapter_tensors, quiet_peft
from qwen2vl_rs.models.loader import attach_adapter, load_base
from qwen2vl_rs.run import Run
from qwen2vl_rs.scoring.predictions import read_predictions
from qwen2vl_rs.system.files import read_json, write_checksums
from qwen2vl_rs.training.continuing import load_first_weights, with_adapter_settings
from qwen2vl_rs.training.trainer import TreeTrainer
from random_base import Size, write_random_base

OURS = [s for s in SETTINGS if not s.startswith("lora.r=")]
TENSORS = "adapter_model.safetensors"


def settings(base, adapter, *more):
    return load_config(None, [f"model={base}", f"lora.adapter={adapter}", *more])


def first_model(base, config, run):
    """The model of a run before its first step."""
    way = config.training
    model = add_adapter(base.model, config.lora, way.vision_tower, way.merger)
    load_first_weights(model, config, Run(run))
    return model


@pytest.mark.parametrize(
    "how", few(["LoRA-frozen-frozen", "rsDoRA-lora-full", "DoRA-full-lora", "rsLoRA-lora-lora"], 1)
)
def test_the_first_loss_is_that_of_the_adapter_and_all_of_it_is_trained(family_base, tmp_path, how):
    base = load_base(family_base, VIEW, CPU, torch.float32)
    samples = make_samples(tmp_path / "images", images=1, side=160)
    model = adapted(base, how)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    checkpoint = saved(base, model, tmp_path / "checkpoint-1")
    loaded = attach_adapter(load_base(family_base, VIEW, CPU, torch.float32), checkpoint)
    wanted, _ = tree_loss(base, loaded.eval(), samples, 999)

    config = with_adapter_settings(settings(family_base, checkpoint), resume=False)
    assert (config.lora.r, config.lora.lora_alpha) == (4, 6)
    assert config.lora.target_modules == Config().lora.target_modules
    assert config.lora.use_dora == ("DoRA" in how)
    assert config.lora.use_rslora == how.startswith("rs")
    assert f"{config.training.vision_tower}-{config.training.merger}" == how.partition("-")[2]
    fresh = load_base(family_base, VIEW, CPU, torch.float32)
    model = first_model(fresh, config, tmp_path / "run")
    assert torch.equal(tree_loss(fresh, model.eval(), samples, 999)[0], wanted)
    assert {name for name, w in model.named_parameters() if w.requires_grad} == trained
    assert len(adapter_tensors(model)) == len(trained)


@pytest.mark.parametrize(
    "setting",
    ["lora.r=8", "lora.use_dora=true", "lora.use_rslora=true", 'lora.target_modules=["q_proj"]',
     "training.merger=lora", "training.vision_tower=full", "lora.lora_alpha=16"],
)  # fmt: skip
def test_settings_that_contradict_the_adapter_are_refused_by_name(
    small_base, tmp_path_factory, setting
):
    folder = tmp_path_factory.getbasetemp() / "plain-lora" / "checkpoint-1"
    if not folder.exists():
        base = load_base(small_base, VIEW, CPU)
        saved(base, adapted(base, "LoRA-frozen-frozen"), folder)
    name = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{name} is .*, the adapter's is "):
        with_adapter_settings(settings(small_base, folder, setting), resume=False)
    same = ("lora.r=4", 'lora.target_modules=["v_proj", "q_proj", "k_proj", "o_proj", "up_proj", '
            '"gate_proj", "down_proj"]')  # fmt: skip
    assert with_adapter_settings(settings(small_base, folder, *same), resume=False).lora.r == 4


@pytest.mark.parametrize("more", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_an_adapter_of_plain_peft_is_continued(small_base, tmp_path, more):
    plain = AutoModelForImageTextToText.from_pretrained(small_base, dtype=torch.float32)
    targets = r".*language_model\.layers\.1\..*(q_proj|up_proj)"
    torch.manual_seed(3)
    config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, init_lora_weights=False, **more)
    with quiet_peft():
        get_peft_model(plain, config).save_pretrained(tmp_path / "theirs")
    found = with_adapter_settings(settings(small_base, tmp_path / "theirs"), resume=False)
    assert found.lora.target_modules == (
        "layers.1.self_attn.q_proj", "layers.1.mlp.up_proj"
    )  # fmt: skip
    base = load_base(small_base, InputConfig(), CPU, torch.float32)
    model = first_model(base, found, tmp_path / "run")
    given = load_file(tmp_path / "theirs" / TENSORS)
    own = adapter_tensors(model)
    assert len(own) == len(given) == (6 if "use_dora" in more else 4)
    samples = make_samples(tmp_path / "images", images=1)
    with torch.no_grad():
        wanted, _ = plain_loss(base, plain.eval(), samples)
        torch.testing.assert_close(tree_loss(base, model.eval(), samples, 999)[0], wanted)


def test_what_cannot_be_continued_is_named(small_base, tmp_path):
    with pytest.raises(ModelError, match="there is no adapter in"):
        with_adapter_settings(settings(small_base, tmp_path / "nothing"), resume=False)
    with pytest.raises(ModelError, match="there is no adapter in"):
        with_adapter_settings(settings(small_base, small_base), resume=False)
    base = load_base(small_base, VIEW, CPU)
    checkpoint = saved(base, adapted(base, "LoRA-lora-frozen"), tmp_path / "checkpoint-1")
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
    other = write_random_base(tmp_path / "other", size, seed=5)
    with pytest.raises(ModelError, match="another base model"):
        with_adapter_settings(settings(other, checkpoint), resume=False)
    part = shutil.copytree(checkpoint, tmp_path / "part")
    kept = {n: w for n, w in load_file(part / TENSORS).items() if "fc1" not in n}
    save_file(kept, part / TENSORS, {"format": "pt"})
    told = read_json(part / "adapter_config.json")
    told["target_modules"] = [n for n in told["target_modules"] if "fc1" not in n]
    (part / "adapter_config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"3 of 4 linear layers and .* of the vision tower"):
        with_adapter_settings(settings(small_base, part), resume=False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=4))
    return tmp_path


def train(base, output, *more):
    words = [*OURS, f"model={base}", "eval.max_eval=3", "data.test_fraction=0.5",
             "lora.lora_dropout=0.0"]  # fmt: skip
    told = [w for s in words for w in ("--set", s)]
    return main(["train", *told, "-o", output, *more])


def losses(run):
    return [
        json.loads(line)["loss"] for line in Path(run, "metrics.jsonl").read_text().splitlines()
    ]


def test_a_run_from_an_adapter_is_recorded_killed_and_resumed(
    here, small_base, monkeypatch, capsys
):
    """Its base in the evaluation stays the untouched one; the adapter may be gone at a resume."""
    way = ["--set", "training.merger=lora", "--set", "lora.use_dora=true", "--set", "lora.r=8"]
    assert train(small_base, "first", *way) == 0
    start = ["--adapter", "first", "--set", "training.max_steps=6", "--set",
             "training.save_steps=2"]  # fmt: skip
    assert train(small_base, "second", *start) == 0
    assert losses("second")[0] < losses("first")[0] - 0.2  # it begins where the first ended
    (file,) = Path("first").glob(f"checkpoint-4/{TENSORS}")
    known = read_json(Path("second/manifest.json"))["adapter"]
    assert known["folder"] == str(file.parent.resolve())
    before = [
        read_predictions(Path(run, "eval/before/predictions.jsonl")) for run in ("first", "second")
    ]
    texts = [[(one.text, one.confidence) for one in side] for side in before]
    assert texts[0] == texts[1]

    real, stop = TreeTrainer.training_step, True

    def training_step(self, *arguments):
        if stop and self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(TreeTrainer, "training_step", training_step)
    assert train(small_base, "third", *start) == 130
    stop = False
    Path("first").rename("moved")
    assert train(small_base, "third", *start, "--resume") == 0  # the same command, as in a job
    assert losses("third") == losses("second")
    name = f"checkpoint-6/{TENSORS}"
    assert Path("third", name).read_bytes() == Path("second", name).read_bytes()
    assert read_json(Path("third/manifest.json"))["adapter"] == known
    capsys.readouterr()


def test_another_adapter_than_that_of_the_start_is_refused(here, small_base, monkeypatch, capsys):
    assert train(small_base, "first", "--set", "training.max_steps=1") == 0

    def training_step(self, *arguments):
        raise KeyboardInterrupt

    start = ["--adapter", "first/checkpoint-1"]
    with monkeypatch.context() as patch:
        patch.setattr(TreeTrainer, "training_step", training_step)
        assert train(small_base, "second", *start) == 130
    file = Path("first/checkpoint-1", TENSORS)
    save_file({n: w + 1 for n, w in load_file(file).items()}, file, {"format": "pt"})
    write_checksums(file.parent)
    assert train(small_base, "second", *start, "--resume") == 1
    assert "has changed since second was started from it" in capsys.readouterr().err


def test_a_limit_of_images(here, small_base, capsys):
    assert train(small_base, "few", "--max-train-images", "1", "--set", "training.max_steps=1") == 0
    told = capsys.readouterr().err
    assert "using 1 of 2 images: 8 of 16 training questions" in told
    kept = read_json(Path("few/data/train.json"))
    assert len(kept) == 8
    assert read_json(Path("few/manifest.json"))["settings"]["data"]["max_train_images"] == 1
