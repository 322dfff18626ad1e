"""Locks of folders: two runs of a script at once on one folder are refused in one line that
says who is there.

A lock is flock on a small hidden file. The system gives it up with the process that holds
it, however that ends; what is left of the file then tells the next one that something was
cut off, so that it sweeps the temporary files. Where there is no flock (Windows, some
network disks) nothing is locked.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from claus.utils.runtime import UserError, alive, machine, sweep

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TRIES = 20  # to get hold of a lock file that others remove meanwhile


@contextlib.contextmanager
def locked(
    folder: str | Path, work: str, *, shared: bool = False, clear: str | Path | None = None
) -> Iterator[None]:
    """Hold the lock `work` of a folder for the block. UserError in one line, at once, where
    another process holds it: who, since when, and what to do.

    shared: several may hold it so, but none beside one that does not. clear: folder whose
    temporary files are swept, with all below it, where the last holder was killed.
    """
    folder = Path(folder)
    place = folder / f".{work}.lock"
    descriptor = _take(place, shared)
    if descriptor is None:
        yield
        return
    try:
        if clear is not None and _killed(descriptor):
            sweep(clear, deep=True)
        _sign(descriptor, shared)
        yield
    finally:
        _give_up(descriptor, place, shared)


def _take(place, shared):
    """A descriptor that holds the lock; None where nothing can be locked."""
    if fcntl is None:
        return None
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    for _ in range(TRIES):
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # no such folder, or read-only: whoever writes there will say so
            return None
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _signed(descriptor)
            os.close(descriptor)
            if not place.exists():
                continue
            raise UserError(
                f"{place.parent}: {who} is at work there; wait until it has ended, or stop it"
            ) from None
        except OSError:  # a disk without locks
            os.close(descriptor)
            return None
        if _same(descriptor, place):
            return descriptor
        os.close(descriptor)  # the one before has removed it
    return None


def _same(descriptor, place):
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    except OSError:
        return False


def _sign(descriptor, shared):
    since = time.strftime("%H:%M:%S")
    where = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
    who = f"{Path(sys.argv[0]).name} ({where})"
    line = f"{machine()} {os.getpid()} {who}\n".encode("utf-8", "replace")
    with contextlib.suppress(OSError):
        if not shared:
            os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, line)


def _lines(descriptor):
    """[(machine, process, who)] of those that have signed."""
    with contextlib.suppress(OSError, ValueError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, 1 << 16).decode("utf-8", "replace")
        parts = [line.split(" ", 2) for line in text.splitlines()]
        return [(where, int(pid), who) for where, pid, who in parts]
    return []


def _signed(descriptor):
    """Who holds the lock, in words."""
    lines = _lines(descriptor)
    there = [who for where, pid, who in lines if where != machine() or alive(pid)]
    return there[-1] if there else "another process"


def _killed(descriptor):
    """Whether one that has signed is no more, and had no time to say so."""
    return any(where == machine() and not alive(pid) for where, pid, _ in _lines(descriptor))


def _give_up(descriptor, place, shared):
    """Remove the lock file, where no other shares it, and let go."""
    try:
        _remove(descriptor, place, shared)
    except KeyboardInterrupt:
        _remove(descriptor, place, shared)
        raise
    finally:
        os.close(descriptor)


def _remove(descriptor, place, shared):
    with contextlib.suppress(OSError):
        if shared:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _same(descriptor, place):
            os.unlink(place)
