"""Scoring on a Ray cluster: a pool of actors, each with its network and its own log, takes
blocks of videos.

Numbers of videos travel, nothing else: every actor reads the detector and the videos by
itself and appends to a log of the run folder, which all machines see at the same path. A
video is scored by what scores it in a single process, so the results are the same bytes,
whoever scores it. An actor or a machine that is lost costs the blocks it was at: another
actor does them. Where the driver is lost, the same command resumes from the logs.
"""

import contextlib
import importlib.metadata
import importlib.util
import logging
import math
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import claus.utils.startup  # noqa: F401  before torch, in an actor
from claus.artifacts.cycle import Cycle
from claus.artifacts.part_log import PartLog
from claus.datasets import table
from claus.flags.scoring import RaySettings, ScoringSettings
from claus.utils import progress
from claus.utils.runtime import UserError, machine, open_temporary, processes_started

OBJECTS = 100 << 20  # bytes of shared memory of a cluster started here: blocks are numbers
LARGEST_BLOCK = 64
MOST_CPUS = 9  # beside a GPU: one that computes, 8 that decode
TRIES = 3  # times that a block is begun; Ray gives it out again when its actor is lost
TRIED = ".tries"  # ends the name of a file with a byte for each
PATIENCE = 120.0  # seconds in which a machine has to answer
SEEN = 60.0  # seconds after which a new file has to be seen everywhere
CURRENT = Path("/tmp/ray/ray_current_cluster")  # the address that Ray's "auto" reads
PACKAGES = ("torch", "numpy", "av")  # whose versions decide what the scores are


@dataclass(frozen=True)
class Plan:
    """Who scores: `actors` processes of `cpus` processors and `gpus` GPUs each, on `device`,
    with `workers` decoding processes; `block` videos are given out at once.
    """

    actors: int
    cpus: int
    gpus: float
    device: str
    workers: int
    block: int


def check_installed() -> None:
    """UserError where Ray is missing, or several processes were started."""
    if processes_started() > 1:
        raise UserError("--ray starts its processes itself; start the script without torchrun")
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")):
        raise UserError("--ray needs Ray, which is not installed: pip install '.[ray]'")


def extract(
    settings: ScoringSettings,
    cycle: Cycle,
    parts: Path,
    left: list[int],
    names: list[str],
    make_scorer: Callable,
) -> dict[str, int]:
    """Score the videos of these numbers and names on the cluster of settings.ray -> {name of
    a log in `parts`: its size}, so that it can be waited for.

    make_scorer: function of a module, (settings, cycle, parts) -> function (log, numbers)
    that scores videos; called in each actor. UserError where a machine does not see the
    files, or videos cannot be scored.
    """
    if not left:
        return {}
    with joined(settings.ray, settings.device) as ray, token(cycle.folder) as mark:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        plan = plan_for(nodes, settings, len(left))
        able = [node for node in nodes if holds(node, plan)]
        print(
            f"{counted(plan.actors, 'actor')} on {counted(len(able), 'machine')}, "
            f"{counted(plan.block, 'video')} a block, on {plan.device}"
        )
        paths = Paths.of(mark, a_video(names, settings), settings)
        check_machines(ray, able, paths)
        actor = replace(settings, device=plan.device, workers=plan.workers, ray=None)
        about = (asdict(actor), paths, os.fspath(parts), make_scorer, plan.cpus)
        names = dict(zip(left, names, strict=True))
        written = {}
        with tqdm(total=len(left), desc="score", unit="video", disable=None) as bar:
            for block in (plan.block, 1):  # the second time, what has lost its actors
                results = scored(ray, [*names], replace(plan, block=block), parts, about)
                for numbers, log, size in results:
                    for number in numbers:
                        del names[number]
                    written[log] = max(size, written.get(log, 0))
                    bar.update(len(numbers))
                    progress.tell(bar.n, len(left))
    if names:
        raise UserError(
            f"{counted(len(names), 'video')} of {len(left)} not scored, the first "
            f"{next(iter(names.values()))}: each time the process that tried ended without a "
            "word (killed, out of memory, or a crash while decoding); run the same command to "
            "resume"
        )
    return written


def counted(number: int, what: str) -> str:
    """ "1 actor", "2 actors"."""
    return f"{number} {what}{'s' * (number != 1)}"


# ----------------------------------------------------------------------------- the cluster


