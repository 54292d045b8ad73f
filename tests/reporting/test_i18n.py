"""The texts of the report in both languages, and its figures."""

import re
import string
from pathlib import Path

import pytest

import qwen2vl_rs.reporting
from qwen2vl_rs.reporting.i18n import LANGUAGES, Words, table
from qwen2vl_rs.scoring.results import REASONS

ROOM = Path(qwen2vl_rs.reporting.__file__).parent


def holes(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_text_stands_in_every_language_with_the_same_holes():
    assert len(table()) > 150
    for key, texts in table().items():
        assert tuple(texts) == LANGUAGES, key
        assert all(text for text in texts.values()), key
        assert len({frozenset(holes(text)) for text in texts.values()}) == 1, key


def test_chinese_texts_are_chinese():
    same = {key for key, texts in table().items() if texts["en"] == texts["zh"]}
    assert same == {"head.oa", "head.aa", "head.sha256"}
    for key, texts in table().items():
        if key not in same and not key.startswith("form."):
            assert re.search("[\u4e00-\u9fff：、（]", texts["zh"]), key


def test_no_text_is_unused_and_none_is_missing():
    sources = [p.read_text() for p in ROOM.rglob("*") if p.suffix in (".py", ".html", ".md")]
    named = {k for s in sources for k in re.findall(r'\bw\(\s*["\']([a-z]+\.\w+)["\']', s)}
    assert len(named) > 50
    assert named <= table().keys()
    mentioned = {k for s in sources for k in re.findall(r'["\']([a-z]+\.\w+)["\']', s)}
    put_together = {k for s in sources for k in re.findall(r'["\']([a-z]+\.[a-z_]*)\{', s)}
    computed = (*put_together, "type.", "cluster.", "control.", "dataset.", "image.")
    assert not [k for k in table() if k not in mentioned and not k.startswith(computed)]


def test_every_reason_has_words():
    from qwen2vl_rs.reporting.provenance import _REASONS

    assert set(_REASONS) == set(REASONS)
    assert {f"reason.{name}" for name in _REASONS.values()} <= table().keys()


def test_numbers_take_the_word_that_suits_them():
    en, zh = Words("en"), Words("zh")
    assert en("form.part", n=1, all=1) == "1 of 1 question"
    assert en("form.part", n=1_234, all=12_345) == "1,234 of 12,345 questions"
    assert zh("form.part", n=1, all=1) == "1 个问题中的 1 个"
    assert en("templates.rest", n=1, questions=1) == (
        "1 template with fewer questions (1 question) is not ranked."
    )
    assert "1 answer was fixed and 0 broken" in en("cases.lead", fixed=1, broken=0, most=12)


def test_figures():
    en, zh = Words("en"), Words("zh")
    assert en.percent(0.5824) == "58.2\u00a0%"
    assert zh.percent(0.5824) == "58.2%"
    assert en.amount(0.27) == "27.0\u00a0points"
    assert en.points(-0.223) == "−22.3\u00a0points"
    assert zh.points(0.27) == "+27.0\u00a0个百分点"
    assert en.signed(-0.0001) == "+0.0"
    assert en.range([0.55, 0.612]) == "55.0 – 61.2"
    assert en.signed_range([-0.2, 0.1]) == "−20.0 to +10.0"
    assert [en.p(p) for p in (0.0004, 0.031, 1)] == ["<0.001", "0.031", "1.000"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_foreign_names_stay_as_they_are(language):
    w = Words(language)
    assert w.known("type", "flood <b>{x}") == "flood <b>{x}"
    assert w.known("type", "comp") != "comp"
