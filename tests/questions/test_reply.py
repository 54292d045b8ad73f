"""Answers behind thoughts and inside marks: read where they can be, never credited where not."""

import time

import pytest

from qwen2vl_rs.questions.normal_forms import interpret, normalise
from qwen2vl_rs.questions.reply import extract_answer

FORMS = [
    "<think>\nNo road at first, yet there are 3 lines.\n</think>\n\n{}",
    "No road at first, yet there are 3 lines.\n</think>\n\n{}",  # opened in the prompt
    "<think></think>{}", "<think>a</think><think>b</think>{}", "<THINK>no</THINK> {}.",
    "<thinking>no</thinking>{}", "<seed:think>no</seed:think>{}", "◁think▷no◁/think▷{}",
    "[THINK]no[/THINK]{}", "<reasoning>no</reasoning>\n<answer>{}</answer>",
    "<answer>{}</answer>", "<answer> {} </answer>\n", "<think>no</think> <answer>{}</answer>",
    "<answer>{}", "{}</answer>", "It is so: <answer>{}</answer> as I said",
    "<answer>{}</answer> … <answer>{}</answer>", "<final_answer>{}</final_answer>",
    "<CONCLUSION>{}</CONCLUSION>", "\\boxed{{{}}}", "Therefore $\\boxed{{\\text{{{}}}}}$.",
    "<|begin_of_box|>{}<|end_of_box|>", "<think>no</think>**{}**.<|im_end|>",
    "<|begin_of_thought|>no<|end_of_thought|><|begin_of_solution|>{}<|end_of_solution|>",
    "<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final<|message|>{}",
    "<|START_THINKING|>no<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
    "<think>no</think><answer><|begin_of_box|>{}<|end_of_box|></answer>",
    "<answer>\\boxed{{{}}}</answer>",
    "<think>" + "no roads, " * 5000 + "</think>{}",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("type", "said"),
    [("presence", "yes"), ("presence", "no"), ("rural_urban", "urban"), ("count", "47"),
     ("area", "624m2"), ("LC", "water bodies")],
)  # fmt: skip
def test_the_answer_is_read_and_nothing_else(form, type, said):
    assert normalise(form.format(*[said] * form.count("{}")), type) == said
    assert interpret(form.format(*[said] * form.count("{}")), type) == (said, "")


@pytest.mark.parametrize(
    ("reply", "cut", "cause"),
    [
        ("", False, "empty"), (" \n", False, "empty"), ("", True, "cut_off"),
        ("<answer></answer>", False, "empty"), ("\\boxed{}", False, "empty"),
        ("<think>yes", False, "no_answer"), ("<think>yes", True, "cut_off"),
        ("<think>yes</think>", False, "no_answer"), ("yes <think> or no", False, "no_answer"),
        ("<answer>yes</answer><think>wait", False, "no_answer"),
        ("<think><answer>yes</answer></think>", False, "no_answer"),
        ("<|channel|>analysis<|message|>yes", False, "no_answer"),
        ("<think>a</think>yes</think>", False, "no_answer"),
        ("<answer>yes</answer> or <answer>no</answer>", False, "unclear"),
        ("\\boxed{yes} \\boxed{no}", False, "unclear"),
        ("I cannot tell", False, "unclear"), ("The picture shows a", True, "cut_off"),
        ("<think>yes</think> maybe", False, "unclear"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_has_a_cause_and_earns_nothing(reply, cut, cause):
    prediction, why = interpret(reply, "presence", cut)
    assert why == cause
    assert normalise(reply, "presence") is None
    assert normalise(prediction, "presence") is None


def test_an_answer_that_may_go_on_is_cut_off():
    assert interpret("There are 12", "count", cut=True) == ("12", "cut_off")
    assert interpret("12 roads", "count", cut=True) == ("12", "")
    assert interpret("Yes, there is a", "presence", cut=True) == ("yes", "")
    assert interpret("water bodies and", "LC", cut=True) == ("water bodies and", "cut_off")


def test_what_is_only_mentioned_is_no_mark():
    for text in ("yes", "a thinking man", "x < y > z", "[reason] none", "3 < 4"):
        assert extract_answer(text).text == text


def test_reading_takes_no_longer_than_a_reply_is_long():
    start = time.process_time()
    for part in ("<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "\\boxed{a}",
                 "<|channel|>", "<|channel|>x<|message|>", "<", "{", "\\text{"):  # fmt: skip
        extract_answer(part * 20_000)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (r"<answer>5</answer> or maybe \boxed{12}", ""),
        (r"\boxed{12} is too much. <answer>5</answer>", ""),
        (r"So \boxed{5}. <answer>5</answer>", "5"),
        (r"<answer>\boxed{5}</answer>", "5"),
        (r"<answer>\boxed{5}</answer> \boxed{6}", ""),
    ],
)
def test_an_answer_in_tags_and_another_in_a_box_are_none(reply, text):
    assert extract_answer(reply).text == text
