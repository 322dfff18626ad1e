"""A run that people label: spaced frames, exchange with tools, corrections, growth, and runs
that begin with labels that were there.
"""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import claus_select
from claus.annotators.form import read_form, write_form
from claus.artifacts.changes import corrected_since, read_changes
from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import Features, Uncertainty, save_features, save_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.datasets.clips.training_clips import clip_class
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Tube, Video
from claus.datasets.sprites import write_video
from claus.utils.runtime import UserError

FRAMES = 24
CLASSES = ["--classes", "run,jump"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Folder with cam/v0.avi … cam/v5.avi of 24 frames, 80x60."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        write_clip(folder / "cam" / f"v{number}.avi", number)
    return folder


def write_clip(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((FRAMES, 60, 80, 3), 40, np.uint8)
    for frame in range(FRAMES):
        frames[frame, 20:40, frame : frame + 15 + number] = 200
    write_video(path, frames)


@pytest.fixture
def data(clips, tmp_path):
    shutil.copytree(clips, tmp_path / "data")
    return tmp_path / "data"


def script(data, cycle, *flags):
    run = data.parent / "run"
    place = ["--run", f"{run}/", "--cycle", str(cycle), "--data", str(data)]
    return claus_select.main([*place, *map(str, flags)])


def start(data, *flags, videos=3, frames=9):
    budget = ["--videos", videos, "--frames", frames]
    assert script(data, 0, "--any-folder", *CLASSES, *budget, *flags) == 0
    return Cycle.of(f"{data.parent}/run/", 0)


def fill_in(form, label="run"):
    for video in form["videos"]:
        video["class"] = label
        for frame in video["frames"]:
            frame["actors"] = [{"track": 1, "box": [frame["frame"], 20, 15, 20]}]
    return form


def answer(data, cycle, form, *flags):
    path = data.parent / f"answers{cycle}.json"
    write_form(path, form)
    return script(data, cycle, "--answers", path, *flags)


def labeled(data, flags=()):
    """A run whose cycle 0 is labeled and has a made-up detector and scores."""
    cycle = start(data, *flags)
    assert answer(data, 0, fill_in(read_form(cycle.request))) == 0
    pretend_trained(cycle)
    return cycle


def pretend_trained(cycle):
    cycle.detector.write_bytes(f"weights {cycle.number}".encode())
    source = fingerprint(cycle.detector)
    labels = annotation_file.load(cycle.annotations)
    names, count = list(labels.videos), len(labels.videos)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(count, 4))
    clusters = np.zeros(count, np.int32)
    save_features(Features(source, names, latents, clusters, latents[:1]), cycle.features)
    lengths = [video.frames for video in labels.videos.values()]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    arrays = {
        name: rng.random(offsets[-1]).astype(np.float32)
        for name in ("paper", "authors", "area", "entropy", "local_entropy")
    }
    save_uncertainty(Uncertainty(source, {}, names, offsets, **arrays), cycle.uncertainty)


def refused(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def ledger(data):
    with open(data.parent / "run" / "ledger.csv", newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------ the first cycle


def test_people_get_spaced_frames_and_at_least_one_video(data, capsys):
    assert script(data, 0, "--any-folder", *CLASSES) == 0  # 5% of six videos
    report = load_selection(data.parent / "run" / "cycle0" / "selection.json")
    assert report["spent"] == {"videos": 1, "frames": 1}
    assert "5% of 6 videos is less than one: one is asked for" in capsys.readouterr().out
    cycle = start(data, "--force")
    for video in read_form(cycle.request)["videos"]:
        gaps = np.diff([frame["frame"] for frame in video["frames"]])
        assert len(gaps) == 2 and gaps.min() > 4


def test_masks_of_own_videos_are_asked_for_and_taken(data):
    cycle = start(data, "--masks")
    form = read_form(cycle.request)
    assert form["answer_with"] == "masks"
    for video in form["videos"]:
        video["class"] = "jump"
        for frame in video["frames"]:
            counts = [60 * 20, 60 * 10, 60 * 50]
            frame["actors"] = [{"track": 1, "mask": {"size": [60, 80], "counts": counts}}]
    assert answer(data, 0, form) == 0
    video = annotation_file.load(cycle.annotations).labeled()[0]
    assert video.tubes[0].masks[0][:, 20:30].all() and video.tubes[0].boxes is None
    pretend_trained(cycle)
    assert script(data, 1, "--videos", "1", "--frames", "1") == 0
    assert read_form(Cycle(cycle.run, 1).request)["answer_with"] == "masks"


def test_a_video_with_none_of_the_classes_leaves_the_pool_and_is_paid_for(data, capsys):
    cycle = start(data)
    form = fill_in(read_form(cycle.request))
    gone = form["videos"][0]
    gone["class"] = "none of these classes"
    for frame in gone["frames"]:
        frame["actors"] = []
    assert answer(data, 0, form) == 0
    assert "of none of the classes: 1 video (" in capsys.readouterr().out
    labels = annotation_file.load(cycle.annotations)
    assert gone["video"] not in labels.videos and labels.counts()["videos"] == 2
    row = ledger(data)[0]
    assert (row["videos"], row["frames"], row["cost"]) == ("3", "9", "12")
    assert row["notes"] == "of none of the classes: 1 video"
    assert answer(data, 0, fill_in(read_form(cycle.request))) == 0, "and comes back"
    assert gone["video"] in annotation_file.load(cycle.annotations).videos
    assert "notes" not in ledger(data)[0]


# -------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize(
    "tool, name", [("label_studio", "tasks.json"), ("cvat", "annotations.xml")]
)
def test_a_request_goes_out_and_partial_answers_come_back(data, tool, name, capsys):
    cycle = start(data)
    form = fill_in(read_form(cycle.request))
    form["videos"][0]["frames"][0]["actors"] = None
    form["videos"][1]["frames"][1]["actors"] = []
    answer(data, 0, form)
    capsys.readouterr()
    assert script(data, 0, "--export", tool, "--what", "request") == 0
    out = cycle.folder / f"export_{tool}" / name
    assert "exported 9 frames of 3 videos" in capsys.readouterr().out and out.exists()
    if tool == "cvat":
        pictures = sorted(path.name for path in (out.parent / "images").iterdir())
        assert len(pictures) == 9 and pictures[0].startswith("cam__v")
        with Image.open(out.parent / "images" / pictures[0]) as picture:
            assert picture.size == (80, 60)
    before = cycle.annotations.read_bytes()
    for path in (cycle.annotations, cycle.answers):
        path.unlink()
    assert script(data, 0, "--answers", out) == 0
    assert cycle.annotations.read_bytes() == before
    assert "taken in: 8 of 9 frames, 1 not answered" in capsys.readouterr().out


def test_proposals_of_the_detector_before_go_along(data):
    cycle = labeled(data)
    assert script(data, 1, "--videos", "1", "--frames", "1") == 0
    following = Cycle(cycle.run, 1)
    (video,) = read_form(following.request)["videos"]
    actors = [{"box": [1.4, 2, 30, 400], "class": "run", "score": 0.5}]
    proposals = {video["video"]: {str(video["frames"][0]["frame"]): actors}}
    cycle.proposals.write_text(json.dumps(proposals))
    assert script(data, 1, "--export", "cvat", "--to", data.parent / "out") == 0
    text = (data.parent / "out" / "annotations.xml").read_text()
    box = 'source="auto" occluded="0" xtl="1.00" ytl="2.00" xbr="30.00" ybr="60.00"'
    assert text.count(box) == text.count("<box") == 1


@pytest.mark.parametrize("tool", ["coco", "mot", "yolo", "cvat_video"])
def test_formats_that_cannot_ask_say_so_and_give_labels(data, tool, capsys):
    cycle = labeled(data)
    assert "cannot ask for frames" in refused(
        script, data, 0, "--export", tool, "--what", "request"
    )
    assert script(data, 0, "--export", tool) == 0
    assert "note: " in capsys.readouterr().out
    given = {
        "coco": ["coco.json"],
        "yolo": [""],
        "mot": sorted(p.name for p in (cycle.folder / "export_mot").glob("cam__*.txt")),
        "cvat_video": sorted(
            p.name for p in (cycle.folder / "export_cvat_video").glob("*.xml")
        ),
    }[tool]
    paths = [cycle.folder / f"export_{tool}" / name for name in given]
    other = data.parent / "other"
    place = ["--run", f"{other}/", "--cycle", "0", "--data", str(data)]
    assert claus_select.main([*place, "--import", *map(str, paths)]) == 0
    old = annotation_file.load(cycle.annotations)
    new = annotation_file.load(other / "cycle0" / "annotations.pkl")
    for video in old.labeled():
        copy = new.videos[video.name]
        assert new.classes[copy.label] == old.classes[video.label]
        assert copy.labeled_frames.tolist() == video.labeled_frames.tolist()
        assert [t.boxes.tolist() for t in copy.tubes] == [t.boxes.tolist() for t in video.tubes]
    told = capsys.readouterr().out
    assert "imported: 3 videos, 9 frames, 9 actors" in told
    with open(other / "ledger.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["frames"], row["cost"]) == ("9", "0") and "not paid for" in row["notes"]


def test_only_a_persons_keyframes_of_a_cvat_video_are_labels(data, capsys):
    box = '<box frame="{}" keyframe="{}" outside="{}" xtl="1" ytl="2" xbr="30" ybr="40"/>'
    frames = [(0, 1, 0), (1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 1, 1)]
    person = "".join(box.format(*frame) for frame in frames)
    machine = box.format(9, 1, 0)
    path = data.parent / "v2.xml"
    path.write_text(
        f'<annotations><meta><source>v2.avi</source></meta><track id="0" label="climb" '
        f'source="manual">{person}</track><track id="1" label="climb" source="auto">{machine}'
        "</track></annotations>"
    )
    assert script(data, 0, "--import", path) == 0
    cycle = Cycle.of(f"{data.parent}/run/", 0)
    labels = annotation_file.load(cycle.annotations)
    assert labels.classes == ("climb",) and len(labels.videos) == 6
    assert labels.videos["cam/v2"].labeled_frames.tolist() == [0, 3]
    assert labels.videos["cam/v2"].tubes[0].boxes.tolist() == [[1, 2, 30, 40]] * 2
    assert "3 shapes are interpolated or proposed by a machine" in cycle.problems.read_text()


def test_what_cannot_be_imported_is_one_line(data, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("hello")
    assert "none of CVAT" in refused(script, data, 0, "--import", path)
    coco = {"images": [{"id": 1, "file_name": "v9_00001.png", "height": 60, "width": 80}]}
    coco |= {"annotations": [], "categories": [{"id": 1, "name": "run"}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert "fits a video below" in refused(script, data, 0, "--import", tmp_path / "coco.json")
    coco["images"][0] |= {"file_name": "v1_00024.png"}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    refused(script, data, 0, "--import", tmp_path / "coco.json")
    told = (data.parent / "run" / "cycle0" / "answers_problems.txt").read_text()
    assert "are pictures numbered from 1? --numbered-from 1" in told


# ------------------------------------------------------------------------------- corrections


def test_a_correction_counts_from_now_on_and_weights_say_so(data, capsys):
    cycle = labeled(data)
    chosen = cycle.selection.read_bytes()
    script(data, 0, "--export", "cvat")
    path = cycle.folder / "export_cvat" / "annotations.xml"
    text = path.read_text()
    first = read_form(cycle.answers)["videos"][0]["frames"][0]["frame"]
    assert text.count(f'xtl="{first}.00"') == 3
    path.write_text(text.replace(f'xtl="{first}.00"', f'xtl="{first + 5}.00"'))
    before = annotation_file.load(cycle.annotations)
    capsys.readouterr()
    assert script(data, 0, "--correct", path) == 0
    told = capsys.readouterr().out
    assert "corrected: 3 videos" in told and "train again" in told
    after = annotation_file.load(cycle.annotations)
    for video in after.labeled():
        assert video.tubes[0].boxes[0, 0] == first + 5
        assert video.tubes[0].boxes[1:].tolist() == (
            before.videos[video.name].tubes[0].boxes[1:].tolist()
        )
    kept = annotation_file.load(cycle.folder / "annotations.before1.pkl")
    assert kept.labeled()[0].tubes[0].boxes[0, 0] == first
    assert cycle.selection.read_bytes() == chosen
    row = ledger(data)[0]
    assert row["notes"] == "3 frames of 3 videos corrected" and row["cost"] == "12"
    source = fingerprint(cycle.detector)
    assert "before 3 of its labels were corrected" in corrected_since(cycle.detector, source)
    cycle.detector.write_bytes(b"trained again")
    assert corrected_since(cycle.detector, fingerprint(cycle.detector)) is None
    assert script(data, 0, "--correct", path) == 0
    assert "nothing is changed" in capsys.readouterr().out


def test_classes_actors_and_late_answers_are_corrected_too(data, capsys):
    cycle = start(data)
    form = fill_in(read_form(cycle.request))
    late = form["videos"][2]["frames"][1]["frame"]
    form["videos"][2]["frames"][1]["actors"] = None
    answer(data, 0, form)
    pretend_trained(cycle)
    first, second, third = (video["video"] for video in form["videos"])
    form["videos"][0]["class"] = "jump"
    form["videos"][1]["frames"][0]["actors"] = []
    form["videos"][2]["frames"][1]["actors"] = [{"track": 1, "box": [1, 1, 9, 9]}]
    path = data.parent / "corrected.json"
    write_form(path, form)
    assert script(data, 1, "--correct", path) == 0
    labels = annotation_file.load(cycle.annotations)
    assert labels.classes[labels.videos[first].label] == "jump"
    assert labels.videos[first].tubes[0].label == labels.videos[first].label
    assert len(labels.videos[second].tubes[0].frames) == 2
    assert len(labels.videos[second].labeled_frames) == 3
    assert late in labels.videos[third].labeled_frames
    row = ledger(data)[0]  # the late frame is bought, the actor that was none stays paid
    assert (row["videos"], row["frames"], row["boxes"], row["cost"]) == ("3", "9", "9", "12")
    assert script(data, 1, "--videos", "1", "--frames", "2") == 0
    assert answer(data, 1, fill_in(read_form(Cycle(cycle.run, 1).request))) == 0
    assert [row["cost"] for row in ledger(data)] == ["12", "3"]
    labels = annotation_file.load(Cycle(cycle.run, 1).annotations)
    assert labels.classes[labels.videos[first].label] == "jump"


# ------------------------------------------------------------------------------------ growth


def test_new_videos_are_told_of_and_join(data, capsys):
    cycle = labeled(data)
    write_clip(data / "cam" / "late.avi", 3)
    capsys.readouterr()
    next_one = ["--videos", "1", "--frames", "2"]
    assert script(data, 1, *next_one) == 0
    told = capsys.readouterr().out
    assert "note: 1 video below" in told and "first cam/late): --add-videos" in told
    assert script(data, 1, *next_one, "--add-videos") == 0
    told = capsys.readouterr().out
    assert "joining the pool: 1 video (first cam/late): to be chosen from cycle 2 on" in told
    following = Cycle(cycle.run, 1)
    assert answer(data, 1, fill_in(read_form(following.request))) == 0
    assert "not in the pool" not in capsys.readouterr().out
    labels = annotation_file.load(following.annotations)
    assert len(labels.videos) == 7 and not labels.videos["cam/late"].is_labeled
    assert ledger(data)[1]["notes"] == "1 video added"
    pretend_trained(following)
    assert script(data, 2, "--videos", "3", "--frames", "3") == 0
    asked = {v["video"] for v in read_form(Cycle(cycle.run, 2).request)["videos"]}
    assert "cam/late" in asked
    assert "in the next one, --cycle 2" in refused(script, data, 1, "--add-videos")


def test_new_test_videos_do_not_join(data, tmp_path, capsys):
    cycle = labeled(data)
    for name in ("late", "tested"):
        write_clip(data / "cam" / f"{name}.avi", 3)
    listed = tmp_path / "tests.txt"
    more = ["--videos", "1", "--frames", "2", "--add-videos", "--test-list", str(listed)]
    listed.write_text("cam/testet.avi 1\n")
    said = refused(script, data, 1, *more)
    assert "line 1 'cam/testet.avi 1' (is it 'cam/tested'?)" in said
    listed.write_text("cam/tested.avi 1\n")
    capsys.readouterr()
    assert script(data, 1, *more) == 0
    assert "joining the pool: 1 video (first cam/late)" in capsys.readouterr().out
    assert not (cycle.run.folder / "cycle1" / "annotations.pkl").exists()


def test_classes_are_added_behind_the_others(data, capsys):
    cycle = labeled(data)
    assert script(data, 1, "--videos", "1", "--frames", "2") == 0
    old = read_form(Cycle(cycle.run, 1).request)
    capsys.readouterr()
    assert script(data, 1, "--add-classes", "climb,run") == 0
    told = capsys.readouterr().out
    assert "classes added: climb." in told and "class capsules anew (now 3 classes)" in told
    assert old["classes"] == ["run", "jump"]
    assert answer(data, 1, fill_in(old, "climb")) == 0, "a form from before is fine"
    labels = annotation_file.load(Cycle(cycle.run, 1).annotations)
    assert labels.classes == ("run", "jump", "climb")
    assert sorted(video.label for video in labels.labeled()) == [0, 0, 0, 2]


def test_a_video_is_withdrawn_with_its_labels_and_stays_paid(data, capsys):
    cycle = labeled(data)
    gone = read_form(cycle.answers)["videos"][0]["video"]
    assert script(data, 1, "--withdraw", gone, "--videos", "1", "--frames", "2") == 0
    assert f"withdrawn: 1 video ({gone}), with 3 labeled frames" in capsys.readouterr().out
    assert answer(data, 1, fill_in(read_form(Cycle(cycle.run, 1).request))) == 0
    labels = annotation_file.load(Cycle(cycle.run, 1).annotations)
    assert gone not in labels.videos and labels.counts()["videos"] == 3
    rows = ledger(data)
    assert [row["cost"] for row in rows] == ["12", "3"] and rows[1]["total_cost"] == "15"
    assert "1 video withdrawn" in rows[1]["notes"]
    assert "no such video" in refused(script, data, 2, "--withdraw", "cam/none")


def test_a_chosen_video_that_is_withdrawn_is_no_longer_asked_for(data):
    cycle = start(data)
    form = fill_in(read_form(cycle.request))
    gone = form["videos"][1]["video"]
    assert script(data, 0, "--withdraw", gone) == 0
    assert answer(data, 0, form) == 0
    assert f"{gone}:\n  - was not requested" in cycle.problems.read_text()
    assert gone not in annotation_file.load(cycle.annotations).videos


def test_a_pool_that_is_made_anew_forgets_all_but_who_was_withdrawn(data):
    cycle = start(data)
    form = fill_in(read_form(cycle.request))
    gone, none = form["videos"][0]["video"], form["videos"][1]
    none["class"] = "none of these classes"
    for frame in none["frames"]:
        frame["actors"] = []
    assert script(data, 0, "--withdraw", gone) == 0
    assert answer(data, 0, form) == 0
    start(data, "--force", "--seed", 1, videos=5, frames=5)
    form = fill_in(read_form(cycle.request))
    assert gone not in {video["video"] for video in form["videos"]}
    assert none["video"] in {video["video"] for video in form["videos"]}
    cycle.answers.unlink()
    assert answer(data, 0, form) == 0
    assert (ledger(data)[0]["videos"], ledger(data)[0]["cost"]) == ("5", "10")


def test_parts_of_a_video_take_its_place(data):
    cycle = labeled(data)
    labels = annotation_file.load(cycle.annotations)
    free = next(name for name in labels.videos if not labels.videos[name].is_labeled)
    parts = data.parent / "parts.csv"
    parts.write_text(f"video,start,end\n{free},0f,10f\n{free},12f,24f\n")
    flags = ["--videos", "1", "--frames", "1"]
    assert script(data, 1, *flags, "--add-videos", "--segments", parts) == 0
    assert answer(data, 1, fill_in(read_form(Cycle(cycle.run, 1).request))) == 0
    names = list(annotation_file.load(Cycle(cycle.run, 1).annotations).videos)
    assert free not in names and f"{free}_f000012-000023" in names
    kinds = [change["change"] for change in read_changes(Run(cycle.run.folder))]
    assert kinds == ["start", "withdrawn", "added"]


# -------------------------------------------------------------------- what a clip is trained on


def test_a_clip_is_trained_on_the_class_of_its_labeled_actors():
    def tube(label, track, *frames):
        return Tube(label, track, frames, [[0, 0, 9, 9]] * len(frames))

    rng = np.random.default_rng(0)
    one = Video("v", 40, 60, 80, 0, [5, 20], (tube(0, 1, 5, 20),))
    state = rng.bit_generator.state
    assert clip_class(one, np.arange(8), 5, rng) == 0
    assert rng.bit_generator.state == state, "nothing is drawn for one class"
    tubes = (tube(0, 1, 5), tube(1, 2, 20), tube(1, 3, 30), tube(0, 4, 30))
    two = Video("v", 40, 60, 80, 0, [2, 5, 20, 30], tubes)
    assert clip_class(two, np.arange(16, 32, 2), 20, rng) == 1
    assert clip_class(two, np.arange(0, 16, 2), 5, rng) == 0
    assert clip_class(two, np.arange(8), 2, rng) == 0, "of the clip, where the anchor has none"
    drawn = {clip_class(two, np.arange(24, 40, 2), 30, rng) for _ in range(30)}
    assert drawn == {0, 1}
    assert clip_class(two, np.arange(24, 40, 2), 30, None) == 0
