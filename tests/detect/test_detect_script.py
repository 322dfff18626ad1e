"""detect.py from the command line: what is written, read back, resumed and refused."""

import csv
import json
import xml.etree.ElementTree as ET

import av
import numpy as np
import pytest
from PIL import Image

import claus
import detect
from claus.datasets.labels.masks import decode_rle
from claus.datasets.sprites import write_video
from claus.datasets.video.reader import VideoError
from claus.detection import network, overlay
from claus.detection.network import Prediction
from claus.detection.tubes import TubeSettings
from claus.steps.detect import videos_of
from claus.utils import picture_text
from claus.utils.runtime import UserError

HEIGHT, WIDTH, FRAMES = 91, 121, 40  # odd sides


@pytest.fixture(autouse=True)
def two_actors(monkeypatch):
    """The network sees two squares that move; the second is missed in two frames."""

    def predict(self, tiles):
        parts = [of_tile(tile) for tile in tiles]
        frames, probs, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Prediction(frames, probs, scores)

    def of_tile(tile):
        clips = network.clips_of(tile, tile.pictures.shape[1] - 1).frames
        probs = np.zeros((*clips.shape, 160, 160), np.float32)
        for place, frame in np.ndenumerate(clips):
            x = 10 + frame
            probs[place][20:60, x : x + 30] = 0.9
            if frame not in (10, 11):
                probs[place][90:130, 130 - x : 160 - x] = 0.75
        scores = np.full((len(clips), 21), 0.01, np.float32)
        scores[:, 11] = 0.6
        scores[:, 5] = 0.1
        return clips, probs, scores

    monkeypatch.setattr(network.Network, "predict", predict)


@pytest.fixture
def video(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)
    (tmp_path / "cam").mkdir()
    write_video(tmp_path / "cam" / "street.avi", frames)
    return tmp_path / "cam" / "street.avi"


def run(video, tmp_path, *more):
    out = tmp_path / "out"
    status = detect.main([str(video), "--out", str(out), "--device", "cpu", *more])
    return status, out


