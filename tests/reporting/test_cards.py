"""Model card and data card: what the hubs read, and what people read."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory import write_run
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.config_file import load_config, write_config
from qwen2vl_rs.models.qwen_vl_usage import Usage
from qwen2vl_rs.reporting.cards import data_card, front_matter, model_card
from qwen2vl_rs.reporting.evidence import from_run
from qwen2vl_rs.run import TEST_FILE
from qwen2vl_rs.system.files import read_json, sha256, write_json

yaml = pytest.importorskip("yaml")
hub = pytest.importorskip("huggingface_hub")
BASE = "Qwen/Qwen2-VL-2B-Instruct"


def of(base):
    return Usage(InputConfig(), adapter=True, base=base)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("cards"), images=12)


def test_the_hub_reads_the_model_card(run):
    data = hub.ModelCard(model_card(from_run(run), of(BASE)), ignore_metadata_errors=False).data
    assert data.base_model == BASE
    assert data.library_name == "peft"
    assert data.pipeline_tag == "image-text-to-text"
    assert data.model_name == "small"
    found = from_run(run).after.results
    by_name = {(r.dataset_config, r.metric_name): r for r in data.eval_results}
    assert {config for config, _ in by_name} == set(found["protocols"])
    for protocol, score in found["protocols"].items():
        mine = {name: r for (config, name), r in by_name.items() if config == protocol}
        (overall,) = [r for name, r in mine.items() if name.startswith("OA (n ")]
        assert overall.metric_value == round(100 * score["OA"], 2)
        assert "95 % interval" in overall.metric_name
        assert overall.task_type == "visual-question-answering"
        assert overall.dataset_args["protocol"] == protocol
        assert overall.dataset_args["n"] == score["n"]
        assert overall.dataset_args["sha256"] == sha256(run.parents[1] / TEST_FILE)
        for name, control in [("question-only control", "question_only"),
                              ("constant-answer control", "constant")]:  # fmt: skip
            (blind,) = [r for n, r in mine.items() if n.startswith(f"OA of the {name} (n ")]
            assert blind.metric_value == round(100 * found["controls"][control][protocol]["OA"], 2)
        for start in ("OA when shown a wrong image (n ", "OA before fine-tuning (n "):
            assert len([n for n in mine if n.startswith(start)]) == 1
        assert all("95 % interval" in n for n in mine)


def test_the_model_card_for_people(run):
    text = model_card(from_run(run), of(BASE))
    assert "Fine-tuning raised OA from " in text
    assert f'BASE = "{BASE}"' in text
    assert 'INSTRUCTION = "Answer the question using a single word or phrase."' in text
    assert "| geochat | " in text
    assert f"The base model, {BASE}, is licensed under Apache-2.0" in text


def test_the_card_says_what_was_trained(tmp_path):
    run = write_run(tmp_path)
    text = model_card(from_run(run), of(BASE))
    assert f"A LoRA adapter for {BASE}" in text
    assert "Vision tower" not in text
    assert "Continued from" not in text
    values = {
        "lora.use_rslora": True, "lora.use_dora": True, "training.vision_tower": "lora",
        "training.merger": "full", "training.merger_learning_rate": 1e-5,
    }  # fmt: skip
    write_config(run / "config.toml", load_config(run / "config.toml", values=values))
    manifest = read_json(run / "manifest.json")
    first = {"folder": "/private/runs/first/checkpoint-8", "sha256": "0123456789abcdef"}
    write_json(run / "manifest.json", manifest | {"adapter": first})
    for merged, begins in ((False, "An rsDoRA adapter for"), (True, "with an rsDoRA adapter")):
        how = Usage(InputConfig(), adapter=not merged, base=BASE)
        text = model_card(from_run(run), how)
        assert begins in text
        assert '"rsdora"' in text
        assert "- Adapter: rsDoRA, r 64, alpha 16" in text
        assert "- Vision tower: rsDoRA on all linear layers; learning rate 0.0001" in text
        assert "- Merger (vision to language): all weights trained; learning rate 1e-05" in text
        assert "Continued from: first/checkpoint-8 (0123456789ab)" in text
        assert "private" not in text


def test_a_licence_is_named_where_the_base_has_one_we_know(run):
    data = hub.ModelCard(model_card(from_run(run), of(BASE)), ignore_metadata_errors=False).data
    assert (data.license, data.base_model_relation) == ("apache-2.0", "adapter")
    for base in (None, "someone/else"):
        text = model_card(from_run(run), of(base))
        assert hub.ModelCard(text, ignore_metadata_errors=False).data.license is None
        assert "licence of the base model is unknown" in text


@pytest.mark.parametrize(
    ("dataset", "type", "classes"),
    [
        ("HR", "rsvqa-hr-classes", "the classes of RSVQA-HR"),
        ("xBEN", "rsvqa-xben-classes", "the classes of RSVQAxBEN"),
        ("CHOICE", "choice-classes", "the classes of CHOICE"),
        (
            "unknown",
            "rsvqa-unknown-classes",
            "exact counts and areas, since the data set is not known",
        ),
    ],
)
def test_the_model_card_names_whose_classes_apply(run, dataset, type, classes):
    found = from_run(run, dataset=dataset)
    data = hub.ModelCard(model_card(found, of(BASE)), ignore_metadata_errors=False).data
    told = [
        (r.dataset_type, r.dataset_name) for r in data.eval_results if r.dataset_config == "raw"
    ]
    assert set(told) == {(type, f"Test questions with {classes}, protocol raw")}


def test_a_base_without_a_name_is_left_out(run):
    data = hub.ModelCard(model_card(from_run(run), of(None))).data
    assert data.base_model is None
    assert "FOLDER_OF_THE_BASE" in model_card(from_run(run), of(None))


def test_the_data_card(run, monkeypatch, tmp_path):
    monkeypatch.chdir(run.parents[1])
    text = data_card(from_run(run))
    data = hub.DatasetCard(text, ignore_metadata_errors=False).data
    assert data.task_categories == ["visual-question-answering"]
    assert data.size_categories == ["n<1K"]
    assert "| data\\_vl\\_test.json | 96 | 12 | " in text
    assert "Split at random by image, seed 42." in text
    assert "No image is on both sides of the split." in text
    assert "| presence | 36 | " in text
    controls = from_run(run).after.results["controls"]
    for name, says in (("constant", "of each type"), ("question_only", "its most frequent class")):
        value = f"{100 * controls[name]['official']['OA']:.1f}"
        assert f"{says}: OA {value} % (n 96, 95 % confidence interval " in text
    monkeypatch.chdir(tmp_path)
    assert "Not described" in data_card(from_run(run))
    shutil.copytree(run, "run")
    (tmp_path / "run" / "manifest.json").unlink()
    assert "| presence |" not in data_card(from_run(tmp_path / "run"))


scalars = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"])),
    st.integers(-(10**9), 10**9),
    st.booleans(),
)
keys = st.text("abc_-", min_size=1).filter(lambda k: k[0] != "-")
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(keys, inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(keys, trees, min_size=1, max_size=4))
def test_front_matter_is_yaml(tree):
    first, text, rest = front_matter(tree).split("---\n")
    assert first == rest == ""
    assert yaml.safe_load(text) == tree


def test_front_matter_of_hostile_names():
    text = front_matter({"name": 'a"b: # \x85\x7f\u2028\n---\n🛰 任务'})
    assert text.count("---\n") == 2
    assert yaml.safe_load(text.split("---\n")[1])["name"].endswith("🛰 任务")
