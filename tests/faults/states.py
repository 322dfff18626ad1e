"""What a kill -9 leaves at each operation on files of a script: the states of its folder.

In one undisturbed run the folder is copied as it stands before every operation, where it
differs from the copies before. From each copy the command is run again. That is a kill -9 at
every operation, since what a process holds in memory is lost and what it has written is not;
it takes one run and not one for each operation. Between two operations a file may grow: a
state more, in which half of that is there.
"""

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

from . import scripts

ATOMIC = {"os.rename", "os.link", "os.symlink"}  # a file appears whole
TEMPORARY = ".claus.tmp"


class Album:
    """Copies of a folder in `folder`/<number>, and in states.jsonl [number, operation, how].

    Files that did not change are links to the copy before.
    """

    def __init__(self, run, folder):
        self.run, self.folder = Path(run), Path(folder)
        self.process, self.lock, self.owner = os.getpid(), threading.Lock(), None
        self.known, self.seen, self.operation, self.number = {}, set(), -1, 0
        self.event = ""

    def take(self, event, _):
        """Before an operation; those of taking the picture itself are none."""
        if os.getpid() != self.process or self.owner == threading.get_ident():
            return
        with self.lock:
            self.owner = threading.get_ident()
            try:
                self._take()
                self.event = event
            finally:
                self.owner = None

    def _take(self):
        self.operation += 1
        found, folders = {}, []
        for place, inside, names in os.walk(self.run):
            folders += [os.path.join(place, name) for name in inside]
            for name in names:
                path = Path(place, name)
                found[path.relative_to(self.run).as_posix()] = self._file(path)
        found = {name: one for name, one in found.items() if one}
        torn = self._torn(found)
        if torn:
            self._keep({**found, **torn}, folders, "torn")
        self._keep(found, folders, "whole")
        self.known = found

    def _file(self, path):
        """(state, digest, its copy) of a file; None where it has just gone."""
        name = path.relative_to(self.run).as_posix()
        try:
            stat = path.lstat()
            state = stat.st_ino, stat.st_size, stat.st_mtime_ns
            if name in self.known and self.known[name][0] == state:
                return self.known[name]
            copy = self.folder / "files" / f"{self.operation}-{len(name)}-{path.name}"[:200]
            copy.parent.mkdir(parents=True, exist_ok=True)
            while copy.exists() or copy.is_symlink():
                copy = copy.with_name(f"{copy.name}_")
            shutil.copy2(path, copy, follow_symlinks=False)
        except FileNotFoundError:
            return None
        link = os.readlink(copy).encode() if copy.is_symlink() else copy.read_bytes()
        return state, hashlib.sha256(link).hexdigest(), copy

    def _torn(self, found):
        """{name: file} of those that have grown since, as they were in between."""
        torn = {}
        if self.event in ATOMIC:
            return torn
        for name, (_, digest, copy) in found.items():
            before = self.known.get(name)
            if name.endswith(TEMPORARY) or copy.is_symlink() or self.operation == 0:
                continue
            if name.endswith(".jsonl"):  # one write a line, which a kill does not cut
                continue
            if scripts.LEFT_OUT.search(name) or (before and before[1] == digest):
                continue
            old, new = before[2].read_bytes() if before else b"", copy.read_bytes()
            start = len(old) if new.startswith(old) else 0
            if len(new) - start < 2:
                continue
            half = new[: start + (len(new) - start) // 2]
            target = copy.with_name(f"half-{copy.name}"[:220])
            target.write_bytes(half)
            shutil.copystat(copy, target)
            torn[name] = None, hashlib.sha256(half).hexdigest(), target
        return torn

    def _keep(self, found, folders, how):
        """A state, unless it was there before."""
        key = sorted(
            (name, digest)
            for name, (_, digest, _) in found.items()
            if not scripts.LEFT_OUT.search(name) or name.endswith("seconds.json")
        )
        folders = sorted(os.path.relpath(folder, self.run) for folder in folders)
        key = repr((key, folders))
        if key in self.seen:
            return
        self.seen.add(key)
        state = self.folder / str(self.number)
        for folder in ("", *folders):
            (state / folder).mkdir(parents=True, exist_ok=True)
        for name, (_, _, copy) in found.items():
            os.link(copy, state / name, follow_symlinks=False)
        with open(self.folder / "states.jsonl", "a") as file:
            file.write(json.dumps([self.number, self.operation, how]) + "\n")
        self.number += 1


def taken(bench, work):
    """(number of operations, [(folder, operation, how)], content, weights) of a whole run."""
    bench.warm(work)
    run, album = bench.fresh(work), bench.folder / "album"
    shutil.rmtree(album, ignore_errors=True)
    album.mkdir()

    def before():
        scripts.on_operations(run, Album(run, album).take)

    status, text = scripts.run_work(work, run, bench.data, before=before)
    if not scripts.done(work, status, text):
        raise RuntimeError(f"{work.name}: {text}")
    lines = (album / "states.jsonl").read_text().splitlines()
    found = [(album / str(n), operation, how) for n, operation, how in map(json.loads, lines)]
    return found, scripts.content(run), scripts.weights(run)


def rerun(bench, work, places=None):
    """[(operation, outcome, text)]: the command again from every state, or from so many."""
    found, whole, same = taken(bench, work)
    run = bench.folder / "run"
    for place in scripts.places_of(len(found), places):
        state, operation, how = found[place]
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(state, run, symlinks=True)
        outcome, text = scripts.tried_again(bench, work, run, whole, same)
        yield operation, outcome or "same bytes", f"{how}: {text}"
