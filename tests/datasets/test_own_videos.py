"""A pool from the videos on disk: what is found, counted, kept, and left out."""

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_videos import gray_frames

import claus_select
from claus.annotators.form import read_form, write_form
from claus.datasets import own_videos as own_videos
from claus.datasets import sprites
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.own_videos import read_classes, read_pool
from claus.datasets.ucf101 import CLASSES, find_video, scan_videos
from claus.flags.selection import parse
from claus.utils.runtime import UserError


def write_video(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24))
    for frame in range(frames):
        writer.write(np.full((24, 32, 3), 10 * frame, np.uint8))
    writer.release()


@pytest.fixture
def data(tmp_path):
    for name, frames in (
        ("Biking/v_a", 9),
        ("Biking/v_b", 12),
        ("Diving/v_c", 10),
        ("Cooking/v_d", 8),
    ):
        write_video(tmp_path / "data" / "UCF-101" / f"{name}.avi", frames)
    return tmp_path / "data"


def test_videos_of_the_classes_are_counted_once(data, tmp_path, monkeypatch):
    known = tmp_path / "counts.jsonl"
    found, failed = read_pool(data, ("Biking", "Diving"), known=known)
    sizes = [
        (video.name, video.frames, video.height, video.width) for video in found.videos.values()
    ]
    assert sizes == [
        ("Biking/v_a", 9, 24, 32),
        ("Biking/v_b", 12, 24, 32),
        ("Diving/v_c", 10, 24, 32),
    ]
    assert failed == {} and found.classes == ("Biking", "Diving") and not found.labeled()

    known.write_text(known.read_text()[:-7])  # killed while it wrote the last line
    counted = []
    monkeypatch.setattr(
        own_videos, "_probe", lambda path: counted.append(path.stem) or (10, 24, 32)
    )
    read_pool(data, ("Biking", "Diving"), known=known)
    read_pool(data, ("Biking", "Diving"), known=known)
    assert counted == ["v_c"], "only the video whose line was cut is counted again, and once"
    write_video(data / "UCF-101" / "Biking" / "v_a.avi", 5)
    read_pool(data, ("Biking", "Diving"), known=known)
    assert counted == ["v_c", "v_a"], "a file that changed is counted again"


def test_test_videos_stay_out(data, tmp_path):
    (tmp_path / "list.txt").write_text("Biking/v_a.avi 3\n\nDiving/v_c\n")
    found, _ = read_pool(
        data, ("Biking", "Diving"), tmp_path / "list.txt", known=tmp_path / "counts.jsonl"
    )
    assert list(found.videos) == ["Biking/v_b"]
    with pytest.raises(UserError, match="list of test videos cannot be read"):
        read_pool(data, ("Biking",), tmp_path / "no.txt", known=tmp_path / "counts.jsonl")


def test_a_broken_video_is_left_out_and_named_or_stops_with_strict(data, tmp_path):
    (data / "UCF-101" / "Biking" / "v_b.avi").write_bytes(b"not a video")
    (data / "UCF-101" / "Diving" / "v_c.avi").write_bytes(b"")
    found, failed = read_pool(data, ("Biking", "Diving"), known=tmp_path / "counts.jsonl")
    assert list(found.videos) == ["Biking/v_a"] and list(failed) == ["Biking/v_b", "Diving/v_c"]
    with pytest.raises(UserError, match="v_b.avi"):
        read_pool(data, ("Biking", "Diving"), known=tmp_path / "counts.jsonl", strict=True)
    with pytest.raises(UserError, match="none of the 1 videos"):
        read_pool(data, ("Diving",), known=tmp_path / "counts.jsonl")
    with pytest.raises(UserError, match="no video of the classes Skiing"):
        read_pool(data, ("Skiing",), known=tmp_path / "counts.jsonl")


def test_classes_from_a_list_or_a_file(tmp_path):
    assert read_classes(None) == CLASSES
    assert read_classes("Biking, Diving") == ("Biking", "Diving")
    (tmp_path / "classes.txt").write_text("Biking\nCooking\n\n")
    assert read_classes(str(tmp_path / "classes.txt")) == ("Biking", "Cooking")
    with pytest.raises(UserError, match="each once"):
        read_classes("Biking,Biking")


