"""Data sets and maps from a notebook; the calls themselves: test_docstrings."""

import pytest

import qwen2vl_rs as rs
from qwen2vl_rs.errors import ConfigError


@pytest.mark.parametrize("named", [{}, {"synthetic": 2, "image": "x.tif"}])
def test_a_data_set_is_made_of_one_thing(named, tmp_path):
    with pytest.raises(ConfigError, match="synthetic"):
        rs.generate(output=tmp_path, **named)


def test_a_map_needs_a_model_on_this_machine():
    there = rs.load(endpoint="http://127.0.0.1:1/v1", model="m")
    with pytest.raises(ConfigError, match="on this machine"):
        rs.map_scene(there, "scene.tif", "Is there a road?")
