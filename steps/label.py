"""The labeling page of a run: from the request that waits to the journals of those who
label, and the machine's part in between. label.py says which files are read and written.
"""

import contextlib
import csv
import fcntl
import json
import os
import re
import secrets
import sys
import threading
import webbrowser
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from claus.annotators import journal, proposals
from claus.annotators.actors import actors_in
from claus.annotators.form import FORMAT, VERSION, read_form, write_form
from claus.annotators.page import machine
from claus.annotators.page.desk import Desk, place_in, segments_text
from claus.annotators.page.pictures import THUMB, Pictures
from claus.annotators.page.server import PageServer
from claus.artifacts import identities
from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.ledger import Prices, write_ledger
from claus.artifacts.selection_file import load_selection
from claus.datasets import table
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations
from claus.flags.label import LabelSettings
from claus.steps.run_state import flag
from claus.utils.runtime import UserError, atomic_write, read_json, sweep, write_text
from claus.utils.shape import amount, maybe, misfit, share, whole

ANSWERS, LOOK = 0, 1  # the two desks
LOOKS = 20  # labels of a second look


def a_port(value: object) -> bool:
    """Whether it is the number of a port."""
    return whole(value) and 0 < value < 2**16


def a_key(value: object) -> bool:
    """Whether it is a key of the page, which stands in addresses."""
    return isinstance(value, str) and bool(re.fullmatch(r"[\w-]{20,}", value, re.ASCII))


LABEL_PAGE = {
    "key": maybe(a_key),
    "port": maybe(a_port),
    "dataset": maybe(lambda name: isinstance(name, str) and name in table.DATASETS),
    "data": maybe(str),
}
REVIEW = [{"video": str, "frame": whole, "why": str, "iou": share}]
SCORE = maybe((amount, None))
CURVE = {
    "points": [{"frames": whole, "score": SCORE, "low": SCORE, "high": SCORE}],
    "next": ({"frames": whole, "low": amount, "high": amount}, None),
    "source": (str, None),
    "message": str,
}


def run(settings: LabelSettings) -> int:
    """Serve the page until it is stopped -> exit status."""
    place = Run.of(settings.run, settings.files)
    known = known_before(place)
    journal.annotator_name(settings.who)
    app = LabelApp(settings, place, known)
    if settings.agreement:
        print_agreement(app)
        return 0
    with one_server(place, known):
        return serve(settings, place, known, app)


def serve(settings: LabelSettings, place: Run, known: Mapping, app: "LabelApp") -> int:
    """Open the port, say where, and answer until Ctrl-C."""
    key = known.get("key") or secrets.token_urlsafe(24)
    server = open_port(app, key, settings, known)
    app.remember({"key": key, "port": server.port})
    desk = app.desks[ANSWERS]
    if desk is not None:
        videos = len(desk.videos)
        print(f"cycle {app.cycle.number} of {place.name}: {len(desk.items)} frames", end="")
        print(f" of {videos} video{'s' * (videos != 1)} to label")
    print(f"open {server.address()}")
    print("another person: the same address with &who=NAME; stop with Ctrl-C", flush=True)
    if settings.browser:
        threading.Thread(
            target=open_browser, args=(server.address(settings.who),), daemon=True
        ).start()
    try:
        server.serve_forever(0.2)
    finally:
        server.server_close()
        if settings.twice:
            print_agreement(app)
    return 0


def open_port(app, key, settings, known):
    """A PageServer at the port that was asked for, else that of the last time, else any."""
    if settings.port:
        try:
            return PageServer(app, key, settings.who, settings.port)
        except OSError as error:
            raise UserError(
                f"port {settings.port} cannot be opened ({error.strerror.lower()}); give "
                "another --port"
            ) from error
    with contextlib.suppress(OSError):
        return PageServer(app, key, settings.who, int(known.get("port") or 0))
    return PageServer(app, key, settings.who)


def open_browser(address: str) -> None:
    """Open the page where this machine has a screen."""
    if (
        sys.platform == "darwin"
        or os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
    ):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)


