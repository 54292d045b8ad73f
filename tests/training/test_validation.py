"""Validation in training: scores as `eval` gives them, best checkpoint, patience, exact resume."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bases import configured
from factory import make_samples
from plain import plain_loss
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.tables import read_conversations, write_conversations
from qwen2vl_rs.errors import ConfigError, DataError
from qwen2vl_rs.models.loader import attach_adapter, load_base
from qwen2vl_rs.models.location import locate
from qwen2vl_rs.predict.evaluation import evaluate
from qwen2vl_rs.run import TEST_FILE, TRAIN_FILE, VAL_FILE, Run
from qwen2vl_rs.scoring.predictions import read_predictions
from qwen2vl_rs.training.fit import train
from qwen2vl_rs.training.trainer import TreeTrainer
from qwen2vl_rs.training.validation import Validator

RUN = Path("output/Qwen2-VL-2B")
EACH = ("data.val_fraction=0.3", "training.save_steps=2", "lora.lora_dropout=0.2")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=8))
    return tmp_path


@pytest.fixture(scope="module")
def validated(tmp_path_factory, small_base):
    """A run with validation at each of its checkpoints, not to be written to."""
    folder = tmp_path_factory.mktemp("validated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_conversations(Path("data_vl.json"), make_samples(folder / "images", images=8))
        train(configured(small_base, *EACH))
    return folder


@pytest.fixture
def copied(validated, tmp_path, monkeypatch):
    """A copy of it, in the current folder."""
    folder = shutil.copytree(validated, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


def metrics(run=RUN):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def adapter(run=RUN):
    newest = Run(run).newest_checkpoint()
    return (newest / "adapter_model.safetensors").read_bytes()


def test_the_parts_share_no_image_and_the_test_part_is_that_without_validation(validated):
    parts = {n: list(read_conversations(validated / n)) for n in (TRAIN_FILE, VAL_FILE, TEST_FILE)}
    images = {name: {s.image for s in part} for name, part in parts.items()}
    assert [len(one) for one in images.values()] == [4, 2, 2]
    assert len(set.union(*images.values())) == 8
    run = validated / RUN
    assert (run / "data/val.json").read_bytes() == (validated / VAL_FILE).read_bytes()
    assert json.loads((run / "manifest.json").read_text())["data"][VAL_FILE]["questions"] == 16


def test_a_validation_is_an_evaluation_row_by_row(copied):
    lines = {one["step"]: one for one in metrics() if "eval_OA" in one}
    assert list(lines) == [2, 4, 6, 8]
    for step, line in lines.items():
        found, folder = evaluate(locate(RUN, None, f"checkpoint-{step}"), test=Path(VAL_FILE))
        ours = read_predictions(Validator.folder(Run(RUN), step) / "predictions.jsonl")
        assert ours == read_predictions(folder / "predictions.jsonl")
        score = found["protocols"]["official"]
        assert line["eval_OA"] == score["OA"]
        assert [line["eval_OA_low"], line["eval_OA_high"]] == score["OA_ci"]
        assert [line["eval_AA_low"], line["eval_AA_high"]] == score["AA_ci"]
        assert line["eval_accuracy_count"] == score["types"]["count"]["accuracy"]


@pytest.mark.parametrize(
    "more",
    [("training.bf16=true",), ("training.bf16=true", "training.merger=full"),
     ("training.fp16=true", "training.vision_tower=lora")],
    ids=["bf16", "merger", "fp16"],
)  # fmt: skip
def test_validation_answers_in_the_precision_of_an_evaluation(here, small_base, more):
    """Not in the mixed precision of training, which accelerate puts around the model."""
    train(configured(small_base, *EACH, *more, "training.max_steps=2"))
    _, folder = evaluate(locate(RUN), test=RUN / "data/val.json")
    ours = read_predictions(Validator.folder(Run(RUN), 2) / "predictions.jsonl")
    assert ours == read_predictions(folder / "predictions.jsonl")


@pytest.mark.parametrize("more", [{"max_steps": 1}, {"num_train_epochs": 3}])
def test_the_held_out_loss_is_over_each_question_once(here, small_base, monkeypatch, more):
    counted = []

    def watched(self):
        counted.append(sum(map(self._steps.questions, range(self._steps.steps))))
        return real(self)

    real = Validator._loss
    monkeypatch.setattr(Validator, "_loss", watched)
    settings = [f"training.{key}={value}" for key, value in more.items()]
    train(configured(small_base, "data.val_fraction=0.3", "training.save_steps=99", *settings))
    assert counted == [16]


def test_closed_answers_are_those_of_an_evaluation(here, small_base):
    more = ("eval.answers=closed", "training.max_steps=2", "data.max_val=11")
    train(configured(small_base, *EACH, *more))
    _, folder = evaluate(locate(RUN), test=RUN / "data/val.json")
    ours = read_predictions(Validator.folder(Run(RUN), 2) / "predictions.jsonl")
    assert ours == read_predictions(folder / "predictions.jsonl")
    assert len(ours) == 8  # one whole image
    assert all(p.confidence is not None for p in ours)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_held_out_loss_is_that_of_plain_transformers(validated, small_base):
    base = load_base(small_base, InputConfig(), torch.device("cpu"), torch.float32)
    samples = list(read_conversations(validated / VAL_FILE))
    run = validated / RUN
    for line in metrics(run):
        if "eval_loss" in line:
            model = attach_adapter(base, run / f"checkpoint-{line['step']}")
            with torch.no_grad():
                total, tokens = plain_loss(base, model, samples)
            assert line["eval_loss"] == pytest.approx(float(total / tokens), rel=1e-5)
            model.unload()


def test_training_does_not_depend_on_validation(validated, here, small_base):
    """Dropout draws the same numbers, and the time of validation is not that of training."""
    for name in (TRAIN_FILE, TEST_FILE):
        shutil.copy(validated / name, name.replace("data_vl_", ""))
    train(configured(small_base, "data.train=train.json", "data.test=test.json",
                     "training.save_steps=8", EACH[-1]))  # fmt: skip
    both = [metrics(), metrics(validated / RUN)]
    keys = ("step", "loss", "grad_norm", "learning_rate")
    plain, with_validation = ([[one[k] for k in keys] for one in lines] for lines in both)
    assert plain == with_validation
    assert adapter() == adapter(validated / RUN)
    assert not any(key.startswith("eval_") for one in both[0] for key in one)


def test_the_best_checkpoint_is_kept_used_and_named(here, small_base, monkeypatch, capsys):
    scores = {2: 0.5, 4: 0.75, 6: 0.5, 8: 0.25}
    judged(monkeypatch, scores)
    train(configured(small_base, *EACH, "training.save_total_limit=1"))
    assert [c.name for c in Run(RUN).checkpoints()] == ["checkpoint-4", "checkpoint-8"]
    folders = sorted(path.name for path in (RUN / "eval").glob("validation-*"))
    assert folders == ["validation-4", "validation-8"]
    named = "checkpoint-4, best of 4 by validation OA"
    assert named in capsys.readouterr().err
    assert json.loads((RUN / "compare.json").read_text())["checkpoint"] == "checkpoint-4"
    image = next(iter(read_conversations(Path(TEST_FILE)))).image
    for words in (["compare"], ["ask", str(RUN), image, "Is there a road?"],
                  ["export", str(RUN), "-o", "out"], ["eval", str(RUN)]):  # fmt: skip
        assert main(words) == 0
        assert named in capsys.readouterr().err, words
    chosen = load_file("out/adapter_model.safetensors")
    best = load_file(RUN / "checkpoint-4/adapter_model.safetensors")
    assert all(torch.equal(chosen[name], weight) for name, weight in best.items())
    assert main(["compare", "--checkpoint", "last", "--json"]) == 0
    assert named not in capsys.readouterr().err
    assert (RUN / "eval/checkpoint-8/predictions.jsonl").is_file()
    assert main(["eval", str(RUN), "--checkpoint", "last"]) == 0
    assert (RUN / "eval/test-free-checkpoint-8/results.json").is_file()
    assert main(["report", str(RUN)]) == 0
    assert named in (RUN / "report.md").read_text(encoding="utf-8")
    assert main(["report", str(RUN), "--lang", "zh"]) == 0
    assert "验证 OA" in (RUN / "report.html").read_text(encoding="utf-8")


def judged(monkeypatch, scores):
    """Replace the scores of the validations, by step: the answers stay real."""
    real = Validator.run

    def run(self, step):
        return {**real(self, step), "OA": scores[step]}

    monkeypatch.setattr(Validator, "run", run)


def test_patience_ends_training_and_a_resumed_run_stays_ended(
    here, small_base, monkeypatch, capsys
):
    judged(monkeypatch, {2: 0.5, 4: 0.5, 6: 0.25, 8: 1.0})
    config = configured(small_base, *EACH, "training.early_stopping_patience=2")
    train(config)
    said = "training ended at step 6: 2 validations without a better OA than at step 2"
    assert said in capsys.readouterr().err
    assert [line["step"] for line in metrics()] == [1, 2, 3, 4, 5, 6]
    whole = metrics(), adapter()
    # as if it had been killed before the results were written, and the metrics lost
    for name in ("train_results.json", "compare.json", "metrics.jsonl"):
        (RUN / name).unlink()
    train(config, resume=True)
    assert said in capsys.readouterr().err
    assert (metrics(), adapter()) == whole
    assert json.loads((RUN / "train_results.json").read_text())["train_steps"] == 6


def test_a_killed_run_ends_as_one_that_was_not(here, small_base, monkeypatch, validated):
    """Killed at the exact end of an epoch, and twice in the second, also within a validation."""
    config = configured(small_base, *EACH)
    seen = {}
    step, validate = TreeTrainer.training_step, Validator.run
    monkeypatch.setattr(TreeTrainer, "training_step", lambda self, model, inputs, n=None: (
        watched(self, inputs), step(self, model, inputs, n))[1])  # fmt: skip
    kills = {"step": set(), "validation": set()}

    def watched(trainer, inputs):
        number = trainer.state.global_step + 1
        if number in kills["step"]:
            kills["step"].discard(number)
            raise KeyboardInterrupt
        shown = [layout.ids.tobytes() for layout in inputs["step"].layouts]
        assert seen.setdefault(number, shown) == shown  # a repeated step has the same questions

    def validated_until(self, number):
        found = validate(self, number)
        if number in kills["validation"]:
            kills["validation"].discard(number)
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Validator, "run", validated_until)
    train(config)
    whole = [{k: v for k, v in one.items() if "seconds" not in k} for one in metrics()], adapter()
    first, best = dict(seen), Run(RUN).validation()
    assert len(first) == 8  # two epochs of four steps
    assert len(set(map(tuple, first.values()))) == 8
    for number in (5, 6, 8):  # 5: after the checkpoint at the end of the first epoch
        shutil.rmtree(RUN)
        kills["step"], kills["validation"] = {number, 8}, {6}
        begun = False
        for _ in range(4):
            try:
                train(config, resume=begun)
                break
            except KeyboardInterrupt:
                begun = True
        assert kills == {"step": set(), "validation": set()}
        again = [{k: v for k, v in o.items() if "seconds" not in k} for o in metrics()], adapter()
        assert again == whole
        assert seen == first
        assert replace(Run(RUN).validation(), scores={}) == replace(best, scores={})


def test_validation_questions_from_a_file(here, small_base, capsys):
    samples = list(read_conversations(Path("data_vl.json")))
    names = {"train.json": samples[:32], "val.json": samples[24:48], "test.json": samples[40:]}
    for name, part in names.items():
        write_conversations(Path(name), part)
    words = ["train", "--train", "train.json", "--val", "val.json", "--test", "test.json"]
    settings = [f"model={small_base}", "training.max_steps=1", "training.report_to=[]", "lora.r=2"]
    assert main([*words, *(w for s in settings for w in ("--set", s))]) == 0
    told = capsys.readouterr().err
    assert "1 image is in train and val; 1 image is in val and test" in told
    assert f"{VAL_FILE}: 24 questions about 3 images" in told
    assert "step 1: validation OA" in told
    assert "checkpoint-1, best of 1 by validation OA" in told


def test_an_extension_that_is_interrupted_is_not_finished(copied, small_base, monkeypatch, capsys):
    """Nor are the results of the run before taken for its results."""
    command = ["train", f"{RUN}/config.toml", "--resume", "--set", "training.num_train_epochs=3"]

    def stopped(self, model, inputs, items=None):
        if self.state.global_step == 10:
            raise KeyboardInterrupt
        return real(self, model, inputs, items)

    real = TreeTrainer.training_step
    with monkeypatch.context() as patch:
        patch.setattr(TreeTrainer, "training_step", stopped)
        assert main(command) == 130
    assert Run(RUN).planned_steps() == 12
    (RUN / "eval/after/predictions.jsonl").unlink()  # as if it had been asked of a new checkpoint
    assert main(["compare"]) == 0
    assert not (RUN / "eval/after/results.json").exists()
    assert main(command) == 0
    assert Run(RUN).planned_steps() is None
    assert (RUN / "eval/after/results.json").is_file()


def test_a_best_checkpoint_that_is_gone_begins_anew(here, small_base, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        judged(patch, {2: 1.0, 4: 0.5, 6: 0.5, 8: 0.5})
        train(configured(small_base, *EACH))
    for name in ("train_results.json", "compare.json"):
        (RUN / name).unlink()
    shutil.rmtree(RUN / "checkpoint-2")
    command = ["train", f"{RUN}/config.toml", "--resume", "--set", "training.num_train_epochs=3"]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "checkpoint-2, best of 4 by validation OA, is gone: the best is chosen among" in told
    assert "best of 2 by validation OA" in told


def test_the_files_in_the_current_folder_can_be_given_again(copied, small_base):
    settings = [f"model={small_base}", "training.max_steps=1", "training.report_to=[]", "lora.r=2"]
    more = [w for s in settings for w in ("--set", s)]
    parts = ["--train", TRAIN_FILE, "--val", VAL_FILE, "--test", TEST_FILE]
    assert main(["train", *parts, "-o", "other", *more]) == 0
    assert main(["train", "--val", VAL_FILE, "-o", "third", *more]) == 0


def test_settings_that_contradict(here, small_base):
    for more, words in (
        (("data.val=a.json", "data.val_fraction=0.1"), "give val or val_fraction, not both"),
        (("training.early_stopping_patience=2",), "needs validation questions"),
        (("data.max_val=2",), "max_val needs validation questions"),
    ):
        with pytest.raises(ConfigError, match=words):
            configured(small_base, *more)
    write_conversations(Path("few.json"), list(read_conversations(Path("data_vl.json")))[:16])
    with pytest.raises(DataError, match="a split needs at least 2 images"):
        train(configured(small_base, "data.conversations=few.json", "data.val_fraction=0.5"))


def test_validation_belongs_to_the_run(copied, small_base):
    config = configured(small_base, *EACH)
    (RUN / "data/val.json").write_text("[]")
    (RUN / "compare.json").unlink()
    assert main(["train", f"{RUN}/config.toml", "--resume"]) == 1
    with pytest.raises(Exception, match=r"data\.val_fraction was 0\.3, is 0\.0"):
        train(
            config.model_copy(
                update={"data": config.data.model_copy(update={"val_fraction": 0.0})}
            ),
            resume=True,
        )
