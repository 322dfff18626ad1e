"""Scripts that are killed at every file operation, that run out of disk at every one, and two
at once.

A script runs in a forked child on a copy of a small run. Python reports every operation on
files (sys.addaudithook); at the n-th one inside of the run's folder the child is killed, gets
a signal, or is told that the disk is full. The same command again must then leave the bytes
that an undisturbed one leaves, and nothing beside.
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import campaign

TRAIN = "--model small --pretrained none --device cpu --epochs 2 --steps 2 --bn-batches 1 --batch-size 2".split()
SECONDS = 180  # after which a script hangs
FILE_EVENTS = {
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.chmod",
    "os.link",
    "os.rmdir",
    "os.truncate",
    "os.utime",
    "os.symlink",
    "tempfile.mkstemp",
    "os.listdir",
    "os.scandir",
    "shutil.rmtree",
    "fcntl.flock",
}
# files whose content tells the time or the order of events
UNEQUAL = re.compile(
    r"tensorboard/|seconds\.json$|\.png$|detector\.pt$|\.pt2$|/cache/|identities\.jsonl$|changes\.jsonl$"
)


@dataclass(frozen=True)
class Work:
    """A command of a script. needs: commands to be run before."""

    name: str
    script: str
    flags: Callable  # (run folder, data folder) -> list
    needs: tuple = ()
    again: tuple = ()  # flags that the second try has more
    fast: bool = False


def _common(run, data, cycle=0):
    return ["--run", str(run), "--cycle", str(cycle), "--data", str(data)]


def _truth(data):
    return ["--oracle", str(data / "pyannot.pkl"), "--test-list", str(data / "testlist01.txt")]


def _budget(run, data, cycle=0):
    budget = ["--videos-count", "3", "--frames-count", "8"]
    return [*_common(run, data, cycle), *_truth(data), *budget]


SELECT = Work("claus_select.py, cycle 0", "claus_select", _budget, fast=True)
ASK = Work(
    "claus_select.py, own videos",
    "claus_select",
    lambda run, data: [
        *_common(run, data),
        "--videos-count",
        "2",
        "--frames-count",
        "3",
        "--classes",
        "Bounce,Circle,Pulse,Rock,Spin,Sway",
    ],
    fast=True,
)
TRAINING = Work(
    "train_ucf101.py",
    "train_ucf101",
    lambda run, data: [*_common(run, data), *TRAIN],
    (SELECT,),
    ("--resume",),
)
EXTRACT = Work(
    "cluster_extract.py",
    "cluster_extract",
    lambda run, data: [*_common(run, data), "--device", "cpu", "--passes", "2"],
    (SELECT, TRAINING),
)
NEXT = Work(
    "claus_select.py, cycle 1",
    "claus_select",
    lambda run, data: _budget(run, data, 1),
    (SELECT, TRAINING, EXTRACT),
)
EVALUATE = Work(
    "evaluate.py",
    "evaluate",
    lambda run, data: [
        *_common(run, data),
        "--device",
        "cpu",
        "--ground-truth",
        str(data / "pyannot.pkl"),
        "--test-list",
        str(data / "testlist01.txt"),
    ],
    (SELECT, TRAINING),
)
SEMI = Work(
    "train_semi.py",
    "train_semi",
    lambda run, data: [*_common(run, data), "--method", "mean-teacher", *TRAIN],
    (SELECT,),
    ("--resume",),
)
CYCLES = Work(
    "run_cycles.py",
    "run_cycles",
    lambda run, data: [
        "--run",
        str(run),
        "--data",
        str(data),
        *_truth(data),
        "--cycles",
        "2",
        "--device",
        "cpu",
        "--train",
        " ".join(TRAIN),
        "--extract=--passes 2",
        "--select",
        "--videos-count 3 --frames-count 8",
    ],
)
DETECT = Work(
    "detect.py",
    "detect",
    lambda run, data: [
        *map(str, sorted(data.rglob("*.avi"))[:2]),
        *["--weights", str(run / "cycle0" / "detector.pt"), "--out", str(run / "found")],
        *["--format", "csv,coco", "--device", "cpu"],
    ],
    (SELECT, TRAINING),
)
EXPORT = Work(
    "export.py",
    "export",
    lambda run, data: [
        *["--weights", str(run / "cycle0" / "detector.pt"), "--pt2", str(run / "mine.pt2")],
    ],
    (SELECT, TRAINING),
)
WORKS = [SELECT, ASK, TRAINING, EXTRACT, NEXT, EVALUATE, SEMI, CYCLES, DETECT, EXPORT]


def make_data(folder):
    """Six training and six test videos."""
    from claus.datasets import toy

    with contextlib.redirect_stdout(io.StringIO()):
        toy.make(Path(folder), seed=3, train=6, test=6)
    return Path(folder)


def call(work, run, data, more=()):
    """The script's exit status, in this process, with what it prints."""
    import torch

    from claus.utils import runtime

    torch.set_num_threads(1)
    module = __import__(work.script)
    sys.argv = [f"{work.script}.py"]
    runtime.run_script(lambda: module.main([*work.flags(run, data), *more]))


