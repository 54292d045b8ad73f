"""The server over a real socket: the same answers as ``ask``, grouped, and an orderly end."""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from PIL import Image

from factory import make_samples, write_image
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.engine.candidates import choose_candidates
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.raster import read_rgb
from qwen2vl_rs.scoring.predictions import read_predictions
from serving import Held, ask, chat, metric, serving, until

QUESTIONS = [
    "Is there a road?",
    "How many roads are there?",
    "Is it a rural or an urban area",
    "What is the number of buildings in the image?",
    "Are there more roads than buildings?",
]
FREE = ["How many roads are there?", "What do you see?", "What is the number of buildings?"]


@pytest.fixture(scope="module")
def run(trained):
    return Path(trained[0]) / "output" / "Qwen2-VL-2B"


@pytest.fixture(scope="module")
def engine(run):
    return Held(Session.open(run))


@pytest.fixture(scope="module")
def server(engine):
    with serving(engine) as server:
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{n}.tif" for n in range(4)]
    for n, path in enumerate(paths):
        write_image(path, 56, n)
    return paths


def complete(server, image, question, model="small", **more):
    return httpx.post(
        f"{server.url}/v1/chat/completions",
        json=chat(image.read_bytes(), question, model, **more),
        timeout=60,
    )


def said(done):
    assert done.status_code == 200, done.text
    return done.json()["choices"][0]["message"]["content"]


def ask_files(folder, image, questions):
    session = Session.open(folder)
    return session.ask([(session.read(image), questions)])[0]


def test_completions_are_the_answers_of_ask(server, run, images):
    expected = ask_files(run, images[1], QUESTIONS)
    assert [said(complete(server, images[1], q)) for q in QUESTIONS] == [a.text for a in expected]
    assert len({a.text for a in expected}) > 1, "the model says the same to everything"


def test_base_is_asked_by_its_name(server, small_base, images):
    expected = [a.text for a in ask_files(small_base, images[1], QUESTIONS)]
    found = [said(complete(server, images[1], q, "base")) for q in QUESTIONS]
    assert found == expected
    assert found != [said(complete(server, images[1], q)) for q in QUESTIONS]


def test_page_has_both_answers_closed_where_the_type_is_known(server, run, images):
    session = Session.open(run)
    base, model, pixels = session.base, session.model, session.read(images[0])
    (free,) = answer(base, model, [(pixels, FREE)])
    (shut,) = choose_candidates(base, model, [(pixels, [("Is there a road?", ("yes", "no"))])])
    found = ask(server, images[0].read_bytes(), ["Is there a road?", *FREE])
    assert found["models"] == ["small", "base"]
    rows = [row["answers"]["small"] for row in found["answers"]]
    assert [row["question"] for row in found["answers"]] == ["Is there a road?", *FREE]
    assert [r["text"] for r in rows] == [shut[0].text, *(a.text for a in free)]
    assert [r["chosen"] for r in rows] == [True, False, False, False]
    assert rows[0]["confidence"] == pytest.approx(max(shut[0].shares), abs=1e-4)
    assert [r["confidence"] for r in rows[1:]] == pytest.approx(
        [a.confidence for a in free], abs=1e-4
    )
    assert all(row["answers"]["base"]["text"] in ("yes", "no") for row in found["answers"][:1])


def test_a_box_asks_about_a_piece(server, run, images, tmp_path):
    path = tmp_path / "piece.png"
    Image.fromarray(read_rgb(images[2], RasterToRGB())[4:44, 8:52]).save(path)
    whole = ask(server, images[2].read_bytes(), FREE)
    boxed = ask(server, images[2].read_bytes(), FREE, box="8,4,52,44")
    assert boxed == ask(server, path.read_bytes(), FREE)
    assert boxed != whole


