"""Where to compute: one option for all commands, and what it answers to a wrong name."""

import os
import subprocess
import sys

import click
import pytest
import torch

from factory import write_image
from qwen2vl_rs.cli import cli, main
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.hardware.devices import choose_device, use_device

COMPUTING = ("train", "eval", "compare", "ask", "map", "serve", "demo")


@pytest.mark.parametrize("name", COMPUTING)
def test_every_command_that_computes_has_the_option(name):
    command = cli.get_command(click.Context(cli), name)
    assert "--device" in [o for p in command.params for o in p.opts]


@pytest.mark.parametrize(
    ("value", "said"),
    [("gpu", "'gpu' is none of cpu, cuda"), ("1", "did you mean cuda:1?"),
     ("mps", "Metal is not used"), ("cuda:", "none of cpu"), ("cuda:-1", "none of cpu")],
)  # fmt: skip
def test_other_names_are_wrong_usage(capsys, value, said):
    assert main(["demo", "--device", value]) == 2
    assert said in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused_with_what_is(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert main(["eval", str(tmp_path), "--device", "cuda:99"]) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: there is no device cuda:99: available: cpu")
    assert hint.startswith("hint: ")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert main(["eval", str(tmp_path), "--device", "cuda:1"]) == 1
    err = capsys.readouterr().err
    assert "there is no device cuda:1: available: cpu" in err
    assert "CUDA_VISIBLE_DEVICES is '0'" in err
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_on_the_cpu_answers_are_given_whatever_gpus_there_are(
    small_base, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    write_image(tmp_path / "0.tif", 56, 0)
    words = ["ask", str(small_base), str(tmp_path / "0.tif"), "Is it?", "--device", "cpu"]
    assert main(words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert choose_device().type == "cpu"


@pytest.mark.parametrize(
    ("listed", "name", "seen"),
    [(None, "cuda", "0"), (None, "cuda:1", "1"), ("2,3", "cuda:1", "3"),
     ("GPU-a,GPU-b", "cuda:1", "GPU-b"), ("2,3", "cpu", "")],
)  # fmt: skip
def test_numbers_count_what_the_environment_lets_be_seen(monkeypatch, listed, name, seen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    use_device(name)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed or "")


def test_of_several_processes_each_has_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="launcher started several"):
        use_device("cuda:1")


@pytest.mark.gpu
def test_the_gpu_that_is_named_is_used():
    program = (
        "from qwen2vl_rs.hardware.devices import *; use_device('cuda:0'); "
        "print(choose_device(), torch.ones(1, device=choose_device()).sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    )
    assert done.stdout == "cuda:0 1.0\n"
    assert choose_device().type == "cuda"
