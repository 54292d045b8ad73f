"""What a fresh reader tried on models, folders and runs: through commands and files alone."""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bases import SETTINGS
from family import few
from qwen2vl_rs.cli import main

RUN = Path("output/Qwen2-VL-2B")
QUESTION = "Is there a road?"


@pytest.fixture
def copied(trained, tmp_path, monkeypatch):
    """A finished run of its own, in the current folder; its base is a copy in ``base``."""
    folder, _ = trained
    shutil.copytree(folder / RUN, tmp_path / RUN)
    monkeypatch.chdir(tmp_path)
    card = json.loads((RUN / "checkpoint-8/qwen2vl_rs.json").read_text())
    shutil.copytree(card["base"], "base")
    shutil.copytree(folder / "images", "images")
    shutil.copy(folder / "data_vl.json", "data_vl.json")
    return RUN


@pytest.fixture
def image(trained):
    return next((trained[0] / "images").iterdir())


def edit(path, **more):
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**known, **more}))


def failed(capsys, *words):
    """What a command that ends with exit code 1 says."""
    code = main([str(word) for word in words])
    told = capsys.readouterr()
    assert (code, told.out) == (1, ""), told
    assert "Traceback" not in told.err
    assert "hint:" in told.err
    return told.err


def said(capsys, *words):
    code = main([str(word) for word in words])
    told = capsys.readouterr()
    assert code == 0, told.err
    return told.out, told.err


def resume(*more):
    return ["train", RUN / "config.toml", "--resume", *more]


# settings of a run that were edited, and checkpoints that are gone


@pytest.mark.parametrize(
    ("old", "new", "words"),
    few(
        [
            ("learning_rate = 0.01", "learning_rate = 0.02", "learning_rate was 0.01, is 0.02"),
            ("num_train_epochs = 2", "num_train_epochs = 1", "num_train_epochs was 2, is 1"),
            ("r = 8", "r = 4", "lora.r was 8, is 4"),
            ("test_fraction = 0.3", "test_fraction = 0.5", "data.test_fraction was 0.3, is 0.5"),
        ],
        0,
        2,
    ),
)
@pytest.mark.parametrize("finished", [True, False])
def test_an_edited_setting_is_not_passed_over(copied, capsys, old, new, words, finished):
    if not finished:
        (RUN / "train_results.json").unlink()
    text = (RUN / "config.toml").read_text()
    assert old in text
    (RUN / "config.toml").write_text(text.replace(old, new))
    told = failed(capsys, *resume())
    assert words in told
    assert "restore the settings of the start in output/Qwen2-VL-2B/config.toml" in told
    assert "--output" in told


def test_settings_typed_to_a_resumed_run_are_refused(copied, capsys):
    told = failed(capsys, *resume("--set", "training.max_steps=99"))
    assert "training.max_steps was not set, is 99" in told
    assert "hint: resume with its own: qwen2vl-rs train output/Qwen2-VL-2B/config.toml" in told


def test_an_older_checkpoint_never_stands_for_the_last(copied, capsys, image):
    shutil.rmtree(RUN / "checkpoint-8")
    for words in (
        ["ask", RUN, image, QUESTION], ["eval", RUN], ["compare"],
        ["export", RUN, "-o", "out"],
    ):  # fmt: skip
        told = failed(capsys, *words)
        assert "trained to step 8, but checkpoint-8 is missing: the newest is checkpoint-4" in told
        assert "--resume" in told
    assert said(capsys, "ask", RUN / "checkpoint-4", image, QUESTION)[0]


@pytest.mark.parametrize("gone", few([True, False], 1))
def test_steps_whose_checkpoint_is_gone_are_trained_again(copied, trained, capsys, gone):
    if gone:
        shutil.rmtree(RUN / "checkpoint-8")
    else:
        (RUN / "checkpoint-8/optimizer.pt").unlink()
    _, err = said(capsys, *resume())
    assert "checkpoint-8, is gone or damaged: its steps are repeated" in err
    assert json.loads((RUN / "train_results.json").read_text())["train_steps"] == 8
    again, first = (p / "checkpoint-8/adapter_model.safetensors" for p in (RUN, trained[0] / RUN))
    assert again.read_bytes() == first.read_bytes()


