"""The labeling page in a real headless Chromium, by real mouse and key events: what is drawn
comes out to the pixel, survives kills, and is taken in as answers.
"""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from browser import NO_BROWSER, find_chromium
from chromium import ALT, CONTROL, SHIFT, Chromium
from shown_videos import corner_frames, write_shown

import claus_select
from claus.annotators.form import read_form
from claus.annotators.journal import read_answers, read_corrections, read_journal
from claus.artifacts.cycle import Cycle
from claus.datasets.labels import annotations
from claus.datasets.labels.masks import decode_rle, encode_rle
from claus.datasets.segments import read_list
from claus.datasets.sprites import write_video

ROOT = Path(__file__).resolve().parents[2]
CLASSES = "run,ジャンプ,ضحك"
WIDTH, HEIGHT, COUNT = 160, 120, 40
PHONE = (120, 160)  # width and height as shown, stored lying


def two_squares(count):
    """Frames (n,H,W,3): a light and a dark square that cross."""
    frames = np.full((count, HEIGHT, WIDTH, 3), 120, np.uint8)
    for f in range(count):
        frames[f, 30:70, 10 + 2 * f : 50 + 2 * f] = 230
        frames[f, 50:90, 100 - 2 * f : 140 - 2 * f] = 30
    return frames


def make_videos(folder):
    """data/cam/{a,b,c}.avi, two_squares; data/cam/phone.mp4, portrait by its display matrix."""
    (folder / "cam").mkdir(parents=True)
    for name in "abc":
        write_video(folder / "cam" / f"{name}.avi", two_squares(COUNT))
    stored = corner_frames(COUNT, PHONE[0], PHONE[1])
    write_shown(folder / "cam" / "phone.mp4", stored, turn=(90,))


