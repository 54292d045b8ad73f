"""The training command on a small real pipeline: every part but the size is the real one."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from bases import SETTINGS, configured
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.tables import read_conversations, write_conversations
from qwen2vl_rs.engine import head_loss, memory
from qwen2vl_rs.engine.forward import forward
from qwen2vl_rs.engine.inputs import make_inputs
from qwen2vl_rs.engine.packing import ImageQuery, pack
from qwen2vl_rs.errors import ConfigError, DataError, ImageError, ModelError, RunError
from qwen2vl_rs.models.loader import attach_adapter, load_base
from qwen2vl_rs.predict import job as asking
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.predict.side_by_side import compare
from qwen2vl_rs.run import Run
from qwen2vl_rs.scoring.predictions import read_predictions
from qwen2vl_rs.system.files import verify_checksums
from qwen2vl_rs.system.terminal import printable
from qwen2vl_rs.training.fit import train
from qwen2vl_rs.training.steps import StepDataset
from random_base import Size, write_random_base


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A clean folder with ``data_vl.json`` about six images."""
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=6))
    return tmp_path


def losses(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"], line["grad_norm"]) for line in map(json.loads, lines)]


def test_the_files_of_a_run(trained):
    folder, _ = trained
    run = folder / "output" / "Qwen2-VL-2B"
    assert {p.name for p in run.iterdir()} == {
        ".lock", "config.toml", "images.json", "manifest.json", "metrics.jsonl",
        "train_results.json", "checkpoint-4", "checkpoint-8", "eval", "compare.json", "data",
    }  # fmt: skip
    for own, name in (("train.json", "data_vl_train.json"), ("test.json", "data_vl_test.json")):
        assert (run / "data" / own).read_bytes() == (folder / name).read_bytes()
    for name in ("before", "after"):
        assert (run / "eval" / name / "results.json").is_file()
        lines = (run / "eval" / name / "predictions.jsonl").read_text().splitlines()
        keys = {"id", "image", "question", "type", "answer", "prediction", "text", "confidence"}
        assert all(set(json.loads(line)) - {"unreadable"} == keys for line in lines)
    assert [step for step, _, _ in losses(run)] == list(range(1, 9))
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["versions"]["torch"].startswith("2.")
    assert manifest["data"]["data_vl_train.json"]["questions"] == 32
    assert all(verify_checksums(c) is None for c in Run(run).checkpoints())


def test_the_split_shares_no_image(trained):
    folder, _ = trained
    sides = [list(read_conversations(folder / f"data_vl_{s}.json")) for s in ("train", "test")]
    images = [{s.image for s in side} for side in sides]
    assert [len(i) for i in images] == [4, 2]
    assert not images[0] & images[1]
    assert sum(map(len, sides)) == 6 * 8


def test_training_helps_and_results_never_stand_alone(trained):
    folder, outcome = trained
    change = outcome.comparison["protocols"]["official"]["OA"]
    assert change["after"] > change["before"]
    results = json.loads(
        (folder / "output/Qwen2-VL-2B/eval/after/results.json").read_text(encoding="utf-8")
    )
    assert results["controls"].keys() == {"constant", "question_only", "shuffled_image"}
    assert results["protocols"]["official"]["OA_se"] is not None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_checkpoints_load_in_plain_peft_and_give_the_same_logits(trained, small_base):
    folder, _ = trained
    checkpoint = folder / "output/Qwen2-VL-2B/checkpoint-8"
    base = load_base(small_base, InputConfig(), torch.device("cpu"))
    plain = AutoModelForImageTextToText.from_pretrained(small_base, dtype=torch.float32)
    plain = PeftModel.from_pretrained(plain, checkpoint).eval()
    pixels = base.images.read(folder / "images" / "0.tif")
    (batch,) = pack([ImageQuery(pixels, [base.prompts.branch("Is there a road?", "yes")])],
                    base.prompts, 2, 999)  # fmt: skip
    ids = torch.from_numpy(batch.layout.ids)[None]
    theirs = plain(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == base.prompts.image_id).int(),
        pixel_values=pixels.patches,
        image_grid_thw=torch.tensor([pixels.grid]),
    ).logits[0]
    every = make_inputs(batch, base.model, np.arange(batch.layout.size))
    untouched = forward(base.model, every)
    adapted = attach_adapter(base, checkpoint)
    with_adapter = forward(adapted, every)
    assert torch.allclose(with_adapter, theirs, atol=1e-4)
    assert (with_adapter - untouched).abs().max() > 0.1  # "after" is not "before"
    adapted.unload()
    assert torch.equal(forward(base.model, every), untouched)  # bit for bit


