"""next.json: what run_cycles.py does now, or waits for; and the lock that lets one of them
work on a run at a time.

    {"state": "label", "running", "failed" or "done", "cycle": N, "stage": of STAGES,
     "progress": share of the stage that is done, "message": a line for a person,
     "updated": unix seconds, "pid": of the process}

A process that was killed leaves "running" behind: whether its pid lives says more.
"""

import contextlib
import getpass
import json
import os
import platform
import time
from collections.abc import Iterator

from claus.artifacts.cycle import Run
from claus.utils.runtime import UserError, parse_json, sweep, write_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

STATES = ("label", "running", "failed", "done")
STAGES = ("intake", "train", "extract", "select", "evaluate")
PATIENCE = 1.0  # seconds between two writes that differ in the progress alone


class NextState:
    """Writes next.json of a run."""

    def __init__(self, run: Run):
        self.run = run
        self.said = {"state": "running", "cycle": 0, "stage": "intake", "progress": 0.0}
        self.said["message"], self.written = "", 0.0

    def say(self, state: str, cycle: int, stage: str, message: str, progress: float = 0.0):
        """Write all of it. message: made one line."""
        self.said = {
            "state": state,
            "cycle": cycle,
            "stage": stage,
            "progress": progress,
            "message": " ".join(message.split()),
        }
        self._write()

    def at(self, share: float) -> None:
        """The share of the stage that is done; written once a second at most."""
        self.said["progress"] = round(share, 4)
        if time.time() - self.written >= PATIENCE:
            self._write()

    def fail(self, message: str) -> None:
        """Stopped in the stage that was said last."""
        self.said |= {"state": "failed", "message": " ".join(message.split())}
        self._write()

    def _write(self):
        self.written = time.time()
        about = {"updated": round(self.written, 3), "pid": os.getpid()}
        write_text(self.run.next, json.dumps(self.said | about, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """Inside, this is the only run_cycles.py at work on a run; UserError that says who else
    is. The system lets go of the lock when a process ends, however it ends; a file that
    still says who it was tells that it was killed, and its temporary files are swept.
    """
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        file = open(run.lock, "a+", encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write {run.lock}: {reason}; choose another --files") from error
    with file:
        if fcntl is None:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"run {run.name} is being worked on by {_who(file)}; wait for it, or stop it "
                f"({run.next_log} shows what it does)"
            ) from None
        except OSError:  # a file system without locks
            yield
            return
        if os.fstat(file.fileno()).st_size:
            sweep(run.folder, deep=True)
        file.seek(0)
        file.truncate()
        about = {"pid": os.getpid(), "user": _user(), "host": platform.node()}
        file.write(json.dumps(about | {"since": time.strftime("%Y-%m-%d %H:%M:%S")}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _who(file):
    """Who holds the lock, in words."""
    file.seek(0)
    try:
        said = parse_json(file.read().encode())
        return "process {pid} of {user} on {host}, since {since}".format(**said)
    except (ValueError, KeyError, TypeError):
        return "another process"


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