def test_what_waits_together_about_an_image_is_one_pass(server, engine, images):
    for image in images[:2]:
        complete(server, image, "What do you see?")
    encoded = metric(server, "images_encoded_total")
    with engine.shut() as passes, ThreadPoolExecutor(16) as pool:
        first = pool.submit(complete, server, images[3], "What do you see?")
        assert engine.entered.wait(20)
        work = [
            pool.submit(complete, server, images[n % 2], f"How many {w} are there?")
            for n, w in enumerate(["roads", "farms", "parks", "lakes", "woods", "roads"])
        ]
        twin = pool.submit(complete, server, images[0], "How many roads are there?")
        until(lambda: metric(server, "waiting") == 7)
        engine.gate.set()
        texts = [said(one.result()) for one in [first, *work, twin]]
    assert len(passes) == 2
    groups, tuned = passes[1]
    assert sorted(map(len, groups)) == [3, 3]  # two images; what was asked twice is asked once
    assert tuned is True
    assert texts[1] == texts[-1]
    assert metric(server, "images_encoded_total") <= encoded + 1  # only the fourth was new


def test_base_and_tuned_are_not_mixed_in_a_pass(server, engine, images):
    with engine.shut() as passes, ThreadPoolExecutor(8) as pool:
        first = pool.submit(complete, server, images[3], "What do you see?")
        assert engine.entered.wait(20)
        work = [
            pool.submit(complete, server, images[0], "How many roads are there?", model)
            for model in ("small", "base", "small", "base")
        ]
        until(lambda: metric(server, "waiting") == 4)
        engine.gate.set()
        first, *texts = [said(one.result()) for one in [first, *work]]
    assert [tuned for _, tuned in passes] in ([True, True, False], [True, False, True])
    assert texts[0] == texts[2]
    assert texts[1] == texts[3]


def test_asking_again_does_not_encode_again(server, images):
    before = metric(server, "images_encoded_total")
    for question in FREE:
        ask(server, images[0].read_bytes(), [question])
    assert metric(server, "images_encoded_total") <= before + 1
    assert metric(server, "image_cache_hits_total") >= 2


def test_full_queue_says_when_to_come_back(engine, images):
    with serving(engine, waiting=2) as server, engine.shut(), ThreadPoolExecutor(8) as pool:
        first = pool.submit(complete, server, images[0], "What?")
        assert engine.entered.wait(20)
        work = [pool.submit(complete, server, images[n], "What?") for n in (1, 2)]
        until(lambda: metric(server, "waiting") == 2)
        refused = complete(server, images[3], "What?")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        engine.gate.set()
        assert all(one.result().status_code == 200 for one in [first, *work])


def test_a_client_that_leaves_frees_its_place(engine, images):
    with serving(engine, waiting=2) as server, engine.shut(), ThreadPoolExecutor(8) as pool:
        first = pool.submit(complete, server, images[0], "What?")
        assert engine.entered.wait(20)
        body = json.dumps(chat(images[1].read_bytes(), "Who leaves?")).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        )
        leaving = [socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))]
        leaving[0].sendall(head.encode() + b"\r\n\r\n" + body)
        until(lambda: metric(server, "waiting") == 1)
        leaving[0].close()
        until(lambda: metric(server, "waiting") == 0)
        work = [pool.submit(complete, server, images[n], "What?") for n in (1, 2)]
        until(lambda: metric(server, "waiting") == 2)
        engine.gate.set()
        assert all(one.result().status_code == 200 for one in [first, *work])
        assert metric(server, "withdrawn_total") == 1
        assert "Who leaves?" not in str(engine.passes)


