"""Every setting is documented, and other programs' names are answered."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

from qwen2vl_rs import foreign_settings
from qwen2vl_rs.config import Config, check_config, keys, load_config
from qwen2vl_rs.data.split import limit_by_image
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.records import Sample

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
        if line.startswith("## "):
            section = line[4:-1] + "." if line.startswith("## [") else ""
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            found[section + cells[0].strip("`")] = cells[1:]
    return found


def test_every_setting_has_a_meaning_its_default_and_its_values():
    found = rows()
    assert set(found) == set(keys())
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
        ("lr=1e-4", "unknown key lr: here it is training.learning_rate"),
        ("training.lr=1e-4", "here it is training.learning_rate"),
        ("learning_rate=1e-4", "here it is training.learning_rate"),
        ("epochs=3", "here it is training.num_train_epochs"),
        ("fp16=true", "here it is training.fp16"),
        ("lora_rank=8", "here it is lora.r"),
        ("lora.lora_r=8", "here it is lora.r"),
        ("lora_target=all", "here it is lora.target_modules"),
        ("model_name_or_path=x", "here it is model"),
        ("training.output_dir=x", "here it is output"),
        ("max_samples=10", "here it is data.max_train"),
        ("per_device_train_batch_size=2", "here it is training.images_per_step"),
        ("load_in_4bit=true", "not there yet; instead: train a smaller base"),
        ("training.quantization_bit=4", "not there yet; instead: train a smaller base"),
        ("eval_strategy=steps", "not there yet; instead: the test questions"),
        ("gradient_accumulation_steps=8", "not there yet; instead: a step is"),
        ("training.deepspeed=ds.json", "not there yet; instead: plain data parallelism"),
        ("finetuning_type=full", "not there yet; instead: LoRA"),
        ("resume_from_checkpoint=x", "here it is the option --resume"),
        ("training.leraning_rate=1", "did you mean learning_rate?"),
    ],
)
def test_names_of_other_programs_are_answered(setting, said):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [setting])
    assert said in caught.value.message
    assert "docs/settings.md" in caught.value.hint


def test_what_the_answers_name_is_there():
    own = set(keys())
    for place in foreign_settings._PLACES.values():
        assert place.startswith("the option --") or set(place.split(" or ")) <= own, place
    names = {key.rpartition(".")[2] for key in own}
    assert not names & {*foreign_settings._PLACES, *foreign_settings._REASONS}


def test_a_file_of_another_program_is_told_to_be_no_toml(tmp_path):
    (tmp_path / "sft.yaml").write_text("model_name_or_path: x\nlora_rank: 8\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "sft.yaml")
    assert "write it as TOML" in caught.value.hint


def test_training_questions_are_limited_by_whole_images(capsys):
    samples = [Sample(str(n), f"{n // 4}.tif", "Is it?", "yes") for n in range(12)]
    assert limit_by_image(samples, 9, "training") == samples[:8]
    assert "using 8 of 12 training questions (2 whole images)" in capsys.readouterr().err
    assert limit_by_image(samples, 1) == samples[:4]
    assert "evaluating 4 of 12 test questions (1 whole image)" in capsys.readouterr().err
    assert check_config({"data": {"max_train": 5}}, "x").data.max_train == 5
