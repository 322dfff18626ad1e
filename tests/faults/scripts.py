"""Scripts that are killed at every file operation, that run out of disk at every one, and two
at once.

A script runs in a forked child on a copy of a small run. Python reports every operation on
files (sys.addaudithook); at the n-th one inside of the run's folder the child is killed, gets
a signal, or is told that the disk is full. The same command again must then leave the bytes
that an undisturbed one leaves, and nothing beside.
"""

import contextlib
import csv
import hashlib
import importlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from claus.artifacts.parts import fingerprint

from . import campaign, works

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
# files whose content tells the time, is random or made by processes of their own
UNEQUAL = re.compile(
    r"/cache/|journal/|label\.json$"
    r"|^next\.(json|log)$|^cells/.*(cell\.json|log\.txt|evaluation\.json)$|detector\.pt$|\.pt2$"
)
# not compared: an event file more for each process, locks that nobody holds, and the seconds of
# a step, which a killed one does not note
LEFT_OUT = re.compile(r"tensorboard/|\.lock$|seconds\.json$")
TODAY = "2026-01-01 00:00:00"


def call(work, run, data, more=()):
    """The script's exit status, in this process, with what it prints."""
    import torch

    from claus.steps import train
    from claus.utils import runtime

    torch.set_num_threads(1)
    time.strftime = lambda *_: TODAY
    train.SAVING_SHARE = math.inf  # training.pt after every epoch, to be resumed from
    module = importlib.import_module(work.script)
    sys.argv = [f"{work.script.rpartition('.')[2]}.py"]
    if work.client:
        threading.Thread(target=work.client, args=(run,), daemon=True).start()
    runtime.run_script(lambda: module.main([*map(str, work.flags(run, data)), *more]))


def learn(work, run, data):
    """A run of a script in a child -> (wait status, what it said); what it has imported is
    imported here, so that no further child has to wait for it.
    """
    seen = Path(tempfile.mkstemp()[1])
    ended = run_work(work, run, data, seen=seen)
    for name in seen.read_text().splitlines():
        if name not in sys.modules and not name.startswith(("__", "tests", "test_")):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    seen.unlink()
    return ended


def run_work(work, run, data, more=(), before=None, seen=None):
    """(wait status, stdout and stderr) of a script in a forked child; before(): in it, first.
    seen: file for the names of the modules that it has imported.
    """

    def act(descriptor):
        status = 1
        try:
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.close(descriptor)
            sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)  # not pytest's
            signal.signal(signal.SIGINT, signal.default_int_handler)  # `command &` has none
            if before:
                before()
            call(work, run, data, more)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else bool(ended.code)
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        if seen:
            seen.write_text("\n".join(sys.modules))
        return status

    return campaign.in_child(act, SECONDS)


