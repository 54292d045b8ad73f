"""Optimizer steps: order of epochs, several processes, losses that are no numbers, checkpoints."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from bases import SETTINGS
from factory import make_samples
from plain import gradients, with_adapter
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig, TrainingSettings
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.run import Run
from qwen2vl_rs.system.files import write_checksums, write_json
from qwen2vl_rs.training.steps import StepDataset
from qwen2vl_rs.training.trainer import TreeTrainer

RUN = Path("output/Qwen2-VL-2B")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=4))
    return tmp_path


def train(base, *more):
    settings = (*SETTINGS, f"model={base}", "eval.max_eval=1", "data.test_fraction=0.5", *more)
    return main(["train", *(word for one in settings for word in ("--set", one))])


def steps_of(base, samples, world=1, **settings):
    settings = TrainingSettings(**settings)
    return StepDataset(samples, base.prompts, base.images, settings, 200, base.model, world)


def shown(base, steps, index):
    """The texts that a step shows, in no order; what comes before the questions is the same."""
    share = steps[index]["step"]
    ids = [layout.ids.tolist() for layout in share.layouts]
    return frozenset(
        base.prompts.decode([one[k] for k in path])
        for layout, one in zip(share.layouts, ids, strict=True)
        for path in (tuple(range(start, layout.subtree_end[start])) for start in tops(layout))
    )


def tops(layout):
    """Where the subtrees directly below the roots begin."""
    for start, stop in layout.roots.tolist():
        at = stop
        while at < layout.subtree_end[start]:
            yield at
            at = int(layout.subtree_end[at])


def test_every_epoch_groups_the_questions_anew(small_base, tmp_path):
    base = load_base(small_base, InputConfig(), torch.device("cpu"), torch.float32)
    samples = make_samples(tmp_path, images=1)
    each = {"images_per_step": 1, "questions_per_image": 4}
    steps = steps_of(base, samples, num_train_epochs=4, **each)
    assert len(steps) == 8
    epochs = [[shown(base, steps, 2 * epoch + k) for k in (0, 1)] for epoch in range(4)]
    assert len({frozenset(epoch) for epoch in epochs}) > 1
    for index in (0, 5, 2):  # whenever it is asked for
        assert shown(base, steps, index) == epochs[index // 2][index % 2]


def test_the_shares_of_several_processes_add_up_to_the_step_of_one(
    small_base, tmp_path, monkeypatch
):
    """Their gradients are averaged, as DDP does; also where one of them has nothing to do."""
    base = load_base(small_base, InputConfig(), torch.device("cpu"), torch.float32)
    model = with_adapter(base)
    samples = make_samples(tmp_path, images=4)
    made = {"images_per_step": 3, "questions_per_image": 9, "gradient_checkpointing": False}
    arguments = TrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, report_to=[])
    for step in (0, 1):  # of three images and of one
        found = {}
        for world in (1, 2):
            steps = steps_of(base, samples, world, **made)
            trainer = TreeTrainer(
                base, InputConfig(), (None, 56), steps, TrainingSettings(), model, arguments
            )
            shares = [steps[step * world + rank] for rank in range(world)]
            with monkeypatch.context() as patch:
                patch.setattr(TrainingArguments, "world_size", world)
                loss = sum(trainer.training_step(model, share) for share in shares) / world
            found[world] = loss, {n: g / world for n, g in gradients(model).items()}
        (loss, grads), (other, others) = found.values()
        torch.testing.assert_close(other, loss, rtol=1e-5, atol=0)
        scale = max(g.abs().max() for g in grads.values())
        assert max((grads[n] - others[n]).abs().max() for n in grads) < 1e-5 * scale
        assert steps.questions(step) == (24, 8)[step]


def test_a_loss_that_becomes_no_number_stops_and_gets_into_no_checkpoint(here, small_base, capsys):
    """The first step makes the weights so large that the second overflows."""
    more = ("training.learning_rate=1e30", "training.warmup_ratio=0", "training.save_steps=1")
    assert train(small_base, *more) == 1
    told = capsys.readouterr().err
    assert "the loss became nan at step 2" in told
    assert "hint: lower the learning rate" in told
    assert [c.name for c in Run(RUN).checkpoints()] == ["checkpoint-1"]
    assert not (RUN / "train_results.json").exists()
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1]
    assert math.isfinite(lines[0]["loss"])
    for name, weight in load_file(RUN / "checkpoint-1/adapter_model.safetensors").items():
        assert weight.isfinite().all(), name


def test_so_many_checkpoints_are_kept(here, small_base):
    more = ("training.save_total_limit=2", "training.save_steps=1", "training.max_steps=5")
    assert train(small_base, *more) == 0
    assert [c.name for c in Run(RUN).checkpoints()] == ["checkpoint-4", "checkpoint-5"]
    assert not list(RUN.glob(".checkpoint*"))


# each is another value than usual; six steps in epochs of four
RATES = ("training.learning_rate=0.003", "training.warmup_ratio=0.25",
         "training.lr_scheduler_type=cosine")  # fmt: skip
OPTIMIZER = (*RATES, "training.weight_decay=0.3", "training.max_grad_norm=0.001")
UNEVEN = ("data.train=train.json", "data.test=test.json", "training.images_per_step=2",
          "training.questions_per_image=2", "training.max_steps=6", "training.save_steps=9",
          *OPTIMIZER)  # fmt: skip


@pytest.fixture(scope="module")
def uneven(small_base, tmp_path_factory):
    """A run on images with 1, 2, 3 and 5 questions, and how many each step was trained on."""
    folder = tmp_path_factory.mktemp("uneven")
    samples = [replace(s, answer="yes") for s in make_samples(folder / "images", images=5)]
    tokens = []
    real = TreeTrainer.training_step

    def training_step(self, model, inputs, *more):
        tokens.append(sum(one.targets.numel() for one in inputs["step"].inputs))
        return real(self, model, inputs, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(TreeTrainer, "training_step", training_step)
        chosen = [s for image, n in enumerate((1, 2, 3, 5)) for s in samples[8 * image :][:n]]
        write_conversations(Path("train.json"), chosen)
        write_conversations(Path("test.json"), samples[32:33])
        assert train(small_base, *UNEVEN) == 0
    alone = tokens[3]  # the last step of an epoch has what is left: one question
    return folder, [count // alone for count in tokens]


def figures(run=RUN):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_settings_of_the_optimizer_are_those_of_its_steps(uneven):
    run = uneven[0] / RUN
    rates = [line["learning_rate"] / 0.003 for line in figures(run)]
    falling = [(1 + math.cos(math.pi * part / 4)) / 2 for part in range(4)]
    assert rates == pytest.approx([0, 0.5, *falling])
    state = torch.load(run / "checkpoint-6/optimizer.pt")
    decays = {group["weight_decay"] for group in state["param_groups"] if group["params"]}
    assert decays == {0.3}
    # every gradient was larger, so that the running mean of its squares is that of the bound
    assert all(line["grad_norm"] > 0.001 for line in figures(run))
    squares = sum(float(one["exp_avg_sq"].sum()) for one in state["state"].values())
    assert math.sqrt(squares / (1 - 0.999**6)) == pytest.approx(0.001, rel=0.01)


def test_the_figures_of_a_step_count_its_own_questions(uneven, monkeypatch):
    """Also where an older checkpoint, which did not count them, has to make them good."""
    folder, trained_on = uneven
    assert trained_on == [3, 4, 3, 1, 3, 4]
    monkeypatch.chdir(folder)
    assert [line["questions"] for line in figures()] == trained_on
    done = json.loads((RUN / "train_results.json").read_text())
    assert done["train_questions"] == sum(trained_on)
    pace = sum(trained_on) / done["train_runtime"]
    assert done["train_questions_per_second"] == pytest.approx(pace, rel=0.01)
    state = RUN / "checkpoint-6/trainer_state.json"
    known = json.loads(state.read_text())
    for line in known["log_history"]:
        del line["questions"]
    write_json(state, known)
    write_checksums(state.parent)
    for name in ("metrics.jsonl", "train_results.json"):
        (RUN / name).unlink()
    assert main(["train", str(RUN / "config.toml"), "--resume"]) == 0
    assert [line["questions"] for line in figures()] == trained_on
