"""``train``, ``eval`` and ``compare``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..library.early import require_model, require_questions, require_run, require_training
from ..library.ranges import CONCURRENCY
from ..system import console
from .common import (
    FILE,
    Number,
    checkpoint_option,
    device_option,
    given_settings,
    interruptible,
    json_text,
    needs_training,
    option,
    same_command,
    training_inputs,
    whose_option,
)
from .help import Command
from .output import show

if TYPE_CHECKING:
    from ..scoring.results import Results


def _at_most(name: str, what: str) -> Callable[[Any], Any]:
    """An option that limits the number of questions."""
    text = f"Maximum number of {what}, as whole images where possible.  [default: all]"
    return click.option(name, type=click.IntRange(min=1), help=text)


@click.command(
    cls=Command,
    groups={
        "Data": "data train_file test_file val val_fraction split_by dataset images max_train "
        "max_train_images max_eval",
        "Training": "model adapter settings device",
        "Run": "output resume auto_resume as_json",
    },
    examples=[
        "",
        "--train train.csv --test test.csv -o output/lr",
        "--val-fraction 0.1 --set training.early_stopping_patience=3",
        "config.toml --set lora.r=16 --set training.learning_rate=2e-4",
        "output/lr/config.toml --resume",
    ],
)
@click.argument("config", type=FILE, required=False)
@training_inputs
@click.option("--split-by", type=click.Choice(["image", "question"]), help="[default: image]")
@click.option("--resume", is_flag=True, help="Resume the run in the output folder.")
@click.option(
    "--auto-resume",
    is_flag=True,
    help="Resume if the output folder holds a run, else start: for scripts of batch systems.",
)
@_at_most("--max-eval", "test questions")
@_at_most("--max-train", "training questions")
@click.option(
    "--max-train-images",
    type=click.IntRange(min=1),
    help="Maximum number of training images.  [default: all]",
)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def train(
    config: Path | None,
    resume: bool,
    auto_resume: bool,
    as_json: bool,
    device: str | None,
    **options: Any,
) -> None:
    """Fine-tune with LoRA, and evaluate the model before and after.

    CONFIG is a TOML file with the settings that differ from the defaults. Questions are read from
    conversations, tables, official question files, and the formats of LLaMA-Factory, ms-swift,
    LLaVA and Hugging Face (Parquet).
    """
    from ..config_file import load_config
    from ..run import Run

    if options["data"] and options["train_file"]:
        raise click.UsageError("give --data, or --train and --test, not both")
    if resume and auto_resume:
        raise click.UsageError("give --resume or --auto-resume, not both")
    if options["split_by"] and options["train_file"]:
        raise click.UsageError("--split-by goes with --data: --train and --test are already split")
    given = given_settings(options)
    if resume and config and "output" not in given and Run(config.parent).holds_run():
        # from whichever folder: the run is the one whose settings these are
        given["output"] = str(config.parent)
    if options["images"]:
        given["data.images"] = os.path.abspath(options["images"])  # the run may be used elsewhere
    if options["adapter"]:
        given["lora.adapter"] = os.path.abspath(options["adapter"])  # which may be gone at a resume
    loaded = load_config(config, options["settings"], given)
    resume = resume or (auto_resume and Run(Path(loaded.output)).holds_run())
    require_training(loaded, resume)
    with interruptible(Run(Path(loaded.output)).interruption_summary):
        with needs_training(device):
            from ..training.fit import train as run
        outcome = run(loaded, resume=resume)
    if outcome is None:  # another process prints
        return
    from ..reporting.text import training_summary

    if as_json:
        click.echo(json_text(outcome.comparison, 2))
    else:
        show(training_summary(outcome.before, outcome.after, outcome.comparison))
    place = shlex.quote(loaded.output)
    console.say(f"next: qwen2vl-rs report{'' if place == 'output/Qwen2-VL-2B' else f' {place}'}")
    again = option("--run", Path(loaded.output), "output/Qwen2-VL-2B")
    console.say(f"next: qwen2vl-rs compare{again} --only broken")


@click.command(
    "eval",
    cls=Command,
    groups={
        "Questions": "test train_questions dataset images max_eval",
        "Model": "checkpoint answers base device settings",
        "Server": "endpoint name concurrency rate",
        "Output": "output protocols as_json",
    },
    examples=[
        "output/demo --answers closed",
        "output/demo --test vrsbench.csv --max-eval 1000",
        "--endpoint http://127.0.0.1:8000/v1 --model qwen2-vl --test data_vl_test.json",
    ],
)
@click.argument("model", type=FILE, required=False)
@click.option("--test", type=FILE, help="Questions.  [default: the test questions of the run]")
@click.option(
    "--train-questions",
    type=FILE,
    help="For the baselines and candidate answers.  [default: those of the run]",
)
@click.option(
    "--answers",
    type=click.Choice(["free", "closed"]),
    help="free: generate the answer; closed: rank the candidate answers.  [default: free]",
)
@checkpoint_option
@click.option("--base", type=FILE, help="Base model of a checkpoint.  [default: as in training]")
@whose_option
@click.option("--images", type=FILE, help="Folder to which the images were moved.")
@device_option
@click.option("-o", "--output", type=FILE, help="Folder of the evaluation.  [default: in the run]")
@_at_most("--max-eval", "questions")
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    default=["official"],
    show_default=True,
    help="Protocol to print; results.json has all.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="E.g. eval.samples=0.")
@click.option(
    "--endpoint",
    metavar="URL",
    help="OpenAI-compatible server to evaluate, e.g. http://127.0.0.1:8000/v1.",
)
@click.option("--model", "name", metavar="NAME", help="With --endpoint: name of the model.")
@click.option(
    "--concurrency",
    type=click.IntRange(*CONCURRENCY),
    default=8,
    show_default=True,
    help="With --endpoint: concurrent requests.",
)
@click.option(
    "--rate",
    type=Number(0, min_open=True),
    metavar="N",
    help="With --endpoint: maximum requests per second.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
def evaluate(
    model: Path | None,
    test: Path | None,
    train_questions: Path | None,
    answers: str | None,
    checkpoint: str | None,
    base: Path | None,
    dataset: str | None,
    images: Path | None,
    device: str | None,
    output: Path | None,
    max_eval: int | None,
    protocols: tuple[str, ...],
    settings: tuple[str, ...],
    endpoint: str | None,
    name: str | None,
    concurrency: int,
    rate: float | None,
    as_json: bool,
) -> None:
    """Evaluate a model on a set of questions, with all baselines.

    MODEL is a run folder, a checkpoint or a base model; with --endpoint, the model is behind a
    server, and its key is read from OPENAI_API_KEY. The same command resumes.
    """
    from ..questions.protocols import protocol
    from ..reporting.text import results_table

    for one in protocols:
        protocol(one)
    given = {"eval.answers": answers, "eval.max_eval": max_eval, "data.dataset": dataset}
    values = {key: value for key, value in given.items() if value is not None}
    if images:
        values["data.images"] = os.path.abspath(images)
    require_questions(test, images, dataset)
    found: Results | None
    if endpoint is not None:
        if model or base or device or checkpoint or not (name and test):
            raise click.UsageError("--endpoint goes with --model NAME and --test FILE alone")
        if answers == "closed":
            raise click.UsageError("a server generates its answers: --answers free")
        from ..library.model import load

        there = load(endpoint=endpoint, model=name, concurrency=concurrency, rate=rate)
        with interruptible(same_command("all answers so far")):
            found, _ = there.evaluated(test, train_questions, values, output, settings)
    else:
        if not model or name:
            raise click.UsageError("give MODEL, or --endpoint URL --model NAME")
        require_model(model, base)
        with needs_training(device):
            from ..models.location import locate
            from ..predict.evaluation import evaluate as run
        questions: Any = {"test": test, "train": train_questions}
        with interruptible(same_command("all answers so far")):
            found, _ = run(
                locate(model, base, checkpoint), settings, values, output=output, **questions
            )
    if found:  # else another process prints
        click.echo(json_text(found, 2)) if as_json else show(results_table(found, protocols))


@click.command(
    cls=Command,
    groups={
        "Questions": "test dataset images",
        "Model": "named model checkpoint device",
        "Output": "only limit as_json",
    },
    examples=[
        "output/demo --only broken",
        "output/demo --json > pairs.jsonl",
    ],
)
@click.argument("place", type=FILE, required=False, metavar="[RUN]")
@click.option("--run", "named", type=FILE, help="The same as RUN.")
@click.option(
    "--base",
    "--model",
    "model",
    type=FILE,
    help="Base model.  [default: as in training]",
)
@checkpoint_option
@click.option("--test", type=FILE, help="Test questions.  [default: those of the run]")
@whose_option
@click.option("--images", type=FILE, help="Folder to which the images were moved.")
@device_option
@click.option(
    "--only",
    type=click.Choice(["all", "fixed", "broken", "wrong"]),
    default="all",
    show_default=True,
    help="fixed: wrong before, right after; broken: the reverse; wrong: wrong after.",
)
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Maximum questions to print.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")
def compare(
    place: Path | None,
    named: Path | None,
    model: Path | None,
    checkpoint: str | None,
    test: Path | None,
    dataset: str | None,
    images: Path | None,
    device: str | None,
    only: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show every test question with the answers before and after training.

    RUN is output/Qwen2-VL-2B by default. Existing predictions of the run are reused; missing ones
    are computed.
    """
    if place and named:
        raise click.UsageError("give RUN or --run, not both")
    if dataset and not test:
        raise click.UsageError("--dataset goes with --test")
    run = place or named or Path("output/Qwen2-VL-2B")
    require_run(run)
    require_questions(test, images, dataset)
    if model:
        require_model(model)
    with needs_training(device):
        from ..predict.side_by_side import compare as pairs
    from ..reporting.text import pair_table

    images = images and Path(os.path.abspath(images))  # the run may be used elsewhere
    with interruptible(same_command("all answers so far")):
        rows = pairs(
            run, model=model, checkpoint=checkpoint, test=test, images=images, dataset=dataset
        )
    chosen = [row for row in rows if row.is_(only)]
    first = chosen[:limit]
    if as_json:
        for row in first:
            click.echo(json_text(row.as_dict()))
    elif first:
        show(pair_table(first))
    console.say(f"{len(first):,} of {len(chosen):,} shown; {len(rows):,} questions in total")