def test_videos_that_no_class_is_known_of_and_other_containers(data, tmp_path, capsys):
    """Any folder, any of the usual containers; with the wrong --data later there are no
    pictures, and it says so.
    """
    with av.open(str(data / "UCF-101" / "Cooking" / "v_e.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", 25, width=32, height=24, pix_fmt="yuv420p")
        for number in range(7):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), 30 * number, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found, _ = read_pool(
        data, ("run", "jump"), known=tmp_path / "counts.jsonl", any_folder=True
    )
    assert [(v.name, v.frames) for v in found.videos.values()][-2:] == [
        ("Cooking/v_e", 7),
        ("Diving/v_c", 10),
    ]
    assert found.classes == ("run", "jump")
    start = [
        "--run",
        f"{tmp_path}/mine",
        "--cycle",
        "0",
        "--classes",
        "run,jump",
        "--videos-count",
        "5",
        "--frames-count",
        "5",
        "--data",
    ]
    with pytest.raises(UserError, match="no video of the classes run, jump.*--any-folder"):
        claus_select.main([*start, str(data)])
    assert claus_select.main([*start, str(data), "--any-folder"]) == 0
    folder = tmp_path / "mine" / "cycle0" / "frames"
    (shown,) = (folder / "Cooking" / "v_e").iterdir()
    assert abs(cv2.imread(str(shown)).mean() - 30 * int(shown.stem.removeprefix("frame_"))) < 4
    shown.unlink()
    (folder.parent / "request.json").write_text(
        "{ half edited"
    )  # a person's, and not read for the pictures
    capsys.readouterr()
    assert claus_select.main([*start, str(tmp_path)]) == 0
    assert (
        "no pictures of the frames of 1 videos" in capsys.readouterr().out
        and not shown.exists()
    )


def test_capital_endings_and_stray_videos(data, tmp_path):
    """What cameras write is found; a video beside the data set's own layout does not hide it."""
    own = tmp_path / "own" / "day1"
    own.mkdir(parents=True)
    avi = (data / "UCF-101" / "Biking" / "v_a.avi").read_bytes()
    for name in ("A.AVI", "b.MOV", "c.mp4", "c.mov", ".hidden.mp4", "notes.txt"):
        (own / name).write_bytes(avi)
    assert scan_videos(own.parent) == ["day1/A", "day1/b", "day1/c"]
    assert [find_video(own.parent, f"day1/{name}").name for name in "Abc"] == [
        "A.AVI",
        "b.MOV",
        "c.mp4",
    ]
    (data / "misc").mkdir()
    (data / "misc" / "x.mp4").write_bytes(avi)
    assert scan_videos(data) == ["Biking/v_a", "Biking/v_b", "Cooking/v_d", "Diving/v_c"]


@pytest.mark.parametrize(
    "more",
    [
        ["--cycle", "1"],
        ["--cycle", "0", "--oracle", "x.pkl"],
        ["--cycle", "0", "--answers", "x.json"],
    ],
)
def test_any_folder_is_refused_where_it_does_nothing(more, capsys):
    with pytest.raises(SystemExit):
        parse(["--run", "x", "--any-folder", *more])
    assert "--any-folder has an effect only in cycle 0" in capsys.readouterr().err


