"""What a reader of the documentation tried: data, servers, replies and scenes of all kinds."""

import gc
import json
from pathlib import Path

import pytest

from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.data.tables import write_conversations
from qwen2vl_rs.errors import Qwen2VLRSError
from qwen2vl_rs.remote.replies import message, read_reply, refusal
from test_endpoint import running, said, truth

# Servers (13, 15)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("qwen2vl_rs.remote.client._LONGEST_WAIT", 0.01)
    samples = make_samples(tmp_path / "images", images=2)
    write_conversations(tmp_path / "test.json", samples)
    return samples


def ask_server(url, *more):
    return main(["eval", "--endpoint", url, "--model", "m", "--test", "test.json", *more])


def broken(error, reason="error"):
    message = {"role": "assistant", "content": ""}
    return {"choices": [{"message": message, "finish_reason": reason, "error": error}]}


def part(reason):
    return {"choices": [{"message": {"content": "No, "}, "finish_reason": reason}]}


PASSING = [
    {"error": {"code": 502, "message": "Provider returned error"}},
    {"error": {"code": "503", "message": "busy"}},
    {"error": {"code": None, "type": "server_error", "message": "oops"}},
    {"error": {"code": "rate_limit_exceeded", "message": "slow down"}},
    {"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow down"}},
    {"error": "upstream connection failed"},
    {"object": "error", "type": "InternalServerError", "code": 500, "message": "oops"},
    {"error": {"code": 429, "message": "slow"}, "choices": []},
    broken({"code": 502, "message": "Provider disconnected"}),
    broken({"code": 502, "message": "Provider disconnected"}, "stop"),
    broken({"message": "who knows"}),
    part("error"),
    part("abort"),
    part({"type": "abort", "message": "shutting down"}),
]


def test_errors_inside_a_success_are_asked_again_and_never_scored(asked, capsys):
    answer = truth(asked)

    def at_first(request, n):
        return (200, {}, PASSING[n - 1]) if n <= len(PASSING) else said(answer(request))

    with running(at_first) as api:
        assert ask_server(api.url, "--json", "--max-eval", "8") == 0
        assert len(api.seen) == len(PASSING) + 8
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["protocols"]["official"]["OA"] == 1
    assert found["unreadable"]["n"] == 0
    assert "asked again 3 times: 502 in a reply" in err


def test_an_error_that_stays_ends_it_and_what_was_answered_is_kept(asked, capsys):
    answer, body = truth(asked), broken({"code": 502, "message": "Provider disconnected"})
    with running(lambda r, n: said(answer(r)) if n < 5 else (200, {}, body)) as api:
        assert ask_server(api.url, "--concurrency", "1") == 1
        err = capsys.readouterr().err
        assert "8 times in a row: 502 in a reply: Provider disconnected" in err
        before, api.answer = len(api.seen), lambda r, n: said(answer(r))
        assert ask_server(api.url, "--concurrency", "1") == 0
        assert len(api.seen) - before == 2 * len(asked) - 4


STOPPING = [
    (200, {"error": {"code": 401, "message": "no such key"}}, ("no such key", "OPENAI_API_KEY")),
    (200, {"error": {"code": 402, "message": "pay"}}, ("402: pay", "credit")),
    (402, {"error": {"message": "pay"}}, ("402: pay", "credit")),
    (200, {"error": {"code": 404, "message": "no model"}}, ("404: no model", "--model")),
    (200, {"error": {"code": 400, "message": "no images"}}, ("400: no images", "data URL")),
    (200, broken({"code": 403, "message": "flagged"}), ("403: flagged", "OPENAI_API_KEY")),
    (200, {"error": {"code": "odd", "message": "so it is"}}, ("so it is", "server's own log")),
    (200, {"choices": []}, ("no answer at all", "server's own log")),
    (200, {"id": "x"}, ("not as OpenAI", "--endpoint")),
    (200, [], ("not as OpenAI", "--endpoint")),
    (200, {"choices": None}, ("not as OpenAI", "--endpoint")),
    (200, {"choices": ["yes"]}, ("not as OpenAI", "--endpoint")),
    (200, {"choices": [{"text": "yes", "index": 0}]}, ("without a message", "older completions")),
    (200, b'data: {"choices": [{"delta": {"content": "yes"}}]}\n\n', ("event stream", "streaming")),
]


@pytest.mark.parametrize(("status", "body", "words"), STOPPING, ids=lambda v: str(v)[:40])
def test_all_else_stops_with_an_error_that_fits(status, body, words):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Qwen2VLRSError) as found:
        raise refusal(status, message(data), "A") if status != 200 else read_reply(data, "A")
    assert words[0] in str(found.value)
    assert words[1] in found.value.hint


@pytest.mark.parametrize("body", [{"choices": []}, STOPPING[0][1]], ids=["none", "error"])
def test_several_requests_that_fail_at_once_are_one_error(asked, caplog, capfd, body):
    with running(lambda *_: (200, {}, body)) as api:
        assert ask_server(api.url, "--concurrency", "8") == 1
    out, err = capfd.readouterr()
    assert err.count("hint:") == 1
    assert "Traceback" not in err
    gc.collect()
    assert not caplog.records  # "Task exception was never retrieved"
    assert not out
    assert not list(Path("output").rglob("predictions.jsonl"))


def test_an_image_that_cannot_be_read_ends_it_the_same_way(asked, caplog, capfd):
    for image in Path("images").iterdir():
        image.write_bytes(b"no image")
    with running(lambda *_: said("yes")) as api:
        assert ask_server(api.url) == 1
        assert not api.seen
    assert "Traceback" not in capfd.readouterr().err
    gc.collect()
    assert not caplog.records


def test_other_settings_are_asked_anew(asked):
    settings = ("eval.max_new_tokens=64", "view.instruction=Say it.")
    changes = [[], *(["--set", one] for one in settings), ["--model", "another"]]
    with running(lambda *_: said("yes")) as api:
        for n, change in enumerate(changes, 1):
            assert ask_server(api.url, "-o", "out", "--max-eval", "8", *change) == 0
            assert len(api.seen) == 8 * n
