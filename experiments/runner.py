"""Runs the cells of an experiment as processes of their own: several at once, each in its
folder, killed or not.

A folder's cell.json says what was run there, and "finished" once it is. The folder is
locked while a process works in it; the process inherits the lock, so that one which
outlives a killed experiments/run.py is waited for, not doubled. A cell whose schedule begins
with that of a finished cell, all else being equal, continues from that one's cycles.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from claus.artifacts.cycle_row import load_seconds
from claus.utils import stopping
from claus.utils.launch import tied
from claus.utils.machine import about_machine
from claus.utils.runtime import link_or_copy, read_json, write_text
from claus.utils.shape import amount, maybe

ROOT = Path(__file__).resolve().parent.parent
# what a second scoring of the same weights needs
CELL = {
    "settings": maybe(dict),
    "commands": maybe([str]),
    "began": maybe((str, None)),
    "machine": maybe(dict),
    "goes_on_from": maybe((str, None)),
    "finished": maybe((str, None)),
    "seconds": maybe((amount, None)),
}
START_FILES = ("annotations.pkl", "detector.pt")


@dataclass(frozen=True)
class Setup:
    """What all cells of a command have in common.

    data, oracle, test_list, split: where videos and ground truth are, see datasets/;
    data_name: of the data set in the table; steps, epochs: of every training; files: folder
    of the cells; train, select, extract, evaluate: more flags of each script, one string
    each.
    """

    dataset: str
    data: str
    oracle: str
    test_list: str | None
    split: int | None
    data_name: str
    model: str
    steps: int
    epochs: int
    files: str
    train: str = ""
    select: str = ""
    extract: str = ""
    evaluate: str = ""


@dataclass
class Task:
    """A folder to fill by commands, once the folder `needs` is finished. settings: what the
    result depends on.

    link: whether the labels and weights of `needs` are taken over before the first command.
    shorter: where the same run would be, or is, with fewer pairs of the schedule, the
    longest first.
    """

    folder: Path
    commands: list
    settings: dict
    needs: Path | None = None
    link: bool = False
    shorter: tuple = ()
    cells: list = field(default_factory=list)
    waited_for: bool = False

    @property
    def finished(self):
        return bool(self.record().get("finished"))

    def record(self):
        return read_record(self.folder)

    def write_record(self, **more):
        old = self.record()
        content = {
            "settings": self.settings,
            "commands": [shlex.join(command) for command in self.commands],
            "began": old.get("began") or time.strftime("%Y-%m-%d %H:%M:%S"),
            "machine": about_machine(),
            "goes_on_from": old.get("goes_on_from"),
            **more,
        }
        write_text(self.folder / "cell.json", json.dumps(content, indent=1) + "\n")


def read_record(folder):
    """The content of cell.json in a folder, {} where there is none."""
    path = folder / "cell.json"
    if not path.exists():
        return {}
    return read_json(path, "remove it, finished parts of the cell are kept", CELL)


# ------------------------------------------------------------------------ what is to be run


def tasks_of(cells, setup):
    """(tasks in the order of the cells, each start before the first that needs it; {cell:
    its task}). Equal runs of several experiments are one.
    """
    tasks, of_cell = {}, {}
    for cell in cells:
        start = (
            None if cell.kind == "alone" else tasks.setdefault(*_keyed(start_task(cell, setup)))
        )
        task = tasks.setdefault(*_keyed(cell_task(cell, start, setup)))
        task.cells.append(cell)
        of_cell[cell] = task
    return list(tasks.values()), of_cell


def _keyed(task):
    return task.folder, task


def start_task(cell, setup):
    """The first cycle that all cells of a seed with this training share, and both its
    pickles.
    """
    settings = shared_settings(cell, setup) | {
        "train": [*train_flags(setup), *cell.train_flags],
        "schedule": cell.schedule.split(",")[0],
    }
    folder = (
        Path(setup.files) / f"start-{cell.semi or cell.loss}-s{cell.seed}-{digest(settings)}"
    )
    cycles = run_cycles(setup, folder, cell, settings["schedule"], settings["train"], [])
    return Task(folder, [cycles, extract(setup, folder, cell, [])], settings)


def cell_task(cell, start, setup):
    """The run of one cell, from its start on."""
    folder, settings = cell_folder(cell, setup)
    if cell.kind == "passes":
        return Task(
            folder,
            pass_commands(cell, folder, setup, settings["other"]),
            settings,
            start.folder,
            link=True,
        )
    command = run_cycles(
        setup, folder, cell, cell.schedule, settings["train"], cell.select_flags
    )
    if start:
        command += ["--start-from", str(start.folder)]
    pairs = cell.schedule.split(",")
    fewest = 2 if start else 1  # with a start, its cycle alone is no run of this cell
    shorter = (
        replace(cell, schedule=",".join(pairs[:count]))
        for count in range(len(pairs) - 1, fewest - 1, -1)
    )
    return Task(
        folder,
        [command],
        settings,
        start and start.folder,
        shorter=tuple(cell_folder(cell, setup)[0] for cell in shorter),
    )


def cell_folder(cell, setup):
    """(folder of a cell, all that its result depends on)."""
    settings = shared_settings(cell, setup) | {
        "train": [*train_flags(setup), *cell.train_flags],
        "schedule": cell.schedule,
        "kind": cell.kind,
        "rule": cell.select_flags,
    }
    if cell.kind == "passes":
        settings |= {"passes": list(cell.extract), "other": "other passes" in cell.variant}
    name = "-".join(
        [
            cell.method.replace("+", "-"),
            *[
                word
                for word, usual in ((cell.strategy, "hybrid"), (cell.increment, "samples"))
                if word != usual
            ],
            cell.semi or cell.loss,
        ]
    )
    return Path(setup.files) / f"{name}-s{cell.seed}-{digest(settings)}", settings


def pass_commands(cell, folder, setup, other):
    """Score the start's weights with the cell's number of passes, and choose by that. No
    truth is needed.
    """
    from claus.experiments.grids import OTHER_PASSES

    flags = [*cell.extract, *(["--seed", str(cell.seed + OTHER_PASSES)] if other else [])]
    select = [
        sys.executable,
        str(ROOT / "claus_select.py"),
        "--run",
        str(folder),
        "--cycle",
        "1",
        "--dataset",
        setup.dataset,
        "--schedule",
        cell.schedule,
        *cell.select_flags,
        *shlex.split(setup.select),
    ]
    return [extract(setup, folder, cell, flags), select]


def shared_settings(cell, setup):
    """What every result of a seed depends on, whatever the rule."""
    semi = {"semi": cell.semi} if cell.semi else {}
    return semi | {
        "dataset": setup.dataset,
        "oracle": setup.oracle,
        "test_list": setup.test_list,
        "split": setup.split,
        "seed": cell.seed,
        "select": shlex.split(setup.select),
        "extract": shlex.split(setup.extract),
        "evaluate": shlex.split(setup.evaluate),
    }


def train_flags(setup):
    """The same network and the same number of optimizer steps for every run."""
    return [
        "--model",
        setup.model,
        "--steps",
        str(setup.steps),
        "--epochs",
        str(setup.epochs),
        *shlex.split(setup.train),
    ]


def run_cycles(setup, folder, cell, schedule, train, select):
    """The command line of a run. The folder is given with a separator, so that it is taken
    as a path.
    """
    truth = ["--test-list", setup.test_list] if setup.test_list else []
    truth += ["--split", str(setup.split)] if setup.split is not None else []
    truth += ["--semi", cell.semi] if cell.semi else []
    more = [
        flag
        for name, words in (
            ("train", train),
            ("select", [*select, *shlex.split(setup.select)]),
            ("extract", shlex.split(setup.extract)),
            ("evaluate", shlex.split(setup.evaluate)),
        )
        if words
        for flag in [f"--{name}={shlex.join(words)}"]
    ]
    return [
        sys.executable,
        str(ROOT / "run_cycles.py"),
        "--run",
        str(folder),
        "--dataset",
        setup.dataset,
        "--oracle",
        setup.oracle,
        *truth,
        *(["--data", setup.data] if setup.data else []),
        "--seed",
        str(cell.seed),
        *(["--schedule", schedule] if schedule else []),
        "--cycles",
        str(schedule.count(",") + 1),
        *more,
    ]


def extract(setup, folder, cell, flags):
    return [
        sys.executable,
        str(ROOT / "cluster_extract.py"),
        "--run",
        str(folder),
        "--cycle",
        "0",
        "--dataset",
        setup.dataset,
        *(["--data", setup.data] if setup.data else []),
        "--seed",
        str(cell.seed),
        *shlex.split(setup.extract),
        *flags,
    ]


def with_device(command, device):
    """The command line as it is run: with --device, for the steps that compute with one."""
    return (
        [*command, "--device", device]
        if device and Path(command[1]).name != "claus_select.py"
        else command
    )


def digest(settings):
    """Eight hex digits that change with the settings: two runs that would differ never
    share a folder.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


