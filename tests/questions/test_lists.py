"""Lists that decide something, member by member: a lost or misspelt one changes what is done.

The lists here are written out once more, from the sources and not from the code.
"""

import json

import pytest

from qwen2vl_rs.cli import main
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.reading import csv2json, read_samples
from qwen2vl_rs.errors import ConfigError, DataError
from qwen2vl_rs.questions.grammar import question_type, template, type_of
from qwen2vl_rs.questions.latex import plain
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.questions.reply import extract_answer
from qwen2vl_rs.types import Prediction


def words(text):
    """The words of a text, for lists that would fill a page."""
    return text.split()


NUMBERS = words(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty"""
)
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
        "eighty": 80, "ninety": 90}  # fmt: skip


def test_every_number_below_a_hundred_has_its_words():
    for value, word in enumerate(NUMBERS):
        assert normalise(word, "count") == str(value), word
    for tens, value in TENS.items():
        assert normalise(tens, "count") == str(value), tens
        for unit in range(1, 10):
            for mark in "- ":
                assert normalise(f"{tens}{mark}{NUMBERS[unit]}", "count") == str(value + unit)
    for unit in range(1, 10):
        assert normalise(f"{NUMBERS[unit]} hundred and one", "count") == f"{unit}01"
        assert normalise(f"{NUMBERS[unit]} thousand", "count") == f"{unit}000"


@pytest.mark.parametrize(
    "word",
    words(
        """minus negative than least most over under above below nearly almost exceeding plus up
    between maximum minimum dozen dozens hundred hundreds thousand thousands million millions
    billion half percent times m km metre metres meter meters kilometre
    kilometres kilometer kilometers feet ft ha hectare hectares acre acres pixel pixels"""
    ),
)
def test_words_that_make_a_number_something_else(word):
    assert normalise("12 roads there", "count") == "12"
    assert normalise(f"12 {word} there", "count") is None
    assert normalise(f"624 m2 {word} there", "area") is None


@pytest.mark.parametrize("sign", "%$€£°<>=/\\^×+≥≤≠±")
def test_signs_that_make_a_number_something_else(sign):
    assert normalise("roads: 12", "count") == "12"
    assert normalise(f"roads {sign}12", "count") is None
    assert normalise(f"roads {sign}624 m2", "area") is None


@pytest.mark.parametrize(
    "unit",
    ["m2", "m^2", "m²", "m ²", "㎡", "sqm", "sq m", "sq. m", "sq.m", "sq meter", "sq. meters",
     "sq metres", "square meter", "square meters", "square metre", "square metres",
     "square-meters"],
)  # fmt: skip
def test_units_of_area(unit):
    assert normalise(f"624 {unit}", "area") == "624m2"
    assert normalise(f"624 {unit}", "count") is None


@pytest.mark.parametrize(
    "word", words("no non not none nothing never without neither nor lack lacks lacking absent")
)
def test_words_that_negate(word):
    assert normalise("yes, roads", "comp") == "yes"
    assert normalise(f"yes, {word} roads", "comp") is None
    assert normalise(f"{word} 12 roads", "count") is None
    assert normalise(f"{word} urban", "rural_urban") is None


@pytest.mark.parametrize(
    "word",
    words(
        """or but however although though maybe perhaps unclear unsure uncertain unknown cannot
    unable impossible sorry either if whether unless except enough information determine depends
    hardly barely scarcely"""
    ),
)
def test_words_that_take_an_answer_back(word):
    assert [normalise(f"{said}, so it is", "comp") for said in ("yes", "no")] == ["yes", "no"]
    assert [normalise(f"{said}, {word} it is", "comp") for said in ("yes", "no")] == [None, None]
    assert normalise(f"12 {word} it is", "count") is None
    assert normalise(f"urban, {word} it is", "rural_urban") is None


@pytest.mark.parametrize("word", ["far from", "less", "almost", "nearly"])
def test_words_that_weaken_a_place(word):
    assert normalise("it is quite urban", "rural_urban") == "urban"
    assert normalise(f"it is {word} urban", "rural_urban") is None


@pytest.mark.parametrize(
    "goes_on",
    ["no, no", "no there is not", "no it isn't", "no they are not", "no the image is dry",
     "no this is sand", "no that is sand", "no these are fields", "no those are fields",
     "no i see nothing", "no we see nothing", "no you see nothing", "no because it is dry",
     "no since it is dry", "no as it is dry", "no is the answer", "no are the roads"],
)  # fmt: skip
def test_what_may_follow_a_bare_no(goes_on):
    assert normalise(goes_on, "comp") == "no"


NOUNS = words(
    """building residential commercial road water area land class industrial retail railway
cemetery grass farmyard farm farmland orchard vineyard wood meadow village green recreation ground
allotment allotments quarry park forest garden playground golf course sports centre pitch stadium
common nature reserve university school college library fuel parking cinema theatre place worship
hospital scrub wetland heath zoo island pier military barracks pedestrian footway runway taxiway
hedge construction religious depot garage greenfield landfill port salt pond"""
)


@pytest.mark.parametrize("noun", NOUNS)
def test_objects_whose_absence_is_an_answer(noun):
    assert normalise(f"There is a {noun}.", "presence") == "yes"
    assert normalise(f"No {noun} is visible in the image.", "presence") == "no"
    assert normalise(f"There are no {noun}s", "count") == "0"
    assert normalise("There is a problem.", "presence") is None


@pytest.mark.parametrize(
    "how", ["is present", "is visible", "is seen", "is found", "is shown", "can be seen",
            "can be found"],
)  # fmt: skip
def test_ways_to_say_that_something_is_there(how):
    assert normalise(f"A road {how}.", "presence") == "yes"
    assert normalise(f"No road {how} in the scene", "presence") == "no"
    assert normalise(f"A road {how.replace(' ', ' not ', 1)}", "presence") == "no"


@pytest.mark.parametrize(
    "mark", ["</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>"]
)
def test_marks_that_end_an_answer(mark):
    assert normalise(f"12{mark}13", "count") == "12"


ATTRIBUTES = ["small", "medium", "large", "circular", "rectangular", "square"]
RELATIONS = ["at the top of", "on the right of", "at the bottom of", "on the left of", "next to"]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_attributes_of_the_grammar(attribute):
    asked = template(f"How many {attribute} roads are there?")
    assert asked == "how many [attribute] [object] are there?"
    assert normalise(f"There is a {attribute} road", "presence") == "yes"


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_of_the_grammar(relation):
    asked = template(f"How many roads {relation} a  lake are there?")
    assert asked == "how many [object] [relation] [object] are there?"


@pytest.mark.parametrize(
    ("question", "type"),
    [
        *((f"Are there {word} roads than farms?", "comp") for word in ("less", "fewer", "more")),
        ("Is the number of roads equal to the number of farms?", "comp"),
        ("What is the number of roads?", "count"), ("What is the amount of roads?", "count"),
        ("How many roads are there?", "count"), ("How many roads?", "count"),
        ("What is the area covered by roads?", "area"),
        ("Is there a road?", "presence"), ("Are there some roads?", "presence"),
        ("Is a road present?", "presence"), ("Is an orchard present?", "presence"),
        ("Are roads present?", "presence"), ("Are some roads present?", "presence"),
        *((f"Is {this} a rural or an urban area?", "rural_urban") for this in ("it", "this")),
        *((f"Is it {pair} area?", "rural_urban") for pair in (
            "rural or urban", "a rural or urban", "an urban or a rural", "urban or rural")),
        *((f"{what} classes are in the scene?", "LC") for what in ("What", "Which")),
        *((f"What l{n} classes are there?", "LC") for n in (1, 2, 3)),
        ("What l4 classes are there?", "other"),
        ("Besides roads, what classes are there?", "LC"),
        ("In addition to roads, which land cover classes are there?", "LC"),
        *((f"Is there a road in {the} {what}?", "presence") for the in ("the", "this")
          for what in ("image", "scene", "picture")),
    ],
)  # fmt: skip
def test_templates_of_the_grammar(question, type):
    assert question_type(question) == type


@pytest.mark.parametrize("end", [" in the image", " in this image", " in the scene",
                                 " in this scene", " in the picture", " in this picture", " ?",
                                 "??", " .", "!"])  # fmt: skip
def test_ends_of_a_question_that_mean_nothing(end):
    assert template(f"How many roads are there{end}") == "how many [object] are there?"


@pytest.mark.parametrize(
    ("stored", "type"),
    [
        ("counting", "count"), ("Count", "count"), ("comparison", "comp"), ("compare", "comp"),
        ("comp", "comp"), ("urban_rural", "rural_urban"), ("rural-or-urban", "rural_urban"),
        ("Urban or rural", "rural_urban"), ("rural/urban", "rural_urban"), ("Presence", "presence"),
        ("AREA", "area"), ("land_cover", "LC"), ("lc", "LC"), ("scene", "scene"),
    ],
)  # fmt: skip
def test_names_of_types(stored, type):
    assert type_of(Prediction("", "", "x", stored, "a", "b")) == type


THOUGHTS = """think thinking thought thoughts reason reasoning reflection analysis scratchpad
seed:think"""
ANSWERS = """answer final conclusion response output solution finalanswer final_answer"""


@pytest.mark.parametrize("tag", THOUGHTS.split())
def test_tags_of_thoughts(tag):
    assert extract_answer(f"<{tag}>yes or no</{tag}>no").text == "no"
    assert extract_answer(f"yes or no</{tag.upper()}>no").text == "no"
    assert extract_answer(f"<{tag}>is it").cause == "no_answer"


@pytest.mark.parametrize(
    ("start", "end"),
    [("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"),
     ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|start_thinking|>", "<|end_thinking|>")],
)  # fmt: skip
def test_signs_of_thoughts(start, end):
    assert extract_answer(f"{start}yes or no{end}no").text == "no"
    assert extract_answer(f"yes or no{end}no").text == "no"
    assert extract_answer(f"{start}is it").cause == "no_answer"


@pytest.mark.parametrize("tag", [*ANSWERS.split(), "final answer"])
def test_tags_of_answers(tag):
    assert extract_answer(f"I see sand: <{tag}>no</{tag}> thanks").text == "no"
    assert extract_answer(f"<{tag}>yes</{tag}> <{tag}>no</{tag}>").cause == "unclear"


@pytest.mark.parametrize(
    ("start", "end"),
    [("[answer]", "[/answer]"), ("<|begin_of_box|>", "<|end_of_box|>"),
     ("<|begin_of_solution|>", "<|end_of_solution|>"), ("<|start_response|>", "<|end_response|>")],
)  # fmt: skip
def test_signs_of_answers(start, end):
    assert extract_answer(f"I see sand: {start}no{end} thanks").text == "no"


@pytest.mark.parametrize(
    "style",
    words(
        """text textbf textrm textit textsf texttt textup textnormal mathbf mathrm mathit mathsf
    mathtt mathup mathnormal operatorname operatorname* mbox hbox bm boldsymbol underline emph num
    ensuremath displaystyle textstyle"""
    ),
)
def test_styles_of_latex(style):
    assert plain(rf"\{style}{{12}}").strip() == "12"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        *((rf"12\{back}{{13}}", "12") for back in (
            "cancel", "bcancel", "xcancel", "sout", "st", "phantom", "hphantom", "vphantom")),
        *((rf"\{switch} 12", "12") for switch in (
            "bf", "rm", "it", "sf", "tt", "bfseries", "displaystyle", "textstyle", "large", "Large",
            "LARGE", "huge", "Huge", "left", "right")),
        *((rf"12{space}roads", "12 roads") for space in (
            r"\,", r"\:", r"\;", r"\>", "\\ ", "~", r"\space ", r"\thinspace ", r"\medspace ",
            r"\thickspace ", r"\enspace ", r"\quad ", r"\qquad ")),
        *((rf"12 {no} 13", "12 not 13") for no in (r"\neg", r"\lnot", r"\not")),
        *((rf"624 {square}", "624 m^2") for square in (
            r"\square\meter", r"\square\metre", r"\meter\squared", r"\metre\squared")),
        *((rf"\{colour}{{red}}{{12}}", "12") for colour in ("textcolor", "colorbox", "color")),
        (r"\SI{12}{m}", "12 m"), (r"\qty{12}{m}", "12 m"), (r"\(12\)", "12"), (r"\[12\]", "12"),
        (r"m\textsuperscript{2}", "m^2"), ("m^{2}", "m^2"), ("$12$", "12"), ("$$12$$", "12"),
        (r"\frac{1}{2}", r"\frac{1}{2}"), (r"\approx 12", r"\approx 12"),
    ],
)  # fmt: skip
def test_latex_that_says_how_it_looks_only(said, shown):
    assert " ".join(plain(said).split()) == shown


@pytest.mark.parametrize("box", [r"\boxed{12}", r"\fbox{12}", r"\boxed {12}"])
def test_boxes_of_latex(box):
    assert extract_answer(f"13 at first, then {box}").text == "12"


HERE = {
    "training.learning_rate": "lr base_lr initial_lr peak_lr",
    "training.num_train_epochs": "epochs num_epochs n_epochs max_epochs train_epochs",
    "training.max_steps": "steps num_steps train_steps num_train_steps max_train_steps max_iters",
    "training.warmup_ratio": "warmup warmup_steps num_warmup_steps",
    "training.lr_scheduler_type": "scheduler lr_scheduler scheduler_type",
    "training.weight_decay": "wd",
    "training.max_grad_norm": "grad_clip gradient_clipping clip_grad_norm max_norm",
    "training.gradient_checkpointing": "activation_checkpointing disable_gradient_checkpointing",
    "training.attention": "flash_attn attn_implementation use_flash_attention_2",
    "training.bf16 or training.fp16": "dtype torch_dtype mixed_precision precision pure_bf16 amp",
    "training.save_steps": "save_strategy checkpoint_steps save_interval",
    "training.save_total_limit": "max_checkpoints keep_checkpoints",
    "training.seed": "data_seed random_seed",
    "training.report_to": "logger use_swanlab use_wandb",
    "lora.r": "rank lora_rank lora_r",
    "lora.lora_alpha": "alpha",
    "lora.lora_dropout": "dropout",
    "lora.target_modules": "lora_target lora_target_modules",
    "model": "model_name_or_path model_name model_path base_model model_id base",
    "output": "output_dir save_dir out_dir run_name",
    "data.conversations": "dataset_path data_path dataset_dir train_data json_file",
    "data.train": "train_file train_dataset",
    "data.test": "test_file eval_file",
    "data.test_fraction": "test_size",
    "data.images": "media_dir image_folder image_dir image_root images_dir",
    "data.max_train": "max_samples max_train_samples num_samples",
    "eval.max_eval": "max_eval_samples max_predict_samples eval_samples",
    "eval.max_new_tokens": "max_tokens generation_max_length",
    "view.max_pixels": "image_max_pixels image_resolution",
    "view.min_pixels": "image_min_pixels",
    "view.instruction": "system system_prompt prompt default_system prompt_template",
    "the option --resume": "resume resume_from_checkpoint",
    "the option --device": "device no_cuda use_cpu local_rank",
}
INSTEAD = {
    "a smaller base model": "load_in_4bit load_in_8bit quantization_bit qlora bnb_4bit_quant_type",
    "with validation questions": "eval_strategy evaluation_strategy eval_steps do_eval "
    "load_best_model_at_end",
    "a step has training.images_per_step": "batch_size bs gradient_accumulation_steps packing "
    "group_by_length",
    "nothing is cut": "cutoff_len max_length max_seq_length max_seq_len",
    "AdamW": "optim optimizer adam_beta1 adam_beta2 adam_epsilon use_galore use_badam",
    "plain data parallelism": "deepspeed fsdp fsdp_config tensor_parallel_size tp pp",
    "LoRA on the language model": "stage finetuning_type modules_to_save",
    "LoRA, rsLoRA or DoRA": "init_lora_weights bias task_type",
    "cross-entropy": "neftune_noise_alpha label_smoothing_factor label_smoothing",
    "each model's own chat template": "template chat_template",
    "every step is logged to": "logging_steps logging_dir logging_strategy plot_loss",
    "a run never overwrites another": "overwrite_output_dir",
    "the number of workers": "dataloader_num_workers num_workers preprocessing_num_workers",
    "write the folder": "push_to_hub hub_model_id hub_token",
    "decoding is greedy": "temperature top_p top_k do_sample num_beams",
}
NOT_NEEDED = "remove_unused_columns ddp_timeout trust_remote_code overwrite_cache"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        *((names, f"use {place}") for place, names in HERE.items()),
        *((names, f"not supported; instead: {way}") for way, names in INSTEAD.items()),
        (NOT_NEEDED, "not needed here, omit it"),
    ],
)
def test_names_of_settings_elsewhere(names, said):
    for name in names.split():
        with pytest.raises(ConfigError) as caught:
            load_config(None, [f"{name}=1"])
        assert said in caught.value.message, name


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("info", "COCO or VQA v2"), ("licenses", "COCO or VQA v2"), ("license", "VQA v2"),
        ("images", "list of images"), ("annotations", "annotations"), ("categories", "COCO"),
        ("type", "GeoJSON"), ("answers", "answers of RSVQA"),
    ],
)  # fmt: skip
def test_files_of_other_programs(tmp_path, key, said):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({key: [1]}))
    with pytest.raises(DataError) as caught:
        list(read_samples(path))
    assert said in caught.value.message.partition(";")[0]
    with pytest.raises(DataError, match="not a CSV table") as caught:
        csv2json(path, tmp_path / "b.json")
    assert said in caught.value.message


@pytest.mark.parametrize("name", ["official", "geochat", "raw", "original"])
@pytest.mark.parametrize(
    ("question", "gold", "said", "right"),
    [
        ("How many roads are there?", "12", "70", {"official"}),
        ("How many roads are there?", "12", "12 roads", {"official", "original"}),
        ("What is the area covered by roads?", "12m2", "70 m2", {"official"}),
        ("Is there a road?", "yes", "There is a road.", {"official", "geochat", "original"}),
        ("Is it a rural or an urban area?", "urban", "an urban one", {"official", "geochat"}),
        ("Is there a road?", "yes", "YES", {"official", "geochat", "raw", "original"}),
    ],
)
def test_what_each_protocol_takes_for_right(tmp_path, capsys, name, question, gold, said, right):
    row = {"question": question, "answer": gold, "prediction": said}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    words = ["score", str(tmp_path / "a.jsonl"), "--dataset", "LR", "--json", "--protocol", name]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    if name == "geochat" and ("many" in question or "area covered" in question):
        assert name not in found["protocols"]
        assert "leaves out" in found["left_out"][name]
    else:
        assert (found["protocols"][name]["OA"] == 1) is (name in right)


@pytest.mark.parametrize("spelt", ["LR", "lr", "RSVQA-LR", "rsvqa_lr", "HR", "RSVQA-HR", "xBEN",
                                   "RSVQAxBEN", "rsvqa-xben"])  # fmt: skip
def test_names_of_data_sets(tmp_path, capsys, spelt):
    row = {"question": "Is there a road?", "answer": "yes", "prediction": "yes", "dataset": spelt}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert main(["score", str(tmp_path / "a.jsonl"), "--json"]) == 0
    want = {"lr": "LR", "hr": "HR", "en": "xBEN"}[spelt[-2:].lower()]
    assert json.loads(capsys.readouterr().out)["dataset"] == want


COUNTED = {"image": "a.tif", "question": "How many roads are there?", "answer": "1"}
SEEN = {"image": "a.tif", "question": "Is there a road?", "answer": "yes"}


@pytest.mark.parametrize(
    ("row", "training", "missing", "reason"),
    [
        (COUNTED, None, "geochat", "the protocol excludes the types of all questions"),
        (COUNTED, {**SEEN, "image": "b.tif"}, "Baselines and visual gain on Counting",
         "no training question of this type has a readable answer"),
        (SEEN, SEEN, "Gain over question-only baseline",
         "the images of all training questions are in the test set"),
        (SEEN, None, "Majority baseline", "no training questions were given"),
        (SEEN, None, "Cost of shuffled images", "the model did not answer about shuffled images"),
        (SEEN, None, "Confidence", "the predictions contain no confidence"),
        (SEEN, None, "Counting", "no counting question has a number as its ground truth"),
    ],
)  # fmt: skip
def test_reasons_why_something_is_missing(tmp_path, row, training, missing, reason):
    said = {**row, "prediction": row["answer"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(said))
    more = []
    if training:
        (tmp_path / "t.jsonl").write_text(json.dumps(training))
        more = ["--train-questions", str(tmp_path / "t.jsonl")]
    for language in ("zh", "en"):
        words = ["-q", "report", "--after", str(tmp_path / "a.jsonl"), "-o", str(tmp_path), *more]
        assert main([*words, "--lang", language]) == 0
    text = (tmp_path / "report.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {missing} |")]
    assert reason in line


@pytest.mark.parametrize(
    ("said", "cause"),
    [({"text": "1", "unreadable": "cut_off"}, "cut off"), ({"text": ""}, "empty"),
     ({"text": "<think>one</think>"}, "reasoning without an answer"),
     ({"text": "many"}, "no clear answer")],
)  # fmt: skip
def test_causes_of_answers_that_cannot_be_read(tmp_path, capsys, said, cause):
    row = {**COUNTED, "answer": "12", "prediction": said["text"] or None, **said}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert main(["score", str(tmp_path / "a.jsonl")]) == 0
    assert f"unreadable: 1, of these {cause}: 1" in capsys.readouterr().out
    assert main(["-q", "report", "--after", str(tmp_path / "a.jsonl"), "-o", str(tmp_path)]) == 0
    assert f"unreadable answers: 1 ({cause}: 1)" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("channel", "text"), [("final", "no"), ("analysis", ""), ("commentary", "")]
)
def test_channels_of_a_reply(channel, text):
    head = "<|channel|>analysis<|message|>yes or no"
    assert extract_answer(f"{head}<|channel|>{channel}<|message|>no").text == text
