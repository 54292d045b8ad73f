"""Hints in terms of Python."""

import pytest

from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.system.calls import commands, in_python, public, require_one_of


@pytest.mark.parametrize(
    ("command", "python"),
    [
        ("choose another folder: --output FOLDER", "choose another folder: output=..."),
        ("one of its splits: --split train|val", 'one of its splits: split="train|val"'),
        ("go on: --resume; or another: --output", "go on: resume=True; or another: output=..."),
        ("name the questions: --test FILE", "name the questions: data=..."),
        ("get it: qwen2vl-rs load Qwen/Qwen2-VL-2B", 'get it: rs.download("Qwen/Qwen2-VL-2B")'),
        ("train first: qwen2vl-rs train", "train first: rs.train(...)"),
        ("run: qwen2vl-rs eval", "run: rs.evaluate(...)"),
        ("name one: --set data.dataset=LR", "name one: settings={'data.dataset': 'LR'}"),
        ("did you mean base?", "did you mean base?"),
    ],
)  # fmt: skip
def test_options_become_arguments(command, python):
    assert in_python(command) == python


def test_an_error_says_its_hint_in_python():
    @public
    def fails():
        raise ConfigError("no", hint="choose another: --output FOLDER")

    with pytest.raises(ConfigError) as caught:
        fails()
    assert caught.value.hint == "choose another: output=..."
    assert caught.value.__notes__ == ["hint: choose another: output=..."]


def test_an_interrupted_call_says_that_it_resumes():
    @public
    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        stopped()
    assert "resumes" in caught.value.__notes__[0]


def test_few_values_are_named():
    require_one_of("lang", "zh", "en", "zh")
    with pytest.raises(ConfigError, match="lang='de'") as caught:
        require_one_of("lang", "de", "en", "zh")
    assert "'en', 'zh'" in caught.value.hint


def test_the_command_line_keeps_its_options():
    @public
    def fails():
        raise ConfigError("no", hint="choose another: --output FOLDER")

    with commands(), pytest.raises(ConfigError) as caught:
        fails()
    assert caught.value.hint == "choose another: --output FOLDER"
