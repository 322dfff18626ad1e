"""How far a long piece of work is, told to whoever listens.

    with told_to(function):      function(share) with share in [0, 1]
        work()                   which calls tell(done, of) wherever it is

Nobody listening costs nothing, so that a training need not know whether a page shows it.
"""

import contextlib
from collections.abc import Callable, Iterator

_listeners: list[Callable[[float], None]] = []


@contextlib.contextmanager
def told_to(listener: Callable[[float], None]) -> Iterator[None]:
    """Inside, the innermost listener is called with the share that is done."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()


def tell(done: float, of: float) -> None:
    """Say that `done` of `of` is done; nothing happens where of is 0 or nobody listens."""
    if _listeners and of > 0:
        _listeners[-1](min(max(done / of, 0.0), 1.0))
