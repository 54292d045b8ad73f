"""Parameters of chat requests: taken, or refused by name."""

import pytest

from qwen2vl_rs.serve.api_errors import Refusal
from qwen2vl_rs.serve.parameters import NEUTRAL, UNUSED, check_parameters


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_only_what_changes_nothing_is_taken(name):
    for value in NEUTRAL[name]:
        check_parameters({name: value}, ())
    for value in (2, 0.5, ["x"], {"a": 1}, "x"):
        with pytest.raises(Refusal) as caught:
            check_parameters({"model": "m", name: value}, ("model",))
        assert caught.value.body()["error"]["param"] == name


@pytest.mark.parametrize("name", sorted(UNUSED))
def test_what_greedy_decoding_does_not_look_at_is_taken(name):
    check_parameters({name: object()}, ())


def test_truth_is_not_a_number():
    for name, value in (("top_k", True), ("presence_penalty", False), ("logprobs", 0)):
        with pytest.raises(Refusal):
            check_parameters({name: value}, ())
