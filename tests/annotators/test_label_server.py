"""The labeling page's server: who gets in, what it refuses, and what a step must be."""

import http.client
import json
import time

import numpy as np
import pytest
from PIL import Image

from claus.annotators.page import machine
from claus.annotators.page.desk import Desk, segments_text
from claus.annotators.page.server import Background, PageServer
from claus.artifacts.cycle import Run
from claus.datasets.labels.annotations import Annotations, Video
from claus.datasets.labels.segment import Segment
from claus.datasets.segments import read_list
from claus.utils.runtime import UserError

KEY = "k" * 32


def made_desk(folder, kind="boxes", **more):
    """A desk that asks for frames 3 and 5 of a video of 80x60, and 260 of a segment."""
    videos = {
        "a": Video("a", 20, 60, 80),
        "cam/b": Video("cam/b", 50, 60, 80, segment=Segment("cam", 250, 1000)),
    }
    frames = {"a": (3, 5), "cam/b": (260,)}
    request = {"run": "mine", "cycle": 0, "classes": ["run", "walk"], "answer_with": kind}
    request["videos"] = [
        {"video": name, "class": None, "frames": [{"frame": k, "actors": None} for k in numbers]}
        for name, numbers in frames.items()
    ]  # fmt: skip
    return Desk("answers", request, Annotations("own", ("run", "walk"), videos), folder, **more)


class FakeApp:
    def __init__(self, desk):
        self.desk, self.acted = desk, []

    def view(self, who, desk):
        return {"who": who, "desk": desk}

    poll = view

    def picture(self, *numbers):
        return b"picture %d %d %d %d" % numbers

    def seconds(self, desk, video):
        return {"seconds": []}

    def act(self, who, desk, entry):
        self.acted.append(entry)
        self.desk.step(who, entry)
        return {"ok": True}


@pytest.fixture
def server(tmp_path):
    made = PageServer(FakeApp(made_desk(tmp_path)), KEY, "ann")
    running = Background(made)
    yield made
    running.stop()