def test_a_run_of_ones_own_videos_from_scan_to_labels(data, tmp_path, capsys):
    (data / "UCF-101" / "Diving" / "v_c.avi").write_bytes(b"")
    run = ["--run", f"{tmp_path}/mine", "--cycle", "0"]
    start = [
        *run,
        "--data",
        str(data),
        "--classes",
        "Biking,Cooking,Diving",
        "--videos-count",
        "2",
        "--frames-count",
        "3",
    ]
    assert claus_select.main(start) == 0
    assert "skipped: 1 video that could not be read, Diving/v_c" in capsys.readouterr().out
    folder = tmp_path / "mine" / "cycle0"
    form = read_form(folder / "request.json")
    assert (
        len(form["videos"]) == 2 and sum(len(video["frames"]) for video in form["videos"]) == 3
    )
    asked = {
        folder / "frames" / video["video"] / f"frame_{frame['frame']:05d}.png": frame["frame"]
        for video in form["videos"]
        for frame in video["frames"]
    }
    assert set((folder / "frames").rglob("*.png")) == set(asked)
    for path, number in asked.items():  # written with gray 10 · its number
        picture = cv2.imread(str(path))
        assert picture.shape == (24, 32, 3) and abs(picture.mean() - 10 * number) < 3
    first = next(iter(asked))
    first.unlink()
    assert claus_select.main(start) == 0 and first.is_file(), (
        "the same command makes the missing picture again"
    )
    sidecars = [first.with_suffix(".json"), first.with_name(f"{first.stem}_mask.png")]
    for sidecar in sidecars:
        sidecar.write_bytes(b"of somebody's labeling tool")
    assert (
        claus_select.main([*start[:-1], "2", "--force"]) == 0
    )  # fewer frames: no picture stays behind
    assert len(list((folder / "frames").rglob("frame_?????.png"))) == 2 and all(
        map(Path.exists, sidecars)
    )
    assert all(any(place.iterdir()) for place in (folder / "frames").rglob("*/"))
    assert claus_select.main([*start, "--force"]) == 0
    for video in form["videos"]:
        video["class"] = video["video"].split("/")[0]
        for frame in video["frames"]:
            frame["actors"] = [{"track": 1, "box": [1, 2, 10, 12]}]
    write_form(folder / "filled.json", form)
    assert claus_select.main([*run, "--answers", str(folder / "filled.json")]) == 0
    labels = annotation_file.load(folder / "annotations.pkl")
    assert labels.counts() == {"videos": 2, "frames": 3, "boxes": 3} and len(labels.videos) == 3
    assert labels.labeled()[0].tubes[0].boxes[0].tolist() == [1, 2, 11, 14]


def test_the_pool_says_which_files_its_videos_are(data, tmp_path, capsys):
    """No picture is drawn of a file that was replaced; choosing again takes the files as they
    are.
    """
    run = tmp_path / "mine"
    start = ["--run", str(run), "--cycle", "0", "--classes", "Biking,Diving"]
    start += ["--videos-count", "3", "--frames-count", "3", "--data", str(data)]
    assert claus_select.main(start) == 0
    pool = annotation_file.load(run / "pool.pkl")
    known = [json.loads(line) for line in (run / "identities.jsonl").read_text().splitlines()]
    assert [record["video"] for record in known] == list(pool.videos)
    assert [record["frames"] for record in known] == [v.frames for v in pool.videos.values()]
    picture = next((run / "cycle0" / "frames").rglob("*.png"))
    name = picture.parent.relative_to(run / "cycle0" / "frames").as_posix()
    picture.unlink()
    (path,) = data.rglob(f"{name}.avi")
    sprites.write_video(path, gray_frames(pool.videos[name].frames, 24, 32)[::-1])
    capsys.readouterr()
    assert claus_select.main(start) == 0
    assert f"{path}: is not the video that {run}" in capsys.readouterr().out
    assert not picture.exists()
    assert claus_select.main([*start, "--force"]) == 0
    out = capsys.readouterr().out
    assert "no pictures" not in out and "identities.jsonl" not in out
    assert picture.exists()


