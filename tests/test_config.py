import json
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from qwen2vl_rs.config import Config, InputConfig
from qwen2vl_rs.config_file import check_config, load_config, write_config
from qwen2vl_rs.errors import ConfigError, RunError
from qwen2vl_rs.system.toml import to_toml

quotes = ['"', '"""', "'", "\\", "\\u12", "#", "]", "=", ""]
controls = ["\n", "\r\n", "\r", "\t", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff"]
pieces = st.sampled_from([*quotes, *controls, "图像", "😀"])
letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
texts = st.lists(pieces | letters, max_size=5).map("".join)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = texts | st.integers(-(2**63), 2**63 - 1) | floats | st.booleans()
keys = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
trees = st.recursive(
    scalars | st.lists(scalars, max_size=3),
    lambda inner: st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def from_text(text: str) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c.toml")
        path.write_bytes(text.encode())
        return load_config(path)


# Writing


@given(tree=st.dictionaries(keys, trees, max_size=5))
@example(tree={"a": "\x7f"})
@example(tree={"a": 'say "no"\n\\', "b": {"c": [1e-05, 1e16, True, -0.0], "d": {"e": "图\x00"}}})
@example(tree={"a": {}, "b": {"c": {}}})
@settings(max_examples=60)
def test_what_is_written_as_toml_is_read_back(tree):
    assert tomllib.loads(to_toml(tree).encode().decode()) == tree


def test_types_are_kept():
    found = tomllib.loads(to_toml({"a": 1, "b": 1.0, "c": True, "d": "1", "e": [1, 2.0]}))
    assert [type(value) for value in found.values()] == [int, float, bool, str, list]


numbers = st.floats(1e-12, 1e3)


@st.composite
def configs(draw):
    low = draw(st.floats(0, 50))
    names = draw(st.none() | st.tuples(texts, texts))
    smallest = draw(st.integers(28 * 28, 10**6))
    return Config.model_validate({
        "model": draw(texts),
        "output": draw(texts),
        "data": {"train": names and names[0], "test": names and names[1]},
        "view": {
            "instruction": draw(texts),
            "min_pixels": smallest,
            "max_pixels": smallest + draw(st.integers(0, 10**6)),
            "image": {
                "bands": draw(st.none() | st.tuples(*[st.integers(1, 20)] * 3)),
                "stretch": (low, draw(st.floats(60, 100))),
                "value_range": draw(st.none() | st.just((-low, 4096.5))),
            },
        },
        "lora": {"r": draw(st.integers(1, 512)), "target_modules": draw(st.tuples(texts, texts))},
        "training": {"learning_rate": draw(numbers), "bf16": draw(st.none() | st.booleans())},
    })  # fmt: skip


@given(config=configs())
@settings(max_examples=30)
def test_a_written_configuration_is_read_back(config):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        write_config(path, config)
        assert load_config(path) == config


def test_the_whole_tree_is_written(tmp_path):
    write_config(tmp_path / "config.toml", Config())
    written = tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))
    assert written["lora"]["lora_alpha"] == 16
    assert written["view"]["image"]["stretch"] == [2.0, 98.0]
    assert set(written) == set(Config.model_fields)
    assert "bands" not in written["view"]["image"]  # TOML has no null: left out, and so the default


def test_a_file_is_the_defaults_and_what_differs():
    config = from_text('model = "base"\n[lora]\nr = 8\n')
    assert (config.model, config.lora.r, config.lora.lora_alpha) == ("base", 8, 16)
    assert from_text("") == Config() == load_config(None)


def test_the_defaults_of_the_original_system():
    lora, training = Config().lora, Config().training
    assert (lora.r, lora.lora_alpha, lora.lora_dropout) == (64, 16, 0.05)
    assert {name.removesuffix("_proj") for name in lora.target_modules} == {
        "q", "k", "v", "o", "gate", "up", "down",
    }  # fmt: skip
    assert training.learning_rate == 1e-4
    assert Config().data.test_fraction == 0.1


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        Config().lora.r = 3


# Settings of the command line


