import csv
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen2vl_rs.datasets.tables import (
    FIELD_LIMIT,
    VISION_END,
    VISION_START,
    read_conversations,
    read_csv,
    write_conversations,
    write_csv,
)
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.types import Sample

ROAD = Sample("rsvqa_1", "/data/2.tif", "Is there a road?", "yes", "presence")

controls = ['"', ",", "\n", "\r\n", "\r", "\\", "'", " ", "\ufeff", "\u2028", "\x85", "\x1a"]
tokens = [VISION_START, VISION_END, "<|im_end|>", "<|vision_start|", "|>", "图像", "😀"]
pieces = st.sampled_from([*controls, *tokens])
letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
texts = st.lists(pieces | letters, max_size=6).map("".join)
paths = texts.filter(bool)
said = texts.filter(str.strip)


def numbered(rows):
    return [Sample(f"rsvqa_{n}", *row) for n, row in enumerate(rows, 1)]


def untyped(samples):
    return [replace(sample, type="") for sample in samples]


@given(rows=st.lists(st.tuples(paths, said, said, texts), min_size=1, max_size=5))
@example(rows=[(f"/a{VISION_END}", f"{VISION_START}?", f"no{VISION_START}", "")])
@example(rows=[("/a.tif", "one\rtwo", "no", ""), ("/a.tif", "0", "\r0", "\r")])
@settings(max_examples=50)
def test_every_text_survives_csv_and_conversations(rows):
    samples = numbered(rows)
    with tempfile.TemporaryDirectory() as name:
        table, plain = Path(name, "typed.csv"), Path(name, "plain.csv")
        talk = Path(name, "talk.json")
        assert write_csv(table, samples, with_type=True) == len(samples)
        assert list(read_csv(table)) == samples
        assert write_csv(plain, read_csv(table), with_type=False) == len(samples)
        assert write_conversations(talk, read_csv(plain)) == len(samples)
        assert list(read_conversations(talk)) == untyped(samples)
        assert write_conversations(talk, read_csv(table)) == len(samples)
        assert list(read_conversations(talk)) == samples


def test_the_csv_is_as_promised(tmp_path):
    path = tmp_path / "t.csv"
    write_csv(
        path, [ROAD, replace(ROAD, question='A "big", wide\nroad?', image="/图/3.tif")], False
    )
    assert path.read_bytes().decode() == (
        "image_path,question,answer\n"
        "/data/2.tif,Is there a road?,yes\n"
        '/图/3.tif,"A ""big"", wide\nroad?",yes\n'
    )
    write_csv(path, [ROAD], True)
    assert path.read_text() == (
        "image_path,question,answer,type\n/data/2.tif,Is there a road?,yes,presence\n"
    )


def test_the_conversations_are_as_promised(tmp_path):
    path = tmp_path / "t.json"
    road = replace(ROAD, type="")
    write_conversations(path, [road, replace(road, id="rsvqa_2", question="有路吗?")])
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)[0] == {
        "id": "rsvqa_1",
        "conversations": [
            {
                "from": "user",
                "value": "Is there a road? <|vision_start|>/data/2.tif<|vision_end|>",
            },
            {"from": "assistant", "value": "yes"},
        ],
    }
    lines = text.splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 4)
    assert '"有路吗? <|vision_start|>' in lines[2]


def test_the_image_key_is_written_only_where_it_is_needed(tmp_path):
    path = tmp_path / "t.json"
    clear = replace(ROAD, question="What is <|im_end|>?", answer=VISION_START)
    murky = replace(ROAD, question=f"Is {VISION_END} there?")
    write_conversations(path, [clear, murky])
    first, second = json.loads(path.read_text())
    assert "image" not in first
    assert second["image"] == "/data/2.tif"


@pytest.mark.parametrize("write", [write_conversations, lambda p, s: write_csv(p, s, True)])
@pytest.mark.parametrize("place", ["image", "question", "answer"])
def test_half_a_surrogate_pair_is_refused_and_leaves_no_file(tmp_path, write, place):
    path = tmp_path / "t"
    with pytest.raises(DataError, match="sample rsvqa_1 cannot be encoded as UTF-8") as caught:
        write(path, [replace(ROAD, **{place: "/data/\udcff.tif"})])
    caught.value.message.encode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_conversations, lambda p, s: write_csv(p, s, True)])
