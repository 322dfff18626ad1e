"""Training clips: what they depend on and what not, and that frames, masks and weights are
of one piece.
"""

import functools
from collections import Counter

import numpy as np
import pytest
import torch
from made_videos import gray_frames, numbers, white_square_frames

from claus.datasets.clips.geometry import GEOMETRY, LENGTH, POSITION, ClipGeometry, clip_indices
from claus.datasets.clips.training_clips import (
    ClipSampler,
    LabeledFrames,
    TrainingClips,
    collate,
    loader,
)
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.sprites import write_video
from claus.losses.stew import clip_weight
from claus.utils.runtime import UserError

SQUARE = GEOMETRY["small", "wide"]
GRAY = ClipGeometry((48, 64), (40, 56), 32)
BOXES = white_square_frames(30)[1]


def find(folder, name):
    path = folder / f"{name}.avi"
    if not path.is_file():
        raise UserError(f"video {name}: no file {path}")
    return path


def square_video(labeled):
    labeled = np.array(labeled)
    return Video("square", 30, 72, 96, 1, labeled, (Tube(1, 1, labeled, BOXES[labeled]),))


def pool(*videos):
    return Annotations(
        "made_videos", ("none", "square"), {video.name: video for video in videos}
    )


def gray_video(labeled, name="gray40", seed=0, frames=40):
    """A video with boxes drawn at random: what is in them must not matter."""
    rng = np.random.default_rng(seed)
    boxes = np.array(
        [(x, y, x + w, y + h) for x, y, w, h in rng.integers(1, 20, (len(labeled), 4))]
    )
    tubes = (Tube(seed % 2, 1, np.array(labeled), boxes),) if seed < 5 else ()
    return Video(name, frames, 48, 64, seed % 2, np.array(labeled), tubes)


def clips(made_videos, *videos, geometry=GRAY, seed=0, **options):
    return TrainingClips(
        pool(*videos), functools.partial(find, made_videos), geometry, seed, **options
    )


def same(a, b):
    return all(
        torch.equal(a[key], b[key]) for key in ("frames", "target", "weight", "on_label")
    )


# ---- frames, masks and weights of one piece ----


@pytest.mark.parametrize("labeled", [range(30), (0, 29), (12,)], ids=["all", "ends", "one"])
def test_the_mask_covers_the_white_square_wherever_crop_and_flip_put_it(made_videos, labeled):
    dataset = clips(made_videos, square_video(labeled), geometry=SQUARE)
    places = []
    for position in range(16):
        clip = dataset[0, position, "square"]
        white, mask = clip["frames"][:, 0] >= 128, clip["target"] > 0
        assert mask.shape == (8, 64, 64) and set(clip["target"].unique().tolist()) == {0, 1}
        exact = clip["on_label"] if len(labeled) == 1 else torch.ones(8, dtype=bool)
        for m, w in zip(
            mask[exact], white[exact], strict=True
        ):  # it moves linearly: two labels say all
            assert (m & w).sum() / (m | w).sum() > 0.85
        across = white.float().mean((0, 1)).nonzero().float().mean()
        first, last = (white[t].float().nonzero()[:, 1].float().mean() for t in (0, -1))
        places.append((float(across), bool(last > first)))  # it moves right, unless flipped
    assert {right for _, right in places} == {True, False} and len(
        {place for place, _ in places}
    ) > 5


def test_every_frame_shown_is_the_frame_it_says(made_videos):
    dataset = clips(made_videos, gray_video([3, 17, 38]))
    for position in range(12):
        clip = dataset[0, position, "gray40"]
        seen = numbers(clip["frames"])
        anchor = seen[clip["anchor"]]
        assert anchor in (3, 17, 38) and seen == clip_indices(40, anchor).tolist()
        assert (
            clip["on_label"].tolist() == [f in (3, 17, 38) for f in seen]
            and clip["on_label"][clip["anchor"]]
        )
        assert clip["frames"].shape == (8, 3, 32, 32) and clip["frames"].dtype == torch.uint8
        assert clip["label"] == 0 and clip["name"] == "gray40"


def test_a_video_shorter_than_a_clip(tmp_path):
    write_video(tmp_path / "gray5.avi", gray_frames(5))
    clip = clips(tmp_path, gray_video([2], "gray5", frames=5))[0, 0, "gray5"]
    assert numbers(clip["frames"]) == [0, 1, 2, 3, 4, 4, 4, 4] and clip["anchor"] == 2


@pytest.mark.parametrize(
    "loss, weighting",
    [("stew", "paper"), ("stew", "authors"), ("interp", "paper"), ("frame", "paper")],
)
def test_weights_are_of_the_cropped_mask(made_videos, loss, weighting):
    video = square_video([4, 20])
    clip = clips(made_videos, video, geometry=SQUARE, loss=loss, weighting=weighting)[
        0, 3, "square"
    ]
    indices = clip_indices(
        30, {2: 4, 4: 20}[clip["anchor"]]
    )  # frame 4 is at index 2 of its clip
    expected = clip_weight(
        clip["target"].numpy(), video.labeled_frames, indices, loss, weighting
    )
    np.testing.assert_array_equal(clip["weight"].numpy(), expected)
    assert 0 < expected.mean() and (loss == "interp" or expected.min() < 1)
    assert clip["weight"].dtype == torch.float32 and clip["weight"].shape == (8, 64, 64)