def read(settings: list[str]) -> dict:
    return load_config(None, settings).model_dump()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lora.r=16", 16),
        (" lora.r = 16", 16),
        ("training.learning_rate=2e-5", 2e-5),
        ("training.bf16=true", True),
        ("training.report_to=[]", ()),
        ('training.report_to=["wandb", "tensorboard"]', ("wandb", "tensorboard")),
        ("view.image.bands=[4, 3, 2]", (4, 3, 2)),
        ("view.image.value_range=[0, 4096]", (0.0, 4096.0)),
        ("model=Qwen/Qwen2-VL-7B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"),
        ('model="a b"', "a b"),
        ("model=two words", "two words"),
        ("model='2024'", "2024"),
        ("model=输出/模型", "输出/模型"),
        ("model=", ""),
        ("view.instruction=Say x=1.", "Say x=1."),
    ],
)
def test_a_setting(setting, value):
    found = read([setting])
    for part in setting.partition("=")[0].strip().split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


def test_settings_win_over_the_file_and_later_ones_over_earlier(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[lora]\nr = 8\nlora_alpha = 5\n[view.image]\nbands = [3, 2, 1]\n")
    config = load_config(path, ["lora.r=1", "lora.r=2", "view.max_pixels=100352"])
    assert (config.lora.r, config.lora.lora_alpha) == (2, 5)
    assert config.view.image.bands == (3, 2, 1)
    assert config.view.max_pixels == 100352


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lora.r", "'lora.r' has no '='"),
        ("", "'' has no '='"),
        ("=1", "unknown key"),
        ("model.size=2", "model: "),
        ("lora=16", "lora: "),
        ("lora.r.s=1", "lora.r: "),
    ],
)
def test_a_setting_that_is_none(setting, said):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [setting])
    assert said in caught.value.message


def test_a_value_is_no_section(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("lora = 3")
    with pytest.raises(ConfigError, match="lora is not a section"):
        load_config(path, ["lora.r=16"])


# Errors


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_text(text)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle = 'x'", "unknown key modle, did you mean model?"),
        ("[lora]\nlora_aplha = 1", "unknown key lora.lora_aplha, did you mean lora.lora_alpha?"),
        (
            "[training]\nsave_step = 1",
            "unknown key training.save_step, did you mean training.save_steps?",
        ),
        ("[view.image]\nband = 1", "unknown key view.image.band, did you mean view.image.bands?"),
        ("[trainning]\nseed = 1", "unknown key trainning, did you mean training?"),
        ("[lora]\nxyzzy = 1", "unknown key lora.xyzzy"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(text, said):
    assert complaint(text).endswith(f": {said}")


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("model = 2", "model", "valid string"),
        ("[lora]\nr = 0", "lora.r", "greater than or equal to 1"),
        ("[lora]\nr = 1.5", "lora.r", "valid integer"),
        ("[lora]\nlora_dropout = 1", "lora.lora_dropout", "less than 1"),
        ("[training]\nlearning_rate = 0", "training.learning_rate", "greater than 0"),
        ("[training]\nlearning_rate = inf", "training.learning_rate", "finite"),
        ("[training]\nlearning_rate = nan", "training.learning_rate", ""),
        ("[training]\nreport_to = ['clearml']", "training.report_to.0", "'swanlab'"),
        ("[training]\nlr_scheduler_type = 'x'", "training.lr_scheduler_type", "'cosine'"),
        ("[data]\ntest_fraction = 1.0", "data.test_fraction", "less than 1"),
        ("[data]\nsplit_by = 'luck'", "data.split_by", "'image' or 'question'"),
        ("[data]\ntrain = 'a.json'", "data", "give both train and test, or neither"),
        (
            "[data]\ntrain = 'a.json'\ntest = 'b.json'\nconversations = 'c.json'",
            "data",
            "give conversations to split, or train and test, not both",
        ),
        ("[eval]\nmax_eval = 0", "eval.max_eval", "greater than or equal to 1"),
        ("[view]\nmin_pixels = 9000000", "view", "min_pixels is larger than max_pixels"),
        ("[view]\nmin_pixels = 10", "view.min_pixels", "784"),
        ("[view.image]\nbands = [1, 2, 0]", "view.image.bands.2", "greater than or equal to 1"),
        ("[view.image]\nbands = [1, 2]", "view.image.bands", ""),
        ("[view.image]\nstretch = [98, 2]", "view.image.stretch", "the first number must be below"),
        ("[view.image]\nstretch = [2, 102]", "view.image.stretch.1", "less than or equal to 100"),
        ("[view.image]\nvalue_range = [0, inf]", "view.image.value_range.1", "finite"),
        ("[view.image]\nvalue_range = [5, 5]", "view.image.value_range", "(5.0, 5.0)"),
    ],
)
def test_a_bad_value_is_named_with_its_key(text, key, said):
    message = complaint(text)
    assert f": {key}" in message
    assert said in message
    assert "Value error" not in message
    assert "\n" not in message


