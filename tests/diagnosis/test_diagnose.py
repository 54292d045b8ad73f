"""The whole report: on runs that would start, and on whatever is broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import qwen2vl_rs as rs
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.diagnosis import computer, expected, plan, software
from qwen2vl_rs.diagnosis.diagnose import diagnose
from qwen2vl_rs.hardware.precision import choose_precision
from qwen2vl_rs.system.machine import Memory

GPU = torch.cuda.is_available()


@pytest.fixture
def desk(tmp_path, monkeypatch, small_base):
    """A folder in which a training could start."""
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=6))
    Path("base").symlink_to(small_base)
    Path("run.toml").write_text('model = "base"\noutput = "out"\n[training]\nreport_to = []\n')
    return tmp_path


def lines(report, title: str) -> dict[str, object]:
    (found,) = [one for one in report.sections if one.title == title]
    return {line.name: line for line in found.lines}


CONFIG = Path("run.toml")


def test_a_training_that_can_start(desk):
    before = sorted(desk.rglob("*"))
    report = diagnose(CONFIG, device="cpu")
    assert report.usable, str(report)
    assert sorted(desk.rglob("*")) == before  # nothing is written
    figures = report.figures
    assert figures["train_questions"] == 40
    assert figures["test_questions"] == 8
    assert figures["model_type"] == "qwen2_vl"
    precision = choose_precision(torch.device("cpu"))
    assert figures["precision"] == precision.name
    assert figures["attention"] == "branches"
    assert figures["steps"] == 2 * 3  # turns of 8 questions, 4 images a step
    assert figures["tokens_per_pack"] == 2048
    assert 0 < figures["expected_memory_bytes"] < figures["device_memory_bytes"]
    assert figures["expected_seconds"] > 0
    assert figures["expected_questions_per_second"] > 0
    assert lines(report, "Will be used")["device"].text == "cpu (as given)"
    assert lines(report, "Will be used")["precision"].text.startswith(f"{precision.name} (")
    assert "without the evaluations" in lines(report, "Expected")["time"].text


def test_what_is_planned_is_what_training_does(trained, desk, small_base):
    """Parameters, steps and questions are those of a real run with the same settings."""
    run = trained[0] / "output/Qwen2-VL-2B"
    shutil.copytree(run / "data", desk / "data")
    config = (run / "config.toml").read_text().replace("output/Qwen2-VL-2B", "elsewhere")
    Path("same.toml").write_text(config)
    settings = ["data.train=data/train.json", "data.test=data/test.json", f"model={small_base}"]
    config = re.sub(r"^conversations = .*$", "", config, flags=re.MULTILINE)
    Path("same.toml").write_text(config)
    figures = diagnose(Path("same.toml"), settings, device="cpu").figures
    results = json.loads((run / "train_results.json").read_text())
    assert figures["steps"] == results["train_steps"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert figures["train_questions"] == manifest["data"]["data_vl_train.json"]["questions"]
    assert figures["tokens_per_pack"] == manifest["tokens_per_pack"]


def test_the_rate_of_a_run_is_used_where_there_is_one(desk):
    Path("out").mkdir()
    with Path("out/metrics.jsonl").open("w") as file:
        for step in (1, 2):
            line = {"step": step, "loss": 1.0, "questions": 100, "seconds": 4.0 * step}
            file.write(json.dumps(line) + "\n")
        file.write('{"step": 3, "loss": 1, "questions": "x", "seconds": null}\n')
        file.write('{"step": 4, "lo')  # cut by a crash
    report = diagnose(CONFIG, device="cpu")
    assert report.figures["measured_questions_per_second"] == 25.0
    assert "25.0 questions/s in out (200 questions trained so far)" in str(report)


@pytest.mark.parametrize(
    ("spoil", "name", "text", "hint"),
    [
        (lambda: Path("base").unlink(), "base model", "does not exist", "qwen2vl-rs load"),
        (lambda: Path("data_vl.json").unlink(), "questions", "data_vl.json", ""),
        (lambda: Path("data_vl.json").write_text("[{"), "questions", "data_vl.json", ""),
        (lambda: Path("data_vl.json").write_text("[]"), "questions", "no records", ""),
        (lambda: Path("images/0.tif").unlink(), "questions", "0.tif", ""),
        (lambda: Path("images/0.tif").write_bytes(b"x"), "questions", "0.tif", ""),
    ],
)
def test_what_prevents_a_training_is_named_and_the_rest_is_still_reported(
    desk, spoil, name, text, hint
):
    spoil()
    report = diagnose(CONFIG, device="cpu")
    assert not report.usable
    (found,) = report.problems
    assert found.name == name
    assert text in found.text
    assert hint in found.hint
    assert lines(report, "Will be used")["precision"].mark == "ok"


@pytest.mark.parametrize(
    ("settings", "name", "text"),
    [
        (["training.attention=flex"], "attention", "FlexAttention has no backward pass on a CPU"),
        (['lora.target_modules=["q_prj"]'], "adapter", "did you mean q_proj"),
        (["data.train=a.json", "data.test=b.json"], "questions", "a.json"),
    ],
)
def test_settings_that_cannot_be_used_are_problems(desk, settings, name, text):
    report = diagnose(CONFIG, settings, device="cpu")
    assert [line.name for line in report.problems] == [name]
    assert text in report.problems[0].text


def test_launchers_that_are_refused_are_problems(desk, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    report = diagnose(CONFIG, device="cpu")
    assert [line.name for line in report.problems] == ["launcher"]
    assert "torchrun" in report.problems[0].hint


@pytest.mark.skipif(GPU, reason="there is one")
def test_a_device_that_is_not_there_is_a_problem(desk):
    report = diagnose(CONFIG, device="cuda:3")
    assert report.problems[0].name == "device"
    assert "there is no device cuda:3" in report.problems[0].text
    assert lines(report, "Will be used")["output"].mark == "ok"


def test_a_precision_that_the_gpu_refuses_is_a_problem(desk, monkeypatch):
    """As bfloat16 on a T4."""
    monkeypatch.setattr("qwen2vl_rs.hardware.devices.choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    report = diagnose(CONFIG, ["training.bf16=true"], device="cuda")
    (found,) = report.problems
    assert found.name == "precision"
    assert "Tesla T4 does not support bfloat16" in found.text


def test_wrong_settings_are_errors_as_in_train(desk, capsys):
    assert main(["doctor", "run.toml", "--set", "lora.rank=3"]) == 1
    assert "lora.rank" in capsys.readouterr().err
    assert main(["doctor", "none.toml"]) == 1
    assert main(["doctor", "--data", "a", "--train", "b"]) == 2
    assert main(["doctor", "--device", "gpu"]) == 2


def test_the_command_prints_the_report_and_its_exit_code_says_whether_it_is_usable(desk, capsys):
    assert main(["doctor", "run.toml", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("usable: a training can start\n")
    assert "✗" not in said.out
    assert main(["doctor", "run.toml", "--device", "cpu", "--model", "nowhere", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["usable"] is False
    assert [one["title"] for one in found["sections"]] == [
        "Software", "Machine", "Base model", "Questions", "Will be used", "Expected",
    ]  # fmt: skip


def test_a_run_in_the_output_folder_prevents_another(desk, trained):
    run = trained[0] / "output/Qwen2-VL-2B"
    report = diagnose(CONFIG, [f"output={run}"], device="cpu")
    found = lines(report, "Will be used")["output"]
    assert found.mark == "error"
    assert "--resume" in found.hint


@pytest.mark.parametrize(
    ("there", "mark", "text"),
    [
        (Memory(10**12, 10**12, None), "ok", "of 1000.0 GB"),
        (Memory(10**12, 10**12, 10**9), "error", "do not fit"),
        (Memory(10**12, 10**12, -1), "warning", "may not fit"),  # a byte less than needed
        (Memory(10**12, 10**9, None), "warning", "but 1.0 GB are free now"),
        (Memory(None, None, None), "ok", "of"),
    ],
)
def test_the_memory_is_compared_with_the_device_and_the_container(
    desk, monkeypatch, there, mark, text
):
    if there.limit == -1:
        needed = diagnose(CONFIG, device="cpu").figures["expected_memory_bytes"]
        there = Memory(10**12, 10**12, needed - 1)
    monkeypatch.setattr(expected, "memory", lambda: there)
    monkeypatch.setattr("qwen2vl_rs.engine.memory.device_memory", lambda device: 10**12)
    found = lines(diagnose(CONFIG, device="cpu"), "Expected")["memory"]
    assert found.mark == mark
    assert text in found.text


def test_files_too_large_to_count_are_not_read(desk, monkeypatch):
    monkeypatch.setattr("qwen2vl_rs.diagnosis.questions._MOST", 10)
    report = diagnose(CONFIG, device="cpu")
    assert report.usable
    assert "train_questions" not in report.figures
    assert "not counted" in str(report)
    assert "estimated from the first question" in lines(report, "Expected")["time"].text


def test_nothing_private_is_in_it(desk, monkeypatch):
    home = desk / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("WANDB_API_KEY", "wandb_secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://user:pass@mirror.example.org")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    text = str(diagnose(CONFIG, [f"model={home}/base", f"output={home}/out"], device="cpu"))
    assert not re.search("secret|example.org|pass", text)
    assert "HF_ENDPOINT is set" in text
    assert "CUDA_VISIBLE_DEVICES=''" in text
    assert str(home) not in text
    assert "~/base is not a model" in text


def test_control_characters_in_names_do_not_reach_the_terminal(desk, capsys):
    assert main(["doctor", "--model", "a\x1b[31mb\nhint: rm -rf x", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\nhint: rm" not in out


HIDDEN = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise {error}
sys.meta_path.insert(0, Absent())
from qwen2vl_rs.cli import main
sys.exit(main(['doctor', 'run.toml', '--json']))
"""


