import threading

import pytest

from qwen2vl_rs.engine.prefetch import Prefetcher, prefetch


def test_items_come_in_order_and_the_next_is_begun():
    begun, second = [], threading.Event()

    def make(key):
        begun.append(key)
        if key == 1:
            second.set()
        return key * 10

    items = prefetch(make, range(3))
    assert next(items) == 0
    assert second.wait(5)  # while the first is used
    assert list(items) == [10, 20]
    assert begun == [0, 1, 2]


def test_a_failure_comes_where_its_item_would():
    items = prefetch(lambda key: 1 // key, [1, 0])
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_what_was_said_to_come_next_is_made_once():
    made = []
    source = Prefetcher(lambda key: made.append(key) or key)
    assert [source.get(0, 2), source.get(2, 4), source.get(4, None)] == [0, 2, 4]
    assert made == [0, 2, 4]
    assert source.get(7, 8) == 7  # a resumed run begins in the middle
    assert source.get(3, None) == 3
