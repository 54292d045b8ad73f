import os
import signal
import threading
import warnings

import pytest

from qwen2vl_rs.system.scopes import (
    KEEP,
    SharedChange,
    ignore_warnings,
    preserve_environment,
    preserve_signals,
)


@pytest.fixture
def setting():
    """What a whole process has one of; `change` sets it to 1 and back to what it was."""
    found = {"value": 0}

    return found, SharedChange((lambda: found["value"], lambda to: found.update(value=to), 1))


def test_a_change_holds_inside_only(setting):
    found, change = setting
    with change, change:
        assert found["value"] == 1
    assert found["value"] == 0

    @change
    def inside():
        return found["value"]

    assert inside() == 1
    assert found["value"] == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_change_is_undone_whatever_ends_it(setting, error):
    found, change = setting
    for _ in range(2):
        with pytest.raises(error), change:
            raise error
        assert found["value"] == 0


def test_threads_that_overlap_put_back_what_was_before_both(setting):
    found, change = setting
    inside, leave = threading.Event(), threading.Event()

    def other():
        with change:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with change:
        thread.start()
        assert inside.wait(10)
    assert found["value"] == 1  # the other is still in there
    leave.set()
    thread.join()
    assert found["value"] == 0


def test_a_change_that_fails_is_none():
    found = {"value": 0, "other": 0}

    def refuse(to):
        if to:
            raise OSError("no")

    setting = (lambda: found["value"], lambda to: found.update(value=to), 1)
    change = SharedChange(setting, (lambda: 0, refuse, 1))
    for _ in range(2):
        with pytest.raises(OSError, match="no"), change:
            pass
        assert found["value"] == 0


def test_warnings_of_one_category_are_ignored_inside_only():
    filters = list(warnings.filters)
    with ignore_warnings(FutureWarning, "old"):
        warnings.warn("old name", FutureWarning, stacklevel=1)
        with pytest.raises(FutureWarning):
            warnings.warn("new name", FutureWarning, stacklevel=1)
        with ignore_warnings(RuntimeWarning):
            warnings.warn("odd", RuntimeWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("odd", UserWarning, stacklevel=1)
    assert warnings.filters == filters


@pytest.mark.parametrize("handler", [KEEP, signal.SIG_IGN])
def test_handlers_of_signals_are_as_they_were(handler):
    before = signal.getsignal(signal.SIGTERM)
    with preserve_signals(["SIGTERM", "SIGNOTHING"], handler):
        assert signal.getsignal(signal.SIGTERM) == (before if handler is KEEP else handler)
        signal.signal(signal.SIGTERM, lambda *_: None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_cannot_change_them_and_does_not_fail():
    done = []

    def other():
        with preserve_signals(["SIGTERM"], signal.SIG_IGN):
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]


def test_the_environment_is_as_it_was(monkeypatch):
    monkeypatch.setenv("A_TEST_HAS", "1")
    monkeypatch.setenv("A_TEST_LOSES", "1")
    before = dict(os.environ)
    with preserve_environment:
        os.environ["A_TEST_HAS"] = "2"
        os.environ["A_TEST_GETS"] = "3"
        del os.environ["A_TEST_LOSES"]
    assert dict(os.environ) == before