@contextlib.contextmanager
def one_server(place: Run, known: Mapping):
    """Inside, no other label.py serves this run: their leases would not know of each other."""
    place.folder.mkdir(parents=True, exist_ok=True)
    with open(place.label_page.with_suffix(".lock"), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            where = f": http://127.0.0.1:{known.get('port')}/?key={known.get('key')}&who=NAME"
            where = where if known.get("port") else "; its address stands where it was started"
            raise UserError(f"this run's page is open already{where}") from error
        except OSError:  # a file system without locks
            pass
        sweep(place.folder, deep=True)  # of a server that was killed
        yield


def known_before(place: Run) -> dict:
    """Key, port and videos of the last time; {} where there was none."""
    if not place.label_page.exists():
        return {}
    return read_json(place.label_page, "remove it", LABEL_PAGE)


def waiting_cycle(place: Run) -> Cycle:
    """The last cycle that people were asked to label; UserError where there is none."""
    found = sorted(place.folder.glob("cycle*/request.json"))
    numbers = [int(path.parent.name[5:]) for path in found if path.parent.name[5:].isdigit()]
    if not numbers:
        raise UserError(
            f"{place.folder}: nothing is asked for: choose frames first, with "
            f"claus_select.py {flag('run', place.name)} --cycle 0"
        )
    return place.cycle(max(numbers))


# ---------------------------------------------------------------------------------- the app


class LabelApp:
    """What the page asks for and does, see annotators.page.server.App. One request at a time
    changes or reads the desks; pictures have a lock of their own.
    """

    def __init__(self, settings: LabelSettings, place: Run, known: Mapping):
        self.settings, self.place, self.known = settings, place, dict(known)
        self.lock = threading.RLock()
        self.cycle = (
            waiting_cycle(place) if settings.cycle is None else place.cycle(settings.cycle)
        )
        request = read_form(self.cycle.request)
        self.dataset = settings.dataset or known.get("dataset") or dataset_of(request)
        self.data = settings.data or known.get("data") or table.data_folder(self.dataset)
        find_video = table.video_finder(self.dataset, self.data)
        find_video = identities.of_run(place, find_video)
        self._check_videos(request, find_video)
        self.remember({"dataset": self.dataset, "data": self.data})
        self.pictures = Pictures(find_video, place.cache)
        self.open_desks(request)

    def _check_videos(self, request, find_video):
        """UserError where the first video is not found: --data is wrong."""
        for entry in request["videos"][:1]:
            segment = entry.get("segment") or {}
            find_video(segment.get("video", entry["video"]))

    def remember(self, more: Mapping) -> None:
        """Keep key, port and videos for the next time, readable by this user alone."""
        self.known |= more
        with atomic_write(self.place.label_page, "w") as file:
            json.dump(self.known, file)
        self.place.label_page.chmod(0o600)

    def open_desks(self, request: Mapping | None = None) -> None:
        """Open the cycle's request, and the labels for a second look."""
        request = request or read_form(self.cycle.request)
        self.desks = [
            answers_desk(self.cycle, request, self.settings),
            look_desk(self.place),
        ]

    def desk(self, number: int) -> Desk:
        if number not in (ANSWERS, LOOK) or self.desks[number] is None:
            raise UserError("there are no labels for a second look")
        return self.desks[number]

    # ------------------------------------------------------------------------ what is asked

    def view(self, who: str, desk: int) -> dict:
        """All that the page begins with."""
        with self.lock:
            return {**self.desk(desk).view(who), **self._about()}

    def poll(self, who: str, desk: int) -> dict:
        """What may have changed since."""
        with self.lock:
            return {**self.desk(desk).poll(who), **self._about()}

    def _about(self):
        """What is the same for everybody: the machine, the curve, what else there is."""
        latest = waiting_cycle(self.place).number
        return {
            "newer": latest if latest > self.cycle.number else None,
            "labeled": self.cycle.annotations.exists(),
            "machine": machine.status(self.place),
            "curve": read_curve(self.place),
            "looks": len(self.desks[LOOK].items) if self.desks[LOOK] else 0,
            "test_set": self.settings.test_set,
        }

    def picture(self, desk: int, video: int, frame: int, size: int) -> bytes:
        """A frame of the file as JPEG; UserError where it is none."""
        with self.lock:
            videos = self.desk(desk).videos
            entry = videos[place_in(videos, video)]
        if not 0 <= frame < entry.file_frames or not 0 <= size <= THUMB:
            raise UserError(f"{entry.name} has no frame {frame}")
        return self.pictures.jpeg(entry, frame, size)

    def seconds(self, desk: int, video: int) -> dict:
        """When the frames of a video's file are shown."""
        with self.lock:
            videos = self.desk(desk).videos
            entry = videos[place_in(videos, video)]
        return {"seconds": self.pictures.seconds(entry)}

    # ------------------------------------------------------------------------- what is done

    def act(self, who: str, desk: int, entry: dict) -> dict:
        """Do what the page says; its "do" names it."""
        with self.lock:
            do, known = entry.get("do"), self.desk(desk)
            if do == "lease":
                number = place_in(known.items, entry.get("item"))
                return {"holder": known.lease(number, who), **known.row(number, who)}
            if do == "start":
                return self.start()
            if do == "newest":
                self.cycle = waiting_cycle(self.place)
                self.open_desks()
                return {}
            if entry.get("stamp") != known.stamp:
                raise UserError("this frame is of another cycle; load the page again")
            if known.kind == "answers" and do != "segments" and self.cycle.annotations.exists():
                raise UserError(
                    "the labels of this cycle have been taken in; a second look (L) corrects them"
                )
            known.step(who, entry)
            if do == "segments":
                write_text(self.place.segments, segments_text(known.all_segments()))
            if known.kind == "answers" and do != "segments":
                self.write_answers()
            return {"ok": True, **known.stats(who)}

    def write_answers(self) -> None:
        """The form as it is filled in so far."""
        desk = self.desks[ANSWERS]
        write_form(self.cycle.page_answers, journal.fill_in(desk.works.values(), desk.request))

    def start(self) -> dict:
        """Start the machine's part."""
        self.write_answers()
        machine.start(self.place, machine_commands(self))
        return {"ok": True}


def machine_commands(app: LabelApp) -> list[list[str]]:
    """What the machine does with the labels, a list of words each."""
    folder = str(app.place.folder.resolve())  # the process works in another folder
    run = ["--run", folder, "--data", str(Path(app.data).resolve()), "--dataset", app.dataset]
    return [[sys.executable, str(machine.ROOT / "run_cycles.py"), *run, "--enough"]]


def dataset_of(request: Mapping) -> str:
    """The data set of a request, where nothing else says: that whose answers it asks for."""
    masks = request.get("answer_with") == "masks"
    return "jhmdb" if masks else "ucf101"


# ---------------------------------------------------------------------------------- desks


def answers_desk(cycle: Cycle, request: Mapping, settings: LabelSettings) -> Desk:
    """The desk of a cycle's request."""
    before = cycle.before().annotations if cycle.number else cycle.run.pool
    labels = annotation_file.load(before)
    check_videos_known(request, labels, cycle)
    spent = Fraction(0)
    if cycle.number:
        rows = write_ledger(cycle.run)
        spent = sum((Fraction(row["cost"]) for row in rows[: cycle.number]), Fraction(0))
    prices = Prices()
    if cycle.selection.exists():
        prices = Prices(**load_selection(cycle.selection)["prices"])
    return Desk(
        "answers",
        request,
        labels,
        cycle.journal,
        settings.twice,
        prices,
        spent,
        {} if settings.test_set else read_proposals(cycle),
    )


def check_videos_known(request: Mapping, labels: Annotations, cycle: Cycle) -> None:
    """UserError where a request names a video that the run does not have."""
    for entry in request["videos"]:
        if entry["video"] not in labels.videos:
            raise UserError(
                f"{cycle.request}: video {entry['video']} is not in the run; choose again with "
                "claus_select.py --force"
            )


def read_proposals(cycle: Cycle) -> dict:
    """{video: {frame: [{"box" or "rle", "class", "score"}]}} of the detector before, {}
    where it left none.
    """
    places = [cycle.before(), cycle] if cycle.number else [cycle]
    for place in places:
        if place.proposals.exists():
            return proposals.read_proposals(place.proposals)
    return {}


def look_desk(place: Run) -> Desk | None:
    """The desk of the labels that the detector disagrees with most; None without any."""
    cycles = [cycle for cycle in place.cycles() if cycle.review.exists()]
    if not cycles:
        return None
    cycle = cycles[-1]
    labels = annotation_file.load(cycle.annotations)
    rows = _review_rows(cycle)
    kind = "masks" if _has_masks(labels) else "boxes"
    entries, given = {}, {}
    for row in rows[:LOOKS]:
        video = labels.videos.get(row.get("video"))
        frame = row.get("frame")
        if video is None or not isinstance(frame, int):
            continue
        number = frame - video.first
        if number not in video.labeled_frames.tolist():
            continue
        shown = actors_in(video, [number], kind)[number]
        actors = [{**actor, "origin": "label"} for actor in shown]
        given[video.name, frame] = {"why": str(row.get("why", "")), "actors": actors}
        entry = entries.setdefault(
            video.name,
            {"video": video.name, "class": labels.classes[video.label], "frames": []},
        )
        entry["frames"].append({"frame": frame, "score": row.get("iou"), "actors": None})
    if not entries:
        return None
    request = {
        "format": FORMAT,
        "version": VERSION,
        "run": place.name,
        "cycle": cycle.number,
        "classes": list(labels.classes),
        "videos": list(entries.values()),
    }
    if kind == "masks":
        request["answer_with"] = kind
    return Desk("correction", request, labels, cycle.journal, given=given)


def _review_rows(cycle):
    return read_json(cycle.review, "remove it", REVIEW)


def _has_masks(labels):
    tubes = [tube for video in labels.labeled() for tube in video.tubes]
    return any(tube.masks is not None for tube in tubes)


def read_curve(place: Run) -> dict:
    """{"points": [{"frames", "score", "low", "high"}], "next": {"frames", "low", "high"} or
    None, "source", "message"} in percent: of curve.json, else f-mAP@.5 of results.csv.
    """
    told = {"points": [], "next": None, "source": None, "message": ""}
    try:
        if place.learning_curve.exists():
            said = read_json(place.learning_curve, "remove it", CURVE)
            return {name: said[name] for name in told}
        return told | {"points": _points_of_results(place), "source": "test labels"}
    except UserError as error:  # labeling goes on
        return told | {"message": str(error)}


def _points_of_results(place):
    """Points of read_curve out of the table of run_cycles.py; [] without one."""
    if not place.results.exists():
        return []
    points = []
    try:
        with open(place.results, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, strict=True):
                if row["f-mAP@.5"]:
                    point = {"frames": float(row["frames"]), "score": float(row["f-mAP@.5"])}
                    points.append(point)
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{place.results}: damaged ({error}); remove it") from error
    if problem := misfit(points, [{"frames": amount, "score": amount}]):
        raise UserError(f"{place.results}: {problem}; remove it")
    return points


def print_agreement(app: LabelApp) -> None:
    """Print how far two people agree on the frames that both have labeled."""
    desk = app.desks[ANSWERS]
    frames = [desk.key(item) for item in desk.items if item.twice]
    report = journal.agreement_report(desk.works.values(), frames, desk.marks)
    if not report["frames"]:
        print(f"agreement: none of {len(frames)} frames has been labeled by two people yet")
        return
    print(
        f"agreement on {report['frames']} of {len(frames)} frames labeled by two: mean IoU "
        f"{report['iou']:.3f}, same class {100 * report['same_class']:.0f}%, "
        f"{report['to_third']} wait for a third person"
    )
    for pair in report["pairs"]:
        same = "same class" if pair["same_class"] else "another class"
        print(
            f"  {pair['video']} frame {pair['frame']}: {' and '.join(pair['who'])}, IoU "
            f"{pair['iou']:.3f}, {same}"
        )
