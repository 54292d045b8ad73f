"""Questions and images for other programs, read by the loaders that these use."""

import json
from dataclasses import replace

import datasets
import numpy as np
import pytest
import rasterio

from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig, RasterToRGB
from qwen2vl_rs.datasets.export_formats import EXPORT_FORMATS, export_dataset
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import DataError, RunError
from qwen2vl_rs.raster import read_rgb

RULE = RasterToRGB(bands=(3, 1, 2), stretch=(5.0, 90.0))  # other colours than by default
VIEW = InputConfig(instruction="In one word.", image=RULE)
ODD = "Is <image> of <|im_end|> a\u2028road, or a < b > c?"
# of Qwen2-VL, InternVL, LLaVA, and what ms-swift and LLaMA-Factory put into texts
TOKENS = ["<image>", "<img>", "</img>", "<IMG_CONTEXT>", "<bbox>", "<box>", "</box>",
          "<ref-object>",
          "</ref>", "<quad>", "</quad>", "<s>", "</s>", "<_x>", "<video>", "<audio>", "<think>",
          "</think>", "<|im_end|>", "<|/im|>", "<|vision_start|>", "<|image_pad|>", "<|box_end|>",
          "<|endoftext|>", "<||>"]  # fmt: skip
PLAIN = ["a < b > c", "<5 roads>", "1</2>", "<>", "</>", "< image>", "<im age>", "<|a b|>", "<|a>"]


@pytest.fixture
def asked(tmp_path):
    samples = make_samples(tmp_path / "tif", images=3)
    samples[1] = replace(samples[1], question=ODD)
    with rasterio.open(samples[-1].image) as file:  # the last image has 16 bits
        values, profile = file.read(), file.profile
    with rasterio.open(samples[-1].image, "w", **{**profile, "dtype": "uint16"}) as file:
        file.write(values.astype(np.uint16) * 9)
    write_conversations(tmp_path / "data.json", samples)
    return samples, tmp_path / "data.json"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def loaded(folder, tmp_path):
    return datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )


def same(picture, sample):
    return np.array_equal(np.asarray(picture), read_rgb(sample.image, VIEW.image))


def test_imagefolder_as_the_hub_loads_it(asked, tmp_path):
    samples, path = asked
    export_dataset(path, "imagefolder", tmp_path / "out", VIEW)
    rows = loaded(tmp_path / "out", tmp_path)
    assert len(rows) == len(samples)
    for row, sample in zip(rows, samples, strict=True):
        assert [row[k] for k in ("id", "question", "answer", "type")] == [
            sample.id, sample.question, sample.answer, sample.type
        ]  # fmt: skip
        assert same(row["image"], sample)


def test_the_rule_of_the_run_makes_the_pixels(asked):
    for sample in (asked[0][0], asked[0][-1]):
        own, usual = (read_rgb(sample.image, rule) for rule in (RULE, RasterToRGB()))
        assert not np.array_equal(own, usual)  # so that `same` can tell them apart


def test_trl_as_its_examples_load_it(asked, tmp_path):
    samples, path = asked
    export_dataset(path, "trl", tmp_path / "out", VIEW)
    rows = loaded(tmp_path / "out", tmp_path)
    # of messages TRL would train every token
    assert set(rows.column_names) == {"images", "prompt", "completion"}
    for row, sample in zip(rows, samples, strict=True):
        (user,), (assistant,) = row["prompt"], row["completion"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert assistant["content"] == sample.answer
        (picture,) = row["images"]
        assert same(picture, sample)


@pytest.mark.parametrize("form", ["llamafactory", "ms-swift"])
def test_conversations_with_a_mark_for_the_image(asked, tmp_path, form):
    samples, path = asked
    export_dataset(path, form, tmp_path / "out", VIEW)
    for row, sample in zip(lines(tmp_path / "out/train.jsonl"), samples, strict=True):
        user, assistant = row["messages"]
        assert user["content"].startswith("<image>In one word.\n")
        assert user["content"].count("<image>") == len(row["images"]) == 1
        assert assistant == {"role": "assistant", "content": sample.answer}
        assert (tmp_path / "out" / row["images"][0]).is_file()
    info = tmp_path / "out/dataset_info.json"
    assert info.exists() == (form == "llamafactory")
    if info.exists():
        (entry,) = json.loads(info.read_text()).values()
        assert (tmp_path / "out" / entry["file_name"]).is_file()


@pytest.mark.parametrize("form", [name for name, form in EXPORT_FORMATS.items() if not form.plain])
def test_lookalikes_of_tokens_are_defused_and_counted(asked, tmp_path, form, capsys):
    export_dataset(asked[1], form, tmp_path / "out", VIEW)
    text = (tmp_path / "out" / EXPORT_FORMATS[form].file).read_text()
    rows = (
        json.loads(text)
        if text.startswith("[")
        else lines(tmp_path / "out" / EXPORT_FORMATS[form].file)
    )
    (row,) = [r for r in rows if "2028" in json.dumps(r)]
    turn = next(row[key] for key in ("prompt", "messages", "conversations") if key in row)[0]
    said = turn.get("content", turn.get("value"))
    assert said.endswith("Is < image> of < |im_end|> a\u2028road, or a < b > c?")
    assert "in 1 samples" in capsys.readouterr().err


def test_what_is_taken_for_a_token_and_what_is_not(asked, tmp_path, capsys):
    samples, path = asked
    odd = [
        replace(samples[0], id=f"{k}", question=f"Is {text} it?", answer=f"a {text}")
        for k, text in enumerate([*TOKENS, *PLAIN])
    ]
    write_conversations(path, odd)
    export_dataset(path, "ms-swift", tmp_path / "out", VIEW)
    for row, text in zip(lines(tmp_path / "out/train.jsonl"), [*TOKENS, *PLAIN], strict=True):
        written = text.replace("<", "< ") if text in TOKENS else text
        question, answer = (turn["content"] for turn in row["messages"])
        assert question == f"<image>In one word.\nIs {written} it?"
        assert answer == f"a {written}"
    assert f"in {len(TOKENS)} samples" in capsys.readouterr().err


def test_at_the_command_line(asked, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", "--data", str(asked[1]), "--format", "trl", "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    first = lines(out / "metadata.jsonl")[0]["prompt"][0]["content"]
    assert first.startswith(InputConfig().instruction + "\n")
    assert main(["export", "--data", str(asked[1]), "-o", str(tmp_path / "x")]) == 2
    assert main(["export", "--format", "trl", "-o", str(tmp_path / "x")]) == 2


def test_what_cannot_be_written(asked, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(RunError, match="is not empty"):
        export_dataset(asked[1], "trl", tmp_path / "full", VIEW)
    (tmp_path / "tif").rename(tmp_path / "gone")
    with pytest.raises(DataError):
        export_dataset(asked[1], "trl", tmp_path / "out", VIEW)
    assert not (tmp_path / "out").exists()