# ---------------------------------------------------------------------------------- running


def run_tasks(tasks, jobs, devices, on_finished, threads=None):
    """Run what is not finished, `jobs` at once, the devices in turn -> {folder: reason} of
    what failed.

    on_finished(task) is called after each. A failed task's dependants are not tried; the
    others go on. threads: of each (default: OMP_NUM_THREADS, else the cores shared out).
    """
    waiting = [task for task in tasks if not task.finished]
    free = [devices[slot % len(devices)] for slot in range(jobs)]
    running, failed = [], {}
    bar = tqdm(
        total=len(tasks),
        initial=len(tasks) - len(waiting),
        desc="cells",
        unit="cell",
        disable=None,
    )
    with contextlib.ExitStack() as stack:
        tie = stack.enter_context(tied())
        stack.callback(bar.close)
        stack.callback(end_all, running)
        while waiting or running:
            for process in [process for process in running if process.over()]:
                running.remove(process)
                free.append(process.device)
                bar.update()
                if process.error:
                    failed[process.task.folder] = process.error
                    tqdm.write(f"failed: {process.task.folder.name}: {process.error}")
                else:
                    tqdm.write(f"finished {process.task.folder.name}")
                    on_finished(process.task)
            start_ready(waiting, running, free, failed, (jobs, threads, tie), on_finished)
            time.sleep(0.1)
    return failed