def test_only_the_language_model_is_adapted(trained):
    folder, _ = trained
    weights = load_file(folder / "output/Qwen2-VL-2B/checkpoint-8/adapter_model.safetensors")
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".")[-3] for name in weights} == layers
    assert all(".language_model." in name for name in weights)


def test_compare_reuses_predictions_and_ask_answers(trained, monkeypatch, small_base, capsys):
    folder, outcome = trained
    monkeypatch.chdir(folder)
    run = Path("output/Qwen2-VL-2B")
    stamp = (run / "eval/after/predictions.jsonl").stat().st_mtime_ns
    rows = compare(run)
    assert (run / "eval/after/predictions.jsonl").stat().st_mtime_ns == stamp
    overall = outcome.comparison["protocols"]["official"]["OA"]
    assert len(rows) == overall["n"] == 16
    assert sum(r.change == "fixed" for r in rows) == overall["wins"]
    assert sum(r.is_("wrong") for r in rows) == round(16 * (1 - overall["after"]))
    image = rows[0].image
    asked = [r for r in rows if r.image == image]
    session = Session.open(run)
    group = [(session.read(image), [r.question for r in asked])]
    assert [a.text for a in session.ask(group)[0]] == [r.after for r in asked]
    assert [a.text for a in session.ask(group, use_adapter=False)[0]] == [r.before for r in asked]
    assert [a.text for a in session.ask(group)[0]] == [r.after for r in asked]  # it is put back
    (plain,) = Session.open(small_base).ask(group)
    assert [a.text for a in plain] == [r.before for r in asked]


def test_resuming_gives_the_same_losses_and_adapter(trained, here, small_base, capsys):
    shutil.copytree(trained[0] / "images", here / "images", dirs_exist_ok=True)
    run = Path("output/Qwen2-VL-2B")
    train(configured(small_base))
    whole = losses(run), (run / "checkpoint-8/adapter_model.safetensors").read_bytes()
    # as if it had been killed after step 7, and the newest checkpoints damaged by the disk
    for step in (6, 7):
        shutil.copytree(run / "checkpoint-8", run / f"checkpoint-{step}")
    shutil.rmtree(run / "checkpoint-8")
    (run / "train_results.json").unlink()
    weights = run / "checkpoint-6/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (run / "checkpoint-7/optimizer.pt").unlink()
    capsys.readouterr()
    train(configured(small_base), resume=True)
    told = capsys.readouterr().err
    aside = "is not used, and set aside as"
    assert f"checkpoint-7 {aside} checkpoint-7.damaged: optimizer.pt is missing" in told
    assert f"checkpoint-6 {aside} checkpoint-6.damaged: adapter_model.safetensors has" in told
    assert "resuming from output/Qwen2-VL-2B/checkpoint-4" in told
    assert (run / "checkpoint-6.damaged/adapter_model.safetensors").read_bytes().endswith(b"x")
    assert whole == (losses(run), (run / "checkpoint-8/adapter_model.safetensors").read_bytes())


def test_a_finished_run_is_not_trained_again(trained, small_base, tmp_path, monkeypatch):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(folder)
    stamp = Path("output/Qwen2-VL-2B/metrics.jsonl").stat().st_mtime_ns
    with pytest.raises(RunError, match="already holds a run") as caught:
        train(configured(small_base))
    assert "--resume" in caught.value.hint
    Path("output/Qwen2-VL-2B/compare.json").unlink()
    train(configured(small_base), resume=True)
    assert Path("output/Qwen2-VL-2B/compare.json").is_file()
    assert Path("output/Qwen2-VL-2B/metrics.jsonl").stat().st_mtime_ns == stamp
    with pytest.raises(RunError, match=r"lora\.r was 8, is 4"):
        train(configured(small_base, "lora.r=4"), resume=True)


