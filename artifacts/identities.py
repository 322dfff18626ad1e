"""identities.jsonl: which file each video of a run is. A video is compared with it whenever
a script of that run reads it, so that labels stay on the pictures that they were made for.

A JSON line a video, written when the run sees it first (on one's own videos: when the pool
is made), of several lines of one video the first:

{"video": name, "file", "bytes", "frames", "height", "width", "display", "codec", "rate",
 "first", "digest": see datasets.video.identity.Identity,
 "state": [bytes, times of the last writing and the last change in ns, inode] or null}

A file whose state is unchanged is not opened. The path is not kept: a data folder may move.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path

from claus.artifacts.cycle import Run
from claus.datasets.video.disk_cache import warn_once
from claus.utils.runtime import UserError, append_line, read_json_lines
from claus.utils.shape import amount, misfit

TEXTS = dict.fromkeys(("video", "file", "display", "codec", "rate", "first", "digest"), str)
NUMBERS = dict.fromkeys(("bytes", "frames", "height", "width"), amount)
FIX = "take that line out, then the file is looked at anew"
SHAPE = TEXTS | NUMBERS | {"state": ([int], None)}


class IdentifiedVideos:
    """find_video of a run: the path of the video `name`, once it has proved to be the file
    that the run saw first; UserError where it is another. Each is looked at once a process.

    find_video: name -> path, UserError where there is none. file: see Run.identities.
    record: videos that are not in it are added. others: files of the same form that a video
    must agree with too.
    """

    def __init__(
        self,
        find_video: Callable[[str], Path],
        file: Path,
        *,
        record: bool = True,
        others: Iterable[Path] = (),
    ):
        self.find_video, self.file, self.record = find_video, Path(file), record
        # own lines first: their ending decides which of several files is read
        self.known = [(path, _lines(path)) for path in (self.file, *others)]
        self.checked = {}

    def __call__(self, name: str) -> Path:
        path = self.find_video(name)
        found = self.checked.get(name)
        if found is not None and found.exists():
            return found
        try:
            self.checked[name] = self._checked(name, path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{path}: cannot be looked at: {reason}; put it back") from error
        return self.checked[name]

    def _checked(self, name, path):
        # here, so that runs with ground truth need no video library
        from claus.datasets.video import identity

        entries = [(file, lines[name]) for file, lines in self.known if name in lines]
        records = [(file, json.loads(line)) for file, line in entries]
        if records:
            path = _of_ending(path, records[0][1]["file"])
        now = None
        for file, record in records:
            if record["state"] and record["file"] == path.name:
                if record["state"] == identity.state_of(path):
                    continue
            now = now or _identity(path)
            if now is None:
                return path
            known = identity.Identity(**{name: record[name] for name in _names()})
            changed = identity.changes(known, now)
            if changed:
                raise UserError(_message(path, file, changed, known, now))
        if self.record and name not in self.known[0][1]:
            self._add(name, path, now or _identity(path), first=not records)
        return path

    def _add(self, name, path, now, first):
        """Record a video; first: nothing is known of it, so that its ending is a choice."""
        from claus.datasets.video import identity

        if now is None:
            return
        copies = identity.copies_of(path) if first else ()
        if copies:
            others = ", ".join(copy.name for copy in copies)
            print(
                f"note: {path} is the video {name} of this run; beside it lies {others}, "
                "which is not read",
                file=sys.stderr,
                flush=True,
            )
        record = {"video": name, **asdict(now), "state": identity.state_of(path)}
        line = json.dumps(record)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.file, line)
        except (OSError, UserError) as error:  # the video itself can be read
            warn_once(f"{error}; a later change of the videos would not be noticed")
        self.known[0][1][name] = line.encode()


def of_run(
    run: Run, find_video: Callable[[str], Path], annotations: str | Path | None = None
) -> IdentifiedVideos:
    """The videos of a run, recorded where they are not yet; says so where the run is older
    than identities.jsonl.

    annotations: an annotation file given by hand; where it lies in a run, its videos must be
    that run's, too.
    """
    if not run.identities.exists() and _has_read_videos(run) and _first_process():
        print(
            f"note: {run.folder} has no {run.identities.name}, as it was made before videos "
            "were identified; the files that are read now are recorded as its videos"
        )
    others = _beside(annotations, run.identities) if annotations else []
    return IdentifiedVideos(find_video, run.identities, others=others)


def of_labels(
    run: Run, find_video: Callable[[str], Path], labels: str | Path
) -> IdentifiedVideos:
    """The test videos of a run that is evaluated on the annotation file `labels`. Where that
    lies in a run, they must be that run's.
    """
    others = _beside(labels, run.test_identities)
    return IdentifiedVideos(find_video, run.test_identities, others=others)


def _beside(annotations, own):
    """The identities of the run that an annotation file lies in, but for the file `own`."""
    folder = Path(annotations).resolve().parent
    files = [Run(place).identities for place in (folder, folder.parent)]
    return [file for file in files if file.exists() and file != own.resolve()]


def _has_read_videos(run):
    """Whether a run has files that nothing but reading its videos can have made."""
    made = [path for cycle in run.cycles() for path in (cycle.detector, cycle.features)]
    return run.pool.exists() or any(path.exists() for path in made)


def _first_process():
    return os.environ.get("RANK", "0") == "0"


def _lines(path):
    """{video: its first line}."""
    lines = {}
    if not path.is_file():
        return lines
    for record in read_json_lines(path, FIX, lambda _, record: misfit(record, SHAPE)):
        lines.setdefault(record["video"], json.dumps(record).encode())
    return lines


def _names():
    from claus.datasets.video.identity import Identity

    return [field.name for field in fields(Identity)]


def _of_ending(path, file):
    """The file (or folder, "name/") of that name beside `path`, if there is one."""
    name = file.rstrip("/")
    if not name or "\0" in name or Path(name).name != name:  # a line that was changed by hand
        return path
    known = path.with_name(name)
    there = known.is_dir() if file.endswith("/") else known.is_file()
    return known if there else path


def _identity(path):
    """Identity of a video; None where it cannot be read, which its reader will say better."""
    from claus.datasets.video.identity import identity_of
    from claus.datasets.video.reader import unreadable

    try:
        return identity_of(path)
    except (UserError, *unreadable()):
        return None


def _message(path, file, changed, known, now):
    """One line: which file, what has changed, and the fix."""
    fix = "give the file that was labeled, or start another run"
    if now.digest == known.digest and now.file != known.file:
        fix = f"name it {known.file} again"
    return f"{path}: is not the video that {file} records ({changed}); {fix}"
