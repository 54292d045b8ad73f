import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen2vl_rs.datasets import json_records as jsonstream
from qwen2vl_rs.datasets.file_opening import sniff
from qwen2vl_rs.datasets.json_records import DEPTH_LIMIT, records
from qwen2vl_rs.errors import DataError

BOM = b"\xef\xbb\xbf"
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def written(folder, text):
    path = folder / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path, key="questions"):
    return list(records(path, key))


def refused(folder, text, key="questions"):
    path = written(folder, text)
    with pytest.raises(DataError) as caught:
        read(path, key)
    error = caught.value
    assert error.message.startswith(str(path))
    assert "\n" not in error.message
    assert len(error.message) < len(str(path)) + 200
    assert error.hint
    error.message.encode()
    return error


def one(inner):
    return '{"questions": [{"id": 7}, {"id": ' + inner + "}]}"


@given(
    found=st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), min_size=1),
    indent=st.none() | st.integers(0, 2),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 40),
)
@example([{"a": 12345678901234567890.5, "é😀": "\\ud800 😀"}], None, True, 1)
@settings(max_examples=40)
def test_records_are_read_wherever_chunks_end(found, indent, ascii_only, chunk):
    text = json.dumps({"questions": found, "info": [1]}, indent=indent, ensure_ascii=ascii_only)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonstream, "_CHUNK", chunk)
        path = written(Path(name), text)
        assert read(path) == found
        assert read(written(Path(name), json.dumps(found, indent=indent)), None) == found


@pytest.mark.parametrize(("before", "bom"), [(1, b""), (900, b""), (900, BOM)])
def test_broken_json_is_located(tmp_path, before, bom):
    """Also far behind the first chunk read, and behind a byte order mark."""
    good = b"".join(b'{"id": "%d \xc3\xa9%s"},\n' % (k, b"x" * 300) for k in range(before))
    text = bom + b'{"questions": [\n' + good + b'{"id": }]}'
    error = refused(tmp_path, text)
    place = f"at byte {len(text) - 2:,} (line {before + 2:,}): expecting a value"
    assert error.message.endswith(f"is not valid JSON after record {before}, {place}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"questions": [{"id": 1} {"id": 2}]}', "after record 1, at byte 26 (line 1): expecting"),
        ('{"questions": [{"id": 1},]}', "after record 1, at byte 26 (line 1): expecting a value"),
        ('{"questions": [{}]} {"questions": [{}]}', "something follows the end"),
        ('{"questions": [{}], "questions": [{}]}', '"questions" is a duplicate key'),
        ('{"questions": [{}], 3: 4}', "expecting a name"),
        ('{"questions": [{"id": "a\nb"}]}', "at byte 25 (line 1): invalid control character"),
        ('{"questions": [{"id": 012}]}', "expecting ',' delimiter"),
        ('{"questions": [{"id": NaN}]}', "record 1 is invalid: it contains NaN, which is not JSON"),
        ('{"questions": "x"}', '"questions" is text, expected a list'),
        ("[[{}]]", "contains a list, expected an object"),
    ],
)
def test_faults_are_named(tmp_path, text, said):
    assert said in refused(tmp_path, text).message


@pytest.mark.parametrize("chunk", [7, 1 << 17])
def test_every_cut_is_noticed(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(jsonstream, "_CHUNK", chunk)
    whole = '{"questions": [{"é": -1.5e-3, "b": [true, null]}, {"c": "\\u00e9\\\\"}], "d": 1}'
    whole = whole.encode()
    for end in range(15, len(whole)):
        message = refused(tmp_path, whole[:end]).message
        assert "is truncated after record" in message
        assert f"at byte {end} " in message or end == whole.index(b"\xa9")  # half a character
    assert len(read(written(tmp_path, whole))) == 2


@pytest.mark.parametrize("inner", [b"\xff", b"\xed\xa0\x80"])
def test_bytes_that_are_no_utf8_are_located(tmp_path, inner):
    text = b'{"questions": [{"id": 1}, {"id": "' + inner + b'"}]}'
    place = f"after record 1, at byte {text.index(inner) + 1} (line 1): not UTF-8"
    assert place in refused(tmp_path, text).message
    assert "not UTF-8" in refused(tmp_path, b'{"questions": [{}]}' + inner).message


@pytest.mark.parametrize("half", ["\\ud800b", "\\uDBFF", "\\udc80", "\\ude00\\ud83d", "\\ud83d\\n"])
def test_half_a_surrogate_pair_is_refused(tmp_path, half):
    message = refused(tmp_path, one(f'"a{half}"')).message
    assert message.endswith("record 2 is not text: it contains a lone surrogate")


def test_whole_surrogate_pairs_are_read(tmp_path):
    text = one('"\\ud83d\\ude00 \\\\ud800"')
    assert read(written(tmp_path, text))[1] == {"id": "😀 \\ud800"}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [DEPTH_LIMIT, 200_000])