def test_an_interrupted_evaluation_goes_on(trained, small_base, tmp_path, monkeypatch):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(asking, "QUESTIONS_AT_ONCE", 8)  # an image at a time
    run = Path("output/Qwen2-VL-2B")
    done = run / "eval/after/predictions.jsonl"
    key = json.loads(done.with_name("inputs.json").read_text())["key"]
    done.unlink()
    compare(run)
    whole = done.read_bytes()
    lines = whole.decode().splitlines(keepends=True)
    told = json.loads(lines[0]) | {"text": "seen before"}
    torn = [json.dumps({"key": key}) + "\n", json.dumps(told) + "\n", *lines[1:11], lines[11][:9]]
    done.with_name("predictions.partial-0.jsonl").write_text("".join(torn))
    done.unlink()
    rows = compare(run)
    assert rows[0].after == "seen before"  # not asked again
    assert done.read_bytes().decode().splitlines()[1:] == whole.decode().splitlines()[1:]
    assert not done.with_name("predictions.partial-0.jsonl").exists()


def test_ready_splits_and_a_leak_are_told(here, small_base, capsys):
    samples = list(read_conversations(Path("data_vl.json")))
    write_conversations(Path("a.json"), samples[:24])
    write_conversations(Path("b.json"), samples[16:40])
    train(configured(small_base, "data.train=a.json", "data.test=b.json", "eval.max_eval=9",
                     "training.max_steps=1"))  # fmt: skip
    told = capsys.readouterr().err
    assert "warning: 1 image is in train and test" in told
    assert "evaluating 8 of 24 test questions (1 whole image)" in told


def test_images_are_looked_at_before_the_work_starts(here, small_base):
    (here / "images" / "3.tif").write_bytes(b"")
    with pytest.raises(ImageError, match=r"3\.tif"):
        train(configured(small_base))
    assert not (here / "output/Qwen2-VL-2B/config.toml").exists()  # can be started again