def test_an_interrupt_before_the_first_checkpoint(copied, trained, capsys, monkeypatch):
    """The printed command works, and gives the run that was not interrupted."""
    from qwen2vl_rs.training.steps import StepDataset

    shutil.rmtree(RUN)
    shutil.copyfile(trained[0] / "data_vl.json", "data_vl.json")
    made = StepDataset._make

    def interrupting(self, index):
        if index == 1:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.3)
        return made(self, index)

    words = [word for one in (*SETTINGS, "model=base") for word in ("--set", one)]
    with monkeypatch.context() as patch:
        patch.setattr(StepDataset, "_make", interrupting)
        code = main(["train", *words])
    told = capsys.readouterr()
    assert (code, told.out) == (129, "")
    assert "no checkpoint yet" in told.err
    command = told.err.partition("hint: resume: qwen2vl-rs ")[2].split()
    # edits are noticed from the very start
    text = (RUN / "config.toml").read_text()
    (RUN / "config.toml").write_text(text.replace("test_fraction = 0.3", "test_fraction = 0.5"))
    assert "data.test_fraction was 0.3, is 0.5" in failed(capsys, *command)
    (RUN / "config.toml").write_text(text)
    said(capsys, *command)
    again, first = (p / "checkpoint-8/adapter_model.safetensors" for p in (RUN, trained[0] / RUN))
    assert again.read_bytes() == first.read_bytes()


def test_a_loss_that_begins_as_no_number_is_not_blamed_on_the_learning_rate(
    copied, trained, capsys
):
    """Finite weights whose output overflows."""
    shutil.copyfile(trained[0] / "data_vl.json", "data_vl.json")
    for path in Path("base").glob("*.safetensors"):
        weights = load_file(path)
        for name in weights:
            if name.endswith("model.norm.weight"):
                weights[name] = torch.full_like(weights[name], 3e38)
        save_file(weights, path, metadata={"format": "pt"})
    words = [word for one in (*SETTINGS, "model=base") for word in ("--set", one)]
    told = failed(capsys, "train", *words, "-o", "new")
    assert "at step 1" in told
    assert "nothing had been trained yet: the base model's weights" in told
    assert "learning rate" not in told
    assert not list(Path("new").glob("checkpoint-*"))


# what is exported names no place on this machine


def test_an_export_with_a_name_holds_no_place_of_this_machine(copied, capsys, image):
    shutil.move("base", "Qwen/Qwen2-VL-2B-Instruct")
    here, name = str(Path.cwd()), "Qwen/Qwen2-VL-2B-Instruct"
    card = RUN / "checkpoint-8/qwen2vl_rs.json"
    places = {json.loads(card.read_text())["base"], here}
    edit(card, base=f"{here}/{name}")
    (RUN / "checkpoint-8/checksums.json").unlink()
    for how in ([], ["--merge"]):
        out = Path(f"out{''.join(how)}")
        said(capsys, "export", RUN, "-o", out, "--base-model", name, *how)
        for path in (p for p in out.rglob("*") if p.is_file()):
            content = path.read_bytes()
            assert not [place for place in places if place.encode() in content], path
    assert json.loads(Path("out/qwen2vl_rs.json").read_text())["base"] == name
    assert json.loads(Path("out/adapter_config.json").read_text())["inference_mode"]
    assert "--base FOLDER" in Path("out/README.md").read_text()
    answer = said(capsys, "ask", RUN, image, QUESTION, "--base", name)[0]
    assert said(capsys, "ask", "out", image, QUESTION)[0] == answer  # found by its name
    shutil.move(name, "elsewhere")
    told = failed(capsys, "ask", "out", image, QUESTION)
    assert f"the base model of out is not at {name}" in told
    assert f"--base FOLDER; or fetch it: qwen2vl-rs load {name}" in told
    assert said(capsys, "ask", "out", image, QUESTION, "--base", "elsewhere")[0] == answer


