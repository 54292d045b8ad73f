"""What --help shows."""

import shlex

import click
import pytest

from qwen2vl_rs.cli import COMMANDS, cli, main
from qwen2vl_rs.cli.help import Command, first_sentence


def test_every_command_stands_under_one_title_with_its_whole_sentence(capsys):
    named = [name for names in cli.titles.values() for name in names]
    assert sorted(named) == sorted(cli.commands)
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name in named:
        assert f"{name} {first_sentence(cli.commands[name])}" in said
    assert "..." not in said.replace("[ARGS]...", "")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_examples_can_be_typed(command):
    assert isinstance(command, Command)
    assert command.examples
    for line in command.examples:
        words = shlex.split(line.partition(" > ")[0])
        context = command.make_context(command.name, words, resilient_parsing=False)
        assert context.params


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_groups_name_parameters_that_are_there(command):
    known = {p.name for p in command.params if not isinstance(p, click.Argument)}
    named = [name for names in command.groups.values() for name in names]
    assert len(named) == len(set(named))
    assert set(named) <= known
    if len(known) > 6:
        assert len(known - set(named)) <= 1, known - set(named)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_all_options_and_examples_are_shown(command, capsys):
    assert main([command.name, "--help"]) == 0
    said = capsys.readouterr().out
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.opts[0] in said
    for line in command.examples:
        assert f"qwen2vl-rs {command.name} {line}".rstrip() in map(str.strip, said.splitlines())