@pytest.mark.parametrize(
    ("names", "error", "text"),
    [
        (
            {"torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers"},
            "ModuleNotFoundError(f'No module named {name}', name=name.partition('.')[0])",
            "needs torch",
        ),
        ({"torch"}, "ImportError('libcudart.so.12: no such file', name='torch')", "libcudart"),
        ({"torch"}, "OSError('libtorch_cpu.so: cannot allocate')", "libtorch_cpu"),
        ({"peft"}, "RuntimeError('peft is incompatible')", "peft is incompatible"),
    ],
)
def test_a_missing_or_broken_library_is_a_line_and_no_crash(desk, names, error, text):
    code = HIDDEN.format(names=names, error=error)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert text in done.stdout
    numbers = [
        one for s in report["sections"] for one in s["lines"] if one["name"] == "train questions"
    ]
    assert numbers[0]["text"].startswith("40 questions")  # the rest is still reported


def test_a_package_that_is_missing_or_too_old_is_named_with_its_command(monkeypatch, desk):
    from qwen2vl_rs.system import install

    versions = {"transformers": "5.10", "swanlab": None, "torch": "2.13.0+cpu", "peft": None}
    real = install._version
    monkeypatch.setattr(install, "_version", lambda n: versions.get(n, real(n)))
    found = {line.name: line for line in software.software()}
    assert found["transformers"].mark == "warning"
    assert "5.23" in found["transformers"].text
    assert found["peft"].mark == "error"
    assert "pip install" in found["peft"].hint
    assert found["torch"].mark == "ok"