def end_all(running):
    """End the processes under way, as after Ctrl-C."""
    with stopping.cleaning_up():
        for process in running:
            process.signal(signal.SIGTERM)
        for process in running:
            process.wait()


def start_ready(waiting, running, free, failed, share, on_finished):
    """Start waiting tasks whose start is finished while there is room; drop those whose
    start has failed. share: (tasks at once, threads of each or
    None, what ties a process to this one).
    """
    busy = {process.task.folder for process in running}
    unfinished = {task.folder for task in waiting} | busy
    for task in list(waiting):
        if task.needs in failed:
            waiting.remove(task)
            failed[task.folder] = f"its start {task.needs.name} failed"
        elif free and task.needs not in unfinished:
            lock = locked(task.folder)
            if lock is None:
                if not task.waited_for:
                    tqdm.write(f"waiting for {task.folder}, where another process is at work")
                task.waited_for = True
                continue
            waiting.remove(task)
            if task.finished:  # it has just been finished there
                os.close(lock)
                on_finished(task)
                continue
            try:
                running.append(Process(task, lock, free.pop(0), *share))
            except BaseException:
                os.close(lock)
                raise


def locked(folder):
    """A descriptor that holds the folder's lock, or None where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


class Process:
    """A task under way: its commands one after the other, what they print in the folder's
    log.txt.
    """

    def __init__(self, task, lock, device, jobs, threads=None, tie=None):
        self.task, self.lock, self.device, self.error = task, lock, device, None
        even = str(max(1, cores() // jobs))
        environment, self.pipe = tie or (os.environ, None)
        self.environment = {"OMP_NUM_THREADS": even, **environment}
        if threads:
            self.environment["OMP_NUM_THREADS"] = str(threads)
        self.began = time.perf_counter()
        self.left = list(task.commands)
        task.write_record(finished=None)
        if task.link:
            take_over(task.needs / "cycle0", task.folder / "cycle0")
        go_on_from_shorter(task)
        self.next()

    def next(self):
        command = with_device(self.left.pop(0), self.device)
        with open(self.task.folder / "log.txt", "ab") as log:
            log.write(f"\n$ {shlex.join(command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                pass_fds=[fd for fd in (self.lock, self.pipe) if fd is not None],
                start_new_session=True,
            )

    def over(self):
        """Whether the last command has ended; starts the next one where one has."""
        status = self.process.poll()
        if status is None:
            return False
        if status == 0 and self.left:
            self.next()
            return False
        if status == 0:
            self.task.write_record(
                finished=time.strftime("%Y-%m-%d %H:%M:%S"),
                seconds=round(time.perf_counter() - self.began, 1),
            )
        else:
            log = self.task.folder / "log.txt"
            self.error = f"{last_line(log)} (status {status}, {log})"
        os.close(self.lock)
        return True

    def signal(self, number):
        """To the process and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self):
        """Until it has ended as after Ctrl-C; what does not is killed."""
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.lock)