def quiet(function, *words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function([*map(str, words)])


def ask(folder, *more, frames=20):
    """A run "mine" whose cycle 0 asks for frames of the four videos."""
    words = ["--run", "mine", "--cycle", 0, "--files", folder / "files"]
    words += ["--data", folder / "data", "--any-folder", "--classes", CLASSES]
    quiet(claus_select.main, *words, "--videos", 4, "--frames", frames, *more)
    return Cycle.of("mine", 0, folder / "files")


class Server:
    """label.py as a process of its own, which can be killed and started again."""

    def __init__(self, folder, *more):
        self.command = [sys.executable, str(ROOT / "label.py"), "--run", "mine", *more]
        self.command += ["--files", str(folder / "files"), "--no-browser", "--who", "anna"]
        self.command += ["--data", str(folder / "data")]
        self.start()

    def start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.match(r"open (http://\S+)", line):
                self.address = found[1]
                return
        raise AssertionError("".join(lines))

    def stop(self, number=signal.SIGKILL):
        """End it; what it printed besides."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        rest = self.process.stdout.read()
        self.process.wait()
        self.process.stdout.close()
        return rest


class Page:
    """The page of an annotator, in pixels of the picture."""

    def __init__(self, browser, address, who="anna"):
        self.browser = browser
        browser.open(f"{address}&who={who}")

    def screen(self, x, y):
        """Where a corner of a pixel is on the screen."""
        code = (
            "(()=>{const c=document.getElementById('canvas').getBoundingClientRect();"
            "const s=window.stage.toScreen([%r,%r]);return [c.left+s[0],c.top+s[1]]})()"
        )
        return self.browser.value(code % (x, y))

    def draw(self, x0, y0, x1, y1):
        self.browser.drag(self.screen(x0, y0), self.screen(x1, y1))

    def click(self, x, y):
        self.browser.click(*self.screen(x, y))

    def press(self, *keys, modifiers=0):
        self.browser.press(*keys, modifiers=modifiers)

    def get(self, expression):
        return self.browser.value(f"(label=>{expression})(window.label)")

    @property
    def actors(self):
        return self.get("label.item.actors")

    @property
    def boxes(self):
        return [actor["box"] for actor in self.actors]

    def here(self):
        """(name of the video, frame) that is shown."""
        return tuple(self.get("[label.video.name, label.item.frame]"))

    def note(self):
        return self.browser.value("document.getElementById('note').textContent")

    def saved(self):
        """Wait until the server has written down everything."""
        self.browser.wait("window.queue.empty")

    def settled(self):
        """Wait for the picture."""
        self.browser.wait("window.stage.shown.image")


@pytest.fixture(scope="module")
def binary():
    found = find_chromium()
    if found is None:
        pytest.skip(NO_BROWSER)
    return found


@pytest.fixture(scope="module")
def browser(binary, tmp_path_factory):
    with Chromium(binary, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder / "data")
    return folder / "data"


@pytest.fixture
def place(tmp_path, data):
    (tmp_path / "data").symlink_to(data)
    return tmp_path


@pytest.fixture
def served(place):
    """serve(*flags) -> Server, stopped at the end."""
    running = []

    def serve(*flags):
        running.append(Server(place, *flags))
        return running[-1]

    yield serve
    for server in running:
        with contextlib.suppress(ValueError):
            server.stop()


def test_twenty_frames_to_the_pixel(place, served, browser):
    """Every gesture, a killed server, and the answers through the intake."""
    cycle = ask(place)
    request = read_form(cycle.request)
    server = served()
    page = Page(browser, server.address)
    expected, states = {}, {}
    names = [entry["video"] for entry in request["videos"]]
    assert sorted(names) == ["cam/a", "cam/b", "cam/c", "cam/phone"]
    total = sum(len(entry["frames"]) for entry in request["videos"])
    assert total == 20

    # nothing can be finished before the class is known
    page.settled()
    page.press("n")
    assert "First the class" in page.note() and page.get("label.counts()[0]") == 0
    for number, entry in enumerate(request["videos"]):
        for place_in_video, frame in enumerate(entry["frames"]):
            key = entry["video"], frame["frame"]
            assert page.here() == key
            page.settled()
            if place_in_video == 0:
                page.press(str(number % 3 + 1))
            if number == 0 and place_in_video == 0:
                expected[key] = gestures(page)
            elif entry["video"] == "cam/phone":
                assert page.get("[label.video.width, label.video.height]") == [*PHONE]
                page.draw(3, 5, 117, 158)
                expected[key] = [[3, 5, 114, 153]]
            elif place_in_video == 1:
                expected[key] = []
            else:
                first = [20 + place_in_video, 30, 60, 40]
                second = [30, 40, 20, 15]  # begins and ends inside the first
                for x, y, w, h in (first, second):
                    page.draw(x, y, x + w, y + h)
                expected[key] = [first, second]
            if expected[key]:
                assert page.boxes == expected[key]
                page.press("Enter")
            else:
                page.press("n")
            if number == 1 and place_in_video == 2:  # the server dies, the page stays open
                page.saved()
                server.stop()
                page.press("PageUp")
                page.settled()
                page.press("s")
                page.press("2")
                browser.wait("document.getElementById('saved').className === 'offline'")
                server.start()
                page.saved()
                states[key] = "skipped"
                assert page.here() == (entry["video"], entry["frames"][3]["frame"])
                assert page.get("label.counts()") == [page.get("label.at"), 20]
    page.saved()
    assert browser.value("!document.getElementById('finished').hidden")
    assert page.get("label.counts()") == [20, 20]

    # undo of the last frame, across frames; then skipped with words instead of labels
    skipped = [key for key in expected if states.get(key) == "skipped"]
    page.press("z", modifiers=CONTROL)
    assert page.get("label.item.state") == "open" and page.boxes == expected[page.here()]
    page.press("y", modifiers=CONTROL)
    assert page.get("label.item.state") == "done"
    page.get(
        f"label.go(label.view.items.findIndex(i => i.frame === {skipped[0][1]}"
        f" && label.view.videos[i.v].name === {skipped[0][0]!r}))"
    )
    assert page.get("label.item.reason") == "cannot tell what happens"
    page.press("Enter")  # after all
    page.saved()
    assert browser.errors_besides_offline() == []

    head, work = read_journal(cycle.journal / "anna.jsonl")
    assert head == {
        "claus_journal": 1,
        "kind": "answers",
        "run": "mine",
        "cycle": 0,
        "who": "anna",
    }
    answers = read_answers([cycle.journal / "anna.jsonl"], request)
    for entry in answers["videos"]:
        assert entry["class"] == CLASSES.split(",")[names.index(entry["video"]) % 3]
        for frame in entry["frames"]:
            boxes = [actor["box"] for actor in frame["actors"]]
            assert boxes == expected[entry["video"], frame["frame"]]
            assert all(actor["origin"] == "drawn" for actor in frame["actors"])
            tracks = {actor["track"] for actor in frame["actors"]}
            assert len(tracks) == len(boxes) and tracks <= {1, 2, 3}
    quiet(
        claus_select.main, "--run", "mine", "--cycle", 0, "--files", place / "files",
        "--data", place / "data", "--answers", cycle.journal / "anna.jsonl",
    )  # fmt: skip
    labels = annotations.load(cycle.annotations)
    assert labels.counts()["frames"] == 20
    phone = labels.videos["cam/phone"]
    assert phone.tubes[0].boxes.tolist() == [[3, 5, 117, 158]] * 5
    assert set(labels.classes) == set(CLASSES.split(","))


def gestures(page):
    """Draw, move, resize, nudge, delete, undo, redo and zoom -> the boxes that are left."""
    browser = page.browser
    page.draw(20, 20, 80, 70)
    page.draw(90, 100, 70, 60)  # from the other corner
    assert page.boxes == [[20, 20, 60, 50], [70, 60, 20, 40]]
    page.click(30, 30)
    assert page.get("label.selected") == 0
    browser.drag(page.screen(80, 70), page.screen(85, 75))  # the corner
    browser.drag(page.screen(20, 47.5), page.screen(15, 47.5))  # the handle of an edge
    assert page.boxes[0] == [15, 20, 70, 55]
    browser.drag(page.screen(30, 20), page.screen(33, 24))  # an edge moves the box
    assert page.boxes[0] == [18, 24, 70, 55]
    browser.drag(page.screen(100, 80), page.screen(159.6, 119.7))  # next to them: draws
    assert page.boxes[2] == [100, 80, 60, 40]
    page.press("ArrowLeft", "ArrowUp")
    page.press("ArrowLeft", modifiers=SHIFT)
    assert page.boxes[2] == [89, 79, 60, 40]
    page.press("ArrowRight", modifiers=ALT)
    assert page.boxes[2] == [89, 79, 61, 40]
    page.press("Delete")
    assert len(page.boxes) == 2
    page.press("z", modifiers=CONTROL)
    assert page.boxes[2] == [89, 79, 61, 40]
    page.press("y", modifiers=CONTROL)
    assert len(page.boxes) == 2
    at = page.screen(50, 50)
    browser.wheel(*at, -600)
    browser.wait("window.stage.view.scale > 10")
    assert np.allclose(page.screen(50, 50), at, atol=1)  # what is under the mouse stays
    page.draw(48, 47, 57, 55)
    assert page.boxes[2] == [48, 47, 9, 8]
    page.press("f")
    browser.drag(page.screen(5, 5), page.screen(5.2, 5.3))  # a click draws nothing
    assert len(page.boxes) == 3
    page.draw(2, 2, 12, 12)
    page.press("t", "t")  # round all numbers that are free: 4 is the only one
    assert [actor["track"] for actor in page.actors] == [1, 2, 3, 4]
    page.press("Delete")
    return [[18, 24, 70, 55], [70, 60, 20, 40], [48, 47, 9, 8]]


def test_looking_around_and_parts_of_a_long_video(place, served, browser):
    cycle = ask(place)
    server = served()
    page = Page(browser, server.address)
    page.settled()
    frame = page.here()[1]
    browser.wait("window.label.times.seconds")
    strip = "[...document.querySelectorAll('#strip .looked span')].map(e => e.textContent)"
    browser.wait(f"{strip}.length")
    assert browser.value(strip)[0].split()[0] == str(frame)
    page.press(".", ".")
    assert page.get("label.looked") == frame + 2
    page.press(",")
    browser.wait("document.getElementById('badge').textContent.includes('looking at frame')")
    page.press("Escape")
    assert page.get("label.looked") is None
    page.press(" ")  # the loop, exact and at its pace
    seen, end = set(), time.monotonic() + 3
    while len(seen) < 8 and time.monotonic() < end:
        seen.add(browser.value("document.getElementById('badge').textContent"))
    assert len(seen) >= 8
    page.press(" ")
    assert not browser.value("window.loop.running")
    # the pictures themselves: what the strip shows is that frame
    page.press("3")
    page.press("[")
    page.press(".", ".", ".", ".", "]")
    page.press("Escape")
    page.saved()
    assert page.get("label.video.segments") == [
        {"first": frame, "end": frame + 5, "class": "ضحك"}
    ]
    rows = read_list(cycle.run.segments)
    assert [(row.video, str(row.start), str(row.end)) for row in rows] == [
        (page.here()[0], f"frame {frame}", f"frame {frame + 5}")
    ]
    page.press("[", "]")
    assert "overlaps" in page.note()


def test_who_is_who_and_proposals(place, served, browser):
    cycle = ask(place)
    request = read_form(cycle.request)
    entry = request["videos"][0]
    first, second = (frame["frame"] for frame in entry["frames"][:2])
    proposals = {
        entry["video"]: {
            str(second): [
                {"box": [100, 20, 130, 60], "class": "run", "score": 0.9},
                {"box": [9.6, 20.2, 40, 60], "class": "run", "score": 0.6},
            ]
        }
    }
    cycle.proposals.write_text(json.dumps(proposals))
    server = served()
    page = Page(browser, server.address)
    page.settled()
    page.press("1")
    page.draw(10, 20, 40, 60)
    page.draw(100, 20, 130, 60)
    page.press("Enter")
    assert page.here()[1] == second
    page.draw(103, 22, 133, 62)  # nearest to the second one
    assert page.actors[0]["track"] == 2
    page.press("Delete")
    page.press("a", "a")  # the best first
    assert [actor["track"] for actor in page.actors] == [2, 1]
    assert page.boxes == [[100, 20, 30, 40], [10, 20, 30, 40]]
    page.press("ArrowDown")
    page.press("2", modifiers=SHIFT)  # the class of one actor
    page.press("b")
    assert page.get("label.selected") == 0 and "jumped" not in page.note()
    page.press("t")
    assert page.actors[0]["track"] == 3
    browser.drag(page.screen(100, 30), page.screen(30, 80))
    page.press("t", "t")
    page.press("Enter")
    page.saved()
    answers = read_answers(cycle.journal.glob("*.jsonl"), request)
    actors = answers["videos"][0]["frames"][1]["actors"]
    assert [actor["origin"] for actor in actors] == ["moved", "moved"]
    assert actors[1] == {
        "track": 1,
        "box": [10, 21, 30, 40],
        "origin": "moved",
        "class": "ジャンプ",
    }
    # a test set shows none
    server.stop()
    server.command.append("--test-set")
    server.start()
    page = Page(browser, server.address)
    assert page.get("label.view.items.flatMap(i => i.proposals)") == []


def test_a_jump_is_warned_of(place, served, browser):
    ask(place, frames=40)
    page = Page(browser, served().address)
    page.settled()
    page.press("1")
    page.draw(5, 5, 15, 15)
    page.press("Enter")
    page.draw(140, 100, 150, 110)
    assert "Track 1 jumped" in page.note()
    page.press("t")
    assert page.actors[0]["track"] == 2 and page.get("label.warnings[0]") is None


def test_polygons_become_masks(place, served, browser):
    """A run with masks: corners are clicked, dragged, added; an accepted mask stays itself."""
    cycle = ask(place)
    request = read_form(cycle.request)
    request["answer_with"] = "masks"
    cycle.request.write_text(json.dumps(request))
    entry = request["videos"][0]
    frames = [frame["frame"] for frame in entry["frames"]]
    proposed = np.zeros((HEIGHT, WIDTH), bool)
    proposed[10:30, 100:140] = True
    rle = encode_rle(proposed)
    cycle.proposals.write_text(
        json.dumps(
            {entry["video"]: {str(frames[0]): [{"box": [100, 10, 140, 30], "rle": rle}]}}
        )
    )
    page = Page(browser, served("--dataset", "ucf101").address)
    page.settled()
    page.press("1")
    for corner in ((20, 20), (60, 20), (60, 60), (20, 60)):
        page.click(*corner)
    page.click(20, 20)  # the first corner closes it
    assert page.actors[0]["polygons"] == [[[20, 20], [60, 20], [60, 60], [20, 60]]]
    page.browser.drag(page.screen(60, 60), page.screen(80, 60))
    page.browser.drag(page.screen(40, 20), page.screen(40, 30))  # between two corners
    for corner in ((30, 40), (50, 40), (50, 50)):  # a second one, inside the first
        page.click(*corner)
    page.press("Backspace", "z", modifiers=0)
    page.click(45, 50)
    page.press("Enter")
    assert len(page.actors) == 2
    page.press("a")
    page.press("Enter")
    page.saved()
    assert page.here()[1] == frames[1]
    answers = read_answers(cycle.journal.glob("*.jsonl"), request)
    actors = answers["videos"][0]["frames"][0]["actors"]
    assert [actor["origin"] for actor in actors] == ["drawn", "drawn", "accepted"]
    expected = inside([(20, 20), (40, 30), (60, 20), (80, 60), (20, 60)])
    assert (decode_rle(actors[0]["mask"]) == expected).all()
    assert (decode_rle(actors[1]["mask"]) == inside([(30, 40), (50, 40), (45, 50)])).all()
    assert actors[2]["mask"] == rle


def inside(corners):
    """Mask of a polygon by the rule of crossings, at the centers of pixels, in plain code."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    crossings = np.zeros((HEIGHT, WIDTH), int)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 == y1:
            continue
        at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        crossings += ((y0 <= y) != (y1 <= y)) & (at > x)
    return crossings % 2 == 1


def test_two_people_and_a_third(place, served, binary, browser, tmp_path):
    cycle = ask(place, frames=8)
    server = served("--twice", "10%")
    request = read_form(cycle.request)
    page = Page(browser, server.address)
    twice = page.get("label.view.items.findIndex(i => i.twice)")
    key = page.get(
        f"[label.view.videos[label.view.items[{twice}].v].name, label.view.items[{twice}].frame]"
    )

    def label(who, box):
        page = Page(browser, server.address, who)
        page.get(f"label.go({twice})")
        page.settled()
        assert page.actors == []  # nobody sees what the one before has drawn
        assert page.get(f"label.isOpen({twice})")
        page.press("1")
        page.draw(*box)
        page.press("Enter")
        page.saved()
        return page

    label("anna", (10, 10, 50, 50))
    # while anna is at another frame, it is hers
    other = page.get("label.at")
    assert other != twice
    label("berta", (60, 60, 100, 100))
    report = Page(browser, server.address, "chris").get("label.stats.agreement")
    assert report == {"frames": 1, "iou": 0, "same_class": 1, "to_third": 1}
    label("chris", (61, 60, 100, 100))
    answers = read_answers(sorted(cycle.journal.glob("*.jsonl")), request)
    frames = {(e["video"], f["frame"]): f for e in answers["videos"] for f in e["frames"]}
    assert frames[tuple(key)]["by"] == "chris"
    assert frames[tuple(key)]["actors"][0]["box"] == [61, 60, 39, 40]
    page = Page(browser, server.address, "dora")
    assert not page.get(f"label.isOpen({twice})")
    free = page.get("label.at")
    page.get(f"label.lease({free})")
    second = Page(browser, server.address, "emil")
    assert second.get("label.at") != free
    printed = server.stop(signal.SIGINT)
    assert (
        "agreement on 1 of 1 frames labeled by two: mean IoU 0.000, same class 100%" in printed
    )


def test_second_look(place, served, browser):
    """Labels the detector disagrees with: changes go to a journal of corrections."""
    cycle = ask(place)
    request = read_form(cycle.request)
    for entry in request["videos"]:
        entry["class"] = "run"
        for frame in entry["frames"]:
            frame["actors"] = [{"track": 1, "box": [5, 6, 70, 80]}]
    filled = place / "filled.json"
    filled.write_text(json.dumps(request))
    quiet(
        claus_select.main, "--run", "mine", "--cycle", 0, "--files", place / "files",
        "--data", place / "data", "--answers", filled,
    )  # fmt: skip
    looks = [
        {"video": e["video"], "frame": e["frames"][0]["frame"], "why": "IoU 0.1", "iou": 0.1}
        for e in request["videos"]
    ]
    cycle.review.write_text(json.dumps(looks))
    page = Page(browser, served().address)
    page.press("l")
    browser.wait("window.label.view.kind === 'correction'")
    page.settled()
    assert page.get("label.counts()") == [0, 4] and page.boxes == [[5, 6, 70, 80]]
    page.press("Enter")  # it is right
    page.press("b", "ArrowRight", "Enter")
    page.press("2", "n")  # another class, and nothing there
    page.saved()
    for entry in request["videos"]:
        entry["class"] = None
        for frame in entry["frames"]:
            frame["actors"] = None
    changed = read_corrections([cycle.journal / "anna.correction.jsonl"], request)["videos"]
    by_name = {entry["video"]: entry for entry in changed}
    first, second, third = (by_name[look["video"]] for look in looks[:3])
    assert first["class"] is None and first["frames"][0]["actors"] is None  # it was right
    assert second["frames"][0]["actors"] == [
        {"track": 1, "box": [6, 6, 70, 80], "origin": "moved"}
    ]
    assert third["class"] == "ジャンプ" and third["frames"][0]["actors"] == []
    quiet(
        claus_select.main, "--run", "mine", "--cycle", 0, "--files", place / "files",
        "--data", place / "data", "--correct", cycle.journal / "anna.correction.jsonl",
    )  # fmt: skip
    labels = annotations.load(cycle.annotations).videos
    was, empty = labels[looks[1]["video"]], labels[looks[2]["video"]]
    assert was.tubes[0].boxes[0].tolist() == [6, 6, 76, 86]
    assert (empty.label, len(empty.labeled_frames)) == (1, 5)
    assert looks[2]["frame"] not in empty.tubes[0].frames


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_at(width, place, served, browser):
    ask(place)
    browser.resize(width, 800)
    page = Page(browser, served().address)
    page.settled()
    try:
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value("document.getElementById('stage').clientHeight") > 250
        names = browser.value(
            "[...document.querySelectorAll('.choice bdi')].map(e => e.textContent)"
        )
        assert names == CLASSES.split(",")
    finally:
        browser.resize(1280, 800)
