"""A run on one long video, cut by --segment: two cycles from the first request to an
evaluation, with a person's answers. Every picture shows the number that its frame has in
the whole video, so that what is asked, trained on, scored and drawn can be read back.
"""

import json

import numpy as np
import pytest
from made_videos import counts_shown, write_counted
from PIL import Image

import claus_select
import cluster_extract
import evaluate
import report
import train_ucf101
from claus.annotators.form import read_form, write_form
from claus.artifacts.cycle import Cycle
from claus.artifacts.scores import load_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.datasets.clips import training_clips
from claus.datasets.labels import annotations as annotation_file
from claus.experiments.report import pictures as report_pictures
from claus.steps import evaluate as evaluate_step
from claus.steps import extract as extract_step
from claus.utils import overlays

FRAMES, LENGTH = 3000, 250  # two minutes in segments of ten seconds
SMALL = ["--model", "small", "--pretrained", "none", "--device", "cpu"]
SHORT = [*SMALL, "--epochs", "1", "--steps", "2", "--bn-batches", "1", "--workers", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with data/cam/street.mp4 and .../short.mp4, test/cam/yard.mp4."""
    folder = tmp_path_factory.mktemp("segments")
    write_counted(folder / "data" / "cam" / "street.mp4", FRAMES)
    write_counted(folder / "data" / "cam" / "short.mp4", 100)
    write_counted(folder / "test" / "cam" / "yard.mp4", 700)
    return folder


def flags(place, run, cycle, data="data"):
    return ["--run", f"{place}/{run}", "--cycle", str(cycle), "--data", f"{place}/{data}"]


def ask(place, run, cycle, *more, data="data"):
    """Choose -> the form, after a look at the pictures beside it."""
    assert claus_select.main([*flags(place, run, cycle, data), *more]) == 0
    folder = Cycle.of(f"{place}/{run}", cycle).folder
    form = read_form(folder / "request.json")
    paths = set()
    for video in form["videos"]:
        for frame in video["frames"]:
            path = folder / "frames" / video["video"] / f"frame_{frame['frame']:05d}.png"
            shown = counts_shown(np.asarray(Image.open(path))[None])
            assert shown == [frame["frame"]], "the picture of this frame of the whole video"
            paths.add(path)
            first, last = video.get("segment", {"frames": [0, 99]})["frames"]
            assert first <= frame["frame"] <= last
    assert set((folder / "frames").rglob("*.png")) == paths
    return form


def fill_in(form):
    """The class changes from segment to segment; the box says where a frame lies."""
    for video in form["videos"]:
        first = video.get("segment", {"frames": [0, 99]})["frames"][0]
        video["class"] = ("run", "wave")[first // LENGTH % 2]
        for frame in video["frames"]:
            frame["actors"] = [{"track": 1, "box": [frame["frame"] % 40, 2, 20, 30]}]
    return form


def take_in(place, run, cycle, form, data="data"):
    path = place / f"{run}{cycle}.json"
    write_form(path, form)
    return claus_select.main([*flags(place, run, cycle, data), "--answers", str(path)])


def labels_of(place, run, cycle):
    return annotation_file.load(Cycle.of(f"{place}/{run}", cycle).annotations)


def check_labels(labels, form):
    """Each label lies on the frame that was asked for."""
    for asked in form["videos"]:
        video = labels.videos[asked["video"]]
        numbers = [frame["frame"] for frame in asked["frames"]]
        own = np.isin(video.labeled_frames + video.first, numbers)
        assert own.sum() == len(numbers)
        assert labels.classes[video.label] == asked["class"]
        (tube,) = video.tubes
        assert tube.boxes[:, 0].tolist() == ((tube.frames + video.first) % 40).tolist()


@pytest.fixture(scope="module")
def trained(place):
    """The run after the training of cycle 0, and the numbers that its clips showed."""
    start = ["--any-folder", "--classes", "run,wave", "--segment", "10s"]
    form = ask(place, "mine", 0, *start, "--videos", "13", "--frames", "26")
    assert len(form["videos"]) == 13, "twelve segments, and the short video as it is"
    assert take_in(place, "mine", 0, fill_in(form)) == 0
    check_labels(labels_of(place, "mine", 0), form)
    shown, real = [], training_clips.TrainingClips.clip

    def watched(self, video, anchor, rng=None):
        clip = real(self, video, anchor, None)
        shown.append((video, anchor, clip["anchor"], counts_shown(clip["frames"].numpy())))
        return clip

    patch = pytest.MonkeyPatch()
    patch.setattr(training_clips.TrainingClips, "clip", watched)
    assert train_ucf101.main([*flags(place, "mine", 0), *SHORT]) == 0
    patch.undo()
    return place, shown


def test_the_form_says_which_part_of_which_video(place, trained):
    form = read_form(Cycle.of(f"{place}/mine", 0).request)
    by_name = {video["video"]: video for video in form["videos"]}
    assert sorted(by_name)[:3] == [
        "cam/short",
        "cam/street_f000000-000249",
        "cam/street_f000250-000499",
    ]
    assert by_name["cam/street_f002750-002999"]["segment"] == {
        "video": "cam/street",
        "frames": [2750, 2999],
        "time": ["0:01:50.000", "0:02:00.000"],
    }
    assert "segment" not in by_name["cam/short"]
    assert form["how_to_answer"].startswith("A video with a segment is only that part")
    rows = load_selection(Cycle.of(f"{place}/mine", 0).selection)["videos"]
    for row in rows:
        asked = [frame["frame"] for frame in by_name[row["video"]]["frames"]]
        assert [frame["frame"] for frame in row["frames"]] == asked
        assert row.get("segment") == by_name[row["video"]].get("segment")
    ledger = (place / "mine" / "ledger.csv").read_text().splitlines()
    assert ledger[1].split(",")[:5] == ["0", "13", "26", "26", "39"], "13 videos, 26 frames"


def test_training_shows_the_frames_that_were_labeled(trained):
    _, shown = trained
    assert shown
    for video, anchor, at, numbers in shown:
        assert numbers[at] == video.first + anchor
        assert video.first <= min(numbers) <= max(numbers) < video.first + video.frames


def test_extraction_shows_each_segment_its_frames_and_is_resumable(trained, monkeypatch):
    place, _ = trained
    cycle, seen, real = Cycle.of(f"{place}/mine", 0), [], extract_step.score_video

    def watched(detector, video, chunks, *rest):
        def looked_at():
            for chunk in chunks:
                numbers = counts_shown(chunk["clips"].numpy().reshape(-1, 3, 64, 64))
                assert numbers == (chunk["frames"] + video.first).reshape(-1).tolist()
                yield chunk

        seen.append(video.name)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return real(detector, video, looked_at(), *rest)

    monkeypatch.setattr(extract_step, "score_video", watched)
    command = [*flags(place, "mine", 0), "--device", "cpu", "--passes", "1", "--workers", "0"]
    with pytest.raises(KeyboardInterrupt):
        cluster_extract.main(command)
    assert cluster_extract.main(command) == 0
    names = list(labels_of(place, "mine", 0).videos)
    assert seen[:5] + seen[6:] == names and seen[5] == seen[6], "five were kept"
    scores = load_uncertainty(cycle.uncertainty)
    assert scores.videos == names and np.diff(scores.offsets).tolist() == [100] + 12 * [250]


@pytest.fixture(scope="module")
def second(trained):
    """The form of cycle 1, which asks for further frames of the same segments."""
    place, _ = trained
    scores = Cycle.of(f"{place}/mine", 0).uncertainty
    if not scores.exists():
        command = [*flags(place, "mine", 0), "--device", "cpu", "--passes", "1"]
        assert cluster_extract.main([*command, "--workers", "0"]) == 0
    more = ["--increment", "frames", "--videos", "4", "--frames", "8"]
    return place, ask(place, "mine", 1, *more)


def test_the_second_cycle_goes_on_with_the_same_numbers(second):
    place, form = second
    first = read_form(Cycle.of(f"{place}/mine", 0).answers)
    earlier = {video["video"]: video for video in first["videos"]}
    for video in form["videos"]:
        before = earlier[video["video"]]
        assert video["class"] == before["class"]
        assert video["labelled_before"] == [
            {"frame": frame["frame"], "actors": frame["actors"]} for frame in before["frames"]
        ]
    wrong = json.loads(json.dumps(form))
    entry = next(video for video in wrong["videos"] if video.get("segment", 0))
    number = entry["frames"][0]["frame"]
    entry["frames"][0]["frame"] = number - entry["segment"]["frames"][0]
    if entry["segment"]["frames"][0]:
        assert take_in(place, "mine", 1, fill_in(wrong)) == 0
        problems = Cycle.of(f"{place}/mine", 1).problems.read_text()
        assert f"frames {number} are missing: were numbers changed?" in problems
    assert take_in(place, "mine", 1, fill_in(form)) == 0
    labels = labels_of(place, "mine", 1)
    check_labels(labels, form)
    check_labels(labels, first)
    assert labels.counts() == {"videos": 13, "frames": 34, "boxes": 34}
    assert train_ucf101.main([*flags(place, "mine", 1), *SHORT]) == 0


def test_evaluation_and_its_pictures_show_the_frames_of_the_whole_video(
    trained, monkeypatch, capsys
):
    place, _ = trained
    (place / "parts.csv").write_text(
        "video,start,end\n# two actions, one after the other\n"
        "yard.mp4,0:04,0:10\ncam/yard,250f,400f\nyard,0:20,0:24.8\n"
    )
    start = ["--any-folder", "--classes", "run,wave", "--segments", f"{place}/parts.csv"]
    form = ask(place, "tests", 0, *start, "--videos", "3", "--frames", "12", data="test")
    assert {video["video"][-7:] for video in form["videos"]} == {
        "-000249",
        "-000399",
        "-000619",
    }
    assert take_in(place, "tests", 0, fill_in(form), data="test") == 0
    assert "3 segments of 1 video, 120 to 150 frames each" in capsys.readouterr().out
    truth = labels_of(place, "tests", 0)
    check_labels(truth, form)
    scored, drawn = [], []
    real = evaluate_step.score_video, overlays.draw_example

    def watched(detector, video, chunks, *rest):
        def looked_at():
            for chunk in chunks:
                frames = chunk["frames"].reshape(-1)
                numbers = counts_shown(chunk["clips"].numpy().reshape(-1, 3, 64, 64))
                kept = np.array(numbers)[frames >= 0]
                assert kept.tolist() == (frames[frames >= 0] + video.first).tolist()
                yield chunk

        scored.append(video.name)
        return real[0](detector, video, looked_at(), *rest)

    def looked_at_too(stem, example, blocks):
        blocks = list(blocks)
        numbers = [counts_shown(pictures) for _, pictures, *_ in blocks]
        assert np.concatenate(numbers).tolist() == [
            *range(example.first, example.first + len(example.iou_F))
        ]
        drawn.append(example.name)
        return real[1](stem, example, iter(blocks[:1]))

    monkeypatch.setattr(evaluate_step, "score_video", watched)
    monkeypatch.setattr(overlays, "draw_example", looked_at_too)
    labels = str(Cycle.of(f"{place}/tests", 0).annotations)
    command = [*flags(place, "mine", 0, "test"), "--labels", labels, "--device", "cpu"]
    assert evaluate.main([*command, "--visualize", "1", "--workers", "0"]) == 0
    assert scored == list(truth.videos) and set(drawn) == set(scored)
    written = json.loads(Cycle.of(f"{place}/mine", 0).evaluation.read_text())
    assert written["capsule"]["videos"] == 3 and written["capsule"]["frames"] == 12


def test_the_report_shows_the_picked_frames(second, monkeypatch):
    place, form = second
    strips, real = [], report_pictures.uncertainty_strip

    def watched(title, scores_F, picked, before, first=0, frames=None):
        assert counts_shown(frames(picked)) == picked
        strips.append((title.split(" ")[0], picked))
        return real(title, scores_F, picked, before, first, frames)

    monkeypatch.setattr(report_pictures, "uncertainty_strip", watched)
    assert report.main([f"{place}/mine", "--data", f"{place}/data"]) == 0
    asked = {v["video"]: [frame["frame"] for frame in v["frames"]] for v in form["videos"]}
    assert strips and all(asked[name] == picked for name, picked in strips)


@pytest.mark.parametrize(
    "more, said",
    [
        (["--cycle", "1", "--segment", "10s"], "--segment has an effect only in cycle 0"),
        (["--cycle", "0", "--oracle", "x", "--segments", "x"], "--segments has an effect only"),
        (["--cycle", "0", "--segment", "9s", "--segments", "x"], "not allowed with"),
    ],
)
def test_flags_without_effect_are_refused(more, said, capsys):
    with pytest.raises(SystemExit):
        claus_select.main(["--run", "x", *more])
    assert said in capsys.readouterr().err
