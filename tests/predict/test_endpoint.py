"""``eval --endpoint``: against a real HTTP server that answers with the engine, and misbehaves."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from email.utils import formatdate
from pathlib import Path

import pytest

from endpoints import by_wording, run, running, truth
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.predict.job import Job
from qwen2vl_rs.predict.predictor import Reply, to_prediction
from qwen2vl_rs.scoring.predictions import read_predictions


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    samples = make_samples(tmp_path / "images", images=4)
    write_conversations(tmp_path / "test.json", samples)
    return samples


def test_nothing_is_asked_twice(asked, capsys):
    with running(by_wording) as api:
        assert run(api.url) == 0
        asked_at_first = len(api.seen)
        assert asked_at_first == 2 * len(asked)  # and of another image
        assert run(api.url) == 0
        assert len(api.seen) == asked_at_first
    assert "is up to date" in capsys.readouterr().err


@pytest.mark.slow
def test_going_on_after_a_kill(asked, tmp_path):
    def slow(body, n):
        time.sleep(0.05)
        return by_wording(body, n)

    with running(slow) as api:
        words = ["eval", "--endpoint", api.url, "--model", "m", "--test", "test.json"]
        words += ["--concurrency", "2", "-o"]
        command = [sys.executable, "-m", "qwen2vl_rs", *words, "a"]
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(api.seen) < 8:
            time.sleep(0.01)
        first.kill()
        first.wait()
        time.sleep(0.2)
        before = len(api.seen)
        for out in ("a", "b"):
            assert main([*words, out]) == 0
        assert len(api.seen) < before + 4 * len(asked)  # what was answered was kept
    for name in ("predictions.jsonl", "results.json", "shuffled/predictions.jsonl"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()


def test_busy_and_failing_servers_are_asked_again(asked, monkeypatch, capsys):
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._LONGEST_WAIT", 0.05)

    def moody(body, n):
        match n % 9:
            case 1:
                return 429, {"Retry-After": "0.05"}, {"error": {"message": "slow down"}}
            case 4:
                return 500, {}, b"oops"
            case 7:
                return None
        return by_wording(body, n)

    with running(moody) as api:
        assert run(api.url) == 0
    err = capsys.readouterr().err
    for why in ("429", "500", "connection"):
        assert f"requests: {why}" in err


PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 524, 529)
FINAL = (400, 401, 402, 403, 404, 405, 413, 415, 418, 422, 501, 505)


def test_statuses_that_pass_are_asked_again_and_others_are_not(asked, monkeypatch, capsys):
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._LONGEST_WAIT", 0.01)
    waiting = list(PASSING)

    def moody(body, n):  # every other request: eight failures of one question are the end
        return (waiting.pop(), {}, b"") if waiting and n % 2 else by_wording(body, n)

    with running(moody) as api:
        assert run(api.url, "--concurrency", "1") == 0
    err = capsys.readouterr().err
    assert all(f"repeated 1 request: {status}" in err for status in PASSING), err
    for status in FINAL:
        with running(lambda body, n, status=status: (status, {}, b"")) as api:
            assert run(api.url, "-o", f"of {status}", "--concurrency", "1") == 1
            assert len(api.seen) == 1, status


def test_a_server_that_is_gone_is_given_up_and_gone_on_with(asked, monkeypatch, capsys):
    monkeypatch.setattr("qwen2vl_rs.predict.endpoint_client._LONGEST_WAIT", 0.01)
    with running(lambda body, n: by_wording(body, n) if n < 9 else (503, {}, b"")) as api:
        assert run(api.url, "--concurrency", "1") == 1
        err = capsys.readouterr().err
        assert "failed 8 times in a row: 503" in err
        assert "it resumes" in err
        before = len(api.seen)
        api.answer = by_wording
        assert run(api.url) == 0
        assert len(api.seen) - before == 2 * len(asked) - 8


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), ("401: bad key", "OPENAI_API_KEY")),
        ((404, {}, {"detail": "no"}), ("404", "end in /v1")),
        ((400, {}, {"error": {"message": "no images"}}), ("400: no images", "data URL")),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), ("302", "not followed")),
        ((200, {}, {"choices": []}), ("an empty answer", "log")),
        ((200, {}, b"<html>"), ("not as OpenAI", "--endpoint")),
        ((200, {}, {"choices": [{"message": {"content": 3}}]}), ("not as OpenAI", "--endpoint")),
        ((200, {}, b"[" * 100_000), ("not as OpenAI", "--endpoint")),
        ((200, {}, b"x" * (3 << 20)), ("not as OpenAI", "--endpoint")),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), ("not as OpenAI", "--endpoint")),
    ],
)
def test_servers_that_cannot_be_used_stop_it_at_once(asked, capsys, reply, why):
    with running(lambda *_: reply) as api:
        assert run(api.url, "--concurrency", "1") == 1
        assert len(api.seen) == 1
    err = capsys.readouterr().err
    assert all(words in err for words in why), err
    assert "Traceback" not in err


def test_the_key_is_sent_and_kept_nowhere(asked, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with running(by_wording) as api:
        assert run(api.url) == 0
    assert {h["Authorization"] for h in api.headers} == {"Bearer sk-very-secret"}
    assert "very-secret" not in "".join(capsys.readouterr())
    for path in (tmp_path / "output").rglob("*"):
        assert path.is_dir() or b"very-secret" not in path.read_bytes()


@pytest.mark.parametrize("key", ["sk-\u2028x", "a b", "schlüssel", "a\nb"])
def test_keys_that_cannot_be(asked, monkeypatch, capsys, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with running(by_wording) as api:
        assert run(api.url) == 1
        assert not api.seen
    assert "OPENAI_API_KEY contains invalid" in capsys.readouterr().err


def test_a_key_with_the_end_of_its_line(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x\n")
    with running(by_wording) as api:
        assert run(api.url, "--max-eval", "8") == 0
    assert api.headers[0]["Authorization"] == "Bearer sk-x"


def test_a_pause_may_be_asked_for_by_date(asked):
    def dated(body, n):
        when = formatdate(time.time() + 2, usegmt=True)
        return (503, {"Retry-After": when}, b"") if n == 1 else by_wording(body, n)

    start = time.monotonic()
    with running(dated) as api:
        assert run(api.url, "--max-eval", "8", "--concurrency", "1") == 0
    assert len(api.seen) == 9
    assert time.monotonic() - start > 0.9  # dates have no fractions of a second


def test_what_a_server_said_is_reported_and_compared(asked, small_base, capsys):
    with running(by_wording) as api:
        assert run(api.url) == 0
    there = "output/eval-org-some-model/predictions.jsonl"
    assert main(["eval", str(small_base), "--test", "test.json", "-o", "ours"]) == 0
    capsys.readouterr()
    assert main(["score", there, "--against", "ours/predictions.jsonl", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["against"]["matched_by"] == "id"
    assert found["against"]["unmatched"]["before"] == 0
    told = ["--after", there, "--before", "ours/predictions.jsonl", "-o", "report"]
    assert main(["report", *told]) == 0
    assert Path("report/report.html").is_file()


def test_not_more_than_so_many_a_second(asked):
    start = time.monotonic()
    with running(by_wording) as api:
        assert run(api.url, "--rate", "200", "--max-eval", "8") == 0
    assert len(api.seen) == 8  # one image: no other to be shown
    assert time.monotonic() - start > 7 / 200


@pytest.mark.parametrize(
    "words",
    [
        ["--endpoint", "http://127.0.0.1:1/v1", "--test", "test.json"],
        ["--endpoint", "http://127.0.0.1:1/v1", "--model", "m"],
        ["base", "--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--test", "test.json"],
        ["--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--test", "test.json",
         "--answers", "closed"],
        ["base", "--model", "m"], [],
    ],
)  # fmt: skip
def test_usage(asked, words):
    assert main(["eval", *words]) == 2


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://u:p@127.0.0.1:1/v1", "x"])
def test_addresses(asked, capsys, url):
    assert run(url) == 1
    assert "hint:" in capsys.readouterr().err


FINISH = {"cut": "length"}


def wrapped(kind, answer):
    """How servers hand over an answer, or fail to."""
    message = {"role": "assistant", "content": answer}
    match kind:
        case "think":
            message["content"] = f"<think>\nNo road, yet there are 3 lines.\n</think>\n\n{answer}"
        case "closing":
            message["content"] = f"No road, yet there are 3 lines.\n</think>\n\n{answer}"
        case "tag":
            message["content"] = f"<answer>{answer}</answer>"
        case "parts":
            thought = "No road, yet there are 3 lines."
            message["content"] = [
                {"type": "reasoning", "text": thought},
                {"type": "thinking", "thinking": [{"type": "text", "text": thought}]},
                {"type": "text", "text": answer[:1]},
                {"type": "text", "text": answer[1:]},
                {"type": "reasoning", "text": thought},
            ]
        case "beside":
            message["reasoning_content"] = "No road, yet there are 3 lines."
        case "absent":
            del message["content"]
        case "cut":
            message["content"] = "<think>\nThe picture shows no road at first"
        case "null":
            message |= {"content": None, "reasoning_content": "The answer is yes"}
        case "open":
            message["content"] = "<think>\nyes"
    choice = {"index": 0, "message": message, "finish_reason": FINISH.get(kind, "stop")}
    return 200, {}, {"choices": [choice]}


@pytest.mark.parametrize("kind", ["think", "closing", "tag", "parts", "beside"])
def test_right_answers_are_read_however_they_are_wrapped(asked, capsys, kind):
    answer = truth(asked)
    with running(lambda body, _: wrapped(kind, answer(body))) as api:
        assert run(api.url, "--json", "--max-eval", "8") == 0
    found = json.loads(capsys.readouterr().out)
    assert {p["OA"] for p in found["protocols"].values()} == {1}
    assert found["unreadable"] == {"n": 0, "causes": {}}


def test_what_cannot_be_read_is_counted_by_cause_and_told(asked, capsys):
    answer = truth(asked)
    kinds = ["cut", ["null", "absent"], "plain", "open"]  # in turn, asked one at a time

    def mixed(body, n):
        kind = kinds[n % 4]
        return wrapped(kind if isinstance(kind, str) else kind[n // 4 % 2], answer(body))

    with running(mixed) as api:
        assert run(api.url, "--concurrency", "1") == 0
    out, err = capsys.readouterr()
    assert "8 answers were cut off at 32 tokens: --set eval.max_new_tokens=512" in err
    assert "unreadable: 24, of these cut off: 8, empty: 8, reasoning without an answer: 8" in out
    there = Path("output/eval-org-some-model")
    found = json.loads((there / "results.json").read_text("utf-8"))
    causes = {"cut_off": 8, "empty": 8, "no_answer": 8}
    assert found["unreadable"] == {"n": 24, "causes": causes}
    assert found["protocols"]["official"]["OA"] == 8 / 32
    lines = [json.loads(line) for line in (there / "predictions.jsonl").read_text().splitlines()]
    assert {line.get("unreadable") for line in lines} == {None, *causes}
    for language, words in (
        ("en", "unreadable answers: 24 (cut off: 8"),
        ("zh", "24 个（因长度限制"),
    ):
        report = ["report", "--after", str(there / "predictions.jsonl"), "--lang", language]
        assert main([*report, "-o", language]) == 0
        assert words in Path(language, "report.html").read_text("utf-8")
    capsys.readouterr()
    assert main(["score", str(there / "predictions.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unreadable"] == found["unreadable"]


def test_a_replaced_image_is_asked_about_anew(asked, capsys):
    with running(by_wording) as api:
        assert run(api.url) == 0
        before = len(api.seen)
        image = Path(asked[0].image)
        facts = image.stat()
        image.write_bytes(image.with_name("3.tif").read_bytes())
        os.utime(image, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        assert run(api.url) == 0
        assert len(api.seen) == 2 * before
        os.utime(image)  # touched, but the same picture
        assert run(api.url) == 0
        assert len(api.seen) == 2 * before
    assert "is up to date" in capsys.readouterr().err


def test_a_question_that_was_corrected_is_asked_anew(asked, capsys):
    """In whatever it says; also its type, by which an answer is read."""
    one, other = asked[0], asked[-1]
    corrected = {"type": "comp", "answer": "no idea", "question": "Is there a farm?", "id": "9",
                 "image": other.image}  # fmt: skip
    with running(by_wording) as api:
        for n, facts in enumerate([{}, *({name: text} for name, text in corrected.items())], 1):
            write_conversations(Path("test.json"), [replace(one, **facts)])
            assert run(api.url) == 0
            assert len(api.seen) == n, facts
            (found,) = read_predictions(Path("output/eval-org-some-model/predictions.jsonl"))
            assert facts.items() <= asdict(found).items()
        capsys.readouterr()
        write_conversations(Path("test.json"), [replace(one, image=other.image, dataset="HR")])
        assert run(api.url) == 0
        assert len(api.seen) == n  # other classes are no other question
    assert "is up to date" in capsys.readouterr().err


def test_the_pace_is_that_of_the_answers_and_stays_where_there_are_none(asked, monkeypatch):
    """Killed behind the last answer, it has nothing left to ask when it goes on."""
    folder = Path("output/eval-org-some-model")
    with running(by_wording) as api:
        with monkeypatch.context() as patch:
            patch.setattr(Job, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert run(api.url, "--max-eval", "8") == 130
        timing = (folder / "timing.json").read_bytes()
        assert json.loads(timing)["questions"] == len(api.seen) == 8
        assert not (folder / "predictions.jsonl").exists()
        assert run(api.url, "--max-eval", "8") == 0
        assert len(api.seen) == 8
    assert (folder / "timing.json").read_bytes() == timing
    assert main(["report", "--after", str(folder / "predictions.jsonl"), "-o", "report"]) == 0


def test_the_pace_is_that_of_the_first_process_and_of_its_new_answers(asked, tmp_path):
    job, found = (
        Job(asked, tmp_path / "job", ["m"]),
        [to_prediction(s, Reply("yes")) for s in asked],
    )
    timing = tmp_path / "job/timing.json"
    with job.appending(16, 1) as log:
        log.add(found[16:])
    assert not timing.exists()
    for n in (0, 10, 16, 16):
        with job.appending(16) as log:
            log.add(found[:n])
    assert json.loads(timing.read_bytes())["questions"] == 16 - 10
    assert [p.id for p in job.finish(2)] == [s.id for s in asked]


def test_answers_of_other_inputs_are_not_gone_on_with(asked, capsys):
    folder = Path("output/eval-org-some-model")
    folder.mkdir(parents=True)
    old = folder / "predictions.partial-0.jsonl"
    old.write_text(json.dumps({"key": "other"}) + "\n" + json.dumps({"id": asked[0].id}) + "\n")
    with running(by_wording) as api:
        assert run(api.url) == 0
        assert len(api.seen) == 2 * len(asked)
    assert f"{old}: of another model, settings, questions or images; not used" in (
        capsys.readouterr().err
    )
    assert not old.exists()