# ---- what is passed over, and what a name does not find ----


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Make files without content below data/; all count as 9 frames."""
    sizes = lambda names, *_: ({name: (9, 24, 32) for name in names}, {})  # noqa: E731
    monkeypatch.setattr(own_videos, "count_frames", sizes)

    def make(*names):
        for name in names:
            file = tmp_path / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
        return tmp_path / "data"

    return make


def pool_of(root, classes=("run",), **more):
    return list(read_pool(root, classes, known=root / "counts.jsonl", **more)[0].videos)


def test_what_is_passed_over_is_counted_by_reason(empty, capsys):
    root = empty(
        *("run/a.mp4", "run/b.avi", "run/b.mp4", "run/c.vob", "run/notes.txt", "d.mp4"),
        *("run/day 2/e.mov", "walk/f.avi", "videos/run/g.avi", "run/images/1.png"),
    )
    assert pool_of(root) == ["run/a", "run/b"]
    assert capsys.readouterr().out == (
        f"note: passed over below {root}: 1 video beside the class folders (first 'd.mp4'); "
        "1 video in deeper folders than <class>/<video> (first 'run/day 2/e.mov'); "
        "1 video beside the class folders in another folder layout (first "
        "'videos/run/g.avi'); 1 folder of images, which --dataset jhmdb reads (first "
        "'run/images'); 1 file with other endings, .vob (first 'run/c.vob'); 1 file of the "
        "same name as another (first 'run/b.mp4'); 1 video in 1 folder of no class (walk)\n"
    )
    assert pool_of(empty("run/a.mp4"), any_folder=True) == [
        *("d", "run/a", "run/b", "run/day 2/e", "videos/run/g", "walk/f")
    ]


def test_nothing_is_said_where_nothing_is_passed_over(empty, capsys):
    assert pool_of(empty("run/a.mp4", "run/b.mp4", "run/.hidden.mp4")) == ["run/a", "run/b"]
    assert capsys.readouterr().out == ""


def test_flat_and_nested_folders(empty, tmp_path):
    root = empty("a.mp4", "b.M2TS")
    assert pool_of(root, any_folder=True) == ["a", "b"] == scan_videos(root)
    assert find_video(root, "b") == root / "b.M2TS"
    with pytest.raises(UserError, match="no video of the classes run.*--any-folder"):
        pool_of(root)
    root = empty("deep/cam 1/run/c.wmv", "deep/cam 2/run/d.3gp", "deep/x/walk/e.gif") / "deep"
    assert pool_of(root) == ["cam 1/run/c", "cam 2/run/d"]
    assert find_video(root, "x/walk/e") == root / "x/walk/e.gif"
    (root / "x" / "loop").symlink_to(root)
    assert len(scan_videos(root)) == 3, "a link to a folder above is not followed"


def test_a_folder_that_cannot_be_opened_is_counted(empty, capsys, monkeypatch):
    root = empty("run/a.mp4", "run/closed/b.mp4")
    scandir = os.scandir

    def closed(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    assert pool_of(root) == ["run/a"]
    assert "1 folder that cannot be opened (first 'run/closed/')" in capsys.readouterr().out


def test_a_class_that_is_no_folder_stops(empty):
    root = empty("run/a.mp4", "Jump/b.mp4", "cafe\u0301/c.mp4")
    with pytest.raises(
        UserError, match="is called 'jump' .is it 'Jump'.., 'fly', of --classes"
    ):
        pool_of(root, ("run", "jump", "fly"))
    assert pool_of(root, ("run", "caf\u00e9")) == ["cafe\u0301/c", "run/a"]


def test_class_names_in_many_forms(tmp_path):
    assert read_classes(", ".join(CLASSES)) == CLASSES, "longer than a path may be"
    (tmp_path / "a.txt").write_bytes("2 jump\r\n1 run".encode("utf-16"))
    assert read_classes(str(tmp_path / "a.txt")) == ("run", "jump")
    (tmp_path / "a.txt").write_text("stage 1\nstage 2\n")
    assert read_classes(str(tmp_path / "a.txt")) == ("stage 1", "stage 2")
    (tmp_path / "a.txt").write_text("run 3\njump 9\n")
    for text, said in (
        (str(tmp_path / "a.txt"), "do not count from 0 or 1"),
        ("clases.txt", "clases.txt: no such file"),
        ("caf\u00e9,cafe\u0301", "comes twice"),
        (" , ", "names no class"),
        ("a/b,c", "is no name of a class"),
    ):
        with pytest.raises(UserError, match=said):
            read_classes(text)


def test_a_test_list_that_names_everything_leaves_nothing(empty, tmp_path):
    root = empty("run/a.mp4")
    (tmp_path / "list.txt").write_text("run/a.mp4")
    with pytest.raises(UserError, match="list.txt: names every video below"):
        pool_of(root, test_list=tmp_path / "list.txt")
