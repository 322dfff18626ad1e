"""Pieces of work side by side: all of them, once; an error or an interruption ends them all."""

import threading
import time
from contextlib import closing

import pytest

from claus.utils import lanes


def shared(items, count):
    return [items[lane::count] for lane in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_item_once(count):
    items = list(range(20))
    found = dict(lanes.results(shared(items, count), lambda item: item**2))
    assert found == {item: item**2 for item in items}


def test_lanes_work_side_by_side():
    meeting = threading.Barrier(2, timeout=20)  # broken where one waits for the other's end

    def work(item):
        meeting.wait()
        return threading.current_thread()

    found = dict(lanes.results([[1], [2]], work))
    assert found[1] is not found[2]


def test_an_error_ends_the_other_lanes():
    def work(item):
        if item == "broken":
            raise ValueError("broken")
        while True:  # until it is told
            lanes.check()
            time.sleep(0.01)

    with pytest.raises(ValueError, match="broken"):
        list(lanes.results([["endless"], ["broken"]], work))
    assert not any("_lane" in thread.name for thread in threading.enumerate())


def test_an_error_in_reading_is_raised_here():
    def items():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(lanes.results([items(), []], lambda item: item))


def test_closing_ends_lanes_that_are_at_work():
    began = threading.active_count()

    def work(item):
        if item:
            lanes.check()
        return item

    endless = [iter(lambda: 1, None), iter(lambda: 1, None)]
    with closing(lanes.results(endless, work)) as found:
        for _ in range(3):
            next(found)
        assert threading.active_count() == began + 2
    assert threading.active_count() == began


def test_how_many_lanes():
    assert lanes.count("cuda", 100, 8) == 1
    assert [lanes.count("cpu", pieces, 2) for pieces in (0, 1, 9)] == [1, 1, 2]
    assert lanes.count("cpu", 1000, 64) == lanes.MOST


def test_a_pool_keeps_its_threads_and_the_order_of_the_items():
    begun, pool = [], lanes.Pool(lambda: begun.append(threading.get_ident()))

    def work(item):
        time.sleep(0.01 * (item % 3))
        return item, threading.get_ident()

    found = [[*pool.map(work, range(6), 2)] for _ in range(2)]
    assert [item for item, _ in found[0]] == [item for item, _ in found[1]] == [*range(6)]
    used = {thread for items in found for _, thread in items}
    assert used <= set(begun) and len(begun) == 2
    assert [*pool.map(work, [4], 1)] == [(4, threading.get_ident())]
    pool.close()


def test_an_error_in_a_pool_is_raised_where_its_result_is_asked_for():
    pool = lanes.Pool()
    found = pool.map(lambda item: 1 // item, [1, 0], 2)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
    pool.close()


def test_a_thread_that_fails_fails_here_and_one_that_is_left_ends():
    begun = []

    def broken():
        yield threading.get_ident()
        raise ValueError("in the middle")

    ahead = lanes.Ahead(broken(), begin=lambda: begun.append(threading.get_ident()))
    assert next(ahead) == begun[0] != threading.get_ident()
    with pytest.raises(ValueError, match="in the middle"):
        next(ahead)
    assert [*lanes.Ahead(iter(range(5)), most=1)] == [0, 1, 2, 3, 4]
    endless = lanes.Ahead(number for number in iter(int, 1))
    assert next(endless) == 0
    endless.close()
    assert not endless._thread.is_alive() and [*endless] == []