def on_operations(folder, act):
    """Calls act(event, arguments) before every operation on files in a folder, from now on in
    this process.
    """
    folder = str(folder)

    def hook(event, arguments):
        if event not in FILE_EVENTS:
            return
        if event == "open" and not (
            isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            return
        if any(folder in str(path) for path in arguments if isinstance(path, str | Path)):
            act(event, arguments)

    sys.addaudithook(hook)


def at_operation(number, folder, act):
    """A function that makes this process `act()` at its n-th operation on files in a folder."""
    count = itertools.count()
    return lambda: on_operations(folder, lambda *_: next(count) == number and act())


def count_operations(work, run, data):
    """How many there are in an undisturbed run of the script."""
    out = Path(tempfile.mkstemp()[1])

    def before():
        target = os.open(out, os.O_WRONLY)
        on_operations(run, lambda *_: os.write(target, b"."))

    status, text = run_work(work, run, data, before=before)
    if not done(work, status, text):
        raise RuntimeError(f"{work.name}: {text}")
    count = out.stat().st_size
    out.unlink()
    return count


def content(run):
    """{file: digest} of a run's folder."""
    found, run = {}, Path(run)
    # what came of weights says of which; equal ones may be pickled in more than one way
    made_by = [fingerprint(path).encode() for path in sorted(run.rglob("detector.pt"))]
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not LEFT_OUT.search(name):
            found[name] = "" if UNEQUAL.search(name) else digest(path, made_by)
    return found


def digest(path, made_by=()):
    """Of a file's bytes without the fingerprints `made_by`; of a table without its seconds; of
    JSON lines once and in any order, and without what is not JSON: a line that was broken off
    stays, and is passed over.
    """
    if path.suffix == ".jsonl":
        lines = sorted({line for line in path.read_bytes().splitlines() if _is_json(line)})
        return hashlib.sha256(b"\n".join(lines)).hexdigest()
    if path.suffix != ".csv":
        content = path.read_bytes()
        for one in made_by:
            content = content.replace(one, b"0" * len(one))
        return hashlib.sha256(content).hexdigest()
    with open(path, encoding="utf-8", newline="") as file:
        rows = [
            [(k, v) for k, v in row.items() if not re.search("second|minute", k)]
            for row in csv.DictReader(file)
        ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _is_json(line):
    try:
        return json.loads(line) is not None
    except ValueError:
        return False


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
    warmed: set = field(default_factory=set)

    @classmethod
    def make(cls, folder):
        root = campaign.root()  # where the scripts are
        sys.path += [str(root), str(root / "tests")]
        return cls(Path(folder), works.make_data(Path(folder) / "data"))

    def begun(self, work):
        """A folder in which all that a work needs is done."""
        if work.name not in self.done:
            if work.needs:
                run = self.fresh(work.needs[-1])
            target = self.folder / f"begun{len(self.done)}"
            if work.needs:
                status, text = learn(work.needs[-1], run, self.data)
                if not done(work.needs[-1], status, text):
                    raise RuntimeError(f"{work.needs[-1].name}: {text}")
                shutil.copytree(run, target, symlinks=True)
            else:
                target.mkdir()
            if work.prepare:
                work.prepare(target, self.data)
            self.done[work.name] = target
        return self.done[work.name]

    def fresh(self, work, name="run"):
        begun = self.begun(work)  # may make another run first
        run = self.folder / name
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(begun, run, symlinks=True)
        return run

    def warm(self, work):
        """Import what a work imports."""
        if work.name not in self.warmed:
            learn(work, self.fresh(work), self.data)
            self.warmed.add(work.name)

    def undisturbed(self, work):
        """(number of operations, content, weights) of a whole run."""
        self.warm(work)
        run = self.fresh(work)
        operations = count_operations(work, run, self.data)
        return operations, content(run), weights(run)


def places_of(operations, places):
    """Operations to try: all of them, or so many, evenly spread."""
    if places is None or places >= operations:
        return range(operations)
    return [round(place * (operations - 1) / max(places - 1, 1)) for place in range(places)]


def kills(bench, work, groups, places=None):
    """[(signal, operation, outcome, text)]: killed at every operation, or at so many, by
    each signal of the next of the groups.
    """
    operations, whole, same = bench.undisturbed(work)
    for place, number in enumerate(places_of(operations, places)):
        for which in groups[place % len(groups)]:
            run = bench.fresh(work)
            sent = bench.folder / "sent"
            sent.unlink(missing_ok=True)

            def act(which=which, sent=sent):
                sent.touch()
                os.kill(os.getpid(), which)

            status, text = run_work(
                work, run, bench.data, before=at_operation(number, run, act)
            )
            if not sent.exists() and done(work, status, text):
                continue  # it had fewer operations this time: some are told once a second
            if which == signal.SIGKILL:
                ended = os.WIFSIGNALED(status) if isinstance(status, int) else False
            else:
                ended = said(status, text, 130) and text.count("stopped;") == 1
            if not ended:
                yield which, number, "hang" if status == "hang" else "traceback", text
                continue
            outcome, text = tried_again(bench, work, run, whole, same)
            yield which, number, outcome or "same bytes", text


def tried_again(bench, work, run, whole, same):
    """(what is bad, text) of the same command again; None where all is as undisturbed."""
    status, text = run_work(work, run, bench.data, work.again)
    if not done(work, status, text):
        return "hang" if status == "hang" else "traceback", text
    now = content(run)
    differ = sorted(k for k in {*now, *whole} if now.get(k) != whole.get(k))
    if differ or weights(run) != same:
        return "wrong", f"{differ or 'weights'}"
    return None, ""


def done(work, status, text):
    """Whether a script has ended as an undisturbed one."""
    return said(status, text, work.ends)


def said(status, text, code):
    """Whether a script ended with this exit status and no traceback."""
    ended = isinstance(status, int) and os.WIFEXITED(status) and os.WEXITSTATUS(status) == code
    return ended and "Traceback" not in text and "Exception ignored" not in text


def full_disk(bench, work, places=None):
    """[(operation, outcome, text)]: from the n-th write on there is no room, then there is."""
    operations, whole, same = bench.undisturbed(work)
    for number in places_of(operations, places):
        run = bench.fresh(work)
        status, text = run_work(
            work, run, bench.data, before=at_operation(number, run, fill_disk)
        )
        ended = said(status, text, 2) and "full" in text
        through = done(work, status, text)  # what only saves time is done without
        if not (ended or through):
            yield number, "hang" if status == "hang" else "traceback", text
            continue
        outcome, text = tried_again(bench, work, run, whole, same)
        yield number, outcome or ("one line" if ended else "done without"), text


def fill_disk():
    """From here on no file of this process can grow: every write fails as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def pairs(bench, first, second):
    """(outcome, text) of two scripts begun at once on one run folder: where both go through,
    the folder must be as after one and then the other.
    """
    base = max(first, second, key=depth)
    for work in (first, second):
        bench.warm(work)
    run = bench.fresh(base)
    children = []
    for work in (first, second):
        log = Path(tempfile.mkstemp()[1])
        child = os.fork()
        if not child:
            status, text = run_work(work, run, bench.data)
            log.write_text(json.dumps([status, text]))
            os._exit(0)
        children.append((child, log))
    ends = []
    for child, log in children:
        os.waitpid(child, 0)
        ends.append(json.loads(log.read_text()))
        log.unlink()
    good = [done(work, *end) for work, end in zip((first, second), ends, strict=True)]
    refused = [said(status, text, 2) for status, text in ends]
    text = " | ".join(text.strip().splitlines()[-1] if text.strip() else "" for _, text in ends)
    if any(status == "hang" for status, _ in ends):
        return "hang", text
    if not all(a or b for a, b in zip(good, refused, strict=True)):
        return "traceback", " || ".join(text[-1500:] for _, text in ends)
    if all(good):
        made = content(run), weights(run)
        orders = (first, second), (second, first)
        if all(one_by_one(bench, base, order) != made for order in orders):
            return "wrong", f"neither order leaves this: {text}"
    for work in (first, second):
        status, again = run_work(work, run, bench.data, work.again)
        if not done(work, status, again) and not said(status, again, 2):
            return "traceback", again
    left = [p.name for p in run.rglob(".*") if p.name.endswith((".claus.tmp", ".lock"))]
    if left:
        return "wrong", f"left over: {left}"
    return ("both" if all(good) else "one line"), text


def one_by_one(bench, base, order):
    """(content, weights) after scripts one after the other."""
    run = bench.fresh(base)
    for work in order:
        run_work(work, run, bench.data)
    return content(run), weights(run)


def depth(work):
    """How many commands must have been run before."""
    return 1 + depth(work.needs[-1]) if work.needs else 0
