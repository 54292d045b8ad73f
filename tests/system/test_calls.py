"""Public calls."""

import pytest

from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.system.calls import commands, public, require_one_of


def test_an_error_says_its_hint_in_python():
    @public
    def fails(output=None):
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