def test_a_folder_that_is_partly_downloaded_says_so(desk):
    Path("Qwen/.incoming").mkdir(parents=True)
    report = diagnose(CONFIG, ["model=Qwen"], device="cpu")
    assert "not completely downloaded" in str(report)
    assert not report.usable


def test_disks_and_folders_that_cannot_be_read(desk, monkeypatch):
    def failing(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(computer.shutil, "disk_usage", failing)
    report = diagnose(CONFIG, device="cpu")
    assert lines(report, "Machine")["output disk"].mark == "warning"


def test_a_tracker_that_is_not_installed_is_a_warning(desk, monkeypatch):
    monkeypatch.setattr(plan, "find_spec", lambda name: None)
    report = diagnose(CONFIG, ['training.report_to=["trackio"]'], device="cpu")
    found = lines(report, "Will be used")["trackers"]
    assert (found.mark, found.hint) == ("warning", "pip install trackio")
    assert report.usable


def test_several_gpus_and_one_process(desk, monkeypatch):
    from qwen2vl_rs.hardware import gpus as module
    from qwen2vl_rs.hardware.gpus import Gpu

    two = [Gpu("H100", "9.0", 80 * 10**9, 79 * 10**9, True)] * 2
    monkeypatch.setattr(module, "gpus", lambda: (two, ""))
    figures: dict[str, object] = {}
    found = {line.name: line for line in computer.hardware(Path("out"), figures)}
    assert "H100, compute capability 9.0, 80.0 GB, 79.0 GB free, bfloat16" in found["cuda:1"].text
    assert figures["gpus"] == ["H100", "H100"]


def test_from_python(desk):
    report = rs.doctor(CONFIG, device="cpu", training={"num_train_epochs": 1})
    assert report.usable
    assert report.figures["steps"] == 2
    assert "Will be used" in repr(report)
    assert {row["section"] for row in report.rows()} >= {"Software", "Expected"}
    assert report._repr_html_().startswith("<")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