def cores():
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take_over(source, target):
    """Labels and weights of a start, as links where the disk allows it."""
    for name in START_FILES:
        if not (target / name).exists():
            link_or_copy(source / name, target / name)


def go_on_from_shorter(task):
    """Take over the cycles of the longest finished run that this one continues, unless it
    has begun by itself.
    """
    if (task.folder / "run.json").exists():
        return
    for folder in task.shorter:
        if not read_record(folder).get("finished"):
            continue
        for path in [
            *folder.glob("start.json"),
            *folder.glob("cycle*/**/*"),
        ]:  # the rest is made again, or added to
            if path.is_file():
                link_or_copy(path, task.folder / path.relative_to(folder))
        task.write_record(finished=None, goes_on_from=str(folder))
        # the last: now the run has these cycles
        link_or_copy(folder / "run.json", task.folder / "run.json")
        return


def last_line(path):
    """The last line of a log that says something, with the one before where it speaks of
    that.
    """
    lines = [
        line
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    above = lines[-2:-1] if lines and "the line above is about" in lines[-1] else []
    return "; ".join(line.strip()[-300:] for line in [*above, *lines[-1:]]) or "no output"


# --------------------------------------------------------------------------------- how long


def seconds_of(folder):
    """Seconds of each cycle of a run, cycle 0 first, by its seconds.json files."""
    paths = sorted(
        (
            path
            for path in folder.glob("cycle*/seconds.json")
            if path.parent.name[5:].isdecimal()
        ),
        key=lambda path: int(path.parent.name[5:]),
    )
    return [sum(load_seconds(path).values()) for path in paths]


def estimate(tasks, jobs):
    """Seconds for what is not finished, and how many finished tasks that rests on; (None,
    0) where nothing is known.

    A cycle is taken to last as long as the mean of those already run; a scoring with other
    passes likewise.
    """
    known, left = {True: [], False: []}, {True: 0, False: 0}
    for task in tasks:
        if not task.finished:
            trainings = task.settings["schedule"].count(",") + (task.needs is None)
            folders = [
                task.folder,
                *(folder for folder in task.shorter if read_record(folder).get("finished")),
            ]
            done = max(
                0, max(len(seconds_of(folder)) for folder in folders) - (task.needs is not None)
            )
            left[task.link] += 1 if task.link else max(1, trainings - done)
        elif task.link:
            known[True].append(task.record().get("seconds") or 0)
        else:
            known[False] += seconds_of(task.folder)[task.needs is not None :]
    if any(left[kind] and not known[kind] for kind in left):
        return None, 0
    seconds = sum(
        left[kind] * sum(known[kind]) / len(known[kind]) for kind in left if left[kind]
    )
    return seconds / jobs, sum(task.finished for task in tasks)
