"""Which frames make a clip, and that frames and masks are cropped, resized and flipped as
one.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from claus.datasets.clips import geometry as clips
from claus.datasets.clips.geometry import (
    GEOMETRY,
    ClipGeometry,
    center_crop,
    clip_indices,
    random_crop,
    transform,
)

# ---- frames of a clip ----


@pytest.mark.parametrize(
    "frames, anchor, expected",
    [
        (100, 50, [42, 44, 46, 48, 50, 52, 54, 56]),  # the anchor at index 4
        (100, 8, [0, 2, 4, 6, 8, 10, 12, 14]),
        (
            100,
            3,
            [1, 3, 5, 7, 9, 11, 13, 15],
        ),  # shifted by three strides: starts at 1, not at 0
        (100, 0, [0, 2, 4, 6, 8, 10, 12, 14]),
        (100, 99, [85, 87, 89, 91, 93, 95, 97, 99]),
        (100, 98, [84, 86, 88, 90, 92, 94, 96, 98]),  # ends at 98, not at 99
        (16, 7, [1, 3, 5, 7, 9, 11, 13, 15]),
        (15, 4, [0, 2, 4, 6, 8, 10, 12, 14]),  # the only stride-2 clip of 15 frames
        (15, 5, [1, 2, 3, 4, 5, 6, 7, 8]),  # which odd frames are not in: stride 1
        (15, 13, [7, 8, 9, 10, 11, 12, 13, 14]),
        (14, 6, [2, 3, 4, 5, 6, 7, 8, 9]),
        (8, 7, [0, 1, 2, 3, 4, 5, 6, 7]),
        (5, 2, [0, 1, 2, 3, 4, 4, 4, 4]),  # shorter than a clip: the last frame again
        (1, 0, [0] * 8),
    ],
)
def test_clips_by_hand(frames, anchor, expected):
    assert clip_indices(frames, anchor).tolist() == expected


def slow_clip(frames, anchor, length, stride, position):
    """Of all clips that hold the anchor the one with it nearest to `position`; stride 1,
    then repetition, if none.
    """
    for step in (stride, 1):
        clips = [
            range(start, start + length * step, step)
            for start in range(frames)
            if start + (length - 1) * step < frames
        ]
        clips = [clip for clip in clips if anchor in clip]
        if clips:
            return list(min(clips, key=lambda clip: abs(clip.index(anchor) - position)))
    return [min(k, frames - 1) for k in range(length)]


@given(st.data())
@settings(deadline=None)
def test_clips_against_the_search_over_all(data):
    frames = data.draw(st.integers(1, 60))
    anchor = data.draw(st.integers(0, frames - 1))
    length, stride = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    position = data.draw(st.integers(0, length - 1))
    clip = clip_indices(frames, anchor, length, stride, position)
    assert clip.tolist() == slow_clip(frames, anchor, length, stride, position)
    assert len(clip) == length and clip.min() >= 0 and clip.max() < frames
    assert anchor in clip or frames < length
    assert np.issubdtype(clip.dtype, np.integer)


@given(st.integers(1, 400), st.data())
@settings(deadline=None)
def test_the_anchor_is_always_in_its_clip(frames, data):
    anchor = data.draw(st.integers(0, frames - 1))
    assert anchor in clip_indices(frames, anchor)


@pytest.mark.parametrize("anchor", [-1, 20])
def test_an_anchor_outside_the_video_is_refused(anchor):
    with pytest.raises(ValueError, match="not a frame"):
        clip_indices(20, anchor)


# ---- crops ----


def test_random_crops_reach_every_place_and_no_other():
    geometry, rng = ClipGeometry((10, 12), (8, 9), 8), np.random.default_rng(0)
    corners = {random_crop(geometry, rng) for _ in range(400)}
    assert corners == {(top, left) for top in range(3) for left in range(4)}


def test_center_crops_by_hand():
    corners = {
        ("full", "wide"): (8, 12),
        ("full", "square"): (8, 48),
        ("small", "wide"): (3, 4),
        ("small", "square"): (4, 16),
    }
    assert {key: center_crop(GEOMETRY[key]) for key in corners} == corners


def test_a_crop_larger_than_the_frame_is_refused():
    with pytest.raises(ValueError, match="larger than the frame"):
        ClipGeometry((10, 12), (8, 13), 8)


def test_a_geometry_comes_back_from_the_lists_of_a_checkpoint():
    geometry = GEOMETRY["small", "wide"]
    stored = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in geometry.to_dict().items()
    }
    assert ClipGeometry(**stored) == geometry


# ---- frames and masks as one ----


def slow_transform(clip, geometry, corner, flip):
    """torchvision's operations one after the other, on whole tensors."""
    mask = clip.ndim == 3
    x = torch.from_numpy(clip[:, None] if mask else clip.transpose(0, 3, 1, 2).copy())
    how = InterpolationMode.NEAREST_EXACT if mask else InterpolationMode.BILINEAR
    size = {"stretch": geometry.frame}.get(geometry.fit, geometry.crop)
    if geometry.fit == "letterbox":
        scale = geometry.crop[0] / max(clip.shape[1:3])
        size = [round(length * scale) for length in clip.shape[1:3]]
    x = TF.resize(x, list(size), how)
    padding = []
    for whole, crop, part in zip(geometry.frame, geometry.crop, size, strict=True):
        before = (whole - crop) // 2 + (crop - part) // 2 if geometry.fit != "stretch" else 0
        padding.append((before, whole - part - before))
    (top, bottom), (left, right) = padding
    x = TF.resized_crop(
        TF.pad(x, [left, top, right, bottom], fill=0 if mask else 128),
        *corner,
        *geometry.crop,
        [geometry.size] * 2,
        how,
    )
    x = TF.horizontal_flip(x) if flip else x
    return x[:, 0] if mask else x


