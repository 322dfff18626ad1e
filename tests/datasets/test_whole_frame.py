"""Frames of any shape, seen whole: the training clip, its labels, the evaluation, the scores
and the overlay of a portrait and a wide video show all four corners where they are.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shown_videos import UPRIGHT, corner_frames, corners_of, write_shown

from claus.datasets.clips.geometry import BAR, GEOMETRY, WHOLE, ClipGeometry
from claus.datasets.clips.region import REGIONS
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.clips.training_clips import TrainingClips
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.labels.masks import PackedMasks
from claus.flags import evaluation
from claus.steps import evaluate, evaluation_pictures
from claus.utils import overlays

COUNT = 20
SIZES = {"portrait": (320, 180), "wide": (136, 320)}  # (H, W)
# of the picture in the letterbox of 64x64
PICTURES = {"portrait": (64, 36), "wide": (27, 64)}
EVERY = [(shape, fit) for shape in SIZES for fit in WHOLE]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    for name, (height, width) in SIZES.items():
        write_shown(folder / f"{name}.mp4", corner_frames(COUNT, height, width))
    return {name: folder / f"{name}.mp4" for name in SIZES}


def corners(name):
    """Half-open boxes of the four colored corners."""
    (height, width), side = SIZES[name], SIZES[name][0] // 4
    x0, x1, y0, y1 = 0, width - side, 0, height - side
    starts = [(x0, y0), (x1, y0), (x0, y1), (x1, y1)]
    return [[x, y, x + side, y + side] for x, y in starts]


def labeled(name, boxes, masks=False):
    """The video with an actor for each of the boxes, in every frame."""
    tubes = []
    for track, box in enumerate(boxes):
        shown = {"boxes": np.array([box] * COUNT)}
        if masks:
            x0, y0, x1, y1 = box
            drawn = np.zeros((COUNT, *SIZES[name]), bool)
            drawn[:, y0:y1, x0:x1] = True
            shown = {"masks": PackedMasks.pack(drawn)}
        tubes.append(Tube(0, track, np.arange(COUNT), **shown))
    return Video(name, COUNT, *SIZES[name], 0, np.arange(COUNT), tuple(tubes))


def colored(frames_T_3_S_S):
    """Where frames show one of the corners' colors, bool (T,S,S)."""
    pixels = np.asarray(frames_T_3_S_S).astype(int)
    return np.ptp(pixels, axis=-3) > 100


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def training_clips(paths, video, geometry, **options):
    labels = Annotations("own", ("a",), {video.name: video})
    return TrainingClips(labels, paths.get, geometry, 0, **options)


@pytest.mark.parametrize(("shape", "fit"), EVERY)
@pytest.mark.parametrize("masks", [False, True])
def test_a_training_clip_shows_every_corner_and_its_label(paths, shape, fit, masks):
    geometry = GEOMETRY["small", fit]
    video = labeled(shape, corners(shape), masks)
    clips = training_clips(paths, video, geometry)
    clip = clips.clip(video, 8)
    rows, columns = geometry.shown(*SIZES[shape])
    picture = clip["frames"][0].permute(1, 2, 0).numpy()[rows, columns]
    height, width = PICTURES[shape] if fit == "letterbox" else (64, 64)
    assert picture.shape == (height, width, 3) and corners_of(picture) == UPRIGHT
    bars = np.ones((64, 64), bool)
    bars[rows, columns] = False
    assert (clip["frames"].numpy()[..., bars] == BAR).all()
    assert not clip["target"].numpy()[:, bars].any()
    assert (clip["weight"].numpy()[:, bars] == 1).all()  # every frame is labeled
    assert iou(clip["target"].numpy() > 0, colored(clip["frames"])) > 0.85
    edges = [0, 0, 0, 0]
    for seed in range(30):  # shifted and flipped, labels and pixels move as one
        clip = clips.clip(video, 8, np.random.default_rng(seed))
        assert iou(clip["target"].numpy() > 0, colored(clip["frames"])) > 0.8
        side = clip["target"].numpy().any(0)
        edges = [a + bool(b) for a, b in zip(edges, ends(side), strict=True)]
    assert min(edges) > 0 or fit == "letterbox"


def ends(mask):
    """Whether a mask (S,S) reaches each side."""
    return mask[0].any(), mask[-1].any(), mask[:, 0].any(), mask[:, -1].any()


@pytest.mark.parametrize(("shape", "fit"), EVERY)
@pytest.mark.parametrize("bars", [-9.0, 9.0])
def test_an_evaluation_scores_every_corner(paths, tmp_path, monkeypatch, shape, fit, bars):
    """A network that finds the colors, whatever it says of the bars."""
    geometry, video = GEOMETRY["full", fit], labeled(shape, corners(shape))
    rows, columns = geometry.shown(*SIZES[shape])

    def predict(trained, chunk):
        logits = torch.full((len(chunk["clips"]), 8, 224, 224), bars)
        found = torch.from_numpy(colored(chunk["clips"]))
        logits[..., rows, columns] = torch.where(found, 9.0, -9.0)[..., rows, columns]
        return evaluate.Prediction(chunk["frames"], logits, np.ones((len(logits), 1)))

    monkeypatch.setattr(evaluate, "predict", predict)
    listed = ["--run", str(tmp_path), "--ground-truth", "t.pkl", "--test-list", "t.txt"]
    how = evaluation.parse([*listed, "--device", "cpu"])
    trained = SimpleNamespace(classes=("a",))
    tiles = VideoTiles([video], paths.get, geometry, 2, "black")
    view = evaluate.View(geometry, REGIONS["whole"])
    result = evaluate.score_video(trained, video, tiles.chunks(0), view, how)
    assert (result["intersection_F"] / result["union_F"]).min() > 0.9
    boxes = result["box"].reshape(COUNT, 4, 4) + [0, 0, 1, 1]
    off = np.abs(np.sort(boxes, axis=1) - np.sort(np.array(corners(shape)), axis=0))
    assert off.max() <= 2.1  # a pixel of the network is up to 1.43 of the video
    narrow = evaluate.View(geometry, REGIONS["wide"])  # a part of it
    inside = evaluate.score_video(trained, video, tiles.chunks(0), narrow, how)
    assert inside["gt_F"][0] > 0
    assert (inside["intersection_F"] / inside["union_F"]).min() > 0.85
    np.testing.assert_array_equal(inside["box"], result["box"])  # act looks at the whole frame


