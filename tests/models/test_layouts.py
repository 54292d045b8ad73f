"""Bases as published, as saved and mixed: from training to plain transformers."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from test_merge import write_adapter
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from bases import SETTINGS
from factory import make_samples
from family import few
from published import LAYOUTS, MODELS, WITH_IMAGES, template_of, write_published
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import ModelError
from qwen2vl_rs.models.fingerprint import fingerprint
from qwen2vl_rs.models.folder import is_whole_file
from qwen2vl_rs.models.merge import merge
from qwen2vl_rs.raster import read_rgb
from qwen2vl_rs.system.terminal import printable

# PEFT's use of an old name of transformers
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
VIEW = InputConfig()
QUESTION = "Is there a road?"
SHORT = ["training.num_train_epochs=1", "training.save_steps=99", "eval.max_new_tokens=12"]


def ask(capsys, folder, image, *more):
    """What ``ask --json`` says about an image."""
    capsys.readouterr()
    code = main(["ask", str(folder), str(image), QUESTION, "--json", *more])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)[0]["answer"]


@pytest.fixture
def image(tmp_path):
    make_samples(tmp_path / "one", images=1)
    return tmp_path / "one" / "0.tif"


@torch.no_grad()
def plainly(folder, image, network=None, template=None, size=None, **settings):
    """The answer of plain transformers, with nothing but what lies in a folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder, **({"size": size} if size else {}))
    if network is None:
        network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = processor(images=[Image.fromarray(read_rgb(image, VIEW.image))], return_tensors="pt")
    tokens = int(pixels["image_grid_thw"].prod()) // processor.merge_size**2
    content = [{"type": "image"}, {"type": "text", "text": f"{VIEW.instruction}\n{QUESTION}"}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=template, tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    text = text.replace("<|image_pad|>", "<|image_pad|>" * tokens)
    given = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    marks = (given["input_ids"] == network.config.image_token_id).int()
    more = {"mm_token_type_ids": marks, "max_new_tokens": 32} | settings
    out = network.generate(**given, **pixels, **more)
    return tokenizer.decode(out[0, marks.shape[1] :], skip_special_tokens=True).strip()


def plain_base(base, name, image, **settings):
    """The same for a base, whose tokenizer may hold another template than its processor."""
    size = {"shortest_edge": VIEW.min_pixels, "longest_edge": VIEW.max_pixels}
    template = template_of(MODELS[name].family)
    greedy = {"do_sample": False, "repetition_penalty": 1.0} | settings
    return plainly(base, image, template=template, size=size, **greedy)


def write_data(folder):
    samples = make_samples(Path(folder), images=4)
    write_conversations(Path("data_vl.json"), samples)
    return samples[0].image


def train(base, *more):
    lines = [f"--set={line}" for line in (*SETTINGS, *SHORT, *more)]
    return main(["train", "--model", str(base), "--output", "run", *lines])


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MODELS)
def test_from_training_to_plain_transformers(tmp_path, monkeypatch, capsys, name, layout):
    monkeypatch.chdir(tmp_path)
    base, image = write_published(tmp_path / "base", name, layout), write_data("images")
    # the run's longest answer is that of its exports, which know no run
    assert train(base, "eval.max_new_tokens=32") == 0, capsys.readouterr()
    before, after = ask(capsys, base, image), ask(capsys, "run", image)
    assert before == plain_base(base, name, image)
    assert after != before
    assert main(["export", "run", "-o", "adapter"]) == 0
    assert main(["export", "run", "--merge", "-o", "merged"]) == 0
    merged = AutoModelForImageTextToText.from_pretrained("merged", dtype=torch.float32).eval()
    assert plainly("merged", image, merged) == after  # as it says itself that it decodes
    assert ask(capsys, "merged", image) == ask(capsys, "adapter", image) == after
    loads_without_torchvision("adapter", "merged")
    network = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(network, "adapter").merge_and_unload().eval()
    greedy = {"do_sample": False, "repetition_penalty": 1.0}
    assert plainly("adapter", image, adapted, **greedy) == after
    wanted, found = adapted.state_dict(), merged.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.allclose(wanted[n], found[n], atol=1e-6) for n in wanted)


