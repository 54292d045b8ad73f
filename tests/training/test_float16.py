"""Training in float16: the loss scaled up, steps that overflow skipped, counted, and bounded."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from bases import configured
from factory import make_samples
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.training import trainer
from qwen2vl_rs.training.fit import train

RUN = Path("output/Qwen2-VL-2B")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=6))
    return tmp_path


def lines(run=RUN):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_float16_learns_as_float32_does_and_resumes(here, small_base, trained, capsys):
    half = ("training.fp16=true", "output=output/whole", "eval.max_eval=1")
    train(configured(small_base, *half))
    assert "in float16 (as set by" in capsys.readouterr().err
    assert json.loads(Path("output/whole/manifest.json").read_text())["dtype"] == "float16"
    exact, whole = lines(trained[0] / RUN), lines(Path("output/whole"))
    assert whole[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.01)
    assert whole[-1]["loss"] < 0.8 * whole[0]["loss"]
    skipped = sum(line.get("skipped_steps", 0) for line in whole)
    scaler = torch.load("output/whole/checkpoint-8/scaler.pt")
    assert scaler["scale"] == 65536 / 2**skipped
    # stopped after the first checkpoint, and resumed with the scale of the loss as it was
    shutil.rmtree("output/whole/checkpoint-8")
    Path("output/whole/train_results.json").unlink()
    train(configured(small_base, *half), resume=True)
    resumed = lines(Path("output/whole"))
    assert [line["loss"] for line in resumed] == [line["loss"] for line in whole]


class Overflowing(torch.autograd.Function):
    """Passes values on and makes their gradient overflow."""

    @staticmethod
    def forward(context, x):
        return x

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.inf


def overflow(monkeypatch, steps):
    """Let the gradients of some steps overflow, counted from 0."""
    real, step = trainer.pack_loss, iter(range(1000))

    def pack_loss(model, inputs):
        loss = real(model, inputs)
        return Overflowing.apply(loss) if next(step) in steps else loss

    monkeypatch.setattr(trainer, "pack_loss", pack_loss)


@pytest.mark.slow
def test_steps_that_overflow_are_skipped_and_counted(here, small_base, monkeypatch, capsys):
    overflow(monkeypatch, {0, 3})
    train(configured(small_base, "training.fp16=true", "eval.max_eval=1"))
    assert [line.get("skipped_steps", 0) for line in lines()] == [1, 0, 0, 1, 0, 0, 0, 0]
    assert ["grad_norm" in line for line in lines()] == [False, True, True, False] + [True] * 4
    assert json.loads((RUN / "train_results.json").read_text())["skipped_steps"] == 2
    assert "2 of 8 steps were skipped" in capsys.readouterr().err
    # the rate waits with the step: it is what it was
    rates = [line["learning_rate"] for line in lines()]
    assert rates[4] == rates[3]


@pytest.mark.slow
def test_many_skipped_in_a_row_stop_the_run(here, small_base, monkeypatch):
    monkeypatch.setattr(trainer, "_MOST_SKIPPED", 3)
    overflow(monkeypatch, {2, 3, 5, 6, 7})
    with pytest.raises(
        RunError, match="3 steps in a row were skipped, the last is step 8"
    ) as caught:
        train(configured(small_base, "training.fp16=true", "eval.max_eval=1"))
    assert "training.fp16=false" in caught.value.hint
    assert [p.name for p in sorted(RUN.glob("checkpoint-*"))] == ["checkpoint-4"]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_stops_a_run_in_float32_before_it_is_kept(
    here, small_base, monkeypatch, what
):
    real, step = trainer.pack_loss, iter(range(1000))

    def pack_loss(model, inputs):
        loss = real(model, inputs)
        if next(step) < 3:
            return loss
        return loss * torch.nan if what == "loss" else Overflowing.apply(loss)

    monkeypatch.setattr(trainer, "pack_loss", pack_loss)
    with pytest.raises(RunError, match=f"the {what} became (nan|inf) at step 4") as caught:
        train(configured(small_base))
    assert "learning_rate" in caught.value.hint
    assert not list(RUN.glob("checkpoint-*"))  # it would have been saved in this very step
    assert all("nan" not in line for line in (RUN / "metrics.jsonl").read_text().splitlines())
