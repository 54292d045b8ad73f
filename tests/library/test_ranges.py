"""Limits of arguments, which the command line shares."""

import numpy as np
import pytest

import qwen2vl_rs as rs
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.library.ranges import CONCURRENCY, MORE_THAN_0, OVERLAP, require_within


@pytest.mark.parametrize("value", [0, 1.5, 257, -1, float("nan"), float("inf"), "8", None, 1])
def test_numbers_stay_within(value):
    inside = value is None or value in (1, 1.5)
    if inside:
        require_within({"n": (value, *CONCURRENCY)})
    else:
        with pytest.raises(ConfigError, match="n=") as caught:
            require_within({"n": (value, *CONCURRENCY)})
        assert caught.value.hint == "use a number from 1 to 256"


def test_both_ends_are_inside():
    require_within({"a": (0, *OVERLAP), "b": (0.95, *OVERLAP), "c": (np.float64(0.5), *OVERLAP)})
    with pytest.raises(ConfigError, match="d=0") as caught:
        require_within({"d": (0, MORE_THAN_0, float("inf"))})
    assert caught.value.hint == "use a number above 0"


@pytest.mark.parametrize(
    "wrong",
    [{"synthetic": -2}, {"synthetic": 0}, {"questions": 0}, {"tile": 32}, {"resolution": -1.0}],
)
def test_impossible_data_sets_are_refused(wrong, tmp_path):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
        rs.generate(**{"synthetic": 2, "output": tmp_path / "world", **wrong})
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize("wrong", [{"tile": 5}, {"tile": -5}, {"resolution": -1}, {"overlap": 1}])
def test_impossible_windows_are_refused(wrong, small_base, tmp_path):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
        rs.map_scene(rs.load(small_base), "scene.tif", "Is there a road?", output=tmp_path, **wrong)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"rate": -1}, "rate=-1"),
        ({"endpoint": "nix"}, "URL"),
    ],
)
def test_impossible_servers_are_refused(wrong, why):
    with pytest.raises(ConfigError, match=why):
        rs.load(**{"endpoint": "http://127.0.0.1:1/v1", "model": "m", **wrong})


def test_a_model_of_no_server_is_refused():
    with pytest.raises(ConfigError, match="one of a server") as caught:
        rs.load("base", model="x")
    assert "endpoint=" in caught.value.hint
