"""An adapter in a folder of its own."""

import json
import shutil

import pytest

from factory import write_run
from qwen2vl_rs.cli import main
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.reporting.export import export
from qwen2vl_rs.system.files import verify_checksums, write_json


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, images=12)


def test_the_adapter_without_its_training_state(run, tmp_path, capsys):
    assert main(["export", str(run), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'out'}\n"
    assert err == ""
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "README.md", "DATA.md", "adapter_config.json", "adapter_model.safetensors",
        "qwen2vl_rs.json", "checksums.json",
    }  # fmt: skip
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == b"weights"
    assert verify_checksums(tmp_path / "out") is None
    assert 'base_model: "Qwen/Qwen2-VL-2B-Instruct"' in (tmp_path / "out/README.md").read_text()


def rewrite(checkpoint, base):
    write_json(checkpoint / "adapter_config.json", {"base_model_name_or_path": base, "r": 64})
    (checkpoint / "checksums.json").unlink()


def test_a_base_known_by_its_place_only(run, tmp_path, capsys):
    rewrite(run / "checkpoint-40", str(tmp_path / "base"))
    export(run, tmp_path / "one")
    assert "--base-model NAME" in capsys.readouterr().err
    assert "base_model:" not in (tmp_path / "one/README.md").read_text()
    export(run, tmp_path / "two", "org/base")
    assert 'base_model: "org/base"' in (tmp_path / "two/README.md").read_text()
    adapter = json.loads((tmp_path / "two/adapter_config.json").read_text())
    assert adapter == {"base_model_name_or_path": "org/base", "r": 64}
    write_json(tmp_path / "base" / ".qwen2vl-rs.json", {"repo_id": "org/fetched"})
    export(run, tmp_path / "three")
    assert 'base_model: "org/fetched"' in (tmp_path / "three/README.md").read_text()


def test_nothing_is_written_over(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(RunError, match="is not empty"):
            export(run, tmp_path / name)
    (tmp_path / "empty").mkdir()
    export(run, tmp_path / "empty")
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"


def test_figures_of_another_checkpoint_are_not_given(run, tmp_path):
    shutil.copytree(run / "checkpoint-40", run / "checkpoint-80")
    with pytest.raises(RunError, match="of checkpoint-40, its newest is checkpoint-80"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_figures_of_a_checkpoint_that_is_not_told_are_not_given(run, tmp_path):
    for name in ("compare.json", "eval/after/inputs.json"):
        if (run / name).exists():
            write_json(run / name, {**json.loads((run / name).read_text()), "checkpoint": ""})
    with pytest.raises(RunError, match="of an unknown checkpoint, its newest is"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_adapter_is_refused(run, tmp_path):
    (run / "checkpoint-40" / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(RunError, match=r"damaged: adapter_model\.safetensors"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
