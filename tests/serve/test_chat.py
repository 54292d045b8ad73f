"""Conversations: what chat clients send beside an image and a question, and what they get."""

import json

import httpx
import pytest

from factory import write_image
from qwen2vl_rs.predict.session import Session
from serving import chat, data_url, serving

ALONE = "Each question is answered on its own, about the newest image."
INSTRUCTION = "Answer the question using a single word or phrase."
FIRST, SECOND = "Is there a road?", "How many farms are there?"


@pytest.fixture(scope="module")
def engine(small_base):
    return Session.open(small_base)


@pytest.fixture(scope="module")
def server(engine):
    with serving(engine) as server:
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    for n in range(2):
        write_image(folder / f"{n}.tif", 56, n)
    return [(folder / f"{n}.tif").read_bytes() for n in range(2)]


def picture(content):
    return {"type": "image_url", "image_url": {"url": data_url(content), "detail": "auto"}}


def user(*parts):
    said = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": "user", "content": said}


def system(text):
    return {"role": "system", "content": text}


def reply(text):
    return {"role": "assistant", "content": text}


def post(server, *messages, **more):
    body = {"model": "small", "messages": list(messages), **more}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def text(done):
    assert done.status_code == 200, done.text
    return done.json()["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def alone(server, images):
    """The answer to a question about an image when nothing else is said."""
    known = {
        (n, question): text(post(server, *chat(image, question)["messages"]))
        for n, image in enumerate(images)
        for question in (FIRST, SECOND, f"{FIRST}\n{SECOND}")
    }
    assert len(set(known.values())) > 2, "the model says the same to everything"
    return lambda n, question: known[n, question]


@pytest.mark.parametrize(
    "before",
    [
        [system("")],
        [system("You are a helpful assistant.")],
        [system(f"You are a helpful assistant.\n{INSTRUCTION}")],
        [{"role": "developer", "content": [{"type": "text", "text": INSTRUCTION}]}],
        [user("")],
        [user(INSTRUCTION)],
    ],
)
def test_what_says_nothing_is_accepted_silently(server, images, alone, before):
    done = post(server, *before, user(picture(images[0]), FIRST))
    assert text(done) == alone(0, FIRST)
    assert "note" not in done.json()
    assert "x-qwen2vl-rs-note" not in done.headers


def test_consecutive_messages_of_the_user_are_one(server, images, alone):
    for messages in (
        [user(picture(images[0])), {"role": "user", "content": FIRST}],
        [{"role": "user", "content": FIRST}, user(picture(images[0]))],
        [user(picture(images[0])), system(""), user(FIRST)],
    ):
        done = post(server, *messages)
        assert text(done) == alone(0, FIRST)
        assert "note" not in done.json()
    both = post(server, user(picture(images[0]), FIRST), user(SECOND))
    assert text(both) == alone(0, f"{FIRST}\n{SECOND}")


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_interrupts_nobody_wherever_it_stands(server, images, alone, role):
    silent = {"role": role, "content": "You are a helpful assistant."}
    whole = user(picture(images[0]), FIRST)
    for messages, question in (
        ([whole, silent], FIRST),  # the user spoke last
        ([whole, silent, silent, user(SECOND), silent], f"{FIRST}\n{SECOND}"),
        ([user(FIRST), silent, user(picture(images[0])), silent], FIRST),
    ):
        done = post(server, *messages)
        assert text(done) == alone(0, question)
        assert "note" not in done.json()
    assert post(server, whole, reply("yes"), silent).status_code == 400


def test_the_last_question_is_answered_about_the_newest_image(server, images, alone):
    conversation = [user(picture(images[0]), FIRST), reply(alone(0, FIRST))]
    second = post(server, *conversation, user(SECOND))
    assert text(second) == f"{alone(0, SECOND)}\n\n{ALONE}"
    assert second.json()["note"] == ALONE
    assert second.headers["x-qwen2vl-rs-note"] == ALONE
    conversation += [user(SECOND), reply(text(second))]
    third = post(server, *conversation, user(picture(images[1]), FIRST))
    assert text(third) == alone(1, FIRST), "said once in a conversation"
    assert third.json()["note"] == ALONE
    conversation += [user(picture(images[1]), FIRST), reply(text(third))]
    assert text(post(server, *conversation, user(SECOND))) == alone(1, SECOND)
    only_image = post(server, *conversation, user(picture(images[0])))
    assert text(only_image) == alone(0, FIRST), "the last question is the one before"


def test_of_images_in_consecutive_messages_the_last_is_the_newest(server, images, alone):
    old, new = (user(picture(image)) for image in images)
    for messages in (
        [old, new, user(FIRST)],
        [user(FIRST), old, new],
        [old, new, user(""), system(""), user(FIRST)],
        [user(picture(images[0]), FIRST), new],
        [new, old, new, user(FIRST)],
    ):
        done = post(server, *messages)
        assert text(done) == alone(1, FIRST)
        assert "note" not in done.json()
    earlier = [old, new, user(SECOND), reply("yes")]
    assert text(post(server, *earlier, user(FIRST), strict=True)) == alone(1, FIRST)
    assert text(post(server, *earlier, new, old, user(FIRST), strict=True)) == alone(0, FIRST)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_other_earlier_text_is_not_used_and_that_is_said(server, images, alone, role):
    pirate = {"role": role, "content": "Talk like a pirate."}
    done = post(server, pirate, user(picture(images[0]), FIRST))
    assert text(done) == f"{alone(0, FIRST)}\n\n{ALONE}"


@pytest.mark.parametrize(
    "more", [{"strict": True}, {"response_format": {"type": "text"}}, {"logprobs": False}]
)
def test_programs_get_the_bare_answer(server, images, alone, more):
    conversation = [user(picture(images[0]), FIRST), reply("yes"), user(SECOND)]
    done = post(server, *conversation, **more)
    assert text(done) == alone(0, SECOND)
    assert done.json()["note"] == ALONE
    assert post(server, user("Hello"), **more).json()["error"]["code"] == "no_image"


def test_plain_switches_the_line_off(engine, images, alone):
    with serving(engine, plain=True) as server:
        done = post(server, user(picture(images[0]), FIRST), reply("yes"), user(SECOND))
        assert text(done) == alone(0, SECOND)
        assert done.headers["x-qwen2vl-rs-note"] == ALONE
        assert post(server, user("Hello")).status_code == 400


def test_the_line_is_streamed_too(server, images, alone):
    messages = [user(picture(images[0]), FIRST), reply("yes"), user(SECOND)]
    body = {"model": "small", "messages": messages, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as done:
        assert done.headers["x-qwen2vl-rs-note"] == ALONE
        events = [json.loads(x[6:]) for x in done.iter_lines() if x.startswith("data: {")]
    said = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
    assert said == f"{alone(0, SECOND)}\n\n{ALONE}"


def test_without_an_image_the_server_says_what_it_is_for(server):
    done = post(server, system("You are a pirate."), user("Hello!"))
    assert "send an image" in text(done)
    assert text(done).count(".") == 1, "one sentence"
    assert text(post(server, user("Hello!"), reply(text(done)), user("Why?"))) == text(done)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([reply("yes")], "unsupported_messages"),
        ([user("a?"), reply("yes")], "unsupported_messages"),
        ([{"role": "tool", "content": "x"}, user("a?")], "unsupported_messages"),
        (["a?"], "unsupported_messages"),
        ([user(["a?"])], "unsupported_content"),
        ([{"role": "user"}], "unsupported_content"),
        ([{"role": "assistant", "content": [picture(b"x")]}, user("a?")], "unsupported_content"),
        ([user(picture(b"x"), picture(b"y"), "a?")], "no_image"),
        ([user(picture(b"x"))], "empty_question"),
        ([user(picture(b"x"), INSTRUCTION)], "empty_question"),
    ],
)
def test_conversations_that_ask_nothing_are_refused(server, messages, code):
    done = post(server, *messages)
    assert done.status_code == 400, done.text
    assert done.json()["error"]["code"] == code
