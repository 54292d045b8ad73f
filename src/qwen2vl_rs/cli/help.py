"""What `--help` shows: commands in the order of the work, options in groups, examples."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import click

_OTHER = "Options"


class Command(click.Command):
    """A command whose help has its options in groups, and examples.

    Args:
        groups: title → names of its parameters, separated by blanks; what is in none is shown last.
        examples: command lines without the name of the program.
    """

    def __init__(
        self,
        *args: Any,
        groups: Mapping[str, str] | None = None,
        examples: Sequence[str] = (),
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.groups = {title: names.split() for title, names in (groups or {}).items()}
        self.examples = list(examples)

    def grouped(self, ctx: click.Context) -> dict[str, list[click.Parameter]]:
        """The options of each group, in the order of their definition."""
        title_of = {name: title for title, names in self.groups.items() for name in names}
        found: dict[str, list[click.Parameter]] = {title: [] for title in (*self.groups, _OTHER)}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue  # the usage line names it
            found[title_of.get(parameter.name or "", _OTHER)].append(parameter)
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        for title, parameters in self.grouped(ctx).items():
            records = [record for one in parameters if (record := one.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    line = f"{ctx.command_path} {line}".rstrip()
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Commands(click.Group):
    """A group that lists its commands in the order of the work, under titles.

    Args:
        titles: title → names of its commands, separated by blanks.
    """

    def __init__(self, *args: Any, titles: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self.titles = {title: names.split() for title, names in titles.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they were added."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the whole first sentence of its help."""
        longest = max(map(len, self.commands))
        for title, names in self.titles.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(longest), first_sentence(self.commands[name])) for name in names]
                )


def first_sentence(command: click.Command) -> str:
    """The first line of a command's help, never cut."""
    paragraph = inspect.cleandoc(command.help or "").partition("\n\n")[0]
    return " ".join(paragraph.split())