def test_deep_nesting_is_refused(tmp_path, opening, levels):
    closing = "]" if opening == "[" else "}"
    text = one(opening * levels + "1" + closing * levels)
    message = refused(tmp_path, text).message
    assert message.endswith("record 2 is nested more than 64 levels deep")
    assert refused(tmp_path, one(opening * 200_000)).message == message


def test_nesting_within_the_limit_is_read(tmp_path):
    text = one("[" * (DEPTH_LIMIT - 1) + "]" * (DEPTH_LIMIT - 1))
    assert len(read(written(tmp_path, text))) == 2
    assert len(read(written(tmp_path, one("[" + "[]," * 200 + "[]]")))) == 2


def test_deep_nesting_elsewhere_is_refused(tmp_path):
    deep = '{"a":' * 200_000
    assert "record 1 is nested" in refused(tmp_path, '{"questions": [' + "[" * 200_000).message
    assert "what follows the records is nested" in refused(
        tmp_path, '{"questions": [{}], "more": ' + deep
    ).message  # fmt: skip
    assert '"questions" is nested' in refused(tmp_path, '{"questions": ' + deep).message
    assert 'with the key "a"' in refused(tmp_path, deep).message


@pytest.mark.parametrize("digits", [5_000, 1_000_000])
def test_numbers_of_very_many_digits_are_refused(tmp_path, digits):
    message = refused(tmp_path, one("1" * digits)).message
    assert message.endswith("record 2 is invalid: it contains a number beyond 64 bits")
    assert sniff(written(tmp_path, "1" * digits)).kind == "text"


def test_records_have_a_greatest_length(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonstream, "RECORD_LIMIT", 2_000_000)
    assert len(read(written(tmp_path, one('"' + "x" * 1_990_000 + '"')))) == 2
    for length in (2_000_001, 9_000_000):
        message = refused(tmp_path, one('"' + "x" * length + '"')).message
        assert message.endswith("record 2 is longer than 2 MB")
    error = refused(tmp_path, '{"questions": [{"id": 7} {}, ' + '"' + "x" * 9_000_000)
    assert "not valid JSON after record 1, at byte 26" in error.message


def test_a_long_key_is_shown_in_short(tmp_path):
    message = refused(tmp_path, '{"' + "k" * 9000 + '\\ud800": 1}').message
    assert "k" * 60 + "…" in message


@pytest.mark.parametrize(
    ("start", "said", "remedy"),
    [
        (b"\x1f\x8b\x08\0", "is compressed with gzip", "gunzip"),
        (b"PK\x03\x04", "is a zip archive", "unpack"),
        ('{"questions": []}'.encode("utf-16"), "is UTF-16", "iconv"),
        (b"\xfe\xff\0{", "is UTF-16", "iconv"),
    ],
)
def test_other_encodings_are_recognised(tmp_path, start, said, remedy):
    error = refused(tmp_path, start)
    assert said in error.message
    assert remedy in error.hint


def test_leading_blanks_are_no_matter(tmp_path):
    assert len(read(written(tmp_path, " \r\n" * 9000 + '{"questions" : [ {} ] }\n'))) == 1
    assert "no JSON" in refused(tmp_path, " " * 10_000_000).message
