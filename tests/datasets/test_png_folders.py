"""A folder of numbered images is read as a video file is."""

import sys

import cv2
import numpy as np
import pytest
from jhmdb_maker import write_pngs
from made_videos import gray_frames, numbers

from claus.datasets.video import reader
from claus.datasets.video.reader import (
    SHORT_TAIL,
    VideoError,
    iter_frames,
    pixels,
    probe,
    read_blocks,
    read_frames,
)
from claus.utils import pyav
from claus.utils.runtime import UserError


@pytest.fixture
def folder(tmp_path):
    write_pngs(tmp_path / "clip", gray_frames(20))
    return tmp_path / "clip"


def test_pixels_come_back_exactly(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)
    write_pngs(tmp_path, frames)
    assert np.array_equal(np.stack([pixels(frame) for frame in iter_frames(tmp_path)]), frames)
    assert np.array_equal(read_frames(tmp_path, [3, 0, 3], 5), frames[[3, 0, 3]])
    (start, block), (last, rest) = read_blocks(tmp_path, 5, 4)
    assert (start, last) == (0, 4) and np.array_equal(np.concatenate([block, rest]), frames)
    assert probe(tmp_path) == (5, 24, 32)


@pytest.mark.parametrize("name", ["{}.png", "frame_{}.png", "v1-{:03d}.PNG"])
def test_order_is_that_of_the_numbers(tmp_path, name):
    write_pngs(tmp_path, gray_frames(12), name)
    (tmp_path / "notes.txt").write_text("10")
    (tmp_path / "._1.png").write_bytes(b"of another system")
    assert numbers([pixels(frame) for frame in iter_frames(tmp_path)]) == list(range(12))
    assert numbers(read_frames(tmp_path, [10, 1, 9], 12)) == [10, 1, 9]


def test_numbers_may_start_anywhere(folder):
    for number in (1, 2, 3):
        (folder / f"{number:05d}.png").unlink()
    assert probe(folder)[0] == 17
    assert numbers(read_frames(folder, [0, 16], 17)) == [3, 19]


def test_missing_first_images_are_not_a_short_tail(folder):
    for number in (1, 2, 3):
        (folder / f"{number:05d}.png").unlink()
    for read in (
        lambda: read_frames(folder, [19], 20),
        lambda: list(read_blocks(folder, 20, 16)),
    ):
        with pytest.raises(VideoError, match="begins with image number 4 and has 17 images"):
            read()


def test_a_hole_is_named(folder):
    (folder / "00004.png").unlink()
    (folder / "00009.png").unlink()
    for read in (
        lambda: probe(folder),
        lambda: read_frames(folder, [0], 20),
        lambda: list(read_blocks(folder, 18, 16)),
    ):
        with pytest.raises(VideoError, match=r"image number 4 is missing, after 00003\.png"):
            read()


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image[..., 0],  # gray
        lambda image: np.dstack(
            [image, np.full(image.shape[:2], 9, np.uint8)]
        ),  # with transparency
    ],
)
def test_other_kinds_of_png(tmp_path, convert):
    tmp_path.joinpath("x").mkdir()
    cv2.imwrite(str(tmp_path / "x" / "1.png"), convert(gray_frames(5)[4]))
    assert np.array_equal(read_frames(tmp_path / "x", [0], 1), gray_frames(5)[[4]])


def test_only_what_is_wanted_is_decoded(folder):
    (folder / "00006.png").write_bytes(b"damaged")  # frame 5
    assert numbers(read_frames(folder, [4, 6], 20)) == [4, 6]
    with pytest.raises(VideoError, match=r"00006\.png"):
        read_frames(folder, [4, 5], 20)


def test_a_short_tail_repeats_the_last_frame_and_more_is_an_error(folder):
    short = 20 + SHORT_TAIL
    assert numbers(read_frames(folder, [3, 25, 19], short)) == [3, 19, 19]
    assert (
        numbers(np.concatenate([block for _, block in read_blocks(folder, short, 16)]))
        == [*range(20)] + [19] * 8
    )
    for read in (
        lambda: read_frames(folder, [25], short + 1),
        lambda: list(read_blocks(folder, short + 1, 16)),
    ):
        with pytest.raises(VideoError, match="decodes 20 frames where the annotation has 29"):
            read()