def loads_without_torchvision(*folders):
    """`AutoTokenizer` and `AutoImageProcessor` do, and `AutoProcessor` says what it wants."""
    code = """if True:
        import sys
        sys.modules["torchvision"] = None  # as if it were not installed
        from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
        for folder in sys.argv[1:]:
            assert "image_pad" in AutoTokenizer.from_pretrained(folder).chat_template
            assert AutoImageProcessor.from_pretrained(folder).size["longest_edge"]
        try:
            AutoProcessor.from_pretrained("merged")
        except (ImportError, ValueError) as error:  # by the files of the folder
            assert "torchvision" in str(error).lower(), error
        else:
            sys.exit("AutoProcessor needs torchvision no more: say so in docs/export.md")
    """
    subprocess.run([sys.executable, "-c", code, *folders], check=True)


@pytest.mark.parametrize("name", few(["Qwen2-VL-7B", "Qwen2.5-VL-3B", "Qwen3-VL-8B"], 0))
def test_the_same_weights_answer_alike_in_every_layout(tmp_path, capsys, image, name):
    told = {ask(capsys, write_published(tmp_path / k, name, k), image) for k in LAYOUTS}
    assert told == {plain_base(tmp_path / "saved", name, image)}


def test_no_repetition_penalty_is_applied(tmp_path, capsys, image):
    name = "Qwen2.5-VL-3B"
    base = write_published(tmp_path / "base", name)
    assert json.loads((base / "generation_config.json").read_text())["repetition_penalty"] == 1.05
    said = ask(capsys, base, image)
    assert said == plain_base(base, name, image)
    edit(base / "generation_config.json", repetition_penalty=2.0)  # one that nobody overlooks
    assert ask(capsys, base, image) == said
    assert plain_base(base, name, image, repetition_penalty=2.0) != said
    merge(write_adapter(base, tmp_path / "checkpoint-1"), new(tmp_path / "merged"))
    told = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert (told["repetition_penalty"], told["do_sample"], told["temperature"]) == (1.0, False, 0.0)
    assert not {"top_p", "top_k"} & told.keys()


def test_templates_come_in_the_order_of_the_processor(tmp_path, capsys, image):
    base = write_published(tmp_path / "base", "Qwen2-VL-2B")
    said = ask(capsys, base, image)
    # each is looked for before the next; without the last there is none
    shouting = WITH_IMAGES.replace("helpful", "rude")
    (base / "chat_template.jinja").write_text(shouting)
    assert ask(capsys, base, image) == said
    (base / "processor_config.json").write_text(json.dumps({"chat_template": shouting}))
    rude = ask(capsys, base, image)
    assert rude != said
    (base / "processor_config.json").unlink()
    (base / "chat_template.json").unlink()
    assert ask(capsys, base, image) == rude
    (base / "chat_template.jinja").unlink()
    assert ask(capsys, base, image) == said
    edit(base / "tokenizer_config.json", chat_template=None)
    refused(capsys, base, image, "has no chat template")


# --- what else may lie in a folder, or stand in its files -------------------------------------


def new(folder):
    folder.mkdir()
    return folder


def edit(path, **changes):
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(value | changes))