# bases that moved, changed or are others


def flip(base):
    """Change one weight; size and time of the file stay."""
    path = sorted(base.glob("*.safetensors"))[-1]
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def moved(copied):
    """The run, as if trained on ``base`` in the current folder."""
    place = str(Path("base").resolve())
    for checkpoint in RUN.glob("checkpoint-*"):
        edit(checkpoint / "qwen2vl_rs.json", base=place)
        (checkpoint / "checksums.json").unlink()
    manifest = json.loads((RUN / "manifest.json").read_text())
    edit(RUN / "manifest.json", base={**manifest["base"], "folder": place})
    text = (RUN / "config.toml").read_text().splitlines()
    lines = [f'model = "{place}"' if line.startswith("model =") else line for line in text]
    (RUN / "config.toml").write_text("\n".join(lines) + "\n")
    return RUN


def test_a_base_that_changed_in_its_place_is_named_as_such(moved, capsys, image):
    flip(Path("base"))
    place = Path("base").resolve()
    for words, option in (
        (["ask", RUN, image, QUESTION], "--base"),
        (["eval", RUN], "--base"),
        (["export", RUN, "--merge", "-o", "out"], "--base"),
        (["compare"], "--base"),
    ):
        told = failed(capsys, *words)
        assert f"the base model in {place} has changed since" in told
        assert f"give an intact copy: {option} FOLDER" in told
        assert str(place) not in told.partition("hint:")[2]
    told = failed(capsys, *resume())
    assert f"the base model in {place} has changed since" in told
    hint = told.partition("hint:")[2]
    assert "--model FOLDER" in hint
    assert "config.toml" not in hint  # the command at hand is no cure


def test_a_base_that_moved_and_one_that_is_another(moved, capsys, image):
    shutil.copytree("base", "other")
    flip(Path("other"))
    told = failed(capsys, "ask", RUN, image, QUESTION, "--base", "other")
    assert "was trained on another base model" in told
    assert f"hint: give its base model: --base {Path('base').resolve()}" in told
    assert "--model base" not in told
    assert "--base" in failed(capsys, "compare", "--base", "other").partition("hint:")[2]
    shutil.move("base", "new")
    said(capsys, "export", RUN, "-o", "adapter")  # needs no base
    merge = ["export", RUN, "--merge", "-o", "out"]
    assert "hint: say where it is: --base FOLDER" in failed(capsys, *merge)
    assert "hint: say where it is: --base FOLDER" in failed(capsys, "compare")
    told = failed(capsys, *resume())
    assert f"the base model of {RUN} is not at" in told
    assert "hint: say where it is: --model FOLDER" in told
    said(capsys, *resume("--model", "new"))
    told = failed(capsys, *merge, "--base", "other")
    assert "hint: give a folder with its base model" in told
    assert "--base FOLDER" in told
    said(capsys, *merge, "--base", "new")
    assert not Path("out/qwen2vl_rs.json").exists()


# what batch systems leave in the environment


