"""A library leaves the process that it is imported into as it is, and says nothing uninvited."""

import json
import os
import shutil
import subprocess
import sys

import pytest

import quiet_program
from endpoints import by_wording, running
from factory import make_samples, write_rsvqa
from hubserver import HubServer
from qwen2vl_rs.models.base import FOLDER as EMBEDDED
from qwen2vl_rs.scoring.predictions import write_predictions
from qwen2vl_rs.types import Prediction

ONE_IMAGE = (
    "all questions are about one image: no interval between images and no shuffled image "
    "(hint: take questions about several images)"
)
pytestmark = pytest.mark.slow  # half a minute
FILES = {name: (EMBEDDED / name).read_bytes() for name in ("config.json", "model.safetensors")}


@pytest.fixture(scope="module")
def used(tmp_path_factory, small_base):
    """The folder in which everything was used, and what was printed."""
    folder = write_rsvqa(tmp_path_factory.mktemp("quiet"), images=4)
    shutil.copytree(small_base, folder / "base")
    samples = make_samples(folder / "pictures", images=2)
    write_predictions(
        folder / "before.jsonl",
        [Prediction(s.id, s.image, s.question, s.type, s.answer, "no", "no", 0.5) for s in samples],
    )
    with HubServer() as hub, running(by_wording) as api:
        hub.repos["some/model"] = {"master": dict(FILES), "main": dict(FILES)}
        places = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
        done = subprocess.run(
            [sys.executable, quiet_program.__file__, str(folder)],
            env={**os.environ, **places, "ENDPOINT_UNDER_TEST": api.url, "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_no_setting_of_the_process_is_changed(used):
    folder, _ = used
    changed = json.loads((folder / "changes.json").read_text("utf-8"))
    assert not changed, "\n".join(f"{step}: {line}" for step in changed for line in changed[step])


def test_nothing_is_said_uninvited(used):
    _, done = used
    assert not done.stdout
    assert done.stderr.splitlines() == [  # warnings alone, each on one line
        "too few images for test: it is empty (--split 0.8,0.1,0.1)",
        *2 * [ONE_IMAGE],
        "the base model's name on the hub is unknown: the card says that it was a local folder "
        "(--base-model NAME)",
    ]