def refused(capsys, folder, image, words):
    capsys.readouterr()
    assert main(["ask", str(folder), str(image), QUESTION]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert "hint: " in err


def other_weights(base):
    """The weights of a base, all changed: read instead of them, they give other answers."""
    files = {path.name: load_file(path) for path in base.glob("model*.safetensors")}
    return {
        n: w.roll(1, 0) if w.ndim > 1 else w for part in files.values() for n, w in part.items()
    }


def test_a_stray_file_of_weights_is_neither_read_nor_merged(tmp_path, capsys, small_base, image):
    base = shutil.copytree(small_base, tmp_path / "base")
    stray = "model-00003-of-00003.safetensors"
    said = ask(capsys, base, image)
    save_file(other_weights(base), base / stray, {"format": "pt"})
    assert main(["ask", str(base), str(image), QUESTION]) == 0
    out, err = capsys.readouterr()
    assert out == f"{printable(said)}\n"
    assert f"not used: {stray}" in err
    compare_merge(base, tmp_path)
    assert not (tmp_path / "merged" / stray).exists()


def test_one_whole_file_wins_over_an_index(tmp_path, capsys, small_base, image):
    base = shutil.copytree(small_base, tmp_path / "base")
    weights = other_weights(base)
    alone = shutil.copytree(small_base, tmp_path / "alone")
    for path in (*alone.glob("*.safetensors"), alone / "model.safetensors.index.json"):
        path.unlink()
    for folder in (base, alone):
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert ask(capsys, base, image) == ask(capsys, alone, image) != ask(capsys, small_base, image)
    compare_merge(base, tmp_path)
    assert [p.name for p in (tmp_path / "merged").glob("model*")] == ["model.safetensors"]


def compare_merge(base, folder):
    """A merge, against W + alpha / r · B · A on what plain transformers reads of the base."""
    checkpoint = write_adapter(base, folder / "checkpoint-1")
    merge(checkpoint, new(folder / "merged"))
    network = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(network, checkpoint).merge_and_unload().state_dict()
    found = AutoModelForImageTextToText.from_pretrained(folder / "merged").state_dict()
    assert all(torch.allclose(found[n], adapted[n], atol=1e-5) for n in adapted)


def test_an_adapter_left_in_a_base_is_not_attached(tmp_path, capsys, small_base, image):
    base = shutil.copytree(small_base, tmp_path / "base")
    said = ask(capsys, base, image)
    checkpoint = write_adapter(small_base, tmp_path / "checkpoint-1")
    tuned = ask(capsys, checkpoint, image)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(checkpoint / name, base)
    assert ask(capsys, base, image) == said != tuned
    shutil.copy(checkpoint / "qwen2vl_rs.json", base)
    refused(capsys, base, image, "both a whole model and an adapter")


def test_image_settings_of_a_processor_are_rewritten_and_in_the_fingerprint(tmp_path):
    base = write_published(tmp_path / "base", "Qwen2-VL-2B", "mixed")
    checkpoint = write_adapter(base, tmp_path / "checkpoint-1")
    merge(checkpoint, new(tmp_path / "merged"))
    for name in ("preprocessor_config.json", "processor_config.json"):
        settings = json.loads((tmp_path / "merged" / name).read_text())
        settings = settings.get("image_processor", settings)
        assert settings["max_pixels"] == settings["size"]["longest_edge"] == 28 * 28 * 9
        assert settings["image_mean"][0] > 0.4
    known = fingerprint(base)
    (base / "README.md").write_text("new")
    edit(base / "preprocessor_config.json", image_mean=[0.1, 0.1, 0.1])  # not in force
    assert fingerprint(base) == known
    inner = json.loads((base / "processor_config.json").read_text())["image_processor"]
    edit(base / "processor_config.json", image_processor=inner | {"image_mean": [0.4] * 3})
    assert fingerprint(base) != known


QUANTISED = {
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "awq": {"quant_method": "awq", "bits": 4},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "bitsandbytes": {"load_in_4bit": True, "quant_method": "bitsandbytes"},
    "compressed-tensors": {"quant_method": "compressed-tensors"},
}


@pytest.mark.parametrize("how", QUANTISED)
def test_quantised_bases_are_refused_by_every_command(
    tmp_path, monkeypatch, capsys, trained, small_base, how
):
    base = shutil.copytree(small_base, tmp_path / "Qwen" / f"Qwen2-VL-2B-Instruct-{how.upper()}")
    run = shutil.copytree(trained[0], tmp_path / "here") / "output/Qwen2-VL-2B"
    monkeypatch.chdir(tmp_path / "here")
    checkpoint = next(run.glob("checkpoint-*"))
    edit(base / "config.json", quantization_config=QUANTISED[how])
    edit(checkpoint / "qwen2vl_rs.json", base=str(base))
    for path in run.glob("checkpoint-*"):
        edit(path / "qwen2vl_rs.json", base=str(base))
        (path / "checksums.json").unlink()
    image = "images/0.tif"
    for command in (
        ["train", "--model", str(base), "--output", "new"],
        ["ask", str(base), image, QUESTION],
        ["ask", str(run), image, QUESTION],
        ["eval", str(base), "--test", "data_vl_test.json"],
        ["eval", str(run)],
        ["map", str(run), image, QUESTION, "-o", "map.tif"],
        ["serve", str(run), "--port", "0"],
        ["export", str(run), "-o", "out"],
        ["export", str(run), "--merge", "-o", "out"],
    ):
        assert main(command) == 1, command
        err = capsys.readouterr().err
        assert f"is a quantised model ({how})" in err, (command, err)
        assert "qwen2vl-rs load Qwen/Qwen2-VL-2B-Instruct" in err
    assert not Path("out").exists()


def test_quantised_weights_without_a_word_are_refused(tmp_path, capsys, small_base, image):
    base = shutil.copytree(small_base, tmp_path / "base")
    path = max(base.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    weights = {n: w.to(torch.int8) if w.ndim > 1 else w for n, w in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    refused(capsys, base, image, "has type I8")


def test_every_byte_of_the_weights_counts(tmp_path, small_base):
    base = shutil.copytree(small_base, tmp_path / "base")
    path = max(base.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    whole, known = path.read_bytes(), fingerprint(base)
    size, seen = len(whole), set()
    for part in range(64):
        seen |= set(range(size * part // 64, size * part // 64 + 4096))
    unseen = next((n for n in range(size - 1, 0, -1) if n not in seen), size - 5)
    path.write_bytes(whole[:unseen] + bytes([whole[unseen] ^ 1]) + whole[unseen + 1 :])
    assert fingerprint(base) != known


def change_in_the_middle(path):
    """Change a bit, or change it back; size and time of change stay the same."""
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(facts.st_size // 2)
        (byte,) = file.read(1)
        file.seek(facts.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_large_weights_are_read_once(tmp_path, monkeypatch, small_base):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = shutil.copytree(small_base, tmp_path / "base")
    index = json.loads((base / "model.safetensors.index.json").read_text())
    noise = np.random.default_rng(0).integers(0, 99, 17 << 20, dtype=np.int32)
    save_file({"noise": torch.from_numpy(noise).view(torch.float32)}, base / "big.safetensors")
    index["weight_map"]["noise"] = "big.safetensors"
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    known = fingerprint(base)
    digests = json.loads((base / ".qwen2vl-rs-digests.json").read_text())
    assert set(digests) == {p.name for p in base.glob("*.safetensors")}
    (base / ".qwen2vl-rs-digests.json").write_text(
        json.dumps({name: [facts, "0" * 64] for name, (facts, _) in digests.items()})
    )
    assert fingerprint(base) != known  # what is remembered is used
    for path in base.glob("*.safetensors"):
        path.touch()
    assert fingerprint(base) == known  # and only while the files are as they were
    change_in_the_middle(base / "big.safetensors")
    assert fingerprint(base) != known
    change_in_the_middle(base / "big.safetensors")
    assert fingerprint(base) == known
    (base / ".qwen2vl-rs-digests.json").unlink()
    (base / ".qwen2vl-rs-digests.json").mkdir()  # cannot be written to
    assert fingerprint(base) == known
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "qwen2vl-rs"
    remembered = [json.loads(path.read_text()) for path in cache.glob("digests-*.json")]
    assert [set(one) for one in remembered] == [set(digests)]


def test_old_checkpoints_still_know_their_base(tmp_path, capsys, small_base, image):
    base = shutil.copytree(small_base, tmp_path / "base")
    checkpoint = write_adapter(base, tmp_path / "checkpoint-1")
    said = ask(capsys, checkpoint, image)
    digest = hashlib.sha256((base / "config.json").read_bytes())
    small = ("chat_template.jinja", "chat_template.json", "generation_config.json",
             "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")  # fmt: skip
    for name in small:
        if (base / name).is_file():
            inner = hashlib.sha256((base / name).read_bytes()).hexdigest()
            digest.update(f"{name}:{inner}".encode())
    for path in sorted(base.glob("*.safetensors")):
        content = path.read_bytes()
        digest.update(f"{path.name}:{len(content)}".encode())
        for part in range(64):
            start = len(content) * part // 64
            digest.update(content[start : start + 4096])
    edit(checkpoint / "qwen2vl_rs.json", fingerprint=digest.hexdigest())
    assert ask(capsys, checkpoint, image) == said
    edit(base / "config.json", initializer_range=0.5)
    refused(capsys, checkpoint, image, "has changed since")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    few([
        ("config.json", {"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ("config.json", {"num_hidden_layers": 10**9}, "they have 2 layers"),
        ("config.json", {"num_hidden_layers": 1}, "they have 2 layers"),
        ("config.json", {"num_hidden_layers": float("nan")}, "num_hidden_layers is nan"),
        ("config.json", {"intermediate_size": 10**12}, "not [1000000000000"),
        ("config.json", {"vocab_size": 10**12}, "embed_tokens.weight has shape"),
        ("config.json", {"rms_norm_eps": float("nan")}, "'rms_norm_eps'"),
        ("config.json", {"rope_theta": -1.0}, "rope_theta is -1"),
        ("config.json", {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 1]}}, "[1, 1"),
        ("config.json", {"image_token_id": -1}, "image_token_id is -1"),
        ("config.json", {"use_sliding_window": True}, "sliding-window attention is"),
        ("config.json", {"text_config": {"quantization_config": {"quant_method": "gptq"}}}, "gptq"),
        ("hf_quant_config.json", {"producer": "modelopt"}, "quantised model (hf_quant_config"),
        ("config.json", {"transformers_weights": "x.safetensors"}, "transformers_weights"),
        ("preprocessor_config.json", {"image_std": [0.0, 0.2, 0.2]}, "image_std is"),
        ("preprocessor_config.json", {"image_mean": [float("nan")] * 3}, "image_mean is"),
        ("preprocessor_config.json", {"image_mean": 0.5}, "image_mean is"),
        ("preprocessor_config.json", {"rescale_factor": 0}, "rescale_factor is 0"),
        ("preprocessor_config.json", {"patch_size": 16}, "patch_size is 16"),
        ("preprocessor_config.json", {"merge_size": 1}, "merge_size is 1"),
        ("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor"}, "CLIP"),
        ("generation_config.json", {"eos_token_id": "<|im_end|>"}, "eos_token_id is"),
        ("model.safetensors.index.json", {"weight_map": {}}, "no weight_map"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../x.safetensors"}}, "outside"),
        ("model.safetensors.index.json", {"weight_map": {"a": "gone.safetensors"}}, "lacks"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "evil.T"}}, "remote code"),
        pytest.param("chat_template.json", {"chat_template": "{% for a in range(99999) %}"
            "{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}"},
            "exceeds the limits", marks=pytest.mark.slow),
        ("chat_template.json", {"chat_template": "{{ 'a' * 99999999999 }}"}, "exceeds the limits"),
        ("chat_template.json", {"chat_template": "{{ 'a' * 9999999 }}"}, "exceeds the limits"),
        ("chat_template.json", {"chat_template": "{% if %}"}, "is broken"),
        ("chat_template.json", {"chat_template": {"tools": "x"}}, "no chat template named default"),
    ], 0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30),
)  # fmt: skip
def test_settings_that_make_no_model_are_refused(
    tmp_path, capsys, small_base, image, file, change, words
):
    base = shutil.copytree(small_base, tmp_path / "base")
    edit(base / file, **change)
    refused(capsys, base, image, words)


@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "chat_template.json",
        "tokenizer_config.json",
        "model.safetensors.index.json",
    ],
)
def test_an_unreadable_file_is_not_taken_for_an_absent_one(
    tmp_path, capsys, small_base, image, name
):
    base = shutil.copytree(small_base, tmp_path / "base")
    (base / name).write_text('{"half": ')
    refused(capsys, base, image, f"{name} is unreadable")


def test_weights_that_are_no_numbers_are_refused(tmp_path, capsys, small_base, image):
    base = shutil.copytree(small_base, tmp_path / "base")
    path = max(base.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    weights = load_file(path)
    name = next(n for n, w in weights.items() if w.ndim > 1)
    weights[name][0, 0] = torch.inf
    save_file(weights, path, {"format": "pt"})
    refused(capsys, base, image, "contains NaN or infinity")


ADAPTERS = {
    "fewer target modules": ({"target_modules": ["q_proj"]}, "match no layer"),
    "more target modules": ({"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj",
                             "gate_proj", "down_proj", "lm_head"]}, "lacks"),
    "fewer layers": ({"layers_to_transform": [0]}, "match no layer"),
    "no layer": ({"target_modules": ["nothing"]}, "match no layer"),
    "other layers": ({"exclude_modules": r".*mlp.*"}, "match no layer"),
    "another kind": ({"peft_type": "LOHA"}, "is not a standard LoRA"),
    "no lengths": ({"use_dora": True}, "lacks"),
    "no truth": ({"use_rslora": "yes"}, "use_rslora is 'yes', not true or false"),
    "nothing whole": ({"modules_to_save": ["visual.merger"]}, "lacks"),
    "not a list": ({"modules_to_save": "visual.merger"}, "modules_to_save is not a list"),
    "not there": ({"modules_to_save": ["(a|a)*b"]}, "which is not in the model"),
    "too many": ({"modules_to_save": ["visual.merger"] * 9999}, "names 9,999 modules"),
    "whole text": ({"modules_to_save": ["embed_tokens"]}, "only modules of the vision tower"),
    "whole twice": ({"modules_to_save": ["visual", "merger"]}, "names model.visual.merger twice"),
    "changes the base": ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    "unheard of": ({"use_magic": True}, "use_magic"),
    "another rank": ({"r": 8}, "does not fit"),
    "a huge rank": ({"r": 10**12}, "does not fit"),
    "no rank": ({"r": 0}, "r is 0"),
    "no scale": ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
    "nested repeats": ({"target_modules": r"(([a-z]+)*\.?)*proj!"}, "nested repeats"),
    "nested repeats left out": ({"exclude_modules": r"(a|a)*b"}, "nested repeats"),
    "no pattern": ({"target_modules": "*proj"}, "pattern"),
}  # fmt: skip


@pytest.mark.parametrize("case", few(ADAPTERS, 0, 1, 5, 7, 9, 10, 11, 14, 16, 18, 19, 21))
def test_adapters_that_do_not_fit_their_settings_are_refused(
    tmp_path, capsys, adapter, image, case
):
    change, words = ADAPTERS[case]
    checkpoint = shutil.copytree(adapter, tmp_path / "checkpoint-1")
    edit(checkpoint / "adapter_config.json", **change)
    refused(capsys, checkpoint, image, words)
    (tmp_path / "merged").mkdir()
    with pytest.raises(ModelError) as caught:
        merge(checkpoint, tmp_path / "merged")
    assert words in caught.value.message


@pytest.fixture(scope="module")
def adapter(small_base, tmp_path_factory):
    return write_adapter(small_base, tmp_path_factory.mktemp("adapter") / "checkpoint-1")


def test_a_pattern_that_fits_is_taken(tmp_path, capsys, adapter, image):
    checkpoint = shutil.copytree(adapter, tmp_path / "checkpoint-1")
    said = ask(capsys, checkpoint, image)
    edit(checkpoint / "adapter_config.json", target_modules=r".*layers\.\d+\..*_proj")
    assert ask(capsys, checkpoint, image) == said


def test_an_adapter_with_a_tensor_too_many_or_too_few(tmp_path, capsys, adapter, image):
    for number, change in enumerate((lambda w: w.popitem(), lambda w: w.update(x=torch.ones(1)))):
        checkpoint = shutil.copytree(adapter, tmp_path / f"checkpoint-{number}")
        weights = load_file(checkpoint / "adapter_model.safetensors")
        change(weights)
        save_file(weights, checkpoint / "adapter_model.safetensors")
        refused(capsys, checkpoint, image, ("lacks 1 weights", "match no layer")[number])


def test_a_file_of_weights_that_holds_none_is_not_whole(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "some")
    save_file({}, tmp_path / "none")
    assert is_whole_file(tmp_path / "some")
    assert not is_whole_file(tmp_path / "none")
    (tmp_path / "cut").write_bytes((tmp_path / "some").read_bytes()[:-1])
    assert not is_whole_file(tmp_path / "cut")