def ask(server, path, method="GET", body=None, cookie=KEY, host=None, **headers):
    """(status, headers, body) of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    host = f"127.0.0.1:{server.port}" if host is None else host
    for one in [host] if isinstance(host, str) else host:
        connection.putheader("Host", one)
    if cookie:
        connection.putheader("Cookie", f"{server.cookie}={cookie}; other=1")
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None and "Content_Length" not in headers:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    if body is not None:
        connection.send(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def post(server, entry, **headers):
    headers = {"Content_Type": "application/json", **headers}
    return ask(server, "/api/act", "POST", json.dumps(entry).encode(), **headers)


STEP = {"do": "class", "video": 0, "class": "run", "who": "ann", "d": 0}


def test_the_key_is_exchanged_for_a_cookie(server):
    status, headers, _ = ask(server, f"/?key={KEY}&who=bob", cookie=None)
    assert (status, headers["Location"]) == (303, "/?who=bob")
    assert headers["Set-Cookie"] == f"{server.cookie}={KEY}; Path=/; HttpOnly; SameSite=Strict"
    status, headers, _ = ask(server, "/")
    assert (status, headers["Location"]) == (303, "/?who=ann")
    status, headers, body = ask(server, "/?who=bob")
    assert status == 200 and b"<title>Label" in body
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/view?d=0", "/picture?d=0&v=0&k=3&s=0"])
@pytest.mark.parametrize("cookie", [None, "", KEY[:-1], KEY + "k", "ü", "x" * 5000])
def test_without_the_key_nothing_is_shown(server, path, cookie):
    if cookie and not cookie.isascii():
        cookie = cookie.encode().decode("latin-1")
    status, _, body = ask(server, path, cookie=cookie)
    assert status == 403 and b"Label" not in body and b"import" not in body
    assert ask(server, f"/?key={KEY[:-1]}x", cookie=None)[0] == 403


def test_a_step_without_the_key_does_nothing(server):
    assert post(server, STEP, cookie="wrong")[0] == 403
    assert server.app.acted == []


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "evil.example:80", "10.0.0.1:1", "localhost.", ["127.0.0.1", "evil.example"], "[::2]:5"]
)  # fmt: skip
def test_other_hosts_are_refused(server, host):
    """A foreign site whose name is made to point at this machine."""
    assert ask(server, "/", host=host)[0] == 403
    assert post(server, STEP, host=host)[0] == 403 and server.app.acted == []


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_own_names_are_taken(server, host):
    """Also through ssh -L, where the port is another."""
    assert ask(server, "/?who=ann", host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/page/../server.py", "/server.py", "/desk.py", "//etc/passwd",
        "/index.html", "/main.js/..", "/%2e%2e/x", "/picture?d=0&v=../../x&k=3&s=0", "/picture?d=0&v=0&k=-1&s=0",
        "/picture?d=0&v=0&k=1e3&s=0", "/picture?v=0&k=1", "/picture?d=0&v=0&k=%D9%A3&s=0", "/picture?d=0&v=0&k=99999999999&s=0",
        "/api/view", "/api/nothing", "/api/view?d=0&who=../x", "/?who=..%2F..%2Fx", "/api/view?d=0&who=" + "x" * 41,
    ],
)  # fmt: skip
def test_no_path_leads_anywhere(server, path):
    status, _, body = ask(server, path.encode().decode("latin-1"))
    assert status in (400, 404, 422) and b"root:" not in body and b"import " not in body


def test_every_file_of_the_page_is_served(server):
    from claus.annotators.page.server import FILES, PAGE

    assert {name for name, _ in FILES.values()} == {
        path.name for path in PAGE.iterdir() if path.suffix in (".js", ".css")
    }
    for path, (name, kind) in FILES.items():
        status, headers, body = ask(server, path)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert body == (PAGE / name).read_bytes()
    html = (PAGE / "index.html").read_text()
    assert (
        "<script>" not in html and " style=" not in html and "//" not in html.split("<body>")[1]
    )


def test_what_another_site_may_send(server):
    assert post(server, STEP, Origin="http://evil.example")[0] == 403
    assert post(server, STEP, Sec_Fetch_Site="cross-site")[0] == 403
    assert post(server, STEP, Content_Type="text/plain")[0] == 400
    assert ask(server, "/api/view?d=0", Origin="http://evil.example")[0] == 403
    assert server.app.acted == []
    assert post(server, STEP, Origin=f"http://127.0.0.1:{server.port}")[0] == 200


def test_bodies_are_limited(server):
    for length in ("99999999", "-1", "x", "1_0"):
        status, headers, _ = ask(
            server, "/api/act", "POST", b"", Content_Type="application/json", Content_Length=length
        )  # fmt: skip
        assert status in (400, 413)
    deep = b"[" * 100_000
    assert ask(server, "/api/act", "POST", deep, Content_Type="application/json")[0] == 400
    for body in (b"[]", b"nonsense", b'{"who": "ann"}', b'{"who": "ann", "d": true}', b"\xff"):
        assert ask(server, "/api/act", "POST", body, Content_Type="application/json")[0] == 400
    assert post(server, {**STEP, "who": "../x"})[0] == 422
    assert server.app.acted == []


def actor(box, track=1, **more):
    return {"track": track, "box": box, "origin": "drawn", **more}


def framed(*actors, item=0, state="done"):
    return {"do": "frame", "item": item, "state": state, "actors": list(actors)}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"do": "rm"}, "no step 'rm'"),
        (framed(item=3), "there is no number 3"),
        (framed(item=-1), "there is no number -1"),
        (framed(item=True), "there is no number True"),
        (framed(item="0"), "there is no number '0'"),
        (framed(state="gone"), "not open, done or skipped"),
        (framed(actor([0, 0, 81, 5])), "outside the picture"),
        (framed(actor([0, 0, 0, 5])), "has no area"),
        (framed(actor([0, 0.5, 2, 5])), "not four whole numbers"),
        (framed(actor([0, 0, 2, 5], 0)), "track 0 is not a whole number from 1"),
        (framed(actor([0, 0, 2, 5]), actor([0, 0, 2, 5])), "track 1 appears twice"),
        (framed(actor([0, 0, 2, 5], **{"class": "fly"})), "no class 'fly'"),
        (framed({"track": 1, "origin": "drawn"}), "not one box, mask or list"),
        (framed({"track": 1, "box": [0, 0, 2, 5]}), "an actor has no origin"),
        (framed({"track": 1, "origin": "drawn", "polygons": [[[0, 0], [9, 0], [0, 9]]]}), "asks for boxes"),
        (framed(*[actor([0, 0, 2, 5], k) for k in range(1, 300)]), "at most 200"),
        ({"do": "frame", "item": 0, "state": "done", "actors": {}}, "actors are not a list"),
        ({"do": "class", "video": 9, "class": "run"}, "there is no number 9"),
        ({"do": "class", "video": 0, "class": "fly"}, "no class 'fly'"),
        ({"do": "segments", "video": 0, "parts": [{"first": 5, "end": 5}]}, "ends before"),
        ({"do": "segments", "video": 0, "parts": [{"first": 5, "end": 21}]}, "a has 20 frames"),
        ({"do": "segments", "video": 0, "parts": [{"first": 5, "end": 9}, {"first": 8, "end": 9}]}, "overlap"),
    ],
)  # fmt: skip
def test_steps_that_are_refused_leave_no_line(tmp_path, entry, words):
    desk = made_desk(tmp_path)
    with pytest.raises(UserError, match=words):
        desk.step("ann", entry)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"polygons": [[[0, 0], [9, 0]]]}, "fewer than three corners"),
        ({"polygons": [[[0, 0], [9, 0], [0, float("inf")]]]}, "two finite numbers"),
        ({"polygons": [[[0, 0], [9, 0], "x"]]}, "is not \\[x, y\\]"),
        ({"polygons": []}, "not a list of lists"),
        ({"polygons": [[[0, 0]] * 3000]}, "more than 2000 corners"),
        ({"polygons": [[[90, 0], [99, 0], [95, 9]]]}, "no pixel of the picture"),
        ({"mask": {"size": [60, 80], "counts": [10**9]}}, "sum to"),
        ({"box": [0, 0, 4, 4]}, "asks for masks"),
    ],
)  # fmt: skip
def test_masks_that_are_refused(tmp_path, shape, words):
    desk = made_desk(tmp_path, "masks")
    with pytest.raises(UserError, match=words):
        desk.step("ann", framed({"track": 1, "origin": "drawn", **shape}))


def test_a_frame_is_one_persons_for_a_while(tmp_path, monkeypatch):
    desk, now = made_desk(tmp_path), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert desk.lease(0, "ann") == "ann" and desk.lease(0, "bob") == "ann"
    with pytest.raises(UserError, match="ann is working on this frame"):
        desk.step("bob", framed())
    assert desk.row(0, "bob")["leased"] == "ann" and desk.row(0, "ann")["leased"] == ""
    now[0] = 599
    assert desk.lease(0, "bob") == "ann"
    now[0] = 601
    assert desk.lease(0, "bob") == "bob"
    desk.lease(1, "bob")  # who goes on gives the one before back
    assert desk.lease(0, "ann") == "ann"


def test_a_desk_is_the_same_after_it_was_killed(tmp_path):
    desk = made_desk(tmp_path, share=0.3)
    desk.step("ann", {"do": "class", "video": 0, "class": "walk"})
    desk.step("ann", framed(actor([1, 2, 3, 4]), item=1))
    desk.step("bob", {"do": "segments", "video": 1, "parts": [{"first": 300, "end": 310, "class": "run"}]})  # fmt: skip
    again = made_desk(tmp_path, share=0.3)
    for who in ("ann", "bob", "eve"):
        assert again.view(who) == desk.view(who)
    assert [item.twice for item in again.items].count(True) == 1
    (tmp_path / "x.jsonl").write_text('{"claus_journal": 1, "run": "other", "cycle": 0}\n')
    with pytest.raises(UserError, match="x.jsonl: is of run 'other'"):
        made_desk(tmp_path)


def test_marked_parts_become_a_list_for_segments(tmp_path):
    desk = made_desk(tmp_path)
    desk.step("ann", {"do": "segments", "video": 1, "parts": [{"first": 300, "end": 310, "class": "run"}]})  # fmt: skip
    path = tmp_path / "segments.csv"
    path.write_text(segments_text(desk.all_segments()))
    assert [(row.video, row.start.number, row.end.number) for row in read_list(path)] == [("cam", 300, 310)]  # fmt: skip


def test_money_and_pace(tmp_path):
    from claus.artifacts.ledger import Prices

    desk = made_desk(tmp_path, prices=Prices("10", "1", "0.5"), spent=100)
    desk.step("ann", {**framed(actor([0, 0, 5, 5]), actor([9, 9, 5, 5], 2)), "seconds": 20})
    desk.step("ann", {**framed(item=1), "seconds": 10})
    desk.step("ann", {**framed(item=1), "seconds": 99})  # again: not counted twice
    told = desk.stats("ann")
    assert told["cost"] == {"cycle": "12.5", "total": "112.5"}
    assert told["seconds_a_frame"] == 15


def test_proposals_are_clipped_and_odd_ones_left_out(tmp_path):
    boxes = [[-4, 1.4, 20.6, 30], [70, 50, 99, 99], [5, 5, 5, 9], [90, 1, 99, 9]]
    proposals = {"a": {"3": [{"box": box, "score": 0.5} for box in boxes]}}
    desk = made_desk(tmp_path, proposals=proposals)
    found = desk.view("ann")["items"][0]["proposals"]
    assert [one["box"] for one in found] == [[0, 1, 21, 29], [70, 50, 10, 10]]


# -------------------------------------------------------------------------------- the machine


def wait_for(run, state):
    end = time.monotonic() + 20
    while machine.status(run)["state"] != state:
        assert time.monotonic() < end, machine.status(run)
        time.sleep(0.05)
    return machine.status(run)


def test_the_machine_works_by_itself_and_says_what_failed(tmp_path):
    import sys

    run = Run(tmp_path / "mine")
    assert machine.status(run)["state"] == "idle"
    hang = tmp_path / "go_on"
    waits = f"import time, pathlib\nwhile not pathlib.Path({str(hang)!r}).exists(): time.sleep(.02)\nprint('trained')"
    machine.start(run, [[sys.executable, "-c", waits]])
    assert wait_for(run, "running")
    with pytest.raises(UserError, match="at work already"):
        machine.start(run, [])
    hang.touch()
    assert "trained" in wait_for(run, "label")["log"]
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit(3)")
    machine.start(
        run, [[sys.executable, str(script)], [sys.executable, "-c", "print('never')"]]
    )
    told = wait_for(run, "failed")
    assert told["message"] == "broken.py ended with status 3" and "never\n" not in told["log"]


def test_a_process_that_died_has_failed(tmp_path):
    run = Run(tmp_path)
    dead = {"state": "running", "progress": 7, "updated": 1, "pid": 2**22 + 1}
    run.next.write_text(json.dumps(dead))
    told = machine.status(run)
    assert told["state"] == "failed" and told["progress"] == 1 and not told["silent"]
    for text in ("[]", "{", '{"state": 3, "pid": "x", "updated": "y"}'):
        run.next.write_text(text)
        machine.status(run)
    run.next_log.write_bytes(b"a\r 10%\r 100%\nend\n")
    assert machine.status(run)["log"] == " 100%\nend\n"


def test_pictures_are_those_frames(tmp_path, made_videos):
    """Every size, in any order, shows the frame that was asked for."""
    import io

    from made_videos import numbers

    from claus.annotators.page.pictures import FULL, LOOP, THUMB, Pictures

    pictures = Pictures(lambda name: made_videos / f"{name}.avi", tmp_path)
    video = Video("gray40", 40, 48, 64)
    for frame in (39, 0, 17, 16, 8, 25):
        for size in (THUMB, FULL, LOOP):
            shown = Image.open(io.BytesIO(pictures.jpeg(video, frame, size)))
            assert numbers(np.asarray(shown)[None]) == [frame]
            assert size != FULL or shown.size == (64, 48)
    assert pictures.seconds(video)[:3] == [0.0, 0.04, 0.08]
