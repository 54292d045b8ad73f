"""Every setting is documented, and other programs' names are answered."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

from qwen2vl_rs import foreign_settings
from qwen2vl_rs.config import Config, setting_names
from qwen2vl_rs.config_file import check_config, load_config
from qwen2vl_rs.datasets.split import limit_by_image
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.types import Sample

ROOT = Path(__file__).resolve().parents[1]


def generator():
    spec = importlib.util.spec_from_file_location("make_settings", ROOT / "docs/make_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_program(tmp_path, capsys):
    module = generator()
    assert module.main(["--check"]) == 0
    module.PAGE = tmp_path / "settings.md"
    assert module.main(["--check"]) == 1
    assert "python docs/make_settings.py" in capsys.readouterr().err
    assert "make_settings.py --check" in (ROOT / "Makefile").read_text()


def rows():
    """Cells of the page by the full name of the setting."""
    section, found = "", {}
    for line in (ROOT / "docs/settings.md").read_text(encoding="utf-8").splitlines():
        if line == "## Names of other programs":
            break
        if line.startswith("## "):
            section = line[4:-1] + "." if line.startswith("## [") else ""
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            found[section + cells[0].strip("`")] = cells[1:]
    return found


def test_every_setting_has_a_meaning_its_default_and_its_values():
    found = rows()
    assert set(found) == set(setting_names())
    assert all(len(cells) == 3 and all(cells) for cells in found.values())
    assert not [name for name, cells in found.items() if "None" in cells[0]]
    for name, (_, default, _) in found.items():
        value = Config()
        for part in name.split("."):
            value = getattr(value, part)
        if default == "not set":
            assert value is None, name
        else:
            read = tomllib.loads(f"v = {default.strip('`')}")["v"]
            assert (tuple(read) if isinstance(read, list) else read) == value, name


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lr=1e-4", "unknown key lr: use training.learning_rate"),
        ("training.lr=1e-4", "use training.learning_rate"),
        ("learning_rate=1e-4", "use training.learning_rate"),
        ("epochs=3", "use training.num_train_epochs"),
        ("fp16=true", "use training.fp16"),
        ("lora_rank=8", "use lora.r"),
        ("lora.lora_r=8", "use lora.r"),
        ("lora_target=all", "use lora.target_modules"),
        ("model_name_or_path=x", "use model"),
        ("training.output_dir=x", "use output"),
        ("max_samples=10", "use data.max_train"),
        ("per_device_train_batch_size=2", "a step has training.images_per_step times"),
        ("load_in_4bit=true", "not supported; instead: a smaller base model"),
        ("training.quantization_bit=4", "not supported; instead: a smaller base model"),
        ("eval_strategy=steps", "not supported; instead: with validation questions"),
        ("gradient_accumulation_steps=8", "not supported; instead: a step has"),
        ("training.deepspeed=ds.json", "not supported; instead: plain data parallelism"),
        ("finetuning_type=full", "not supported; instead: LoRA"),
        ("resume_from_checkpoint=x", "use the option --resume"),
        ("training.leraning_rate=1", "did you mean training.learning_rate?"),
        ("dataset=mydata", "unknown key dataset: use data.conversations (data.dataset"),
        ("do_train=true", "unknown key do_train: not needed here, omit it"),
        ("training.use_unsloth=true", "use_unsloth: not needed here, omit it"),
        ("adapter_name_or_path=x", "use lora.adapter"),
        ("training.report_to=none", ': write a list, e.g. ["swanlab"]; [] for none'),
        (
            "training.report_to=wandb,mlflow",
            ': write a list, e.g. ["wandb", "mlflow"]; [] for none',
        ),
        (
            'training.report_to=["none"]',
            "'swanlab', 'tensorboard', 'wandb', 'mlflow' or 'trackio'; ",
        ),
        ('training.report_to=["none"]', "; [] for none"),
        ("view.image.bands=4,3,2", "view.image.bands: write 3 numbers in a list, e.g. [4, 3, 2]"),
        ("view.image.bands=[4,3]", "view.image.bands: write 3 numbers in a list, e.g. [1, 2, 3]"),
        ("view.image.value_range=0,4096", ": write 2 numbers in a list, e.g. [0, 4096]"),
        (
            "view.image.stretch=[1,2,3]",
            "view.image.stretch: write 2 numbers in a list, e.g. [2, 98]",
        ),
        ("training.max_steps=none", "training.max_steps: omit it for none"),
        ("data.images=3", "data.images: Input should be a valid string"),
    ],
)
def test_names_of_other_programs_are_answered(setting, said):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [setting])
    assert said in caught.value.message
    assert "docs/settings.md" in caught.value.hint


def test_what_the_answers_name_is_there():
    own = set(setting_names())
    for place in foreign_settings._PLACES.values():
        named = place.partition(" (")[0].split(" or ")
        assert place.startswith("the option --") or set(named) <= own, place
    names = {key.rpartition(".")[2] for key in own}
    # LLaMA-Factory's dataset is a file, ours says whose classes apply
    assert names & {*foreign_settings._PLACES, *foreign_settings._REASONS} == {"dataset"}
    assert not names & set(foreign_settings.NOT_NEEDED.split())


def test_a_setting_is_blamed_on_the_place_where_it_was_written(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[lora]\nr = 8\n[training]\nbf16 = true\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["lr=1"])
    assert caught.value.message == "--set: unknown key lr: use training.learning_rate"
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["training.fp16=true"])
    assert caught.value.message == "--set: training: set bf16 or fp16, not both"
    path.write_text("modle = 1\n[lora]\nrr = 8\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["training.sed=1"], {"eval.max_eval": 0})
    said = caught.value.message
    assert said.startswith(f"{path}: unknown key ")
    parts = [
        f"{path}: ",
        "modle",
        "lora.rr",
        "options: eval.max_eval",
        "--set: unknown key training.sed",
    ]
    assert all(part in said for part in parts)
    assert said.index("lora.rr") < min(said.index("options: "), said.index("--set: "))


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b'model = "C:\\Users\\me\\base"', "'single quotes'"),
        (b'model = "C:\\data"', "'single quotes'"),
        ('model = "数据"'.encode("gbk"), "save it as UTF-8"),
        (b"model = ", "the file must be TOML"),
    ],
)
def test_what_is_no_toml_is_told_what_to_write(tmp_path, content, hint):
    path = tmp_path / "c.toml"
    path.write_bytes(content.replace(b"\\\\", b"\\"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert hint in caught.value.hint


def test_the_folder_of_a_run_is_told_the_name_of_its_settings(tmp_path):
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(ConfigError, match="is a folder") as caught:
        load_config(tmp_path)
    assert caught.value.hint == f"name the file in it: {tmp_path}/config.toml"


def test_a_file_of_another_program_is_told_to_be_no_toml(tmp_path):
    (tmp_path / "sft.yaml").write_text("model_name_or_path: x\nlora_rank: 8\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "sft.yaml")
    assert "write it as TOML" in caught.value.hint


def test_training_questions_are_limited_by_whole_images(capsys):
    samples = [Sample(str(n), f"{n // 4}.tif", "Is it?", "yes") for n in range(12)]
    assert limit_by_image(samples, 9, "training") == samples[:8]
    assert "using 8 of 12 training questions (2 whole images)" in capsys.readouterr().err
    assert limit_by_image(samples, 4) == samples[:4]
    assert "evaluating 4 of 12 test questions (1 whole image)" in capsys.readouterr().err
    for most in (1, 3):  # never more than asked for
        assert limit_by_image(samples, most) == samples[:most]
        said = f"evaluating {most} of 12 test questions (of one image, which has 4)"
        assert said in capsys.readouterr().err
    assert check_config({"data": {"max_train": 5}}, "x").data.max_train == 5