@pytest.mark.parametrize(("shape", "fit"), EVERY)
def test_an_overlay_tints_every_corner_and_dims_nothing(paths, monkeypatch, shape, fit):
    geometry, video = GEOMETRY["small", fit], labeled(shape, corners(shape))

    def predict(trained, chunk):
        found = torch.from_numpy(colored(chunk["clips"]))
        logits = torch.where(found, 9.0, -9.0)
        return evaluate.Prediction(chunk["frames"], logits, np.ones((len(logits), 1)))

    monkeypatch.setattr(evaluation_pictures, "predict", predict)
    tiles = VideoTiles([video], paths.get, geometry, 2, "black")
    maps = evaluation_pictures.shown_maps(None, tiles.chunks(0), video, geometry)
    blocks = evaluation_pictures.blocks_of(video, paths[shape], maps)
    _, frames, _, probs = next(blocks)
    frame, crop = evaluation_pictures.seen_of(video, geometry)
    nothing = np.zeros(SIZES[shape], np.uint8)
    gray = np.full_like(frames[3], 100)
    view = overlays.overlay(gray, nothing, probs[3], frame, crop, SIZES[shape][0])
    tinted = view[..., 0].astype(int) - view[..., 2] > 40
    expected = np.zeros(SIZES[shape], bool)
    for x0, y0, x1, y1 in corners(shape):
        expected[y0:y1, x0:x1] = True
    assert iou(tinted, expected) > 0.75  # the outline is dark
    middle = view[SIZES[shape][0] // 2, SIZES[shape][1] // 2]
    assert middle.tolist() == [100] * 3


@given(st.integers(8, 700), st.integers(8, 700), st.sampled_from([*GEOMETRY]), st.data())
@settings(deadline=None, max_examples=150)
def test_points_go_to_the_map_and_back(height, width, key, data):
    geometry = GEOMETRY[key]
    x, y = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
    there = geometry.to_map(np.array([x, y]), height, width)
    np.testing.assert_allclose(geometry.to_video(there, height, width), [x, y], atol=1e-9)
    back = geometry.to_video(np.round(there), height, width)
    crop_pixel = np.array(geometry.crop[::-1]) / geometry.size
    pixel = crop_pixel * (width, height) / geometry.picture(height, width)[::-1]
    assert (np.abs(back - [x, y]) <= 0.5 * pixel + 1e-9).all()
    if geometry.fit != "stretch":
        assert (there > -1e-9).all() and (there < geometry.size + 1e-9).all()
        rows, columns = geometry.shown(height, width)
        slack = geometry.size / geometry.crop[0]
        assert rows.start - slack <= there[1] <= rows.stop + slack
        assert columns.start - slack <= there[0] <= columns.stop + slack


def test_a_letterbox_keeps_shapes_and_whole_does_not():
    letterbox, whole = GEOMETRY["small", "letterbox"], GEOMETRY["small", "whole"]
    assert [letterbox.picture(*size) for size in SIZES.values()] == [*PICTURES.values()]
    assert letterbox.picture(10, 1000) == (1, 64) and whole.picture(10, 1000) == (64, 64)
    assert letterbox.shown(320, 180) == (slice(0, 64), slice(14, 50))
    assert letterbox.to_map([[0, 0], [180, 320]], 320, 180).tolist() == [[14, 0], [50, 64]]
    with pytest.raises(ValueError, match="a letterbox needs a square crop"):
        ClipGeometry((72, 96), (66, 88), 64, "letterbox")
    with pytest.raises(ValueError, match="fit must be one of stretch, whole, letterbox"):
        ClipGeometry((72, 96), (66, 88), 64, "tiles")


def test_a_checkpoint_from_before_reads_as_stretched_and_is_written_as_before():
    before = {"frame": [72, 96], "crop": [66, 88], "size": 64}
    assert ClipGeometry(**before) == GEOMETRY["small", "wide"]
    assert list(GEOMETRY["small", "wide"].to_dict()) == list(before)
    letterbox = GEOMETRY["small", "letterbox"]
    assert ClipGeometry(**letterbox.to_dict()) == letterbox


def test_cached_clips_of_every_shape_are_the_same(paths, tmp_path):
    for shape, fit in EVERY:
        video = labeled(shape, corners(shape)[:1])
        options = {"folder": tmp_path, "cache_gb": 1}
        clips = training_clips(paths, video, GEOMETRY["small", fit], **options)
        plain = training_clips(paths, video, GEOMETRY["small", fit]).clip(video, 8)
        for _ in range(2):
            assert torch.equal(clips.clip(video, 8)["frames"], plain["frames"])
    assert len([file for file in tmp_path.glob("frames/*/*") if file.is_file()]) == len(EVERY)
