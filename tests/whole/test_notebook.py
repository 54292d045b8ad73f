"""Calls in a notebook: in a thread with a running event loop, in another thread, interrupted."""

import asyncio
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from endpoints import by_wording, running
from factory import make_samples
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.maps.mapper import MapRequest, make_map
from qwen2vl_rs.models.location import locate
from qwen2vl_rs.predict.endpoint import Endpoint, evaluate_endpoint
from qwen2vl_rs.predict.evaluation import evaluate
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.question_tree.attention import Branches
from qwen2vl_rs.vqa_generation.generate import Plan, generate

QUESTIONS = ["Is there a road?", "How many buildings are there?", "Is it rural or urban?"]


def in_a_loop(work):
    async def cell():
        return work()

    return asyncio.run(cell())


def in_a_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def in_both(work):
    return in_a_thread(lambda: in_a_loop(work))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    write_conversations(folder / "test.json", make_samples(folder / "images", images=3))
    return folder


@pytest.fixture(scope="module")
def session(trained):
    return Session.open(trained[0] / "output" / "Qwen2-VL-2B")


@pytest.fixture(scope="module")
def server():
    with running(by_wording) as api:
        yield api


@pytest.fixture
def calls(images, session, small_base, server, tmp_path):
    """What can be called, by name; each gives what can be compared."""
    places = iter(range(100))

    def ask(use_adapter=True):
        groups = [(session.read(images / "images" / f"{n}.tif"), QUESTIONS) for n in range(3)]
        return [
            (r.text, round(r.confidence, 6))
            for closed in (True, False)
            for some in session.ask(groups, closed=closed, use_adapter=use_adapter)
            for r in some
        ]

    def evaluated(place=None):
        output = tmp_path / f"eval-{next(places) if place is None else place}"
        values = {"eval.max_eval": 12, "eval.max_new_tokens": 4}
        test = images / "test.json"
        found, _ = evaluate(locate(small_base), (), values, test=test, output=output)
        return json.loads(json.dumps(found)), (output / "predictions.jsonl").read_text()

    def served(place=None):
        output = tmp_path / f"served-{next(places) if place is None else place}"
        there, config = Endpoint(server.url, "m"), load_config(None, ["eval.max_eval=12"])
        found = evaluate_endpoint(there, read_samples(images / "test.json"), None, config, output)
        return json.loads(json.dumps(found))

    def mapped(place=None):
        output = tmp_path / f"map-{next(places) if place is None else place}"
        asked = MapRequest(images / "images/1.tif", ("Is there a road?",), output, tile=14)
        make_map(session, asked)
        return (output / "windows.gpkg").read_bytes()

    return {"ask": ask, "evaluate": evaluated, "endpoint": served, "map": mapped}


@pytest.mark.parametrize("name", ["ask", "evaluate", "endpoint", "map"])
@pytest.mark.parametrize("where", [in_a_loop, in_both])
def test_calls_give_the_same_wherever_they_are_made(calls, name, where):
    assert where(calls[name]) == calls[name]()


def test_images_are_drawn_in_a_running_loop(tmp_path):
    plan = Plan(synthetic=2, questions=4, tile=64)
    for where, name in ((in_a_loop, "a"), (in_both, "b")):
        where(lambda name=name: generate(plan, tmp_path / name, workers=2))
    for file in sorted((tmp_path / "a").rglob("*.json")):
        other = tmp_path / "b" / file.relative_to(tmp_path / "a")
        assert other.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["ask", "evaluate", "map"])
def test_after_an_interrupt_the_same_call_works(calls, monkeypatch, name):
    work, passes, stop = Branches.attend, [], [0]

    def counted(*args):
        passes.append(1)
        if len(passes) == stop[0]:
            raise KeyboardInterrupt
        return work(*args)

    monkeypatch.setattr(Branches, "attend", counted)
    expected, total = calls[name](), len(passes)
    for place, stop[0] in enumerate({1, total}):  # in the first pass, in the last
        again = calls[name] if name == "ask" else partial(calls[name], f"interrupted-{place}")
        passes.clear()
        with pytest.raises(KeyboardInterrupt):
            again()
        stop[0] = 0
        assert again() == expected


def test_an_interrupt_without_the_adapter_leaves_it_on(calls, monkeypatch):
    expected = calls["ask"](), calls["ask"](use_adapter=False)
    assert expected[0] != expected[1]
    with monkeypatch.context() as patch:
        patch.setattr(Branches, "attend", lambda *_: signal.raise_signal(signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            calls["ask"](use_adapter=False)
        signal.signal(signal.SIGINT, before)
    assert (calls["ask"](), calls["ask"](use_adapter=False)) == expected


@pytest.mark.parametrize("where", [lambda work: work(), in_a_loop])
def test_an_interrupt_while_a_server_is_asked(calls, server, monkeypatch, where):
    expected, reply = calls["endpoint"](), server.answer
    done = threading.Event()

    def answer(body, number):
        if not done.is_set():
            done.set()
            os.kill(os.getpid(), signal.SIGINT)
        return reply(body, number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(server, "answer", answer)
    try:
        with pytest.raises(KeyboardInterrupt):
            where(lambda: calls["endpoint"]("interrupted"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.is_set()
    assert calls["endpoint"]("interrupted") == expected