# ---- what a clip depends on ----


def test_a_clip_is_fixed_by_seed_epoch_and_position(made_videos):
    videos = gray_video([3, 17, 30, 38]), gray_video([1, 9], "gray20", frames=20)
    first, again = clips(made_videos, *videos), clips(made_videos, *videos)
    later = [first[2, p, "gray40"] for p in range(6)]
    torch.manual_seed(9)
    np.random.seed(9)
    for p in reversed(range(6)):  # in whatever order they are asked for
        again[1, p, "gray20"]
        assert same(again[2, p, "gray40"], later[p])
    other_epoch = [first[3, p, "gray40"] for p in range(6)]
    other_seed = [clips(made_videos, *videos, seed=1)[2, p, "gray40"] for p in range(6)]
    for others in (other_epoch, other_seed, later[1:] + later[:1]):
        assert not all(same(a, b) for a, b in zip(later, others, strict=True))


def test_the_number_of_workers_changes_nothing(made_videos):
    dataset = clips(
        made_videos, gray_video([3, 17, 38]), gray_video([1, 9], "gray20", frames=20)
    )
    sampler = ClipSampler(["gray40", "gray20"], seed=0, length=7)
    sampler.epoch = 4
    state = torch.get_rng_state()
    alone, two = list(loader(dataset, sampler, 3, 0)), list(loader(dataset, sampler, 3, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert [batch["name"] for batch in alone] == [batch["name"] for batch in two]
    assert len(alone) == len(two) == 3 and all(
        same(a, b) for a, b in zip(alone, two, strict=True)
    )


def test_frames_crop_and_flip_do_not_look_at_the_boxes(made_videos):
    """Other boxes, another class, no box at all: the same pixels."""
    reference = clips(made_videos, gray_video([3, 17, 38], seed=0))
    for seed in (1, 2, 5):
        scrambled = clips(made_videos, gray_video([3, 17, 38], seed=seed))
        for position in range(6):
            a, b = reference[0, position, "gray40"], scrambled[0, position, "gray40"]
            assert torch.equal(a["frames"], b["frames"]) and a["anchor"] == b["anchor"]
    assert not clips(made_videos, gray_video([3, 17, 38], seed=5))[0, 0, "gray40"][
        "target"
    ].any()


def test_crop_and_flip_do_not_look_at_the_boxes_of_a_film_with_content(made_videos):
    right = square_video([4, 20])
    wrong = Video(
        "square",
        30,
        72,
        96,
        0,
        np.array([4, 20]),
        (Tube(0, 7, np.array([20]), np.array([[0, 0, 5, 5]])),),
    )
    reference, scrambled = (
        clips(made_videos, right, geometry=SQUARE),
        clips(made_videos, wrong, geometry=SQUARE),
    )
    for position in range(8):
        assert torch.equal(
            reference[1, position, "square"]["frames"],
            scrambled[1, position, "square"]["frames"],
        )


def test_every_labeled_frame_is_drawn_and_no_other(made_videos):
    dataset = clips(made_videos, gray_video([3, 17, 38]))
    anchors = Counter()
    for position in range(40):
        clip = dataset[0, position, "gray40"]
        anchors[numbers(clip["frames"])[clip["anchor"]]] += 1
    assert set(anchors) == {3, 17, 38} and min(anchors.values()) >= 5


# ---- what saves time changes nothing ----


@pytest.mark.parametrize(
    "geometry", [GRAY, ClipGeometry((60, 60), (50, 44), 32)], ids=["as decoded", "resized"]
)
@pytest.mark.parametrize("workers", [0, 2])
def test_index_and_cache_change_no_pixel(made_videos, tmp_path, geometry, workers):
    videos = gray_video([3, 17, 38]), gray_video([1, 9], "gray20", frames=20)
    plain = clips(made_videos, *videos, geometry=geometry)
    cached = clips(
        made_videos, *videos, geometry=geometry, folder=tmp_path / "cache", cache_gb=1e-3
    )
    sampler = ClipSampler(["gray40", "gray20"], seed=0, length=12)
    for _ in range(2):  # the second time from the cache
        for a, b in zip(
            loader(plain, sampler, 4, 0), loader(cached, sampler, 4, workers), strict=True
        ):
            assert same(a, b) and a["name"] == b["name"]
    assert len(list((tmp_path / "cache" / "frames").rglob("*"))) > 2


def test_a_cached_clip_needs_no_decoding(made_videos, tmp_path, monkeypatch):
    dataset = clips(
        made_videos, gray_video([3, 17, 38]), folder=tmp_path / "cache", cache_gb=1e-3
    )
    before = [dataset[0, p, "gray40"] for p in range(8)]
    monkeypatch.setattr(dataset.videos, "read_frames", None)
    assert all(same(dataset[0, p, "gray40"], before[p]) for p in range(8))


def test_a_full_cache_goes_on_decoding(made_videos, tmp_path):
    dataset = clips(
        made_videos, gray_video([3, 17, 38]), folder=tmp_path / "cache", cache_gb=1e-4
    )  # one clip
    plain = clips(made_videos, gray_video([3, 17, 38]))
    assert all(
        same(dataset[e, p, "gray40"], plain[e, p, "gray40"]) for e in range(2) for p in range(8)
    )
    assert sum(path.is_file() for path in (tmp_path / "cache" / "frames").rglob("*")) == 1


# ---- the sampler ----


def test_every_video_comes_twice_an_epoch():
    sampler = ClipSampler(list("abcde"), seed=0)
    keys = list(sampler)
    assert len(sampler) == len(keys) == 10 and Counter(
        name for _, _, name in keys
    ) == dict.fromkeys("abcde", 2)
    assert [(epoch, position) for epoch, position, _ in keys] == [(0, p) for p in range(10)]
    assert {name for _, _, name in keys[:5]} == set("abcde")  # once each before any comes again


@pytest.mark.parametrize("length", [1, 3, 5, 7, 23])
def test_a_cut_epoch_is_as_even_as_can_be(length):
    sampler = ClipSampler(list("abcde"), seed=0, length=length)
    counts = Counter(name for _, _, name in sampler)
    assert len(sampler) == sum(counts.values()) == length
    assert {counts[name] for name in "abcde"} <= {length // 5, -(-length // 5)}


def test_the_order_is_fixed_by_seed_and_epoch():
    def order(seed, epoch):
        sampler = ClipSampler(list("abcdefgh"), seed)
        sampler.epoch = epoch
        return [name for _, _, name in sampler]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4) and order(0, 3) != order(1, 3)


# ---- validation clips ----


def test_validation_clips_are_centered_unflipped_and_around_the_frame_asked_for(made_videos):
    labels = pool(square_video([2, 15]))
    dataset = LabeledFrames(labels, functools.partial(find, made_videos), SQUARE, seed=0)
    for frame in (2, 15):
        clip, again = dataset["square", frame], dataset["square", frame]
        assert same(clip, again) and clip_indices(30, frame)[clip["anchor"]] == frame
        box = BOXES[frame] - [4, 3, 4, 3]  # the 66 x 88 crop of 72 x 96
        rows, columns = (
            n.float().mean()
            for n in torch.nonzero(clip["target"][clip["anchor"]], as_tuple=True)
        )
        assert abs(rows - (box[1] + box[3] - 1) / 2 * 64 / 66) < 1
        assert abs(columns - (box[0] + box[2] - 1) / 2 * 64 / 88) < 1


# ---- videos that cannot be read ----


def test_bad_videos_are_collected_beside_the_good_clips(made_videos, tmp_path):
    for name in ("gray40", "cut"):
        (tmp_path / f"{name}.avi").write_bytes(
            (made_videos / "gray40.avi").read_bytes()[: None if name == "gray40" else 500]
        )
    dataset = clips(
        tmp_path, gray_video([3, 17]), gray_video([1], "cut"), gray_video([2], "missing")
    )
    items = [
        dataset[0, p, name] for p, name in enumerate(("cut", "gray40", "missing", "gray40"))
    ]
    batch = collate(items)
    assert batch["name"] == ["gray40", "gray40"] and [name for name, _ in batch["failed"]] == [
        "cut",
        "missing",
    ]
    assert all(name in reason for name, reason in batch["failed"])
    assert batch["frames"].shape == (2, 8, 3, 32, 32) and batch["label"].tolist() == [0, 0]
    assert (
        torch.equal(batch["frames"][1], items[3]["frames"])
        and batch["anchor"].tolist()[1] == items[3]["anchor"]
    )
    empty = collate([items[0], items[2]])
    assert empty["name"] == [] and len(empty["failed"]) == 2 and "frames" not in empty


def test_the_labeled_frame_lies_anywhere_in_its_clip_where_that_is_asked_for(made_videos):
    """Every place occurs, the label stays in its clip; else it is the fifth frame."""
    places = {"middle": Counter(), "any": Counter()}
    for place, counted in places.items():
        drawn = clips(made_videos, gray_video((20,)), place=place)
        for position in range(60):
            clip = drawn[0, position, "gray40"]
            assert numbers(clip["frames"])[clip["anchor"]] == 20
            counted[clip["anchor"]] += 1
    assert places["middle"] == {POSITION: 60}
    assert set(places["any"]) == set(range(LENGTH)) and max(places["any"].values()) < 20
