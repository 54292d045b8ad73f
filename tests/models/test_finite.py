"""A model whose output is not numbers is refused by every command that asks it."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from factory import make_samples
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import ModelError
from qwen2vl_rs.models import finite, loader
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.system.jsonl import to_json
from qwen2vl_rs.training.trainer import _metrics_line
from serving import chat, serving

ROAD = "Is there a road?"


def damaged(base, folder, value, suffix=".norm.weight"):
    """A copy of a base with one value of one tensor changed."""
    shutil.copytree(base, folder)
    for path in sorted(folder.glob("*.safetensors")):
        weights = load_file(path)
        names = [n for n in weights if n.endswith(suffix) and "visual" not in n]
        if names:
            weights[names[0]].view(-1)[3] = value
            save_file(weights, path, {"format": "pt"})
            return folder, names[0], path.name
    raise AssertionError


@pytest.fixture
def pictured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = make_samples(tmp_path / "images", images=2)
    write_conversations(tmp_path / "test.json", samples)
    return samples


@pytest.mark.parametrize("value", few([float("nan"), float("inf"), float("-inf")], 0))
def test_weights_that_are_not_numbers_are_named_at_loading(small_base, tmp_path, capsys, value):
    folder, tensor, file = damaged(small_base, tmp_path / "base", value)
    make_samples(tmp_path / "images", images=1)
    image = str(tmp_path / "images/0.tif")
    for how in ("free", "closed"):
        assert main(["ask", str(folder), image, ROAD, "--answers", how, "--json"]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("error:")
        assert tensor in err
        assert file in err


def overflowing(monkeypatch):
    """Weights that load as numbers and overflow only when the model is asked."""
    monkeypatch.setattr(loader, "require_finite_weights", lambda *_: None)


@pytest.mark.parametrize(
    "command", few(["ask", "ask closed", "eval", "eval closed", "map"], 0, 1, 4)
)
def test_no_answer_is_picked_from_what_is_no_number(
    small_base, tmp_path, pictured, capsys, monkeypatch, command
):
    overflowing(monkeypatch)
    base = str(damaged(small_base, tmp_path / "base", float("nan"))[0])
    name, _, closed = command.partition(" ")
    image = pictured[0].image
    words = {
        "ask": ["ask", base, image, ROAD],
        "eval": ["eval", base, "--test", "test.json", "-o", "out"],
        "map": ["map", base, image, ROAD, "--tile", "28", "-o", "out"],
    }[name]
    words += ["--answers", "closed"] if closed else []
    assert main([*words, "--json"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "is not a number" in err
    assert "Traceback" not in err
    if name == "map":
        assert ROAD in err
    else:
        assert image in err
        assert any(s.question in err for s in pictured)


def test_a_server_says_so_and_goes_on(small_base, tmp_path, pictured, monkeypatch):
    overflowing(monkeypatch)
    session = Session.open(damaged(small_base, tmp_path / "base", float("nan"))[0])
    image = Path(pictured[0].image).read_bytes()
    with serving(session) as server:
        form = {"questions": ROAD}
        replies = [
            httpx.post(f"{server.url}/api/ask", files={"image": ("0.tif", image)}, data=form),
            httpx.post(f"{server.url}/v1/chat/completions", json=chat(image, ROAD)),
        ]
        for reply in replies:
            assert reply.status_code == 503, reply.text
            assert "is not a number" in reply.text
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_overflow_in_a_narrow_type_is_said(small_base, tmp_path):
    folder, name, _ = damaged(small_base, tmp_path / "base", 1e38)
    with pytest.raises(ModelError, match=r"overflow in torch\.float16") as caught:
        loader.load_base(folder, InputConfig(), torch.device("cpu"), torch.float16)
    assert name.rpartition(".")[0].rpartition(".")[2] in str(caught.value)


def test_json_never_holds_what_json_has_not():
    assert json.loads(to_json({"a": [0.5, None, "名"]})) == {"a": [0.5, None, "名"]}
    for value in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json([{"a": value}])


def test_finiteness_is_told_without_a_copy():
    assert finite._is_finite(torch.tensor([1.0, -3e38]))
    assert finite._is_finite(torch.empty(0))
    for value in (float("nan"), float("inf"), float("-inf")):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            weights = torch.zeros(3000, dtype=dtype)
            weights[1234] = value
            assert not finite._is_finite(weights)


def test_a_norm_that_overflowed_is_null_in_the_metrics():
    line = _metrics_line({"step": 3, "loss": 0.5, "grad_norm": float("inf"), "x": float("nan")})
    assert json.loads(line) == {"step": 3, "loss": 0.5, "grad_norm": None, "x": None}
