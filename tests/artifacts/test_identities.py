"""A run knows which file each of its videos is: what a changed one is told, and what may
change without a word.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_videos import gray_frames

from claus.artifacts.cycle import Run
from claus.artifacts.identities import IdentifiedVideos, of_labels, of_run
from claus.datasets import jhmdb, table, ucf101
from claus.datasets.clips.geometry import ClipGeometry
from claus.datasets.clips.tiles import TileLoader, Unreadable, VideoTiles
from claus.datasets.labels.annotations import Video
from claus.datasets.sprites import write_video
from claus.datasets.video.identity import SAMPLES, STRETCH, changes, identity_of
from claus.utils.runtime import UserError

NAME, COUNT = "Run/clip", 40


def write(path, frames=None, rate=25, codec="mpeg4", turn=None):
    """A video in any container."""
    frames = gray_frames(COUNT) if frames is None else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=rate, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = 12, 1
        stream.codec_context.flags |= 1 << 23  # bitexact
        if turn is not None:
            stream.set_display_rotation(turn)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def run(tmp_path):
    """A run that has seen data/Run/clip.mp4."""
    write(tmp_path / "data" / "Run" / "clip.mp4")
    run = Run(tmp_path / "files" / "r")
    assert finder(run)(NAME) == tmp_path / "data" / "Run" / "clip.mp4"
    return run


@pytest.fixture
def clip(run, tmp_path):
    return tmp_path / "data" / "Run" / "clip.mp4"


def finder(run, data=None, **more):
    """What a later process of the run finds videos with."""
    data = data or run.folder.parents[1] / "data"
    return of_run(run, table.video_finder("ucf101", data), **more)


def told(run, *data):
    """The line that a changed video gives: one line, with its file, the run's and a fix."""
    with pytest.raises(UserError) as error:
        finder(run, *data)(NAME)
    line = str(error.value)
    assert "\n" not in line and str(run.identities) in line
    assert "give the file that was labeled" in line or "again" in line
    return line


def test_what_is_recorded(run, clip):
    (line,) = run.identities.read_text().splitlines()
    record = json.loads(line)
    assert record["video"] == NAME and record["file"] == "clip.mp4"
    assert record["bytes"] == clip.stat().st_size
    assert (record["frames"], record["height"], record["width"]) == (COUNT, 48, 64)
    assert record["codec"] == "mpeg4" and record["rate"] == "25"
    finder(run)(NAME)
    assert run.identities.read_text() == line + "\n"


def test_cut_in_front_or_behind(run, clip):
    write(clip, gray_frames(COUNT)[3:])
    assert f"{clip}: is not the video" in told(run)
    assert "cut in front, or another file: 40 frames before, 37 now" in told(run)
    write(clip, gray_frames(COUNT)[:-3])
    assert "cut at its end: 40 frames before, 37 now" in told(run)


