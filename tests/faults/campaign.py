"""Runs inputs in forked children and says what came of each."""

import contextlib
import itertools
import json
import math
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from claus.utils.runtime import UserError

OUTCOMES = (
    "read as it was",
    "read as it says",
    "one line",
    "wrong",
    "traceback",
    "hang",
    "death",
)
BAD = OUTCOMES[3:]
SECONDS = 10  # after which an input hangs
MEMORY = 12 << 30  # address space of a child
LINE = 2000  # characters of a message at most


class Hang(BaseException):
    """An input took too long."""


def sound(value, depth=0):
    """What is wrong with a value that scripts would go on with, or None."""
    if depth > 60:
        return "nested too deep"
    if isinstance(value, float) and value != value or value in (float("inf"), -float("inf")):
        return f"{value}"
    if isinstance(value, bool | None.__class__):
        return None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a number of more than 64 bits"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "a text that cannot be written"
    inside = ()
    if isinstance(value, dict):
        inside = (*value, *value.values())
    elif isinstance(value, list | tuple):
        inside = value
    return next(filter(None, (sound(one, depth + 1) for one in inside)), None)


def said_well(error):
    """Whether an error is one line that can be printed."""
    text = str(error)
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text) and text.isprintable() and len(text) < LINE


def tried(kind, path, whole):
    """(outcome, what was said) of one input."""
    ticks = itertools.count(1)

    def tick(*_):
        if next(ticks) >= SECONDS:
            raise Hang

    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)  # not one alarm: who is stopped does not hang
    try:
        value = kind.read(path)
    except UserError as error:
        return ("one line" if said_well(error) else "traceback"), ascii(str(error))[:300]
    except Hang:
        return "hang", "".join(traceback.format_exc().splitlines()[-3:])[:300]
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = [
            f for f in traceback.extract_tb(error.__traceback__) if "/tests/" not in f.filename
        ]
        at = own[-1] if own else last
        what = f"{type(error).__name__}: {ascii(str(error))[:120]} at {at.filename}:{at.lineno}"
        return "traceback", what
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if value == whole:
        return "read as it was", ""
    if kind.sealed and value != "made again":
        return "wrong", "a damaged file was read"
    problem = sound(value)
    if problem:
        return "wrong", problem
    return ("one line" if value == "made again" else "read as it says"), ""


def in_child(act, seconds=math.inf):
    """(wait status, text): of a forked child that calls act(descriptor) and exits with what
    that gives; what it has written there. "hang" for a status where it took too long.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reading)
            status = act(writing)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    text, status, waited, last = b"", "hang", 0.0, time.monotonic()
    while waited < seconds:
        ready, _, _ = select.select([reading], [], [], 0.05)
        now = time.monotonic()
        waited, last = waited + min(now - last, 1), now  # stopped by somebody, it does not hang
        more = os.read(reading, 1 << 16) if ready else None
        text += more or b""
        # a child of its own may hold the pipe longer than it lives
        if more == b"" or (more is None and not alive(child)):
            status = os.waitpid(child, 0)[1]
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(reading)
    return status, text.decode("utf-8", "replace")


def items_of(work, *arguments):
    """What `work(say, *arguments)`, in a forked child of limited memory, has said with
    say(item), and how it ended: (items, wait status).
    """

    def act(descriptor):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        with os.fdopen(descriptor, "w") as pipe:

            def say(item):
                pipe.write(json.dumps(item) + "\n")
                pipe.flush()

            work(say, *arguments)
        return 0

    status, text = in_child(act)
    lines = text.split("\n")[:-1]  # the last one is cut short, or empty
    return [json.loads(line) for line in lines], status


def _work(say, kind, count, seed, first):
    with tempfile.TemporaryDirectory() as folder:
        path = kind.make(folder)
        content, whole = path.read_bytes(), kind.read(path)
        whole = kind.read(path)
        assert whole != "made again", kind.name
        for number in range(first, count):
            rng = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number])
            what, mutated = kind.mutations(content, rng)
            path.write_bytes(mutated)
            say(["begun", number, what, ""])
            outcome, text = tried(kind, path, whole)
            if mutated == content:
                outcome = "read as it was"
            say([outcome, number, what, text])


def mutations(kind, count, seed=0):
    """Counter of (mutation, outcome), and examples [(mutation, number, outcome, text)] of the
    bad ones, of `count` mutations of a kind of file.
    """
    counts, bad, first = Counter(), [], 0
    while first < count:
        items, status = items_of(_work, kind, count, seed, first)
        done = [item for item in items if item[0] != "begun"]
        if status and (not items or items[-1][0] != "begun"):
            raise RuntimeError(f"{kind.name}: the campaign itself failed")
        if status:
            done.append(["death", *items[-1][1:3], f"status {status}"])
        for outcome, number, what, text in done:
            counts[what, outcome] += 1
            if outcome in BAD:
                bad.append((what, number, outcome, text))
        first = (items[-1][1] if items else first) + 1
    return counts, bad


def outcomes(kind, count, seed=0):
    """(outcome, text) of mutations of a kind of file."""
    counts, bad = mutations(kind, count, seed)
    for what, number, outcome, text in bad:
        yield outcome, f"{kind.name} {number}, {what}: {text}"
    for (_, outcome), number in counts.items():
        if outcome not in BAD:
            yield from [(outcome, "")] * number


def alive(child):
    """Whether a forked child has not ended; it stays to be waited for."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return True
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def root():
    return Path(__file__).resolve().parents[2]