def in_child(work, run, data, more=(), before=None):
    """(wait status, stdout and stderr) of a script in a forked child; before(): in it, first."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(reading)
            os.close(writing)
            sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)  # not pytest's
            sys.path.insert(0, str(campaign.root()))
            if before:
                before()
            call(work, run, data, more)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else bool(ended.code)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            os._exit(status)
    os.close(writing)
    text, ends, status = b"", time.monotonic() + SECONDS, "hang"
    while time.monotonic() < ends:
        ready, _, _ = select.select([reading], [], [], 0.05)
        more_text = os.read(reading, 1 << 16) if ready else None
        text += more_text or b""
        if more_text == b"" or (more_text is None and not campaign.alive(child)):
            status = os.waitpid(child, 0)[1]
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(reading)
    return status, text.decode("utf-8", "replace")


def at_operation(number, folder, act):
    """A function that makes this process `act()` at its n-th operation on files in a folder."""
    folder, count = str(folder), itertools.count()

    def hook(event, arguments):
        if event not in FILE_EVENTS:
            return
        if event == "open" and not (
            isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            return
        paths = [str(a) for a in arguments if isinstance(a, str | Path)]
        if any(folder in path for path in paths) and next(count) == number:
            act()

    return lambda: sys.addaudithook(hook)


def count_operations(work, run, data):
    """How many there are in an undisturbed run of the script."""
    seen = []
    out = Path(tempfile.mkstemp()[1])

    def before():
        def hook(event, arguments):
            if event not in FILE_EVENTS:
                return
            if event == "open" and not (
                isinstance(arguments[2], int)
                and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            ):
                return
            if any(str(run) in str(a) for a in arguments if isinstance(a, str | Path)):
                seen.append(event)
                os.write(target, b".")

        target = os.open(out, os.O_WRONLY)
        sys.addaudithook(hook)

    status, text = in_child(work, run, data, before=before)
    if status:
        raise RuntimeError(f"{work.name}: {text}")
    count = out.stat().st_size
    out.unlink()
    return count


def content(run):
    """{file: digest} of a run's folder."""
    found = {}
    for path in sorted(Path(run).rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file():
            same = "" if UNEQUAL.search(name) else hashlib.sha256(path.read_bytes()).hexdigest()
            if not re.search(r"tensorboard/", name):
                found[name] = same
    return found


def weights(run):
    import torch

    found = {}
    for path in sorted(Path(run).rglob("detector.pt")):
        state = torch.load(path, weights_only=True, map_location="cpu")
        sums = {
            name: hashlib.sha256(t.numpy().tobytes()).hexdigest()
            for name, t in state["detector"].items()
        }
        found[str(path.relative_to(run))] = hashlib.sha256(
            json.dumps(sums).encode()
        ).hexdigest()
    return found


@dataclass
class Bench:
    """Data and finished runs to start from, made once."""

    folder: Path
    data: Path
    done: dict = field(default_factory=dict)

    @classmethod
    def make(cls, folder):
        return cls(Path(folder), make_data(Path(folder) / "data"))

    def begun(self, work):
        """A folder in which all that a work needs is done."""
        if work.name not in self.done:
            before = self.begun(work.needs[-1]) if work.needs else None
            target = self.folder / f"begun{len(self.done)}"
            if before is None:
                target.mkdir()
            else:
                shutil.copytree(before, target)
                status, text = in_child(work.needs[-1], target, self.data)
                if status:
                    raise RuntimeError(f"{work.needs[-1].name}: {text}")
            self.done[work.name] = target
        return self.done[work.name]

    def fresh(self, work, name="run"):
        run = self.folder / name
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.begun(work), run, symlinks=True)
        return run