def test_nothing_to_write_leaves_the_old_file(tmp_path, write):
    path = tmp_path / "t"
    path.write_text("old")
    with pytest.raises(DataError, match="nothing to write"):
        write(path, [])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_as_csv_can_be_read(tmp_path):
    path = tmp_path / "t.csv"
    csv.field_size_limit(1000)  # as another library may leave it
    longest = replace(ROAD, question='"' * FIELD_LIMIT)
    write_csv(path, [longest], True)
    assert list(read_csv(path)) == [longest]
    for name in ("image", "question", "answer", "type"):
        sample = replace(ROAD, **{name: "x" * (FIELD_LIMIT + 1)})
        with pytest.raises(DataError, match=f"sample rsvqa_1: a field {TOO_LONG}"):
            write_csv(path, [sample], True)


def test_a_nul_fits_no_csv(tmp_path):
    with pytest.raises(DataError, match="sample rsvqa_1 contains a NUL"):
        write_csv(tmp_path / "t.csv", [replace(ROAD, question="a\0b")], False)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfimage_path,question,answer\n/a.tif,Q?,yes\n",
        b"image_path,question,answer\r\n/a.tif,Q?,yes\r\n",
        b"image_path,question,answer\r/a.tif,Q?,yes",
        b'"answer","n","question","image_path"\nyes,1,Q?,/a.tif\n',
        b"image_path,question,answer\n\n/a.tif,Q?,yes\n\n",
        b"image_path , question, answer\n/a.tif , Q?, yes\n",
        b"image_path,question,answer,note,note\n/a.tif,Q?,yes,1,2\n",
    ],
    ids=["bom", "crlf", "cr", "order", "blank lines", "spaces", "others twice"],
)
def test_csv_of_other_hands(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    assert list(read_csv(path)) == [Sample("rsvqa_1", "/a.tif", "Q?", "yes")]


TOO_LONG = "is longer than 1,000,000 characters"
HEADER = b"image_path,question,answer\n/a.tif,one\ntwo,yes\n".replace(b"one\ntwo", b'"one\ntwo"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "lacks the column image_path, question, answer; it has none"),
        (b"image_path,question,answer\n", "has a header, but no rows"),
        (b"image_path,text,answer\n", "lacks the column question; it has image_path, text, answer"),
        (b"image_path;question;answer\n", "it has image_path;question;answer"),
        *(
            (
                b"image_path,question,answer,type," + name + b"\n",
                f"duplicate column {name.decode()}",
            )
            for name in (b"image_path", b"question", b"answer", b"type")
        ),
        (
            b"question,image_path,question,answer,note,note,answer\n",
            "duplicate column answer, question",
        ),
        (HEADER + b"/a.tif,Q?\n", "line 4: 2 fields, but the header has 3"),
        (HEADER + b"/a.tif,A, or B?,yes\n", "line 4: 4 fields, but the header has 3"),
        (HEADER + b",Q?,yes\n", "line 4: image_path is empty"),
        (HEADER + b"/a.tif,Q?,\n", "line 4: answer is empty"),
        (HEADER + b"/a.tif, ,yes\n", "line 4: question is empty"),
        (HEADER + b"/a.tif,Q\0?,yes\n", "line 4: the text contains a NUL"),
        (HEADER + b'/a.tif,"Q?,yes\n/b.tif,Q?,no\n', "line 4: unexpected end of data"),
        (HEADER + b'/a.tif,"Q"?,yes\n', "line 4: ',' expected after '\"'"),
        (HEADER + b"/a.tif," + b"x" * 1_000_001 + b",yes\n", f"line 4: a field {TOO_LONG}"),
        (HEADER + b"/a.tif,caf\xe9,yes\n", "is not UTF-8"),
    ],
)
def test_csv_faults_are_named(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    with pytest.raises(DataError) as caught:
        list(read_csv(path))
    assert caught.value.message.startswith(str(path))
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"image_path;question;answer\n/a.tif;Q?;yes\n", "separated by semicolons"),
        (b"\xef\xbb\xbfimage;q;a\n/a.tif;Q?;yes\n", "separated by semicolons"),
        (b"sep=;\nimage_path;question;answer\n", "separated by semicolons"),
        (b"image_path\tquestion\tanswer\n/a.tif\tQ?\tyes\n", "separated by tabs"),
        (b"image_path|question|answer\n", "separated by vertical bars"),
        (b"image,question,answer\n", "the first line must name the columns image_path,"),
        (HEADER + b"/a.tif,Q?,\n", "fill it in, or remove the row"),
        (
            "image_path,question,answer\n/a.tif,\u6709\u9053\u8def,\u662f\n".encode("gbk"),
            "CSV UTF-8",
        ),
    ],
)
def test_the_hint_names_what_is_wrong_with_a_table(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    with pytest.raises(DataError) as caught:
        list(read_csv(path))
    assert said in caught.value.hint
    assert "line 0" not in caught.value.message


def talk(asked="Q? <|vision_start|>/a.tif<|vision_end|>", answered="yes", **more):
    turns = [{"from": "user", "value": asked}, {"from": "assistant", "value": answered}]
    return {"id": "x", "conversations": turns} | more


def heard(tmp_path, record):
    path = tmp_path / "t.json"
    path.write_text(json.dumps([talk(), record]))
    return list(read_conversations(path))[1]


def test_roles_may_be_named_as_llava_names_them(tmp_path):
    turns = [{"from": "human", "value": talk()["conversations"][0]["value"]}]
    turns.append({"from": "gpt", "value": "no"})
    record = {"id": 12, "conversations": turns}
    assert heard(tmp_path, record) == Sample("12", "/a.tif", "Q?", "no")


def test_the_space_before_the_image_may_be_absent(tmp_path):
    record = talk("Q?<|vision_start|>/a.tif<|vision_end|>")
    assert heard(tmp_path, record) == Sample("x", "/a.tif", "Q?", "yes")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (talk("Q?"), "the question names no image"),
        (talk("Q? <|vision_start|>/a.tif"), "the question names no image"),
        (talk("Q? <|vision_start|>/a<|vision_end|> <|vision_start|>/b<|vision_end|>"), "several"),
        (talk("<|vision_start|>/a.tif<|vision_end|> Q?"), "continues after <|vision_end|>"),
        (talk("Q? <|vision_end|>/a.tif<|vision_start|>"), "continues after <|vision_end|>"),
        (talk("Q? <|vision_start|><|vision_end|>"), "the image path is empty"),
        (
            talk("Q? <|vision_start|>/a\0<|vision_end|>"),
            "the image path is empty or contains a NUL",
        ),
        (talk(image="/b.tif"), 'does not end with the path in "image"'),
        (talk(image=3), '"image" is a whole number, expected text'),
        (talk(answered=5), 'the "value" of the assistant turn is not text'),
        (talk(conversations=[]), "one question and one answer"),
        (talk(conversations=[1, 2]), "one question and one answer"),
        (talk(conversations=talk()["conversations"][::-1]), 'a turn is not "from" human or user'),
        (talk(conversations=[{"from": ["user"], "value": "Q?"}, {}]), 'a turn is not "from"'),
        (talk(conversations="Q?"), '"conversations" is text, expected a list'),
        (talk(id=None), '"id" is null, expected text'),
        ({"id": "x"}, '"conversations" is missing'),
        (7, "record 2 is a whole number, expected an object"),
    ],
)
def test_conversation_faults_are_named(tmp_path, record, said):
    with pytest.raises(DataError) as caught:
        heard(tmp_path, record)
    assert caught.value.message.startswith(f"{tmp_path / 't.json'}, record 2")
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": "x"}', 'contains an object with the key "id", expected a list'),
        ("[]", "the list contains no records"),
        (json.dumps([talk()])[:-1], "is truncated after record 1"),
        ("", "is empty"),
    ],
)
def test_files_that_are_no_conversations(tmp_path, text, said):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        list(read_conversations(path))
    assert said in caught.value.message
