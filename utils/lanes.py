"""Independent pieces of work side by side, each in a thread of its own.

torch lets go of Python's lock while it computes, so two lanes of one thread each keep two
cores busy, where two threads of one computation wait for one another; and what a lane
computes does not depend on how many there are.

    with closing(results(lanes, work)) as outcomes:
        for item, outcome in outcomes: ...
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from claus.utils import stopping

MOST = 16  # lanes: each has activations of its own
LOOK = 0.5  # seconds after which an interruption is noticed at the latest

_here = threading.local()


class Stopped(Exception):
    """Raised in a lane whose work is no longer wanted."""


def count(device: str, pieces: int, threads: int) -> int:
    """How many lanes pieces of work on a device are shared out to, where torch has so many
    threads: one on a GPU, which is one for all.
    """
    return max(min(pieces, threads, MOST), 1) if device == "cpu" else 1


def check() -> None:
    """Called in a lane as often as it may end: raises Stopped where its work is no longer
    wanted.
    """
    if getattr(_here, "stop", None) is not None and _here.stop.is_set():
        raise Stopped


def results(
    lanes: Sequence[Iterable], work: Callable, begin: Callable[[], None] = lambda: None
) -> Iterator[tuple]:
    """(item, work(item)) of every item of all lanes, as they are finished; an error is raised
    here, and ends them all.

    A single lane works right here. begin: called once in the thread of each of several.
    Close it (contextlib.closing): then no lane works any more.
    """
    if len(lanes) == 1:
        for item in lanes[0]:
            yield item, work(item)
        return
    stop, finished = threading.Event(), queue.Queue(maxsize=2 * len(lanes))
    threads = [
        threading.Thread(target=_lane, args=(lane, work, begin, stop, finished), daemon=True)
        for lane in lanes
    ]
    try:
        for thread in threads:
            thread.start()
        yield from _until_all_end(finished, len(threads))
    finally:
        stop.set()
        with stopping.cleaning_up():  # a thread must not compute while Python ends
            for thread in threads:
                while thread.is_alive():
                    thread.join(LOOK)


class Pool:
    """Threads that are kept, for work that comes again and again in small pieces.

    begin: called once in each thread.
    """

    def __init__(self, begin: Callable[[], None] = lambda: None):
        self._begin, self._threads, self._count = begin, None, 0

    def map(self, work: Callable, items: Sequence, count: int) -> Iterator:
        """work(item) of every item, in their order, by `count` threads; by this one where
        `count` is 1. An error of any is raised here, in its turn.
        """
        if count == 1:
            return map(work, items)
        if self._count < count:
            self.close()
            self._threads = ThreadPoolExecutor(count, "lane", self._begin)
            self._count = count
        return self._threads.map(work, items)

    def close(self) -> None:
        """Let the threads end."""
        if self._threads is not None:
            self._threads.shutdown()
        self._threads, self._count = None, 0


class Ahead:
    """An iterator whose items are made in a thread, up to `most` of them before they are
    asked for. What it raises is raised here; close() ends the thread.

    begin: called first in that thread.
    """

    def __init__(
        self, items: Iterator, most: int = 3, begin: Callable[[], None] = lambda: None
    ):
        self._queue, self._closed = queue.Queue(most), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items, begin), daemon=True)
        self._thread.start()

    def _run(self, items, begin):
        last = StopIteration()
        try:
            begin()
            for item in items:
                self._put(item)
                if self._closed.is_set():
                    break
        except BaseException as error:  # it is raised where the items are asked for
            last = error
        finally:
            if hasattr(items, "close"):
                items.close()
        self._put(last)

    def _put(self, item):
        with contextlib.suppress(Stopped):
            _put(self._queue, self._closed, item)

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self):
        if self._closed.is_set():
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, BaseException):
            self._closed.set()
            raise item
        return item

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closed.set()
        self._thread.join()


def _until_all_end(finished, lanes):
    while lanes:
        try:
            kind, *found = finished.get(timeout=LOOK)
        except queue.Empty:
            continue
        if kind == "failed":
            raise found[0]
        if kind == "ended":
            lanes -= 1
        else:
            yield tuple(found)


def _lane(items, work, begin, stop, finished):
    """One lane, in its thread."""
    _here.stop = stop
    try:
        begin()
        for item in items:
            _put(finished, stop, ("result", item, work(item)))
        _put(finished, stop, ("ended",))
    except Stopped:
        pass
    except BaseException as error:
        with contextlib.suppress(Stopped):
            _put(finished, stop, ("failed", error))


def _put(finished, stop, found):
    """Into the queue, unless nobody takes from it any more."""
    while True:
        if stop.is_set():
            raise Stopped
        try:
            finished.put(found, timeout=LOOK)
            return
        except queue.Full:
            continue