def kills(bench, work, signals, step=1, start=0):
    """[(signal, operation, outcome, text)]: killed at every `step`-th operation."""
    run = bench.fresh(work)
    operations = count_operations(work, run, bench.data)
    whole, same = content(run), weights(run)
    for number in range(start, operations, step):
        for which in signals:
            run = bench.fresh(work)
            act = lambda which=which: os.kill(os.getpid(), which)  # noqa: E731
            status, text = in_child(
                work, run, bench.data, before=at_operation(number, run, act)
            )
            if which == signal.SIGKILL:
                ended = os.WIFSIGNALED(status) if isinstance(status, int) else False
            else:
                ended = said(status, text, 130)
            status, again = in_child(work, run, bench.data, work.again)
            now = content(run)
            if not ended:
                yield which, number, "hang" if status == "hang" else "traceback", text
            elif status:
                yield which, number, "traceback", again
            elif now != whole or weights(run) != same:
                differ = {k for k in {*now, *whole} if now.get(k) != whole.get(k)}
                yield which, number, "wrong", f"{sorted(differ)}"
            else:
                yield which, number, "same bytes", ""


def said(status, text, code):
    """Whether a script ended with this exit status and no traceback."""
    ended = isinstance(status, int) and os.WIFEXITED(status) and os.WEXITSTATUS(status) == code
    return ended and "Traceback" not in text and "Exception ignored" not in text


def full_disk(bench, work, step=1, start=0):
    """[(operation, outcome, text)]: from the n-th write on there is no room, then there is."""
    run = bench.fresh(work)
    operations = count_operations(work, run, bench.data)
    whole, same = content(run), weights(run)
    for number in range(start, operations, step):
        run = bench.fresh(work)
        status, text = in_child(
            work, run, bench.data, before=at_operation(number, run, fill_disk)
        )
        ended = said(status, text, 2) and "full" in text
        through = said(status, text, 0)  # what only saves time is done without
        status, again = in_child(work, run, bench.data, work.again)
        if not (ended or through):
            yield number, "hang" if status == "hang" else "traceback", text
        elif status:
            yield number, "traceback", again
        elif content(run) != whole or weights(run) != same:
            now = content(run)
            yield (
                number,
                "wrong",
                f"{sorted(k for k in {*now, *whole} if now.get(k) != whole.get(k))}",
            )
        else:
            yield number, "one line" if ended else "done without", ""


def fill_disk():
    """From here on no file of this process can grow: every write fails as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def pairs(bench, first, second):
    """(outcome, text) of two scripts begun at once on one run folder."""
    run = bench.fresh(max(first, second, key=lambda work: len(work.needs)))
    children = []
    for work in (first, second):
        log = Path(tempfile.mkstemp()[1])
        child = os.fork()
        if not child:
            status, text = in_child(work, run, bench.data)
            log.write_text(json.dumps([status, text]))
            os._exit(0)
        children.append((child, log))
    ends = []
    for child, log in children:
        os.waitpid(child, 0)
        ends.append(json.loads(log.read_text()))
        log.unlink()
    good = [said(status, text, 0) for status, text in ends]
    refused = [said(status, text, 2) for status, text in ends]
    text = " | ".join(text.strip().splitlines()[-1] if text.strip() else "" for _, text in ends)
    if any(status == "hang" for status, _ in ends):
        return "hang", text
    if not all(a or b for a, b in zip(good, refused, strict=True)):
        return "traceback", " || ".join(text[-1500:] for _, text in ends)
    for work in (first, second):
        status, again = in_child(work, run, bench.data, work.again)
        if not said(status, again, 0) and not said(status, again, 2):
            return "traceback", again
    left = [p.name for p in run.rglob("*") if p.name.endswith((".claus.tmp", ".lock"))]
    if left:
        return "wrong", f"left over: {left}"
    return ("both" if all(good) else "one line"), text