@pytest.mark.parametrize(
    "geometry", [*GEOMETRY.values(), ClipGeometry((100, 77), (61, 59), 97)], ids=str
)
@pytest.mark.parametrize("size", [(240, 320), (72, 96), (31, 57), (300, 520)], ids=str)
def test_transform_is_torchvisions_bit_by_bit(geometry, size):
    rng = np.random.default_rng(0)
    for flip in (False, True):
        frames, corner = (
            rng.integers(0, 256, (2, *size, 3), dtype=np.uint8),
            random_crop(geometry, rng),
        )
        for clip in (frames, frames[..., 1]):
            finished = transform(clip, geometry, corner, flip)
            assert (
                torch.equal(finished, slow_transform(clip, geometry, corner, flip))
                and finished.is_contiguous()
            )


@given(st.integers(1, 600), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_the_nearest_pixel_is_the_one_torch_takes(before, after):
    places = clips._nearest.__wrapped__(before, after)
    for by_row in (True, False):
        levels = torch.arange(before) % 251
        picture = (
            levels.to(torch.uint8)[None, :, None]
            if by_row
            else levels.to(torch.uint8)[None, None, :]
        )
        size = [after, 1] if by_row else [1, after]
        shown = TF.resize(picture, size, InterpolationMode.NEAREST_EXACT).ravel()
        assert places.tolist() == sorted(places.tolist())
        assert torch.equal(levels[torch.from_numpy(places)], shown.long())


def random_frames(seed, count=3, height=20, width=24):
    return np.random.default_rng(seed).integers(
        0, 256, (count, height, width, 3), dtype=np.uint8
    )


def test_a_crop_of_the_right_size_is_a_slice():
    geometry, frames = ClipGeometry((20, 24), (8, 8), 8), random_frames(0)
    masks = (frames[..., 0] > 128).astype(np.uint8)
    cut = transform(frames, geometry, (5, 11))
    assert cut.shape == (3, 3, 8, 8) and cut.dtype == torch.uint8 and type(cut) is torch.Tensor
    np.testing.assert_array_equal(cut.permute(0, 2, 3, 1).numpy(), frames[:, 5:13, 11:19])
    np.testing.assert_array_equal(
        transform(masks, geometry, (5, 11)).numpy(), masks[:, 5:13, 11:19]
    )
    flipped = transform(frames, geometry, (5, 11), flip=True)
    np.testing.assert_array_equal(
        flipped.permute(0, 2, 3, 1).numpy(), frames[:, 5:13, 11:19][:, :, ::-1]
    )
    np.testing.assert_array_equal(
        transform(masks, geometry, (5, 11), flip=True).numpy(),
        masks[:, 5:13, 11:19][:, :, ::-1],
    )


@pytest.mark.parametrize("key", GEOMETRY)
@pytest.mark.parametrize("flip", [False, True])
def test_a_mask_stays_on_what_it_covers(key, flip):
    geometry = GEOMETRY[key]
    masks = np.zeros((2, 240, 320), np.uint8)
    masks[0, 60:150, 90:200] = 1
    masks[1, 40:100, 200:260] = 1
    corner = center_crop(geometry)
    seen = (
        transform(np.repeat(255 * masks[..., None], 3, -1), geometry, corner, flip)[:, 0] > 128
    )
    moved = transform(masks, geometry, corner, flip)
    assert moved.shape == (2, geometry.size, geometry.size) and set(
        moved.unique().tolist()
    ) == {0, 1}
    assert moved.is_contiguous()
    for mask, white in zip(
        moved > 0, seen, strict=True
    ):  # both filled boxes; edges may differ by one pixel
        rows, columns = ([n.min(), n.max()] for n in np.nonzero(mask.numpy()))
        rows_white, columns_white = ([n.min(), n.max()] for n in np.nonzero(white.numpy()))
        assert np.abs(np.array([rows, columns]) - [rows_white, columns_white]).max() <= 1


def test_transforming_leaves_its_input_alone():
    frames = random_frames(1)
    before = frames.copy()
    transform(frames, ClipGeometry((20, 24), (20, 24), 16), (0, 0), flip=True)
    np.testing.assert_array_equal(frames, before)
