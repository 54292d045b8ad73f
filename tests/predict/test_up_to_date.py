"""All ways to ask a model notice the same: another image, setting, or set of questions.

What is up to date is not asked again. What is not is asked anew, or refused where the answers are
the product itself (a map).
"""

import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from endpoints import running, said
from factory import make_samples, write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import Config
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.models.fingerprint import fingerprint
from qwen2vl_rs.models.location import locate
from qwen2vl_rs.predict.job import digest_of
from qwen2vl_rs.predict.predictor import with_shuffled_images
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.predict.settings import answer_settings
from qwen2vl_rs.system.jsonl import to_line

RUN = Path("output/Qwen2-VL-2B")
REFUSED = "another scene or model, or with other settings"

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "run-0.1.tar.xz"


@pytest.fixture
def asked(trained, tmp_path, monkeypatch):
    """A finished run, questions about images of their own, and the number of questions asked."""
    monkeypatch.chdir(shutil.copytree(trained[0], tmp_path / "copy"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_conversations(Path("own.json"), make_samples(Path("own"), images=2)[::8])
    numbers = []
    real = Session.answers

    def answers(self, groups, *more):
        numbers.extend(question for _, row in groups for question, _ in row)
        return real(self, groups, *more)

    monkeypatch.setattr(Session, "answers", answers)

    def reply(*_):
        numbers.append("over HTTP")
        return said("yes")

    with running(reply) as api:
        yield api.url, numbers


def command(front, url, tokens, words):
    """What is typed; a run keeps its settings in its own file, a server's stand beside it."""
    if front == "endpoint":
        return ["eval", "--endpoint", url, "--model", "m", "--test", "own.json", "-o", "out",
                "--set", f"eval.max_new_tokens={tokens}"]  # fmt: skip
    text = (RUN / "config.toml").read_text("utf-8").splitlines()
    lines = [f"max_new_tokens = {tokens}" if "max_new_tokens" in one else one for one in text]
    (RUN / "config.toml").write_text("\n".join(lines), "utf-8")
    return {
        "eval": ["eval", str(RUN), "--test", "own.json", "-o", "out"],
        "compare": ["compare", str(RUN), "--test", "own.json"],
        "map": ["map", str(RUN), "own/0.tif", *words, "-o", "out", "--tile", "56"],
    }[front]


@pytest.mark.parametrize("change", ["nothing", "image", "setting", "questions"])
@pytest.mark.parametrize("front", ["eval", "endpoint", "compare", "map"])
def test_what_has_changed_is_noticed_by_all(asked, capsys, front, change):
    url, numbers = asked
    assert main(command(front, url, 3, ["Is there a road?"])) == 0
    assert numbers
    numbers.clear()
    tokens, words = 3, ["Is there a road?"]
    if change == "image":
        before = os.stat("own/0.tif")
        write_image(Path("own/0.tif"), 56, 8)
        assert os.stat("own/0.tif").st_size == before.st_size
    elif change == "setting":
        tokens = 4
    elif change == "questions":
        words = ["Is there a building?"]
        samples = make_samples(Path("own"), images=2)[::8]
        samples[0] = replace(samples[0], question=words[0])
        write_conversations(Path("own.json"), samples)
    capsys.readouterr()
    code = main(command(front, url, tokens, words))
    err = capsys.readouterr().err
    if front == "map" and change != "nothing":
        assert (code, REFUSED in err, numbers) == (1, True, [])
    else:
        assert (code, bool(numbers)) == (0, change != "nothing"), err


@pytest.mark.parametrize("front", ["ask", "map", "serve"])
def test_a_run_is_asked_as_its_settings_say(asked, monkeypatch, front):
    command("eval", "", 2, ())
    text = (RUN / "config.toml").read_text("utf-8").replace("[eval]", "[eval]\nbf16 = true")
    (RUN / "config.toml").write_text(text, "utf-8")
    seen = []
    real = Session.__init__

    def made(self, *values):
        real(self, *values)
        seen.append((self.max_new_tokens, values[-1].bf16))
        raise RunError("enough")

    monkeypatch.setattr(Session, "__init__", made)
    words = {"ask": ["own/0.tif", "Is it?"], "map": ["own/0.tif", "Is it?"], "serve": ["--port", 0]}
    assert main([front, str(RUN), *map(str, words[front])]) == 1
    assert seen == [(2, True)]


def test_a_map_made_before_there_were_such_settings_goes_on(asked, small_base):
    """The key is spelled as the version before spelled it; nothing is asked again."""
    _, numbers = asked
    words = ["map", str(small_base), "own/0.tif", "Is there a road?", "-o", "old", "--tile", "56"]
    assert main(words) == 0
    head, *rest = Path("old/windows.jsonl").read_text("utf-8").splitlines()
    from qwen2vl_rs.maps.windows import lay_grid
    from qwen2vl_rs.raster import image_digest
    from qwen2vl_rs.raster.scenes import open_scene

    view = Config().view
    with open_scene(Path("own/0.tif"), view.image) as scene:
        grid = lay_grid(scene, 56, None, 0.0)
    parts = [fingerprint(small_base), view.model_dump_json(), repr(grid),
             repr(("Is there a road?",)), image_digest(Path("own/0.tif"))]  # fmt: skip
    assert json.loads(head)["key"] == digest_of(["\0".join(parts)])
    old = to_line({"key": json.loads(head)["key"], "questions": ["Is there a road?"]})
    assert head + "\n" == old
    numbers.clear()
    assert main(words) == 0
    assert (numbers, bool(rest)) == ([], True)


def test_settings_of_training_hold_for_answers_where_these_have_none():
    whole = ["training.bf16=true", "training.attention=branches", "training.seed=7",
             "training.max_tokens_per_pack=99"]  # fmt: skip
    own = answer_settings(load_config(None, whole))
    assert (own.bf16, own.fp16, own.attention, own.seed) == (True, None, "branches", 7)
    assert own.max_tokens_per_pack == 99
    more = ["eval.fp16=true", "eval.attention=flex", "eval.seed=0", "eval.max_tokens_per_pack=88"]
    own = answer_settings(load_config(None, [*whole, *more]))
    assert (own.bf16, own.fp16, own.attention, own.seed) == (None, True, "flex", 0)
    assert own.max_tokens_per_pack == 88


def test_the_seed_of_the_control_is_that_of_the_evaluation(asked):
    samples = make_samples(Path("many"), images=6)[::8]
    write_conversations(Path("own.json"), samples)
    url, _ = asked
    for seed in (1, 5):
        words = [*command("endpoint", url, 3, ()), "--set", f"eval.seed={seed}"]
        assert main([*words, "-o", f"seed {seed}"]) == 0
    keys = {Path(f"seed {n}/shuffled/inputs.json").read_text() for n in (1, 5)}
    assert len(keys) == 2
    assert with_shuffled_images(samples, 1) != with_shuffled_images(samples, 5)


@pytest.mark.parametrize("wrong", ["base", "run"])
def test_what_is_no_checkpoint_replaces_no_answers(tmp_path, monkeypatch, capsys, wrong):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in Path("run/eval").rglob("*") if p.is_file()}
    words = ["compare", "run", "--base", "base", "--images", "images", "--checkpoint", wrong]
    assert main(words) == 1
    assert f"{wrong} is not a checkpoint of this tool" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in Path("run/eval").rglob("*") if p.is_file()} == before


def test_a_checkpoint_by_a_link_or_from_inside_has_the_settings_of_its_run(tmp_path, monkeypatch):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "latest").symlink_to(tmp_path / "run/checkpoint-4")
    for folder, name in ((tmp_path, "latest"), (tmp_path / "run/checkpoint-4", ".")):
        monkeypatch.chdir(folder)
        found = locate(Path(name), tmp_path / "base")
        assert found.name == "run"
        assert found.run.config().lora.r == 1