def test_too_many_images_are_an_error(folder):
    assert sum(len(block) for _, block in read_blocks(folder, 20 - SHORT_TAIL, 16)) == 12
    with pytest.raises(VideoError, match="at least 20 frames where the annotation has 11"):
        list(read_blocks(folder, 20 - SHORT_TAIL - 1, 16))


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def larger(path):
    cv2.imwrite(str(path), np.zeros((50, 64, 3), np.uint8))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (cut, "decoding fails"),
        (flip, "decoding fails"),
        (lambda path: path.write_bytes(b""), "decoding fails"),
        (lambda path: path.write_bytes(b"GIF89a" * 20), "decoding fails"),
        (larger, "is 64x50 pixels, other images of its folder are 64x48"),
    ],
)
def test_a_damaged_image_is_named(folder, spoil, words):
    spoil(folder / "00007.png")
    for read in (
        lambda: probe(folder),
        lambda: list(read_blocks(folder, 20, 8)),
        lambda: read_frames(folder, [0, 6], 20),
    ):
        with pytest.raises(VideoError, match=words) as error:
            read()
        assert str(folder / "00007.png") in str(error.value) and "\n" not in str(error.value)


def test_what_has_no_clear_order_is_refused(folder):
    (folder / "7.png").write_bytes((folder / "00007.png").read_bytes())
    with pytest.raises(VideoError, match=r"7\.png: has the same frame number as 00007\.png"):
        probe(folder)
    (folder / "7.png").rename(folder / "cover.png")
    with pytest.raises(VideoError, match=r"cover\.png: has no frame number"):
        probe(folder)


def test_an_empty_folder_is_no_video(tmp_path):
    with pytest.raises(VideoError, match="no video at .*: the folder holds no PNG or JPEG"):
        probe(tmp_path)


def test_jpegs_are_read_as_pngs_are(tmp_path):
    """Within what the format loses; smooth pictures at quality 95 lose a level or two."""
    ramp = np.linspace(0, 200, 32, dtype=np.uint8)
    frames = np.stack([np.broadcast_to(ramp + 10 * k, (24, 32)) for k in range(4)])
    frames = np.repeat(frames[..., None], 3, axis=3)
    for k, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{k + 1:05d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
    read = read_frames(tmp_path, range(4), 4).astype(int)
    assert abs(read - frames).max() <= 3
    assert probe(tmp_path) == (4, 24, 32)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_an_image_cut_short_is_an_error(tmp_path, ending):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = tmp_path / f"00001{ending}"
    cv2.imwrite(str(file), picture)
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(VideoError, match=f"00001{ending}: decoding fails"):
        probe(tmp_path)


def test_gray_of_sixteen_bits_and_transparency(tmp_path):
    """As eight bits a color; a palette and an alpha channel give the colors alone."""
    gray = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "00001.png"), gray)
    clear = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "00002.png"), clear)
    first, second = read_frames(tmp_path, [0, 1], 2)
    assert np.array_equal(first[..., 0], gray >> 8)
    assert np.array_equal(second, clear[..., 2::-1])


def test_a_folder_is_read_without_pyav(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(pyav, "av", pyav._Library())
    monkeypatch.setattr(reader, "av", pyav.av)
    assert numbers(read_frames(folder, [3, 7], 20)) == [3, 7]
    (folder.parent / "clip.avi").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="PyAV cannot be imported .*pip install av"):
        probe(folder.parent / "clip.avi")


def test_a_jpeg_beside_pngs_is_no_frame(folder):
    """As it was when only PNGs were read: a poster must not become frame 0."""
    cv2.imwrite(str(folder / "poster_0.jpg"), np.zeros((24, 32, 3), np.uint8))
    cv2.imwrite(str(folder / "preview.jpg"), np.zeros((24, 32, 3), np.uint8))
    assert numbers(read_frames(folder, [0, 19], 20)) == [0, 19]
    assert probe(folder)[0] == 20
