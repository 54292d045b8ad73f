"""Before and after, question by question."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen2vl_rs.errors import DataError
from qwen2vl_rs.scoring.comparison import compare_runs
from qwen2vl_rs.types import Prediction

KINDS = (("presence", "yes", "no"), ("comp", "no", "yes"), ("count", "3", "30"))


def run(rights, ids=True):
    """One run; ``rights`` says which answers are right, three questions an image."""
    out = []
    for i, right in enumerate(rights):
        type, gold, wrong = KINDS[i % 3]
        said = gold if right else wrong
        name = f"q{i}" if ids else ""
        out.append(Prediction(name, f"image{i // 3}", f"question {i % 3}", type, gold, said))
    return out


pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


@given(pairs)
def test_identical_runs_do_not_differ(both):
    same = run([before for before, _ in both])
    for found in compare_runs(same, same)["protocols"].values():
        for one in (found["OA"], *found["types"].values()):
            assert (one["difference"], one["wins"], one["losses"], one["p"]) == (0, 0, 0, 1)
            assert one["ci"][0] < 0 < one["ci"][1]
        assert found["AA"]["difference"] == 0


@given(pairs)
def test_swapping_flips_the_sign(both):
    before, after = run([b for b, _ in both]), run([a for _, a in both])
    there, back = compare_runs(before, after), compare_runs(after, before)
    for name, one in there["protocols"].items():
        other = back["protocols"][name]
        for key in ("OA", "AA"):
            assert one[key]["difference"] == pytest.approx(-other[key]["difference"])
            assert one[key]["ci"] == pytest.approx([-x for x in other[key]["ci"][::-1]])
        assert (one["OA"]["wins"], one["OA"]["p"]) == (other["OA"]["losses"], other["OA"]["p"])


@given(pairs, st.randoms(use_true_random=False), st.booleans())
def test_order_does_not_matter(both, random, ids):
    before, after = run([b for b, _ in both], ids), run([a for _, a in both], ids)
    mixed = [random.sample(side, len(side)) for side in (before, after)]
    assert compare_runs(*mixed) == compare_runs(before, after)


def test_figures_by_hand():
    before = run([True, False, False, False, True, True])
    after = run([True, True, True, True, True, False])
    found = compare_runs(before, after, protocols=["official"])
    assert (found["n"], found["clusters"], found["matched_by"]) == (6, 2, "id")
    oa = found["protocols"]["official"]["OA"]
    assert (oa["before"], oa["after"], oa["wins"], oa["losses"]) == (0.5, 5 / 6, 3, 1)
    assert oa["difference"] == pytest.approx(1 / 3)
    assert oa["p"] == pytest.approx(2 * 5 / 16)
    # Residual sums of the images are +1 and -1: se² = 2/1 · 2 / 36.
    assert oa["se"] == pytest.approx(1 / 3)
    assert list(found["protocols"]["official"]["types"]) == ["presence", "count", "comp"]


def test_unmatched_questions_are_counted_and_named():
    before, after = run([True] * 6), run([True] * 9)[2:]
    unmatched = compare_runs(before, after)["unmatched"]
    assert unmatched == {"before": 2, "after": 3, "examples": ["q0", "q1", "q6", "q7", "q8"]}
    assert compare_runs(before, after)["n"] == 4


def test_without_ids_image_and_question_match():
    before, after = run([True] * 6, ids=False), run([False] * 6, ids=True)
    found = compare_runs(before, after)
    assert (found["matched_by"], found["n"]) == ("image and question", 6)
    assert found["protocols"]["official"]["OA"]["losses"] == 6


def test_protocols_without_questions_are_absent():
    only_counts = [p for p in run([True] * 6) if p.type == "count"]
    assert list(compare_runs(only_counts, only_counts)["protocols"]) == [
        *("official", "raw", "original")
    ]


def test_runs_that_cannot_be_compared():
    one = run([True] * 3)
    with pytest.raises(DataError, match="no question in common"):
        compare_runs(one, [replace(p, id=f"x{p.id}", image="another") for p in one])
    with pytest.raises(DataError, match="no question in common"):
        compare_runs(one, [replace(p, id=f"x{p.id}", question="another") for p in one])
    with pytest.raises(DataError, match="same id: q0"):
        compare_runs([*one, one[0]], one)
    with pytest.raises(DataError, match="same image and question: question 0"):
        compare_runs([replace(p, id="", image="") for p in run([True] * 6)], one)
    with pytest.raises(DataError, match="disagree on q0"):
        compare_runs(one, [replace(one[0], answer="no"), *one[1:]])


def test_runs_of_other_programs_are_matched_too():
    one = run([True] * 6)
    numbered = [replace(p, id=f"{i}") for i, p in enumerate(reversed(one))]
    assert compare_runs(one, numbered)["matched_by"] == "image and question"
    swapped = [replace(p, id=one[-1 - i].id) for i, p in enumerate(one)]  # ids of their own
    assert compare_runs(one, swapped)["matched_by"] == "image and question"
    elsewhere = [replace(p, id="", image=f"D:\\data\\{p.image}") for p in one]
    found = compare_runs(one, elsewhere)
    assert found["matched_by"] == "file name and question"
    assert found["protocols"]["official"]["OA"]["difference"] == 0
    shouted = [replace(p, question=p.question.upper(), answer=p.answer.upper()) for p in one]
    assert compare_runs(one, shouted)["matched_by"] == "id"


def test_types_that_a_protocol_leaves_out_change_nothing():
    """geochat leaves counts out; these come first, and each image is right or wrong as a whole."""

    def answers(right):
        rows = [
            Prediction(f"a{i}", f"image{i}", "count", "count", "3", "3") for i in range(len(right))
        ]
        for i, mark in enumerate(right):
            said = "yes" if mark == "1" else "no"
            rows += [
                Prediction(f"b{i}-{k}", f"image{i}", f"q{k}", "presence", "yes", said)
                for k in range(3)
            ]
        return rows

    before, after = answers("10010010"), answers("11011001")
    without = [[p for p in run if p.type != "count"] for run in (before, after)]
    found, alone = (
        compare_runs(*runs, protocols=["geochat"])["protocols"]["geochat"]
        for runs in ((before, after), without)
    )
    assert found == alone