def test_an_image_that_rots_stops_the_training(here, small_base, monkeypatch):
    whole, run = Path("whole"), Path("output/Qwen2-VL-2B")
    few = ("training.vision_cache_gb=0", "eval.max_eval=1")
    train(configured(small_base, f"output={whole}", *few))
    made, paths = (
        StepDataset._make,
        {s.image for s in read_conversations(Path("data_vl_train.json"))},
    )
    rotten = Path(min(paths))
    good = rotten.read_bytes()

    def rotting(self, index):
        if index == 5:  # in the second epoch; still a sound file with one pixel changed
            rotten.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        return made(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(StepDataset, "_make", rotting)
        for again in (False, True):  # begun, and gone on with while it is still another
            with pytest.raises(ImageError, match="changed since training started") as caught:
                train(configured(small_base, *few), resume=again)
            assert str(rotten) in caught.value.message
            assert "--resume" in caught.value.hint
    rotten.write_bytes(good)
    train(configured(small_base, "eval.max_eval=1"), resume=True)
    assert losses(run) == losses(whole)


def test_a_checkpoint_of_another_base_is_refused(trained, tmp_path):
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
    other = write_random_base(tmp_path / "other", size, seed=5)
    base = load_base(other, InputConfig(), torch.device("cpu"))
    with pytest.raises(ModelError, match="was trained on another base model"):
        attach_adapter(base, trained[0] / "output/Qwen2-VL-2B/checkpoint-8")


def test_settings_that_cannot_be(here, small_base):
    with pytest.raises(ConfigError, match=r"unknown key lora\.rank"):
        configured(small_base, "lora.rank=3")
    with pytest.raises(ModelError, match="not a model"):
        train(configured(here / "nowhere"))
    with pytest.raises(DataError, match=r"nothing\.json"):
        train(configured(small_base, "data.conversations=nothing.json", "output=other"))


@pytest.mark.slow
def test_nothing_needs_torchvision(trained, small_base):
    """In a fresh process in which torchvision cannot be imported."""
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from pathlib import Path; from qwen2vl_rs.predict.session import Session\n"
        f"session = Session.open(Path({str(small_base)!r}))\n"
        f"pixels = session.read({str(trained[0] / 'images/0.tif')!r})\n"
        "print(len(session.ask([(pixels, ['Is there a road?'])])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert done.stderr == ""


def test_two_processes_do_not_share_a_run(here, small_base):
    from qwen2vl_rs.system.files import run_lock

    with (
        run_lock(Path("output/Qwen2-VL-2B")),
        pytest.raises(RunError, match="another process is using"),
    ):
        train(configured(small_base))


def test_defaults_are_what_machine_and_processor_allow(here, small_base, capsys, monkeypatch):
    computed, real = set(), head_loss._HeadLoss.forward

    def forward(ctx, hidden, *more):
        computed.add(hidden.dtype)
        return real(ctx, hidden, *more)

    monkeypatch.setattr(head_loss._HeadLoss, "forward", staticmethod(forward))
    settings = [s for s in SETTINGS if "bf16" not in s]
    train(load_config(None, [*settings, f"model={small_base}", "training.max_steps=1"]))
    told = capsys.readouterr().err
    has = torch.cpu._is_avx512_bf16_supported()
    dtype = "bfloat16 (supported by this processor)" if has else "float32 (this processor has no"
    assert f"on CPU in {dtype}" in told
    assert computed == {torch.bfloat16 if has else torch.float32}  # the head, too
    assert "gradient checkpointing: off (" in told
    manifest = json.loads(Path("output/Qwen2-VL-2B/manifest.json").read_text())
    assert manifest["dtype"] == ("bfloat16" if has else "float32")
    assert manifest["gradient_checkpointing"] == "off"


def test_a_run_is_resumed_where_less_memory_is(trained, small_base, tmp_path, monkeypatch, capsys):
    """Also one of a version in which checkpointing was a setting with a default of its own."""
    monkeypatch.chdir(shutil.copytree(trained[0], tmp_path / "copy"))
    run = Path("output/Qwen2-VL-2B")
    whole = losses(run)
    shutil.rmtree(run / "checkpoint-8")
    (run / "train_results.json").unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"]["training"]["gradient_checkpointing"] = True
    (run / "manifest.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    monkeypatch.setattr(memory, "device_memory", lambda device: 10**9)
    train(configured(small_base), resume=True)
    told = capsys.readouterr().err
    assert "gradient checkpointing: on (" in told
    assert "gradient checkpointing off then, on now" in told
    assert [line[:2] for line in losses(run)] == [line[:2] for line in whole]
    (entry,) = json.loads((run / "manifest.json").read_text())["resumed"]
    assert entry["gradient_checkpointing"] == "on"


def test_checkpointing_and_brain_floats(here, small_base):
    """Gradient checkpointing changes nothing, bfloat16 little."""
    found = {}
    for name, settings in {
        "plain": [],
        "checkpointing": ["training.gradient_checkpointing=true"],
        "bf16": ["training.bf16=true"],
    }.items():
        few = ("training.max_steps=2", "eval.max_eval=1", f"output={name}")
        train(configured(small_base, *settings, *few))
        found[name] = losses(Path(name))
    assert found["plain"] == found["checkpointing"]
    assert found["plain"] != found["bf16"]
    for exact, rounded in zip(found["plain"], found["bf16"], strict=True):
        assert rounded[1] == pytest.approx(exact[1], rel=0.02)


@pytest.mark.slow
def test_a_run_is_compared_on_its_own_questions(here, small_base):
    train(configured(small_base, "training.max_steps=1"))
    before = Path("output/Qwen2-VL-2B/eval/before/predictions.jsonl").read_bytes()
    other = ["training.seed=7", "training.max_steps=1", "output=output/two"]
    train(configured(small_base, *other))
    first, second = (
        {row.image for row in compare(Path(run))} for run in ("output/Qwen2-VL-2B", "output/two")
    )
    assert first != second
    assert {s.image for s in read_conversations(Path("data_vl_test.json"))} == second
    rows = compare(Path("output/Qwen2-VL-2B"), test=Path("data_vl_test.json"))
    assert {row.image for row in rows} == second
    assert Path("output/Qwen2-VL-2B/eval/before/predictions.jsonl").read_bytes() == before


def test_an_older_checkpoint_is_compared_beside_the_newest(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    run = Path("output/Qwen2-VL-2B")
    newest = (run / "eval/after/predictions.jsonl").read_bytes()
    asked = read_conversations(Path("data_vl_test.json"))
    rows = compare(run, checkpoint=run / "checkpoint-4")
    assert (run / "eval/after/predictions.jsonl").read_bytes() == newest
    older = read_predictions(run / "eval/checkpoint-4/predictions.jsonl")
    assert len(older) == len(rows) == len(list(asked))
    assert [p.text for p in older] != [
        p.text for p in read_predictions(run / "eval/after/predictions.jsonl")
    ]


def test_compare_counts_what_it_shows(trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    counts = {}
    for only in ("all", "wrong"):
        capsys.readouterr()
        assert main(["compare", "--only", only, "--json"]) == 0
        counts[only] = len(capsys.readouterr().out.splitlines())
    assert 1 < counts["wrong"] < counts["all"]
    assert main(["compare", "--only", "wrong", "-n", "1"]) == 0
    said = capsys.readouterr().err
    assert f"1 of {counts['wrong']} shown; {counts['all']} questions in total" in said


def test_answers_are_printed_before_and_after(here, small_base, capsys):
    train(configured(small_base, "training.learning_rate=0.01", "eval.samples=3"))
    printed = capsys.readouterr().err.partition("some answers (truth | before | after)\n")[2]
    folder = Path("output/Qwen2-VL-2B/eval")
    before, after = (
        read_predictions(folder / f"{n}/predictions.jsonl") for n in ("before", "after")
    )
    rows = {
        f"{old.question}  {old.answer} | {old.text[:40]!r} | {new.text[:40]!r}"
        for old, new in zip(before, after, strict=True)
        if old.text != new.text
    }
    lines = [line.strip() for line in printed.splitlines()[:3]]
    assert len(lines) == 3
    assert set(lines) <= {printable(row) for row in rows}


def test_a_failed_start_does_not_occupy_the_run(here, small_base):
    with pytest.raises(ModelError, match="does not exist"):
        train(configured(here / "bose"))
    train(configured(small_base, "training.max_steps=1"))
    with pytest.raises(RunError, match="already holds a run"):
        train(configured(small_base, "training.max_steps=1"))


def test_resuming_needs_the_same_questions_and_base(trained, tmp_path, monkeypatch, small_base):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(folder)
    # what does not matter may change
    train(configured(small_base, "eval.max_eval=8", "training.report_to=[]"), resume=True)
    size = Size(hidden=64, layers=2, vision_hidden=32, vision_layers=1, kv_heads=1)
    with pytest.raises(RunError, match="the base model is not the one"):
        train(configured(write_random_base(tmp_path / "b", size, seed=3)), resume=True)
    own = Path("output/Qwen2-VL-2B/data/train.json")
    samples = list(read_conversations(own))
    write_conversations(own, samples[:8])
    with pytest.raises(RunError, match=r"train\.json is not what .* was started with"):
        train(configured(small_base), resume=True)


def test_damaged_checkpoints_are_not_asked(trained, tmp_path, small_base):
    checkpoint = shutil.copytree(trained[0] / "output/Qwen2-VL-2B/checkpoint-8", tmp_path / "c")
    assert Session.open(checkpoint, small_base).has_adapter
    weights = checkpoint / "adapter_model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"damaged: adapter_model\.safetensors has changed"):
        Session.open(checkpoint, small_base)
    (checkpoint / "checksums.json").unlink()
    with pytest.raises(ModelError, match="NaN or infinity"):
        Session.open(checkpoint, small_base)


@pytest.mark.parametrize(
    ("change", "words"), [({"id": "rsvqa_1"}, "is a duplicate"), ({"answer": " "}, "is empty")]
)
def test_records_that_cannot_be_scored_are_refused_at_once(here, small_base, change, words):
    samples = list(read_conversations(Path("data_vl.json")))
    write_conversations(Path("data_vl.json"), [samples[0], replace(samples[9], **change)])
    with pytest.raises(DataError, match=words):
        train(configured(small_base))


def test_max_steps_counts_and_not_the_epochs(here, small_base):
    few = ["training.max_steps=5", "training.num_train_epochs=1", "eval.max_eval=1", "output=more"]
    train(configured(small_base, *few))  # an epoch is four
    lines = [json.loads(line) for line in Path("more/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 6))
    assert lines[-1]["epoch"] == 1.25


@pytest.mark.slow  # its client tries for a while
def test_swanlab_never_stops_or_asks(here, small_base, monkeypatch, capfd):
    monkeypatch.setenv("SWANLAB_API_KEY", "no-such-key")
    monkeypatch.setenv("SWANLAB_MODE", "cloud")  # the old name
    settings = [s for s in SETTINGS if "report_to" not in s]
    train(load_config(None, [*settings, f"model={small_base}", "training.max_steps=1"]))
    told = capfd.readouterr()
    assert told.out == ""
    assert "SwanLab cannot go online" in told.err
    assert list(Path("output/Qwen2-VL-2B/swanlog").glob("run-*"))