@pytest.mark.parametrize(
    ("variables", "lacking"),
    [
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "MASTER_ADDR"),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}, "MASTER_ADDR"),
        ({"MV2_COMM_WORLD_RANK": "0", "MV2_COMM_WORLD_SIZE": "4"}, "MASTER_ADDR"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR and MASTER_PORT are not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR"),
        ({"LOCAL_RANK": "0"}, "MASTER_ADDR and MASTER_PORT and RANK and WORLD_SIZE are not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}, "MASTER_PORT is not set"),
        (
            {"WORLD_SIZE": "two", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
            "WORLD_SIZE is not a number",
        ),
    ],
)
def test_variables_of_several_processes_that_were_left_over(
    copied, monkeypatch, capsys, variables, lacking
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (RUN / "eval/after/predictions.jsonl").unlink()
    for words in (["train", "--model", "base", "-o", "new"], resume(), ["eval", RUN], ["compare"]):
        told = failed(capsys, *words)
        for name, value in variables.items():
            assert f"{name}={value}" in told or name.startswith("MASTER")
            assert f"-u {name} " in told or name.startswith("MASTER")
        assert lacking in told
    assert not Path("new").exists()


def test_variables_of_one_process_are_no_matter(copied, monkeypatch, capsys, image):
    for name, value in {"PMI_RANK": "0", "PMI_SIZE": "1", "WORLD_SIZE": "1", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    said(capsys, "eval", RUN)
    monkeypatch.setenv("PMI_SIZE", "2")  # one process asks, whatever there is around it
    said(capsys, "ask", RUN, image, QUESTION)


# modes of files, and room for them


def test_files_have_the_mode_of_the_umask(copied, capsys):
    """safetensors leaves what it writes to its owner alone."""
    shutil.rmtree(RUN / "checkpoint-8")
    before = os.umask(umask := 0o027)
    try:
        said(capsys, *resume())
        said(capsys, "export", RUN, "--merge", "-o", "merged")
        said(capsys, "export", RUN, "-o", "adapter")
    finally:
        os.umask(before)
    for folder in (RUN / "checkpoint-8", Path("merged"), Path("adapter")):
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}
        assert any(name.endswith(".safetensors") for name in modes)
        assert set(modes.values()) == {0o666 & ~umask}, modes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_a_file_system_without_inodes_is_told_from_a_full_one(moved, capsys):
    disk = Path("disk")
    disk.mkdir()
    options = "size=64m,nr_inodes=12"
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no small disk to fill")
    try:
        told = failed(capsys, "export", RUN, "--merge", "-o", disk / "merged")
        assert "No space left" in told
        assert "no free inodes (df -i)" in told
        assert "free some disk space" not in told
        assert list(disk.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,nr_inodes=99", str(disk)], check=True)
        said(capsys, "export", RUN, "--merge", "-o", disk / "merged")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# folders of models that are not as they should be


POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.fixture
def base(small_base, tmp_path):
    return shutil.copytree(small_base, tmp_path / "model")


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "model.safetensors.index.json", "vocab.json", "merges.txt",
        "tokenizer_config.json", "preprocessor_config.json", "generation_config.json",
        "chat_template.json",
    ],
)  # fmt: skip
def test_pointers_of_git_lfs_are_named(base, capsys, image, name):
    assert (base / name).is_file()
    (base / name).write_text(POINTER)
    told = failed(capsys, "ask", base, image, QUESTION)
    assert f"{name} in {base} is a Git LFS pointer" in told
    assert f"hint: fetch it: git -C {base} lfs pull" in told
    assert "--verify" not in told


def test_pointers_among_weights_and_in_checkpoints(base, copied, capsys, image):
    shards = sorted(base.glob("*.safetensors"))[1:3]
    for shard in shards:
        shard.write_text(POINTER)
    (base / "README.md").write_text(POINTER)  # is no matter
    edit(base / ".qwen2vl-rs.json", repo_id="Qwen/Qwen2-VL-2B-Instruct")
    for words in (["ask", base, image, QUESTION], ["train", "--model", base, "-o", "new"]):
        told = failed(capsys, *words)
        assert f"{shards[0].name}, {shards[1].name} in {base} are Git LFS pointers" in told
        assert "lfs pull; or fetch the model: qwen2vl-rs load Qwen/Qwen2-VL-2B-Instruct" in told
    for name in ("adapter_model.safetensors", "adapter_config.json", "qwen2vl_rs.json"):
        said(capsys, "export", RUN, "-o", name)
        Path(name, name).write_text(POINTER)
        told = failed(capsys, "ask", name, image, QUESTION)
        assert f"{name} in {name} is a Git LFS pointer" in told


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "config.json"])
def test_a_file_cut_short_is_named(base, capsys, image, name):
    content = (base / name).read_bytes()
    (base / name).write_bytes(content[: len(content) // 2])
    assert name in failed(capsys, "ask", base, image, QUESTION)


def test_a_base_as_the_hubs_cache_keeps_it(
    copied, small_base, tmp_path, monkeypatch, capsys, image
):
    """Every file of a snapshot is a link into a folder of blobs."""
    blobs, snapshot = tmp_path / "hub/blobs", tmp_path / "hub/snapshots/abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(small_base.iterdir())):
        shutil.copyfile(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    before = {path.name: path.read_bytes() for path in blobs.iterdir()}
    said(capsys, "export", RUN, "--merge", "--base", snapshot, "-o", "merged")
    assert {path.name: path.read_bytes() for path in blobs.iterdir()} == before
    assert not [path for path in Path("merged").iterdir() if path.is_symlink()]
    words = [image, QUESTION, "How many buildings are there?"]
    assert (
        said(capsys, "ask", "merged", *words)[0]
        == said(capsys, "ask", RUN, *words, "--base", snapshot)[0]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"patch_size": 16}, "patch_size is 16"),
        ({"merge_size": 4}, "merge_size is 4"),
        ({"temporal_patch_size": 1}, "temporal_patch_size is 1"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std is"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
    ],
)
def test_image_settings_that_cannot_be_followed(base, capsys, image, change, words):
    edit(base / "preprocessor_config.json", **change)
    assert words in failed(capsys, "ask", base, image, QUESTION)


@pytest.mark.parametrize(
    "change",
    [
        {"do_normalize": False}, {"do_rescale": False}, {"do_convert_rgb": False},
        {"rescale_factor": 1 / 127.5}, {"image_mean": [0.1, 0.2, 0.3]}, {"resample": 0},
    ],
)  # fmt: skip
def test_image_settings_are_those_of_plain_transformers(base, image, change):
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from qwen2vl_rs.predict.session import Session

    edit(base / "preprocessor_config.json", **change)
    session = Session.open(base)
    low, high = session.view.min_pixels, session.view.max_pixels
    plain = Qwen2VLImageProcessorPil.from_pretrained(base, min_pixels=low, max_pixels=high)
    picture = plain(images=[Image.open(image).convert("RGB")], return_tensors="pt")
    assert torch.equal(picture["pixel_values"], session.read(image).patches)


@pytest.mark.parametrize("named", ["default", "tool_use"])
def test_chat_templates_by_name(base, capsys, image, named):
    answer = said(capsys, "ask", base, image, QUESTION)[0]
    settings = json.loads((base / "tokenizer_config.json").read_text())
    template = settings["chat_template"]
    (base / "chat_template.json").unlink()
    several = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": named, "template": template}]
    edit(base / "tokenizer_config.json", chat_template=several)
    if named == "default":
        assert said(capsys, "ask", base, image, QUESTION)[0] == answer
    else:
        told = failed(capsys, "ask", base, image, QUESTION)
        assert "tokenizer_config.json has no chat template named default" in told


# what a base asks of decoding


@pytest.mark.parametrize(
    "change",
    few([
        {"min_new_tokens": 9}, {"min_length": 200}, {"suppress_tokens": [40, 41, 42]},
        {"no_repeat_ngram_size": 1}, {"num_beams": 3}, {"guidance_scale": 2.0},
        {"bad_words_ids": [[3], [4]]}, {"forced_eos_token_id": 5}, {"forced_bos_token_id": 7},
        {"max_length": 3}, {"exponential_decay_length_penalty": [1, 1.5]},
        {"cache_implementation": "static"}, {"begin_suppress_tokens": [8]}, {"top_k": 3},
        {"sequence_bias": [[[3], 9.0]]}, {"encoder_repetition_penalty": 3.0},
    ], 0, 2, 9, 14),
)  # fmt: skip
def test_no_decoding_of_a_base_gets_into_a_merged_model(copied, small_base, capsys, change):
    clean = shutil.copytree("base", "asking")
    edit(Path(clean) / "generation_config.json", **change)
    from qwen2vl_rs.models.fingerprint import fingerprint

    edit(RUN / "checkpoint-8/qwen2vl_rs.json", fingerprint=fingerprint(Path("asking")))
    (RUN / "checkpoint-8/checksums.json").unlink()
    said(capsys, "export", RUN, "--merge", "--base", "asking", "-o", "merged")
    told = json.loads(Path("merged/generation_config.json").read_text())
    version = told.pop("transformers_version")
    stops = json.loads((small_base / "generation_config.json").read_text())["eos_token_id"]
    assert version.startswith("5")
    assert sorted(told.pop("eos_token_id")) == sorted(stops)
    assert told.pop("pad_token_id") in stops
    told.pop("bos_token_id", None)
    assert told == {"do_sample": False, "temperature": 0.0, "repetition_penalty": 1.0}


@torch.no_grad()
def test_plain_generate_gives_what_ask_gives(copied, capsys, image):
    """With no argument of decoding at all, and a base that asks for nearly everything."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from qwen2vl_rs.models.fingerprint import fingerprint
    from qwen2vl_rs.predict.session import Session

    edit(
        Path("base/generation_config.json"), min_new_tokens=9, no_repeat_ngram_size=1, num_beams=2,
        do_sample=True, top_k=5, suppress_tokens=[40, 41], repetition_penalty=1.5,
    )  # fmt: skip
    edit(RUN / "checkpoint-8/qwen2vl_rs.json", fingerprint=fingerprint(Path("base")))
    (RUN / "checkpoint-8/checksums.json").unlink()
    said(capsys, "export", RUN, "--merge", "--base", "base", "-o", "merged")
    session = Session.open(Path("merged"))
    model = AutoModelForImageTextToText.from_pretrained("merged", dtype=torch.float32)
    processor = Qwen2VLImageProcessorPil.from_pretrained("merged")
    picture = processor(images=[Image.open(image).convert("RGB")], return_tensors="pt")
    for question in (QUESTION, "How many buildings are there?", "Is it a rural or an urban area?"):
        prompts, tokens = session.base.prompts, int(picture["image_grid_thw"].prod()) // 4
        ids = [*prompts.root_ids(tokens), *prompts.question_ids(question)]
        ids = torch.tensor([int(i) for i in ids])[None]
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=32,
            mm_token_type_ids=(ids == prompts.image_id).int(), **picture,
        )[0, ids.shape[1] :].tolist()  # fmt: skip
        # an adapter in float32 and the merged weights may differ in what is nearly as probable
        answer = said(capsys, "ask", "merged", image, question)[0]
        assert " ".join(prompts.decode(out).split()) == answer.strip()


# LoRA settings


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("lora.target_modules=all-linear", 'name the layers in a list, e.g. ["q_proj", "v_proj"]'),
        ('lora.target_modules=["q_prj"]', "there is no layer q_prj, did you mean q_proj?"),
        ("lora.rank_pattern={}", "unknown key lora.rank_pattern"),
        ("lora.layers_to_transform=[99]", "unknown key lora.layers_to_transform"),
        ("lora.loraplus_lr_ratio=16", "one learning rate for both halves of an adapter"),
        ("training.vision_tower=some", "training.vision_tower"),
        ("lora.adapter=nothing", "there is no adapter in"),
    ],
)
def test_lora_settings_are_refused_by_name(copied, capsys, setting, words):
    told = failed(capsys, "train", "--model", "base", "-o", "new", "--set", setting)
    assert words in told
    assert not Path("new/vision-cache").exists()


@pytest.mark.parametrize("change", [{"use_dora": "yes"}, {"rank_pattern": {"q_proj": 2}},
                                    {"alpha_pattern": {"q_proj": 2}}])  # fmt: skip
def test_adapters_of_another_kind_are_refused(moved, capsys, image, change):
    edit(RUN / "checkpoint-8/adapter_config.json", **change)
    for words in (["ask", RUN, image, QUESTION], ["export", RUN, "--merge", "-o", "out"]):
        assert next(iter(change)) in failed(capsys, *words)
