"""The merged model in plain transformers, against the engine with the adapter."""

import json
import math
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from factory import make_samples
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.errors import ModelError
from qwen2vl_rs.models.adapter_weights import quiet_peft
from qwen2vl_rs.models.family import FAMILIES
from qwen2vl_rs.models.loader import attach_adapter, load_base, write_metadata
from qwen2vl_rs.models.merge import merge
from qwen2vl_rs.raster import read_rgb
from qwen2vl_rs.system.files import read_json, write_json

CPU = torch.device("cpu")
VIEW = InputConfig(max_pixels=28 * 28 * 9, min_pixels=28 * 28 * 4)


def write_adapter(base_folder, folder):
    """A checkpoint whose adapter is random in both halves, so that it matters."""
    base = load_base(base_folder, VIEW, CPU, torch.float32)
    torch.manual_seed(1)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=6, target_modules=layers, init_lora_weights=False,
                        exclude_modules=r".*visual\..*", task_type="CAUSAL_LM")  # fmt: skip
    with quiet_peft():
        get_peft_model(base.model, config).save_pretrained(folder)
    write_metadata(folder, base, VIEW, (None, 56))
    base.images.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(small_base, tmp_path):
    return write_adapter(small_base, tmp_path / "checkpoint-1")


@torch.no_grad()
def test_plain_transformers_answers_as_the_engine_with_the_adapter(family_base, tmp_path):
    checkpoint, merged = write_adapter(family_base, tmp_path / "checkpoint-1"), tmp_path / "merged"
    merged.mkdir()
    merge(checkpoint, merged)
    samples = make_samples(tmp_path / "images", images=2, side=160)
    base = load_base(family_base, VIEW, CPU, torch.float32)
    family = read_json(merged / "config.json")["model_type"]
    plain, info = FAMILIES[family].network().from_pretrained(merged, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    processor = Qwen2VLImageProcessorPil.from_pretrained(merged)  # the view's bounds came along
    groups = [(base.images.read(s.image), [s.question]) for s in samples[::5]]
    untouched = answer(base, base.model, groups, max_new_tokens=6, budget=400)
    found = answer(base, attach_adapter(base, checkpoint), groups, max_new_tokens=6, budget=400)
    assert [a[0].text for a in found] != [a[0].text for a in untouched]
    for sample, (pixels, (question,)), (one,) in zip(samples[::5], groups, found, strict=True):
        picture = Image.fromarray(read_rgb(sample.image, VIEW.image))
        patches = processor(images=[picture], return_tensors="pt")["pixel_values"]
        assert torch.equal(patches, pixels.patches)
        prompt = [*base.prompts.root_ids(pixels.tokens), *base.prompts.question_ids(question)]
        ids = torch.tensor([int(i) for i in prompt])[None]
        out = plain.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=patches,
            mm_token_type_ids=(ids == base.prompts.image_id).int(),
            image_grid_thw=torch.tensor([pixels.grid]), max_new_tokens=6, do_sample=False,
            pad_token_id=base.prompts.end_id,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert one.ids == tuple(i for i in out if i not in base.prompts.stop_ids)


def test_the_layout_stays_the_published_one(small_base, checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    merge(checkpoint, tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {p.name for p in small_base.iterdir()} | {"chat_template.jinja"}
    for path in small_base.glob("*.safetensors"):
        old, new = load_file(path), load_file(tmp_path / "out" / path.name)
        assert old.keys() == new.keys()
        changed = {n for n in old if not torch.equal(old[n], new[n])}
        assert changed == {n for n in old if "proj.weight" in n and "visual" not in n}


def test_weights_keep_their_type_and_are_rounded_once(small_base, tmp_path):
    folder = shutil.copytree(small_base, tmp_path / "half")
    for path in folder.glob("*.safetensors"):
        weights = {n: w.bfloat16() for n, w in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})
    checkpoint = write_adapter(folder, tmp_path / "checkpoint-1")
    (tmp_path / "out").mkdir()
    merge(checkpoint, tmp_path / "out")
    base = load_base(folder, VIEW, CPU, torch.float32)
    with quiet_peft():
        exact = attach_adapter(base, checkpoint).merge_and_unload().state_dict()
    merged = {}
    for path in (tmp_path / "out").glob("*.safetensors"):
        merged |= load_file(path)
    name = "layers.1.mlp.down_proj.weight"
    found = merged[f"model.{name}"]
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, exact[f"model.language_model.{name}"].bfloat16())


PLAIN = {
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save",
    "parent_library", "peft_version", "r", "revision", "target_modules", "task_type", "use_dora",
    "use_rslora",
}  # fmt: skip


def forms():
    """Each of PEFT's settings that a plain adapter leaves alone, with another value than usual."""
    found = {"peft_type": "IA3", "init_lora_weights": "pissa", "bias": "all"}
    for name, usual in LoraConfig().to_dict().items():
        if isinstance(usual, bool):
            found.setdefault(name, not usual)
        else:
            other = usual + 1 if isinstance(usual, int) else {"q_proj": 2}
            found.setdefault(name, "other" if isinstance(usual, str) else other)
    return {name: value for name, value in found.items() if name not in PLAIN}


@pytest.mark.parametrize("name", few(forms(), *range(0, len(forms()), 4)))
def test_adapters_of_another_form_are_refused(checkpoint, tmp_path, name):
    config = read_json(checkpoint / "adapter_config.json")
    write_json(checkpoint / "adapter_config.json", config | {name: forms()[name]})
    with pytest.raises(ModelError, match=f"is not a standard LoRA .*{name}"):
        merge(checkpoint, tmp_path)


@pytest.mark.parametrize("value", few([math.nan, math.inf, -math.inf], 0))
def test_an_adapter_with_one_value_that_is_no_number_is_refused(
    small_base, checkpoint, tmp_path, value
):
    path = checkpoint / "adapter_model.safetensors"
    weights = load_file(path)
    last = max(weights)
    assert weights[last].numel() > 1
    weights[last].view(-1)[-1] = value
    save_file(weights, path, metadata={"format": "pt"})
    (tmp_path / "out").mkdir()
    for use in (
        lambda: merge(checkpoint, tmp_path / "out"),
        lambda: attach_adapter(load_base(small_base, VIEW, CPU), checkpoint),
    ):
        with pytest.raises(ModelError, match="contains NaN or infinity"):
            use()
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_another_base_is_refused_and_a_missing_one_named(small_base, checkpoint, tmp_path):
    other = shutil.copytree(small_base, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rope_theta_": 1}))
    with pytest.raises(ModelError, match="another base"):
        merge(checkpoint, tmp_path, other)
    with pytest.raises(ModelError, match="is not at") as caught:
        merge(checkpoint, tmp_path, tmp_path / "gone")
    assert "--base" in caught.value.hint


def test_a_layer_the_base_lacks(checkpoint, tmp_path):
    weights = load_file(checkpoint / "adapter_model.safetensors")
    weights = {n.replace("layers.1.", "layers.7."): w for n, w in weights.items()}
    save_file(weights, checkpoint / "adapter_model.safetensors")
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"has 14 weights .* layers\.7\.mlp\.down_proj"):
        merge(checkpoint, tmp_path / "out")


def test_a_run_is_exported_merged_with_its_cards(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    monkeypatch.chdir(folder)
    out = tmp_path / "merged"
    run = next(p for p in folder.rglob("manifest.json")).parent
    assert main(["export", str(run), "--merge", "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    card = (out / "README.md").read_text()
    assert 'library_name: "transformers"' in card
    assert "PeftModel" not in card
    assert not (out / "qwen2vl_rs.json").exists()  # it is a base now, no checkpoint
    image = next((folder / "images").iterdir())
    assert main(["ask", str(out), str(image), "Is there a road?"]) == 0


def test_base_without_merge_is_a_usage_error(tmp_path):
    assert main(["export", "run", "--base", "b", "-o", str(tmp_path / "x")]) == 2
