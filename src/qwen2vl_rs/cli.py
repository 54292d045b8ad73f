"""The front door: one command per stage. Parses, calls, prints; knows nothing else.

stdout carries results, stderr the conversation. Exit codes: 0 ok, 1 an expected failure (with a
hint), 2 wrong usage, 130 interrupted. ``QWEN2VL_RS_DEBUG=1`` shows tracebacks.
"""

from __future__ import annotations

import difflib
import json
import os
import shlex
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from . import __version__, console
from .errors import ConfigError, Qwen2VLRSError

FILE = click.Path(path_type=Path)


class _Commands(click.Group):
    """A group that names the nearest command, and lists commands in the order of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            also = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{also}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version")
@click.option("-q", "--quiet", is_flag=True, help="Only results, warnings and errors.")
def cli(quiet: bool) -> None:
    """Teach Qwen2-VL to answer questions about satellite and aerial images.

    The five steps: load, data2csv, csv2json, train, compare. Then: ask.
    """
    console.set_quiet(quiet)


@cli.command()
@click.argument("repo", default="Qwen/Qwen2-VL-2B-Instruct")
@click.option(
    "--hub", type=click.Choice(["modelscope", "hf"]), default="modelscope", show_default=True,
    help="Where to fetch from.",
)  # fmt: skip
@click.option("--folder", type=FILE, help="Where to put it.  [default: the name of the model]")
@click.option("--revision", help="Branch, tag or commit.  [default: the hub's own]")
@click.option("--verify", is_flag=True, help="Check every file of a complete folder again.")
def load(repo: str, hub: str, folder: Path | None, revision: str | None, verify: bool) -> None:
    """Fetch a base model; goes on where it was interrupted.

    Every file is checked against the hub's own checksum. A complete folder is left alone, also
    without a network.
    """
    from .model.hub import load as fetch

    fetch(repo, hub=hub, folder=folder or Path(repo), revision=revision, verify=verify)  # type: ignore[arg-type]
    console.say("next: qwen2vl-rs data2csv")


@cli.command()
@click.option("--questions", type=FILE, help="[default: rsvqa_questions.json]")
@click.option("--answers", type=FILE, help="[default: the file beside the questions]")
@click.option("--images", type=FILE, help="Image folder.  [default: beside the questions]")
@click.option("--folder", type=FILE, help="A folder in the official layout, instead of the three.")
@click.option("--split", help="Split of --folder, e.g. train, val, test.")
@click.option(
    "-o", "--output", type=FILE, default=Path("rsvqa-dataset.csv"), show_default=True,
    help="The table.",
)  # fmt: skip
@click.option("--type", "with_type", is_flag=True, help="Also write the question type.")
def data2csv(
    questions: Path | None,
    answers: Path | None,
    images: Path | None,
    folder: Path | None,
    split: str | None,
    output: Path,
    with_type: bool,
) -> None:
    """Join RSVQA's questions, answers and images into a table.

    Reads every official file of RSVQA-LR, -HR and xBEN, by id; says what is left out and why.
    """
    from .data import rsvqa, sources

    if folder:
        if questions or answers:
            raise click.UsageError("give --folder, or --questions and --answers, not both")
        files = rsvqa.find_split(folder, split)
        questions, answers, images = files.questions, files.answers, images or files.images
    elif split:
        raise click.UsageError("--split needs --folder")
    else:
        questions = questions or Path("rsvqa_questions.json")
        answers = answers or rsvqa.answers_beside(questions)
        images = images or rsvqa.images_beside(questions)
    sources.data2csv(questions, answers, images, output, with_type)
    console.say(f"next: qwen2vl-rs csv2json{_option('--input', output, 'rsvqa-dataset.csv')}")


@cli.command()
@click.option(
    "-i", "--input", "table", type=FILE, default=Path("rsvqa-dataset.csv"), show_default=True,
    help="The table.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=FILE, default=Path("data_vl.json"), show_default=True,
    help="The conversations.",
)  # fmt: skip
def csv2json(table: Path, output: Path) -> None:
    """Turn the table into conversations."""
    from .data import sources

    sources.csv2json(table, output)
    console.say(f"next: qwen2vl-rs train{_option('--data', output, 'data_vl.json')}")


@cli.command()
@click.argument("config", type=FILE, required=False)
@click.option("--model", help="Folder of the base.  [default: Qwen/Qwen2-VL-2B-Instruct]")
@click.option("--data", help="Conversations to split.  [default: data_vl.json]")
@click.option("--train", "train_file", help="Ready training questions, instead of --data.")
@click.option("--test", "test_file", help="Ready test questions, instead of --data.")
@click.option(
    "--split-by",
    type=click.Choice(["image", "question"]),
    help="[default: image]",
)
@click.option("-o", "--output", help="Folder of the run.  [default: output/Qwen2-VL-2B]")
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder.")
@click.option(
    "--max-eval", type=click.IntRange(min=1),
    help="Test questions asked, by whole images.  [default: all]",
)  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="E.g. lora.r=16")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def train(config: Path | None, resume: bool, as_json: bool, **options: Any) -> None:
    """Fine-tune with LoRA, then evaluate before and after.

    CONFIG is a TOML file that holds what differs from the defaults. Questions may come as
    conversations, CSV or official question files.
    """
    from .config import load_config

    if options["data"] and options["train_file"]:
        raise click.UsageError("give --data, or --train and --test, not both")
    names = {
        "model": "model", "data": "data.conversations", "train_file": "data.train",
        "test_file": "data.test", "split_by": "data.split_by", "output": "output",
        "max_eval": "eval.max_eval",
    }  # fmt: skip
    given = {names[k]: v for k, v in options.items() if k in names and v is not None}
    loaded = load_config(config, options["settings"], given)
    with _needs_training():
        from .model.train import train as run
    outcome = run(loaded, resume=resume)
    if outcome is None:  # another process prints
        return
    from .report.text import verdict

    _print(
        json.dumps(outcome.comparison, indent=2)
        if as_json
        else verdict(outcome.after, outcome.comparison)
    )
    again = _option("--run", Path(loaded.output), "output/Qwen2-VL-2B")
    console.say(f"next: qwen2vl-rs compare{again} --only broken")


@cli.command()
@click.option(
    "--run", type=FILE, default=Path("output/Qwen2-VL-2B"), show_default=True,
    help="Folder of the run.",
)  # fmt: skip
@click.option("--model", type=FILE, help="Folder of the base.  [default: the checkpoint's own]")
@click.option("--checkpoint", type=FILE, help="Checkpoint.  [default: the newest of the run]")
@click.option("--test", type=FILE, help="Test questions.  [default: data_vl_test.json]")
@click.option(
    "--only", type=click.Choice(["all", "fixed", "broken", "wrong"]), default="all",
    show_default=True, help="fixed: wrong before, right after; broken: the reverse; "
    "wrong: wrong after.",
)  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Print at most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def compare(
    run: Path,
    model: Path | None,
    checkpoint: Path | None,
    test: Path | None,
    only: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show every test question with the answers before and after.

    Predictions that training has left in the run are used again; what is missing is asked.
    """
    with _needs_training():
        from .model.compare import compare as pairs
    from .report.text import pair_table

    rows = pairs(run, model=model, checkpoint=checkpoint, test=test)
    chosen = [row for row in rows if row.is_(only)]
    shown = chosen[:limit]
    if as_json:
        for row in shown:
            _print(json.dumps(row.as_dict(), ensure_ascii=False))
    elif shown:
        _print(pair_table(shown))
    console.say(f"{len(shown):,} of {len(chosen):,} shown; {len(rows):,} questions in all")