@contextlib.contextmanager
def joined(settings: RaySettings, device: str = "") -> Iterator:
    """The module ray, connected to a cluster for the block. UserError where there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is lost is done again
    import ray

    start = {}
    if settings.address == "local":
        start = {"include_dashboard": False, "object_store_memory": OBJECTS}
        if settings.actors and (not device or device == "cpu"):
            start["num_cpus"] = max(os.cpu_count(), settings.actors * (settings.cpus or 1))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        answers(settings.address)
        ray.init(
            address=settings.address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **start,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"no Ray cluster at {settings.address} to which this machine belongs "
            f"({str(error).splitlines()[0]}); start it with: ray start --head, and on the "
            "other machines: ray start --address=HOST:6379"
        ) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def answers(address: str) -> None:
    """OSError where nothing listens at the address: Ray would look for it for many minutes."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
        with contextlib.suppress(OSError):
            address = address or CURRENT.read_text().strip()
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def plan_for(nodes: Iterable[Mapping], settings: ScoringSettings, videos: int) -> Plan:
    """Who scores so many videos on machines as ray.nodes() describes them; what the settings
    leave open follows from their resources. UserError where no machine can.
    """
    asked = settings.ray
    resources = [node["Resources"] for node in nodes]
    cards = sum(int(have.get("GPU", 0)) for have in resources)
    if settings.device == "cuda" and not cards:
        raise UserError("--device cuda: no machine of the Ray cluster has a GPU; leave it out")
    if cards and settings.device != "cpu":
        actors = asked.actors or cards
        shared = math.ceil(actors / cards)  # actors a GPU
        gpus, device = 1 / shared, "cuda"
        shares = [have["CPU"] // (have["GPU"] * shared) for have in resources if _both(have)]
        cpus = asked.cpus or max(1, min(MOST_CPUS, *map(int, shares or [1])))
    else:
        cpus, gpus, device = asked.cpus or 1, 0.0, "cpu"
        actors = asked.actors or sum(int(have.get("CPU", 0)) // cpus for have in resources)
    block = asked.block or max(1, min(LARGEST_BLOCK, math.ceil(videos / (8 * max(actors, 1)))))
    workers = settings.workers
    if workers is None:
        workers = cpus - 1 if device == "cuda" else 0
    plan = Plan(
        min(max(actors, 1), math.ceil(videos / block)), cpus, gpus, device, workers, block
    )
    if not any(holds({"Resources": have}, plan) for have in resources):
        raise UserError(
            f"no machine of the Ray cluster has {cpus} processors{' and a GPU' * bool(gpus)} "
            "for an actor; lower --ray-cpus"
        )
    return plan


def _both(have):
    return have.get("GPU", 0) >= 1 and have.get("CPU", 0) >= 1


def holds(node: Mapping, plan: Plan) -> bool:
    """Whether a machine has what one actor takes."""
    have = node["Resources"]
    return have.get("CPU", 0) >= plan.cpus and have.get("GPU", 0) >= plan.gpus


# ---------------------------------------------------------------------- the shared storage


@dataclass(frozen=True)
class Paths:
    """What every machine must see, at the same paths as the driver."""

    start: str  # the driver's working folder, where relative paths begin
    relative: bool  # whether there are any
    token: str  # a file of the run folder, and what is in it
    text: str
    sample: str | None  # a video, and its bytes (of a folder: None)
    size: int | None
    versions: dict[str, str]
    patience: float = SEEN

    @classmethod
    def of(cls, mark: tuple[Path, str], sample: Path | None, settings) -> "Paths":
        """As they are here."""
        path, text = mark
        given = [path, settings.data, *filter(None, [settings.cache_dir])]
        size = sample.stat().st_size if sample and sample.is_file() else None
        return cls(
            os.getcwd(),
            not all(os.path.isabs(place) for place in given),
            os.fspath(path),
            text,
            sample and os.fspath(sample),
            size,
            versions(),
        )

    def problem(self) -> str:
        """What this machine does not see of them; "" if it sees all."""
        if os.path.isdir(self.start):
            os.chdir(self.start)
        elif self.relative:
            return (
                f"no folder {self.start}, where relative paths begin; give absolute ones to "
                "--files and --data, or mount it there"
            )
        ends = time.monotonic() + self.patience
        while not self._token_is_here():
            if time.monotonic() >= ends:
                folder = os.path.dirname(self.token)
                return (
                    f"not the run folder {folder} of the driver; mount the same storage there"
                )
            time.sleep(min(1, self.patience))
        if self.sample is not None and not self._sample_is_here():
            return f"no {self.sample}, or another one; mount the same videos there"
        other = {name: now for name, now in versions().items() if now != self.versions[name]}
        if other:
            name, now = next(iter(other.items()))
            return (
                f"{name} {now or 'missing'} where the driver has {self.versions[name]}, so that "
                "scores would differ; install the same versions"
            )
        return ""

    def _token_is_here(self):
        try:
            return Path(self.token).read_text() == self.text
        except OSError:
            return False

    def _sample_is_here(self):
        try:
            there = os.stat(self.sample)
        except OSError:
            return False
        return self.size is None or there.st_size == self.size


def a_video(names: list[str], settings: ScoringSettings) -> Path | None:
    """The path of one of the videos, None where none of the first few is there."""
    find_video = table.video_finder(settings.dataset, settings.data)
    for name in names[:20]:
        with contextlib.suppress(UserError):
            return find_video(name)
    return None


def versions() -> dict[str, str]:
    """{package: version} of what decides the scores; "" where it is not installed."""
    found = {}
    for name in PACKAGES:
        found[name] = ""
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def token(folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, text) of a file that is in a folder for the block, and there alone."""
    descriptor, name = open_temporary(folder / "ray")
    try:
        text = f"{name} {time.time_ns()}"
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # Ray may run as somebody else there
        yield Path(name), text
    finally:
        Path(name).unlink(missing_ok=True)


def check_machines(ray, nodes: Iterable[Mapping], paths: Paths) -> None:
    """Have every machine look for the paths. UserError in one line, naming the first that
    does not see them.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(paths_problem)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = look.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[options.remote(paths)] = f"{node['NodeManagerHostname']} ({node['NodeName']})"
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
    for answer in answered:
        try:
            problem = ray.get(answer)
        except Exception as error:
            problem = f"cannot run this program ({_last_line(str(error))}); install it there"
        if problem:
            raise UserError(f"machine {asked[answer]} of the Ray cluster: {problem}")
    if silent:
        raise UserError(
            f"machine {asked[silent[0]]} of the Ray cluster gives no answer for "
            f"{PATIENCE:.0f} s; take it out of the cluster, or start Ray on it again"
        )


def paths_problem(paths: Paths) -> str:
    """Paths.problem, as a task for a machine."""
    return paths.problem()


# --------------------------------------------------------------------------------- scoring


def scored(
    ray, left: list[int], plan: Plan, parts: Path, about
) -> Iterator[tuple[list[int], str, int]]:
    """Give out blocks of videos -> (numbers, log, its size) of each as it is done; those that
    lost their actors TRIES times are left out. UserError where an actor has failed.

    about: of Scorer.
    """
    if not left:
        return
    for path in parts.glob(f"*{TRIED}"):  # of an earlier start
        path.unlink(missing_ok=True)
    from ray import data

    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        # places in `left`, which go from Ray to the actors without the driver
        places = data.range(len(left), override_num_blocks=math.ceil(len(left) / plan.block))
        results = places.map_batches(
            Scorer,
            batch_size=None,
            compute=data.ActorPoolStrategy(size=plan.actors, max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(np.array(left), *about),
            num_cpus=plan.cpus,
            num_gpus=plan.gpus,
        )
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
            problem = next(filter(None, batch["problem"]), "")
            if problem:
                raise UserError(problem)
            for log in set(filter(None, batch["log"])):
                mine = batch["log"] == log
                yield batch["number"][mine].tolist(), str(log), int(batch["size"][mine].max())
    except ray.exceptions.RayError as error:
        raise UserError(
            f"Ray has given up ({_last_line(str(error))}); finished videos are kept, run the "
            "same command to resume"
        ) from error


class Scorer:
    """An actor: scores blocks of videos with a network that it loads for the first one. What
    goes wrong is told in its rows.
    """

    def __init__(
        self, left: np.ndarray, plain: dict, paths: Paths, parts: str, make_scorer, cpus: int
    ):
        """left: numbers of all videos that are given out · plain: ScoringSettings as a dict ·
        make_scorer: see extract.
        """
        self.left, self.settings = left, ScoringSettings(**plain)
        self.paths, self.parts, self.make_scorer = paths, Path(parts), make_scorer
        self.cpus, self.score, self.log = cpus, None, None

    def __call__(self, batch: Mapping) -> dict:
        """{"id"}, places of videos in `left` -> {"number", "log", "size", "problem"} of each;
        log: "" where they were not scored.
        """
        problem, log, numbers = "", None, self.left[batch["id"]].tolist()
        try:
            if self.score is None:
                self.begin()
            log = self.log
            if not self.try_block(numbers):
                log = None
        except UserError as error:
            problem = str(error)
        except Exception as error:
            traceback.print_exc()
            problem = (
                f"an actor on {socket.gethostname()} has failed "
                f"({type(error).__name__}: {_last_line(str(error))}), see its log in "
                "/tmp/ray/session_latest/logs there; run the same command to resume"
            )
        name, size = (log.path.name, log.size()) if log else ("", 0)
        columns = {"log": name, "size": size, "problem": problem}
        return {"number": numbers} | {key: [it] * len(numbers) for key, it in columns.items()}

    def try_block(self, numbers: list[int]) -> bool:
        """Score videos; not, and False, where their actors have been lost too often."""
        path = self.parts / f"{numbers[0]}-{len(numbers)}{TRIED}"
        with open(path, "ab") as file:
            if file.tell() >= TRIES:
                return False
            file.write(b"x")
        self.score(self.log, numbers)
        self.log.sync()
        path.unlink(missing_ok=True)
        return True

    def begin(self):
        """Load the network and begin a log."""
        problem = self.paths.problem()
        if problem:
            raise UserError(f"machine {socket.gethostname()} of the Ray cluster: {problem}")
        import torch

        torch.set_num_threads(self.cpus)
        cycle = Cycle.of(self.settings.run, self.settings.cycle, self.settings.files)
        score = self.make_scorer(self.settings, cycle, self.parts)
        worker = f"ray-{machine()}-{os.getpid()}"
        self.log = PartLog(self.parts, worker, self.parts.name)
        self.score = score


def _last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