def test_every_form_reads_back_to_the_same_boxes(video, tmp_path):
    forms = "json,csv,mot,coco,cvat,cvat-images"
    status, out = run(video, tmp_path, "--format", forms)
    assert status == 0
    content = json.loads((out / "street.json").read_text())
    assert (content["width"], content["height"], content["frames"]) == (WIDTH, HEIGHT, FRAMES)
    first, second = content["tubes"]
    assert first["class"] == second["class"] == "run"
    assert first["frames"] == second["frames"] == list(range(FRAMES))
    assert first["score"] == pytest.approx(0.9 * 0.6) == first["scores"]["run"]
    assert [k for k, x in enumerate(second["foreground"]) if x is None] == [10, 11]
    assert first["boxes"][3] == pytest.approx(
        [13 * WIDTH / 160, 20 * HEIGHT / 160, 43 * WIDTH / 160, 60 * HEIGHT / 160], abs=1e-3
    )
    assert first["times"][:2] == [0, pytest.approx(1 / 25, abs=0.02)]
    boxes = {
        (tube["tube"], frame): box
        for tube in content["tubes"]
        for frame, box in zip(tube["frames"], tube["boxes"], strict=True)
    }

    def same(found, within):
        assert found.keys() == boxes.keys()
        for key, box in found.items():
            assert box == pytest.approx(boxes[key], abs=within)

    with open(out / "street.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == "video frame time tube class score x y w h".split()
    same({(int(r["tube"]), int(r["frame"])): corners(r.values()) for r in rows}, 2e-3)
    mot = [line.split(",") for line in (out / "street.mot.txt").read_text().splitlines()]
    same({(int(r[1]), int(r[0]) - 1): corners(r[2:6]) for r in mot}, 2e-3)
    names = (out / "street.mot.labels.txt").read_text().split()
    assert {names[int(r[7]) - 1] for r in mot} == {"run"}
    coco = json.loads((out / "street.coco.json").read_text())
    frame_of = {image["id"]: image["frame_id"] for image in coco["images"]}
    assert len(frame_of) == FRAMES
    found = {
        (a["track_id"], frame_of[a["image_id"]]): corners(a["bbox"])
        for a in coco["annotations"]
    }
    same(found, 2e-3)
    found, filled = {}, 0
    for track in ET.parse(out / "street.cvat.xml").iter("track"):
        for box in track.iter("box"):
            if box.get("outside") == "0":
                key = int(box.find("attribute[@name='tube']").text), int(box.get("frame"))
                found[key] = cvat(box)
                filled += box.get("keyframe") == "0"
    same(found, 0.0051)
    assert filled == 2
    found = {}
    for image in ET.parse(out / "street.cvat-images.xml").iter("image"):
        assert image.get("name") == f"street__frame_{int(image.get('id')):05d}.png"
        for box in image.iter("box"):
            key = int(box.find("attribute[@name='tube']").text), int(image.get("id"))
            found[key] = cvat(box)
    same(found, 0.0051)


def corners(row):
    x, y, w, h = (float(value) for value in list(row)[-4:])
    return [x, y, x + w, y + h]


def cvat(box):
    return [float(box.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]


def test_masks_lie_in_their_boxes_and_come_back_from_cvat(video, tmp_path):
    _, out = run(video, tmp_path, "--masks", "--format", "coco,cvat-images")
    content = json.loads((out / "street.json").read_text())
    first, second = content["tubes"]
    assert second["masks"][10] is None
    mask = decode_rle(first["masks"][3])
    assert mask.shape == (HEIGHT, WIDTH)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, y0, x1, y1 = first["boxes"][3]
    assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == pytest.approx(
        [x0, y0, x1, y1], abs=1.1
    )
    tree = ET.parse(out / "street.cvat-images.xml")
    drawn = next(image for image in tree.iter("image") if image.get("id") == "3").find("mask")
    runs = [int(run) for run in drawn.get("rle").split(",")]
    shape = int(drawn.get("height")), int(drawn.get("width"))
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
    top, left = int(drawn.get("top")), int(drawn.get("left"))
    again = np.zeros_like(mask)
    again[top : top + shape[0], left : left + shape[1]] = part
    assert np.array_equal(again, mask)


def test_finished_videos_are_kept_and_new_forms_need_no_network(video, tmp_path, monkeypatch):
    run(video, tmp_path)
    before = (tmp_path / "out" / "street.json").read_bytes()

    def stop(*_):
        raise AssertionError("it ran again")

    with monkeypatch.context() as patched:
        patched.setattr(network.Network, "predict", stop)
        status, out = run(video, tmp_path, "--format", "mot")
        assert status == 0 and (out / "street.mot.txt").exists()
        for more in (["--force"], ["--min-length", "3"], ["--masks"]):
            with pytest.raises(AssertionError, match="it ran again"):
                run(video, tmp_path, *more)
    assert (out / "street.json").read_bytes() == before  # nothing half-written


def test_what_cannot_be_read_is_skipped_and_the_others_go_on(video, tmp_path, capsys):
    (video.parent / "a_empty.mp4").touch()
    whole = video.parent / "b_broken.mkv"
    frames = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3)).astype(np.uint8)
    write_video(video.parent / "c.avi", frames)
    content = (video.parent / "c.avi").read_bytes()
    whole.write_bytes(content[: len(content) // 3])
    status, out = run(video.parent, tmp_path)
    said = capsys.readouterr().out
    assert status == 1 and (out / "street.json").exists()
    assert sum("skipped: " in line for line in said.splitlines()) >= 1
    assert "a_empty.mp4: is empty" in said
    # cut in the middle: said, whether FFmpeg notices or not
    assert "b_broken.mkv" in said or "note: b_broken ends after" in said
    with pytest.raises(UserError, match="is empty"):
        run(video.parent, tmp_path, "--strict")


def test_the_overlay_has_the_videos_size_frames_and_times(video, tmp_path, capsys):
    run(video, tmp_path, "--overlay", "--masks")
    target = tmp_path / "out" / "street.overlay.mp4"
    with av.open(str(target)) as drawn, av.open(str(video)) as source:
        ours = list(drawn.decode(video=0))
        theirs = list(source.decode(video=0))
        assert len(ours) == FRAMES and (ours[0].width, ours[0].height) == (122, 92)
        assert [f.time for f in ours] == pytest.approx([f.time for f in theirs], abs=2e-3)
    picture = ours[20].to_ndarray(format="rgb24").astype(int)
    color = np.array(overlay.color_of(1))
    x, y = round(30 * WIDTH / 160), round(40 * HEIGHT / 160)
    near = np.abs(picture - color).sum(2)
    assert near[y - 10 : y + 10, x - 6 : x + 12].min() < 120


def test_a_folder_of_images_has_no_times(tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in range(1, 19):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(folder / f"{number:05d}.png")
    status, out = run(folder, tmp_path, "--overlay")
    content = json.loads((out / "shots.json").read_text())
    assert status == 0 and content["frames"] == 18 and content["nominal_fps"] is None
    assert content["tubes"][0]["times"] == [None] * 18
    assert ",," in (out / "shots.csv").read_text().splitlines()[1]
    with av.open(str(out / "shots.overlay.mp4")) as drawn:
        assert len(list(drawn.decode(video=0))) == 18


def test_words_without_a_font_are_escaped(monkeypatch):
    plain = picture_text._fonts()[:1]
    monkeypatch.setattr(picture_text, "_fonts", lambda: plain)
    assert picture_text.shown("走る 0.5") == r"\u8d70\u308b 0.5"
    overlay._label.cache_clear()
    assert overlay._label("走る 0.5", 12, (255, 0, 0)).shape[1] > 40
    overlay._label.cache_clear()
    assert overlay.color_of(1) != overlay.color_of(2)


def test_from_python(video):
    detector = claus.Detector.open()
    found = detector.detect(video, min_length=1)
    tubes = list(found)
    assert [tube.name for tube in tubes] == ["run", "run"] and len(detector.classes) == 21
    assert tubes[0].boxes.shape == (FRAMES, 4) and tubes[0].score == pytest.approx(0.54)
    assert tubes[1].found.sum() == FRAMES - 2 and np.isnan(tubes[1].frame_scores[10]).all()
    assert found.clip_scores.shape == (6, 21) and found.progress.frames == FRAMES
    early = detector.detect(video)
    early.close()
    with pytest.raises(VideoError, match="cannot be read"):
        detector.detect("nowhere.mp4")
    assert TubeSettings().whole
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        claus.Nothing  # noqa: B018


def test_names_of_videos(tmp_path):
    for name in ("a/x.mp4", "a/x.avi", "b/y.mkv", "b/.hidden.mp4", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(videos_of((str(tmp_path),))) == ["a/x.avi", "a/x.mp4", "b/y"]
    assert list(videos_of((str(tmp_path / "*" / "*.mkv"),))) == ["y"]
    twice = (str(tmp_path / "b" / "y.mkv"), str(tmp_path / "b"))
    assert list(videos_of(twice)) == ["y"]
    with pytest.raises(UserError, match="no file has such a name"):
        videos_of((str(tmp_path / "*.mov"),))