def test_another_file_of_the_same_length_and_bytes_written_within_one_tick(run, clip):
    before = clip.stat()
    write(clip, gray_frames(COUNT)[::-1])
    content = clip.read_bytes()
    assert "another file of the same length and picture size" in told(run)
    clip.write_bytes(content[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert clip.stat().st_size == before.st_size
    assert clip.stat().st_mtime_ns == before.st_mtime_ns
    told(run)


def test_encoded_again_at_another_rate_with_another_codec_or_size(run, clip):
    write(clip, np.repeat(gray_frames(COUNT), 2, axis=0), rate=60)
    assert (
        "re-encoded, or another file: 25 frames/s before, 60 now, 40 frames before, 80"
        in told(run)
    )
    write(clip, codec="mpeg1video")
    assert "re-encoded, or another file: mpeg4 before, mpeg1video now" in told(run)
    write(clip, gray_frames(COUNT, 96, 128))
    assert "64x48 before, 128x96 now" in told(run)


def test_rotated_by_metadata_alone(run, clip):
    write(clip, turn=90)
    line = told(run)
    assert "shown another way: 64x48 before, 48x64 (rotated" in line


def test_another_ending(run, clip):
    renamed = clip.rename(clip.with_suffix(".mov"))
    assert "renamed from clip.mp4, with the same content" in told(run)
    assert "name it clip.mp4 again" in told(run)
    write(renamed.with_suffix(".avi"))
    renamed.unlink()
    assert "clip.mp4 was recorded and is gone, clip.avi is another file" in told(run)


def test_a_converted_copy_beside_the_original_is_no_replacement(run, clip, tmp_path, capsys):
    write(clip.with_suffix(".avi"))  # what is found first where nothing is recorded
    assert finder(run)(NAME) == clip
    assert capsys.readouterr().err == ""
    other = Run(tmp_path / "files" / "other")
    assert finder(other)(NAME) == clip.with_suffix(".avi")
    assert "beside it lies clip.mp4, which is not read" in capsys.readouterr().err
    assert finder(other)(NAME) == clip.with_suffix(".avi")
    assert capsys.readouterr().err == ""


def test_moved_and_copied_folders_pass(run, clip, tmp_path):
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert finder(run, tmp_path / "moved")(NAME) == tmp_path / "moved" / "Run" / "clip.mp4"
    shutil.copytree(tmp_path / "moved", tmp_path / "copied", copy_function=shutil.copyfile)
    assert finder(run, tmp_path / "copied")(NAME).is_file()
    write(tmp_path / "copied" / "Run" / "clip.mp4", gray_frames(COUNT)[1:])
    told(run, tmp_path / "copied")


def test_an_old_run_says_that_it_is_recorded_from_now_on_and_claims_nothing(run, clip, capsys):
    run.identities.unlink()
    capsys.readouterr()
    finder(run)
    assert capsys.readouterr().out == ""  # nothing says that it has read a video
    run.pool.write_bytes(b"")
    write(clip, gray_frames(COUNT)[3:])
    assert finder(run)(NAME) == clip
    assert "has no identities.jsonl" in capsys.readouterr().out
    assert finder(run)(NAME) == clip
    assert capsys.readouterr().out == ""


def test_a_file_is_opened_again_only_where_it_was_touched(run, clip, monkeypatch):
    monkeypatch.setattr("claus.artifacts.identities._identity", lambda path: 1 / 0)
    find = finder(run)
    assert find(NAME) == clip
    os.utime(clip)
    assert find(NAME) == clip  # once a process
    with pytest.raises(ZeroDivisionError):
        finder(run)(NAME)


def test_what_cannot_be_read_is_left_to_its_reader(run, clip, tmp_path):
    clip.with_name("bad.avi").write_bytes(b"no video")
    find = finder(run)
    assert find("Run/bad").name == "bad.avi"
    with pytest.raises(UserError, match="no file"):
        find("Run/missing")
    assert len(run.identities.read_text().splitlines()) == 1


def test_incomplete_lines_are_passed_over_and_the_first_line_counts(run, clip):
    line = run.identities.read_text()
    other = json.dumps({**json.loads(line), "digest": "0" * 32, "state": None})
    run.identities.write_text(line + "[1]\n")
    with pytest.raises(UserError, match="identities.jsonl, line 2: is not an object; take"):
        finder(run)(NAME)
    run.identities.write_text('{"video": "Run/clip", "fi\n' + line + other + '\n{"vid')
    assert finder(run)(NAME) == clip
    write(clip.with_name("more.avi"))
    finder(run)("Run/more")
    assert finder(run)("Run/more").name == "more.avi"
    assert json.loads(run.identities.read_text().splitlines()[-1])["video"] == "Run/more"


def test_a_video_is_read_where_it_cannot_be_recorded(clip, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    find = table.video_finder("ucf101", tmp_path / "data")
    assert IdentifiedVideos(find, tmp_path / "file" / "identities.jsonl")(NAME) == clip
    assert "would not be noticed" in capsys.readouterr().err


def test_loading_processes_check_and_record(run, clip):
    write(clip.with_name("new.avi"), gray_frames(20))
    write(clip, gray_frames(COUNT)[::-1])
    videos = [Video("Run/new", 20, 48, 64), Video(NAME, COUNT, 48, 64)]
    find = pickle.loads(pickle.dumps(finder(run)))
    tiles = VideoTiles(videos, find, ClipGeometry((48, 64), (48, 64), 16))
    seen = {}
    for video, chunks in TileLoader(tiles, 2):
        try:
            seen[video.name] = sum(len(chunk["clips"]) for chunk in chunks)
        except Unreadable as error:
            seen[video.name] = str(error)
    assert seen["Run/new"] == 2 and "another file of the same length" in seen[NAME]
    known = [json.loads(line)["video"] for line in run.identities.read_text().splitlines()]
    assert known[0] == NAME and set(known[1:]) == {"Run/new"}


# ------------------------------------------------------------------- annotation files by hand


def test_an_annotation_file_given_by_hand_brings_its_runs_videos(run, clip, tmp_path):
    other, labels = Run(tmp_path / "files" / "other"), run.cycle(0).annotations
    assert finder(other, annotations=labels)(NAME) == clip
    assert other.identities.read_text() == run.identities.read_text()
    write(clip, gray_frames(COUNT)[3:])
    third = Run(tmp_path / "files" / "third")
    with pytest.raises(UserError, match="files/r/identities.jsonl records .cut in front"):
        finder(third, annotations=labels)(NAME)
    assert not third.identities.exists()
    assert finder(third, annotations=tmp_path / "elsewhere" / "a.pkl")(NAME) == clip


def test_test_videos_may_have_the_names_of_training_videos(run, clip, tmp_path):
    write(tmp_path / "tests" / "Run" / "clip.mp4", gray_frames(30))
    find = table.video_finder("ucf101", tmp_path / "tests")
    labels = tmp_path / "labels.pkl"
    assert of_labels(run, find, labels)(NAME).parent.parent.name == "tests"
    write(tmp_path / "tests" / "Run" / "clip.mp4", gray_frames(20))
    with pytest.raises(UserError, match="test_identities.jsonl"):
        of_labels(run, find, labels)(NAME)
    assert finder(run)(NAME) == clip


# ------------------------------------------------------------------------------------ files


@pytest.fixture
def images(tmp_path):
    """A folder of ten numbered images, data/Run/clip/."""
    folder = tmp_path / "data" / "Run" / "clip"
    folder.mkdir(parents=True)
    for number, frame in enumerate(gray_frames(10), start=1):
        cv2.imwrite(str(folder / f"{number:05d}.png"), frame)
    return folder


def test_a_folder_of_images(images, tmp_path):
    run = Run(tmp_path / "files" / "r")

    def find():
        return of_run(run, table.video_finder("jhmdb", tmp_path / "data"))(NAME)

    assert find() == find() == images
    write(images.with_suffix(".avi"))  # comes before images where nothing is recorded
    assert find() == images
    size = (images / "00005.png").stat().st_size
    other = gray_frames(40)[39]
    cv2.imwrite(str(images / "00005.png"), other)
    assert (images / "00005.png").stat().st_size == size  # one picture, of the same size
    with pytest.raises(UserError, match="written again or changed behind its beginning"):
        find()
    (images / "00010.png").unlink()
    with pytest.raises(UserError, match="cut at its end: 10 frames before, 9 now"):
        find()
    shutil.rmtree(images)
    with pytest.raises(UserError, match="clip/ was recorded and is gone, clip.avi is another"):
        find()


def test_of_a_long_file_stretches_are_compared(tmp_path):
    path, rng = tmp_path / "long.avi", np.random.default_rng(0)
    write_video(path, rng.integers(0, 256, (60, 240, 320, 3), np.uint8))
    known, content = identity_of(path), path.read_bytes()
    size = len(content)
    assert size > 2 * SAMPLES * STRETCH and changes(known, identity_of(path)) == ""
    for place in (size - 1, (size - STRETCH) * 7 // (SAMPLES - 1)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        text = changes(known, identity_of(path))
        assert text == f"written again or changed behind its beginning: {size} bytes"


# ------------------------------------------------------------------------------- real videos


@pytest.mark.parametrize("rate", [25, 50, 60])
def test_real_clips_that_are_encoded_again(shared_data, tmp_path, rate):
    root = shared_data / "ucf101_24"
    for name in ucf101.scan_videos(root)[:2]:
        source = ucf101.find_video(root, name)
        path = tmp_path / name.partition("/")[0] / source.name
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, path)
        run = Run(tmp_path / "files" / "r")
        of_run(run, table.video_finder("ucf101", tmp_path))(name)
        with av.open(str(source)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        write(path, np.stack(frames), rate)
        with pytest.raises(UserError, match=f"29.97 frames/s before, {rate} now|another file"):
            of_run(run, table.video_finder("ucf101", tmp_path))(name)


def test_real_jhmdb_clips_pass(shared_data, tmp_path):
    root, run = shared_data / "jhmdb", Run(tmp_path / "r")
    names = jhmdb.scan_videos(root)[::93]
    for _ in range(2):
        find = of_run(run, table.video_finder("jhmdb", root))
        assert all(Path(find(name)).exists() for name in names)
    assert len(run.identities.read_text().splitlines()) == len(names)


def test_without_recording_nothing_is_written(run, clip, tmp_path):
    write(clip.with_name("new.avi"))
    find = IdentifiedVideos(
        table.video_finder("ucf101", tmp_path / "data"), run.identities, record=False
    )
    before = run.identities.read_text()
    assert find(NAME) == clip and find("Run/new").name == "new.avi"
    assert run.identities.read_text() == before