def test_streaming_ends_with_done(server, images):
    whole = said(complete(server, images[0], FREE[0]))
    events = []
    body = chat(images[0].read_bytes(), FREE[0], stream=True)
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as done:
        assert done.headers["content-type"].startswith("text/event-stream")
        events = [line[6:] for line in done.iter_lines() if line]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(e)["choices"][0] for e in events[:-1]]
    assert "".join(d["delta"].get("content", "") for d in deltas) == whole
    assert deltas[-1]["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_and_says_so(server, engine, images, monkeypatch, name):
    def content(**more):
        done = complete(server, images[0], FREE[0], "base", **more).json()
        (choice,) = done["choices"]
        return choice["message"]["content"], choice["finish_reason"], done["usage"]

    whole, _, usage = content()
    assert usage["completion_tokens"] > 3
    for most in (1, 2, 3):
        text, reason, usage = content(**{name: most})
        assert (reason, usage["completion_tokens"]) == ("length", most)
        assert len(text) < len(whole)
        assert whole.startswith(text.rstrip("\ufffd"))  # of a letter a token may be a part
        with monkeypatch.context() as patch:
            patch.setattr(engine._session, "max_new_tokens", most)
            assert content()[0] == text  # as if no more had been written


@pytest.mark.parametrize("question", FREE[:2])
def test_an_answer_that_just_fits_is_whole(server, engine, images, monkeypatch, question):
    """The token that ends it counts; bounded beforehand it is the same."""

    def ended(**more):
        found = complete(server, images[0], question, **more).json()
        (choice,) = found["choices"]
        text = choice["message"]["content"]
        return choice["finish_reason"], found["usage"]["completion_tokens"], text

    reason, tokens, text = ended()
    assert reason == "stop"
    for most in (tokens - 1, tokens, tokens + 1):
        found = ended(max_tokens=most)
        assert found[:2] == (("length", most) if most < tokens else ("stop", tokens))
        assert found[2] == text  # the token that ends it has none
        with monkeypatch.context() as patch:
            patch.setattr(engine._session, "max_new_tokens", most)
            assert ended() == found


def test_the_instruction_is_not_said_twice(server, images):
    lead = "Answer the question using a single word or phrase."
    one, *others = (
        complete(server, images[0], text).json()
        for text in (FREE[0], f"{lead}\n{FREE[0]}", f"{FREE[0]}\n{lead}", f"{FREE[0]} {lead[:-1]}")
    )
    assert [other["usage"] for other in others] == [one["usage"]] * 3
    plain, told = (
        ask(server, images[0].read_bytes(), [text])["answers"][0]["answers"]
        for text in (QUESTIONS[0], f"{QUESTIONS[0]} {lead}")  # /api/ask: a line is a question
    )
    assert told == plain
    assert plain["small"]["chosen"]  # of the same type, too


@pytest.mark.parametrize("command", few(["eval", "ask"], 1))
def test_the_instruction_in_a_data_set_is_not_said_twice(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    lead = "Answer the question using a single word or phrase."
    samples = make_samples(tmp_path / "images", images=3)
    forms = {"none": "{}", "before": f"{lead}\n{{}}", "behind": f"{{}}\n{lead}"}
    found = {}
    for name, form in forms.items():
        asked = [replace(s, question=form.format(s.question)) for s in samples]
        if command == "eval":
            write_conversations(Path(f"{name}.json"), asked)
            assert main(["eval", str(run), "--test", f"{name}.json", "-o", name]) == 0
            told = read_predictions(Path(name, "predictions.jsonl"))
            found[name] = [(p.question, p.text, p.prediction, p.confidence) for p in told]
        else:
            session = Session.open(run)
            told = ask_questions(session, asked)
            found[name] = [(a.text, a.type, a.confidence) for a in told]
    assert found["before"] == found["none"]
    assert found["behind"] == found["none"]


def ask_questions(session, samples):
    """The answers of ``ask`` about one image."""
    pixels = session.read(samples[0].image)
    return session.ask([(pixels, [s.question for s in samples[:12]])], closed=True)[0]


def test_models_and_health(server):
    found = httpx.get(f"{server.url}/v1/models").json()
    assert [m["id"] for m in found["data"]] == ["small", "base"]
    assert httpx.get(f"{server.url}/v1/models/base").json()["object"] == "model"
    assert httpx.get(f"{server.url}/v1/models/other").status_code == 404
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    text = httpx.get(f"{server.url}/metrics").text
    assert 'qwen2vl_rs_requests_total{route="/health",status="200"}' in text


def test_a_base_alone_is_served_under_its_name_and_as_base(small_base, images):
    with serving(Session.open(small_base), name="mine") as server:
        found = httpx.get(f"{server.url}/v1/models").json()
        assert [m["id"] for m in found["data"]] == ["mine"]
        texts = {said(complete(server, images[0], FREE[0], m)) for m in ("mine", "base")}
        assert len(texts) == 1
        assert ask(server, images[0].read_bytes(), FREE)["models"] == ["mine"]


def plain_tokens(engine, image, question):
    """Tokens of the prompt as the chat template has it, the image's in place of its mark."""
    base = engine.base
    content = [
        {"type": "image"},
        {"type": "text", "text": f"{engine.view.instruction}\n{question}"},
    ]
    text = base.prompts.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids = base.prompts.tokenizer.encode(text, add_special_tokens=False)
    return len(ids) - 1 + base.images.read(image).tokens


def test_openai_client(server, engine, images):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [m.id for m in client.models.list()] == ["small", "base"]
        body = chat(images[0].read_bytes(), FREE[0])
        done = client.chat.completions.create(**body)
        assert done.choices[0].message.content == said(complete(server, images[0], FREE[0]))
        assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
        assert done.usage.prompt_tokens == plain_tokens(engine, images[0], FREE[0])
        stream = client.chat.completions.create(
            **body, stream=True, stream_options={"include_usage": True}
        )
        parts = list(stream)
        text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
        assert text == done.choices[0].message.content
        assert parts[-1].usage == done.usage
        with pytest.raises(openai.NotFoundError, match="served: small, base"):
            client.chat.completions.create(**{**body, "model": "gpt"})
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="small",
                messages=[{"role": "user", "content": "x"}],
                extra_body={"strict": True},
            )
        assert refused.value.code == "no_image"


def test_a_failing_model_is_an_error_and_not_the_end(server, engine, images, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("as tested")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "ask", fail, raising=False)
        done = complete(server, images[0], "What?")
    assert done.status_code == 500
    assert done.json()["error"]["code"] == "internal_error"
    assert "as tested" not in done.text
    assert complete(server, images[0], "What?").status_code == 200


@pytest.mark.slow  # CI runs it
def test_sigterm_finishes_what_runs(small_base, images, tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-m", "qwen2vl_rs", "serve", str(small_base), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = program.stdout.readline().strip()
        port = int(url.rpartition(":")[2])
        body = json.dumps(chat(images[0].read_bytes(), FREE[0], "base")).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        )
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head.encode() + b"\r\n\r\n" + body[:-1])
            until(lambda: httpx.get(f"{url}/health").status_code == 200)
            os.kill(program.pid, signal.SIGTERM)
            client.sendall(body[-1:])  # its request was under way when the signal came
            client.settimeout(60)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert program.wait(60) == 0
        errors = program.stderr.read()
        assert "Traceback" not in errors
    finally:
        program.kill()
        program.communicate()


def test_evaluating_it_over_http_is_evaluating_it(server, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_conversations(Path("test.json"), make_samples(tmp_path / "images", images=3))
    write_conversations(Path("train.json"), make_samples(tmp_path / "others", images=3))
    more = ["--test", "test.json", "--train-questions", "train.json"]
    there = ["--endpoint", f"{server.url}/v1", "--model", "small"]
    assert main(["eval", *there, *more, "-o", "there"]) == 0
    assert main(["eval", str(run), *more, "-o", "here"]) == 0
    sides = [read_predictions(Path(side, "predictions.jsonl")) for side in ("there", "here")]
    there, here = ([replace(p, confidence=None) for p in side] for side in sides)
    assert there == here
    scored = [json.loads(Path(side, "results.json").read_text()) for side in ("there", "here")]
    assert set(scored[0]["controls"]) == {"constant", "question_only", "shuffled_image"}
    for key in ("controls", "visual_gain", "shuffled_cost"):
        assert scored[0][key] == scored[1][key]
    for name, one in scored[0]["protocols"].items():
        for key in ("OA", "AA", "OA_ci"):
            assert one[key] == scored[1]["protocols"][name][key]
    assert main(["report", "--after", "there/predictions.jsonl", "-o", "report"]) == 0