def test_all_errors_are_told_at_once_in_one_line(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("modle = 'x'\n[lora]\nr = -1\nalpha = 3\n[view.image]\nstretch = [3, 2]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["training.seed=minus", "data.test_fraction=2"])
    message = caught.value.message
    assert message.startswith(f"{path}: ")
    for key in ("unknown key modle", "lora.r: ", "lora.alpha", "view.image.stretch: ",
                "training.seed: ", "data.test_fraction: "):  # fmt: skip
        assert key in message
    assert message.count("; ") == 5
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"model = ", b"[lora]\n[lora]\n"])
def test_a_file_that_is_no_toml(tmp_path, content):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.hint == "the file must be TOML"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration file .*missing\.toml"):
        load_config(tmp_path / "missing.toml")
    (tmp_path / "broken.toml").symlink_to("/proc/self/mem")  # opens; reading it is an EIO
    with pytest.raises(RunError, match=r"cannot read .*broken\.toml: Input/output error"):
        load_config(tmp_path / "broken.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_a_tree_from_elsewhere_is_checked_alike():
    assert check_config({"lora": {"r": 8}}, "card").lora.r == 8
    with pytest.raises(ConfigError, match=r"^card: unknown key lora\.rr"):
        check_config({"lora": {"rr": 8}}, "card")


def test_settings_written_as_json_are_read_exactly():
    for text in ("plain", "a 'b' \"c\"\n", "输出", "=", "1e3", "true"):
        assert load_config(None, [f"output={json.dumps(text)}"]).output == text


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "configs").glob("*.toml")), ids=lambda p: p.name
)
def test_the_recipes_are_valid(path):
    assert load_config(path).output != Config().output


LEAD = "Answer in one word."


@pytest.mark.parametrize(
    ("question", "bare"),
    [
        (f"{LEAD}\nA road?", "A road?"),
        (f"A road?\n{LEAD}", "A road?"),
        (f" A road? {LEAD} ", "A road?"),
        (f"A road?\r\n\r\n{LEAD}", "A road?"),
        ("A road? answer in  one word", "A road?"),
        ("A road?Answer in one word.", "A road?"),
        (f"{LEAD}\nA road?\n{LEAD}\n{LEAD}", "A road?"),
        ("Answer in one word: a road?", "a road?"),
        (LEAD, ""),
        ("A road?", "A road?"),
        ("Answer in one wording. A road?", "Answer in one wording. A road?"),
        ("Does the sign say answer in one word or two?",) * 2,
        ("Answer in one\nwords of love?",) * 2,
    ],
)
def test_the_instruction_is_taken_off_at_either_end(question, bare):
    assert InputConfig(instruction=LEAD).bare(question) == bare
    assert InputConfig(instruction="").bare(question) == question.strip()


def test_an_instruction_in_chinese_is_taken_off_without_blanks_between():
    view = InputConfig(instruction="请用一个词回答。")
    assert view.bare("图中有路吗？请用一个词回答") == "图中有路吗？"
    assert view.bare("图中有路请用一个词回答。") == "图中有路"
    assert view.bare("请用一个词回答。图中有路吗？") == "图中有路吗？"
