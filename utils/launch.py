"""A script of this project in processes of its own on this machine. Imports no torch for one
process.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from claus.utils import stopping
from claus.utils.runtime import UserError

GRACE = 20.0  # seconds that a process has to end in
# the same once another of its group has ended: a process that waits for it inside of torch
# (a rendezvous, a collective) hears no signal, and what it waits for never comes
GRACE_LEFT_ALONE = 3.0


def launch(script: str | Path, arguments: list[str], processes: int) -> None:
    """What `torchrun --nproc-per-node processes -- script arguments` does, for one process
    `python script arguments`; UserError where it fails.

    All its processes end with this one, however it ends: see tied.
    """
    command = [sys.executable, str(script), *arguments]
    with contextlib.ExitStack() as stack:
        environment, pipe = stack.enter_context(tied())
        started = [environment]
        if processes > 1:
            store = _store()  # as long as the processes
            started = [environment | _told(store, n, processes) for n in range(processes)]
        running = []
        stack.callback(end_all, running)
        for each in started:
            running.append(subprocess.Popen(command, env=each, pass_fds=(pipe,)))
        status = _all_ended(running)
    if status:
        raise UserError(
            f"{Path(script).name} in {processes} process{'es' * (processes > 1)} has failed, "
            f"see the reason above; run the same command to resume"
        )


@contextlib.contextmanager
def tied() -> Iterator[tuple[Mapping[str, str], int]]:
    """(environment, descriptor to pass on) with which a script of ours ends as soon as this
    process has ended, even by kill -9: it watches a pipe that only this process holds open.
    """
    reading, writing = os.pipe()
    try:
        yield {**os.environ, stopping.LAUNCHED: str(reading)}, reading
    finally:
        os.close(reading)
        os.close(writing)


def _store():
    """Where the processes of a group find each other, held by this one."""
    from torch.distributed import TCPStore

    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def _told(store, number, processes):
    """What torchrun tells a process of its group."""
    return {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def _all_ended(running):
    """Status of the first that fails, 0 where none does; waits for all in that case."""
    while True:
        states = [process.poll() for process in running]
        failed = [status for status in states if status]
        if failed:
            _wait(running, 2.0)  # the others notice, and the reason is said by one of them
            return failed[0]
        if None not in states:
            return 0
        time.sleep(0.05)


def _wait(running, seconds, left_alone=math.inf):
    """Whether all have ended within so many seconds, or `left_alone` from the end of the
    first.
    """
    ends = time.monotonic() + seconds
    first = math.inf
    while any(process.poll() is None for process in running):
        now = time.monotonic()
        if any(process.poll() is not None for process in running):
            first = min(first, now)
        if now > min(ends, first + left_alone):
            return False
        time.sleep(0.02)
    return True


def end_all(running: list) -> None:
    """End processes as after Ctrl-C; those that do not are killed."""
    with stopping.cleaning_up():
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in running:
                if process.poll() is None:
                    process.send_signal(number)
            if _wait(running, GRACE, GRACE_LEFT_ALONE):
                return