@cli.command()
@click.argument("model", type=FILE)
@click.argument("image", type=FILE)
@click.argument("questions", nargs=-1, required=True)
@click.option("--base", type=FILE, help="Base of a checkpoint.  [default: where it was]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def ask(
    model: Path, image: Path, questions: Sequence[str], base: Path | None, as_json: bool
) -> None:
    """Ask questions about one image; the image is encoded once.

    MODEL is a run folder, a checkpoint or a base.
    """
    with _needs_training():
        from .model.ask import ask as put

    if not all(q.strip() for q in questions):
        raise click.UsageError("a question is empty")
    answers = put(model, image, questions, base)
    if as_json:
        rows = [
            {"question": q, "answer": a.text, "confidence": round(a.confidence, 6)}
            for q, a in zip(questions, answers, strict=True)
        ]
        _print(json.dumps(rows, ensure_ascii=False, indent=2))
    elif len(questions) == 1:
        _print(answers[0].text)
    else:
        for question, one in zip(questions, answers, strict=True):
            _print(f"{question}\t{' '.join(one.text.split())}")


def _option(name: str, value: Path, default: str) -> str:
    """The option to type in the next command, where the value is not its default."""
    return "" if str(value) == default else f" {name} {shlex.quote(str(value))}"


class _needs_training:
    """Turns a missing torch into the command that installs it."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, tb: Any) -> None:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("qwen2vl"):
            raise ConfigError(
                f"this command needs {error.name}, which is not installed",
                hint="pip install 'qwen2vl-rs[train]'",
            ) from error


def _print(text: str) -> None:
    click.echo(text)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        cli.main(args=args, prog_name="qwen2vl-rs", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except OSError as error:  # stdout cannot be written to
        click.echo(f"error: cannot print the result: {error.strerror}", err=True)
        return 1
    except SystemExit:  # click's answer to a closed pipe: `… | head` is no failure
        return 0
    except Qwen2VLRSError as error:
        if os.environ.get("QWEN2VL_RS_DEBUG"):
            traceback.print_exc()
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return 1
    return 0
