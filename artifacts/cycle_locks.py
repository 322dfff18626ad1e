"""Who works in a run folder: at most one process, or group of processes, at each work.

    run      .cycles.lock                run_cycles.py, as long as it runs
             .select.lock                claus_select.py: labels, ledger and pool are of the run
    cycle    .train.lock .evaluate.lock  the script of that name
             .extract.lock               cluster_extract.py, which its shards share
             .extract-<k>-of-<n>.lock    a shard
             .labels.lock                shared by all that work from a cycle's labels; alone
                                         for claus_select.py, which replaces them

Different works on one cycle may go on beside each other: files are replaced whole, and say
what they were made from. See utils/locks.py for what a killed process leaves.
"""

import contextlib
from collections.abc import Iterator

from claus.artifacts.cycle import Cycle, Run
from claus.utils.locks import locked


@contextlib.contextmanager
def looping(run: Run) -> Iterator[None]:
    """Run the cycles of a run. UserError where another process does."""
    with locked(run.folder, "cycles", clear=run.folder):
        yield


@contextlib.contextmanager
def choosing(cycle: Cycle) -> Iterator[None]:
    """Choose a cycle's labels. UserError where another process does, in any cycle, or works
    from those of this cycle.
    """
    run = cycle.run.folder
    with contextlib.suppress(OSError):  # check_writable says it better
        run.mkdir(parents=True, exist_ok=True)
    with locked(run, "select", clear=run), contextlib.ExitStack() as stack:
        if cycle.folder.is_dir():  # else there is nothing to work from
            stack.enter_context(locked(cycle.folder, "labels"))
        yield


@contextlib.contextmanager
def working(cycle: Cycle, work: str, rank: int = 0) -> Iterator[None]:
    """Train or evaluate a cycle; rank: of several processes that do it together, of which the
    first holds the locks. UserError where others do.
    """
    with contextlib.ExitStack() as stack:
        if rank == 0:
            stack.enter_context(locked(cycle.folder, work, clear=cycle.run.folder))
            stack.enter_context(locked(cycle.folder, "labels", shared=True))
        yield


@contextlib.contextmanager
def extracting(cycle: Cycle, shard: tuple[int, int], rank: int = 0) -> Iterator[None]:
    """Score a cycle's videos, or the shard (k, n) of them. UserError where others do, or
    another process does this shard.
    """
    part, of = shard
    with contextlib.ExitStack() as stack:
        if rank == 0:
            whole = locked(cycle.folder, "extract", shared=of > 1, clear=cycle.run.folder)
            stack.enter_context(whole)
            stack.enter_context(locked(cycle.folder, "labels", shared=True))
            if of > 1:
                own = locked(cycle.folder, f"extract-{part + 1}-of-{of}")
                stack.enter_context(own)
        yield
