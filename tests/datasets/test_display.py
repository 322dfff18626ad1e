"""The picture is what a player shows: turned, mirrored, of square pixels, from the right
stream, without what an edit list cuts away; and the same one for everybody who reads it.
"""

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorTrc
from PIL import Image
from shown_videos import (
    UPRIGHT,
    add_shown,
    corner_frames,
    corners_of,
    numbers_inside,
    write_shown,
)

from claus.annotators.request_frames import write_frames
from claus.datasets.clips.geometry import ClipGeometry
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.clips.training_clips import TrainingClips
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.own_videos import count_frames
from claus.datasets.video import frame_cache, frame_index
from claus.datasets.video.display import Display
from claus.datasets.video.frame_cache import FrameCache
from claus.datasets.video.frame_index import IndexedVideos
from claus.datasets.video.reader import (
    VideoError,
    iter_frames,
    one_thread,
    pixels,
    probe,
    read_blocks,
    read_frames,
    video_stream,
)
from claus.steps.evaluation_pictures import blocks_of
from claus.utils import overlays

COUNT = 20


def whole(path, count=COUNT):
    """All pictures, which must be the same one by one, through an index, and in blocks."""
    every = np.stack([pixels(frame) for frame in iter_frames(path)])
    assert probe(path) == (count, *every.shape[1:3])
    blocks = [block for _, block in read_blocks(path, count, 7, every.shape[1:3])]
    assert np.array_equal(np.concatenate(blocks), every)
    videos = IndexedVideos()
    for k in range(count):
        assert np.array_equal(
            videos.read_frames(path, [k], count, every.shape[1:3])[0], every[k]
        )
        assert np.array_equal(read_frames(path, [k], count)[0], every[k])
    return every


def groups(path):
    return len(IndexedVideos().index(path).groups)


# ---- rotation ----

# top left, top right, bottom left, bottom right
TURNED = {
    (0, False): ["red", "green", "blue", "yellow"],
    (90, False): ["green", "yellow", "red", "blue"],
    (180, False): ["yellow", "blue", "green", "red"],
    (270, False): ["blue", "red", "yellow", "green"],
    (0, True): ["green", "red", "yellow", "blue"],
    (90, True): ["yellow", "green", "blue", "red"],
    (180, True): ["blue", "yellow", "red", "green"],
    (270, True): ["red", "blue", "green", "yellow"],
}


@pytest.mark.parametrize(
    "name, turn",
    [
        *(("v.mp4", turn) for turn in TURNED),
        *(("v.mkv", turn) for turn in TURNED if not turn[1]),  # Matroska mirrors nothing
    ],
)
def test_a_display_matrix_turns_the_picture(tmp_path, name, turn):
    """turn: degrees counterclockwise, then whether left and right are exchanged."""
    write_shown(tmp_path / name, corner_frames(COUNT), turn=turn)
    write_shown(tmp_path / f"plain_{name}", corner_frames(COUNT))
    pictures = whole(tmp_path / name)
    assert corners_of(pictures[0]) == corners_of(pictures[-1]) == TURNED[turn]
    assert numbers_inside(pictures) == list(range(COUNT))
    assert groups(tmp_path / name) == 2
    for picture, plain in zip(pictures, whole(tmp_path / f"plain_{name}"), strict=True):
        expected = np.rot90(plain, turn[0] // 90)
        assert np.array_equal(picture, expected[:, ::-1] if turn[1] else expected)


@pytest.mark.parametrize("degrees", [80, 100, -280])
def test_other_angles_are_the_nearest_quarter_turn(tmp_path, degrees):
    write_shown(tmp_path / "v.mp4", corner_frames(COUNT), turn=(degrees,))
    assert corners_of(whole(tmp_path / "v.mp4")[3]) == TURNED[90, False]


@pytest.mark.parametrize(
    "tag, turn",
    [("90", 270), ("180", 180), ("270", 90), ("-90", 90), ("0", 0), ("up", 0), ("inf", 0)],
)
def test_the_tag_of_older_files_is_degrees_clockwise(tmp_path, tag, turn):
    write_shown(tmp_path / "v.mkv", corner_frames(COUNT), tags={"rotate": tag})
    assert corners_of(whole(tmp_path / "v.mkv")[0]) == TURNED[turn, False]


def test_the_matrix_wins_over_the_tag(tmp_path):
    write_shown(tmp_path / "v.mkv", corner_frames(3), turn=(90,), tags={"rotate": "180"})
    assert corners_of(whole(tmp_path / "v.mkv", 3)[0]) == TURNED[90, False]


def test_a_kept_index_knows_how_frames_are_shown(tmp_path, monkeypatch):
    path = tmp_path / "v.mp4"
    write_shown(path, corner_frames(COUNT), turn=(90,), aspect=Fraction(4, 3))
    expected = IndexedVideos(tmp_path / "kept").read_frames(path, [13], COUNT)
    monkeypatch.setattr(frame_index, "build", None)
    monkeypatch.setattr(frame_index, "read_frames", None)
    again = IndexedVideos(tmp_path / "kept")
    assert np.array_equal(again.read_frames(path, [13], COUNT), expected)
    assert expected.shape == (1, 85, 48, 3)


# ---- pixels that are not square ----


@pytest.mark.parametrize(
    "aspect, width",
    [(Fraction(4, 3), 85), (Fraction(3, 4), 48), (Fraction(1), 64), (Fraction(200), 64)],
)
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi"])
def test_the_width_is_scaled_to_square_pixels(tmp_path, name, aspect, width):
    write_shown(tmp_path / name, corner_frames(COUNT), aspect=aspect)
    write_shown(tmp_path / f"plain_{name}", corner_frames(COUNT))
    pictures = whole(tmp_path / name)
    assert pictures.shape == (COUNT, 48, width, 3)
    assert corners_of(pictures[9]) == UPRIGHT
    assert numbers_inside(pictures) == list(range(COUNT))
    for picture, plain in zip(pictures, iter_frames(tmp_path / f"plain_{name}"), strict=True):
        scaled = plain.decoded.reformat(width=width, format="rgb24", **one_thread())
        assert np.array_equal(picture, scaled.to_ndarray())


def test_scaled_first_and_then_turned(tmp_path):
    write_shown(tmp_path / "v.mp4", corner_frames(COUNT), turn=(270,), aspect=Fraction(4, 3))
    pictures = whole(tmp_path / "v.mp4")
    assert pictures.shape == (COUNT, 85, 48, 3)
    assert corners_of(pictures[0]) == TURNED[270, False]


def test_what_is_done_in_words():
    assert str(Display()) == ""
    assert str(Display(transposed=True, left_right=True)) == "rotated 90°"
    assert str(Display(left_right=True, top_bottom=True)) == "rotated 180°"
    assert str(Display(transposed=True, top_bottom=True)) == "rotated 270°"
    assert str(Display(4 / 3, top_bottom=True)) == "mirrored, pixels 1.33 times as wide as high"


def test_an_ordinary_file_is_shown_as_it_is_decoded(made_videos):
    for frame in iter_frames(made_videos / "gray20.avi"):
        assert frame.display == Display()
        plain = frame.decoded.reformat(format="rgb24", **one_thread()).to_ndarray()
        assert np.array_equal(pixels(frame), plain)


# ---- several streams ----


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_the_default_stream_is_shown_not_a_preview_before_it(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        preview = container.add_stream("mpeg4", rate=25)
        preview.width, preview.height, preview.pix_fmt = 32, 32, "yuv420p"
        preview.disposition = Disposition(0)
        add_shown(container, corner_frames(COUNT), disposition=Disposition.default)
        for k in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = k
            container.mux(preview.encode(frame))
        container.mux(preview.encode())
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].width == 32  # or it proves nothing
    pictures = whole(tmp_path / name)
    assert corners_of(pictures[0]) == UPRIGHT
    assert numbers_inside(pictures) == list(range(COUNT))


def test_a_song_with_a_cover_picture_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        quiet.rate = 8000
        container.mux(sound.encode(quiet))
        picture = av.VideoFrame.from_ndarray(corner_frames(1)[0], format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
        container.mux(sound.encode())
    with av.open(str(tmp_path / "song.mp4")) as container:
        assert container.streams.video[0].disposition & Disposition.attached_pic
    for read in (read_frames, IndexedVideos().read_frames):
        with pytest.raises(VideoError, match="song.mp4 holds no video stream"):
            read(tmp_path / "song.mp4", [0], 1)


def test_a_cover_picture_is_passed_over_even_where_it_is_the_best_stream():
    cover, preview, video = (
        SimpleNamespace(disposition=disposition, codec_context=SimpleNamespace())
        for disposition in (
            Disposition.attached_pic | Disposition.default,
            Disposition.timed_thumbnails,
            Disposition(0),
        )
    )
    streams = SimpleNamespace(video=[cover, preview, video], best=lambda kind: cover)
    assert video_stream(SimpleNamespace(streams=streams)) is video


# ---- edit lists, depths of color, odd sizes ----


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_what_an_edit_list_cuts_away_is_not_shown(tmp_path, codec):
    path = tmp_path / "v.mp4"
    write_shown(path, corner_frames(30), codec, start=-7)
    with av.open(str(path), options={"ignore_editlist": "1"}) as container:
        stored = sum(1 for _ in container.decode(video=0))
    assert stored > 23  # or it proves nothing
    assert numbers_inside(whole(path, 23)) == list(range(7, 30))


@pytest.mark.parametrize(
    "codec, pix_fmt",
    [
        ("ffv1", "yuv420p10le"),
        ("ffv1", "yuv444p12le"),
        ("libx264", "yuv420p10le"),
        ("ffv1", "yuv420p"),
    ],
)
def test_more_bits_are_converted_to_eight(tmp_path, codec, pix_fmt):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    write_shown(tmp_path / "v.mkv", corner_frames(COUNT), codec, turn=(90,), pix_fmt=pix_fmt)
    pictures = whole(tmp_path / "v.mkv")
    assert pictures.dtype == np.uint8 and corners_of(pictures[4]) == TURNED[90, False]
    assert numbers_inside(pictures) == list(range(COUNT))
    assert groups(tmp_path / "v.mkv") > 1


def test_hdr_is_converted_as_ffmpeg_does(tmp_path):
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.codec_context.color_trc = ColorTrc.SMPTE2084
        stream.codec_context.color_primaries = ColorPrimaries.BT2020
        stream.codec_context.colorspace = 9  # BT.2020, not constant luminance
        for picture in corner_frames(COUNT):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9)))
        container.mux(stream.encode())
    decoded = [frame.decoded for frame in iter_frames(tmp_path / "v.mkv")]
    assert decoded[0].colorspace == 9 and decoded[0].color_trc == ColorTrc.SMPTE2084
    plain = [frame.reformat(format="rgb24", **one_thread()).to_ndarray() for frame in decoded]
    assert np.array_equal(whole(tmp_path / "v.mkv"), plain)
    assert corners_of(plain[0]) == UPRIGHT and numbers_inside(np.stack(plain)) == list(
        range(20)
    )


def test_an_odd_size(tmp_path):
    write_shown(tmp_path / "v.mkv", corner_frames(COUNT, 47, 63), "ffv1", turn=(90,))
    pictures = whole(tmp_path / "v.mkv")
    assert pictures.shape == (COUNT, 63, 47, 3) and groups(tmp_path / "v.mkv") > 1
    assert numbers_inside(pictures) == list(range(COUNT))


# ---- everybody sees the same picture ----

PORTRAIT = ClipGeometry((64, 48), (64, 48), 48)
NO_MAPS = [np.zeros((16, 48, 48), np.float16)] * 2  # of the tiles of 20 frames


@pytest.fixture
def phone(tmp_path):
    """A phone's video, upright when shown: 48 pixels wide, 64 high."""
    sideways = np.stack([np.rot90(picture) for picture in corner_frames(COUNT, 64, 48)])
    write_shown(tmp_path / "phone.mp4", sideways, turn=(270,))
    return tmp_path / "phone.mp4"


def labeled(height, width):
    """A video whose red corner is labeled in frame 5."""
    tube = Tube(0, 1, np.array([5]), np.array([[0, 0, 16, 16]]))
    return Video("phone", COUNT, height, width, 0, [5], (tube,))


def training_clips(phone, height, width, **options):
    annotations = Annotations("own", ["a"], {"phone": labeled(height, width)})
    return TrainingClips(annotations, lambda name: phone, PORTRAIT, 0, **options)


def test_annotator_training_scoring_and_overlay_see_the_same(phone, tmp_path):
    sizes, _ = count_frames(["phone"], lambda name: phone, tmp_path / "known")
    assert sizes == {"phone": (COUNT, 64, 48)}
    video = labeled(64, 48)

    pick = {"video": "phone", "frames": [5]}
    assert write_frames([pick], tmp_path / "frames", lambda name: phone, {"phone": video}) == {}
    asked = np.asarray(Image.open(tmp_path / "frames" / "phone" / "frame_00005.png"))
    assert asked.shape == (64, 48, 3) and corners_of(asked) == UPRIGHT
    assert numbers_inside(asked[None]) == [5]

    clip = training_clips(phone, 64, 48).clip(video, 5)
    trained = clip["frames"][clip["anchor"]].permute(1, 2, 0).numpy()
    assert corners_of(trained) == UPRIGHT and numbers_inside(trained[None]) == [5]
    inside = clip["target"][clip["anchor"]].numpy() > 0
    assert inside.sum() == 12 * 16
    red, green, blue = trained[inside].mean(0)
    assert red > 180 and green < 70 and blue < 70

    start, frames, truths, _ = next(blocks_of(video, phone, NO_MAPS))
    nothing = np.zeros((48, 48))
    crop = (0, 0, 48, 64)
    view = overlays.overlay(frames[5], 0 * truths[5], nothing, PORTRAIT.frame, crop, 64)
    assert start == 0 and corners_of(view) == UPRIGHT


def readers(phone, height, width, tmp_path):
    """Every way in which an annotated video is read; each raises or returns what failed."""
    video = labeled(height, width)
    tiles = VideoTiles([video], lambda name: phone, PORTRAIT)
    pick = {"video": "phone", "frames": [5]}
    return {
        "read_frames": lambda: read_frames(phone, [3], COUNT, (height, width)),
        "index": lambda: IndexedVideos().read_frames(phone, [3], COUNT, (height, width)),
        "blocks": lambda: list(blocks_of(video, phone, NO_MAPS)),
        "clip": lambda: training_clips(phone, height, width).clip(video, 5)["failed"],
        "request": lambda: write_frames(
            [pick], tmp_path / "frames", lambda name: phone, {"phone": video}
        )["phone"],
        "tiles": lambda: list(tiles.chunks(0)),
    }


@pytest.mark.parametrize("way", ["read_frames", "index", "blocks", "clip", "request", "tiles"])
def test_labels_of_the_picture_on_its_side_are_told_in_one_line(phone, tmp_path, way):
    try:
        said = readers(phone, 48, 64, tmp_path)[way]()
    except VideoError as error:
        said = str(error)
    assert said == (
        f"{phone}: was labeled as 64x48, its file shows 48x64 (rotated 90°); start another "
        "run, or give the file that was labeled"
    )


def test_another_size_is_told_too(phone):
    with pytest.raises(VideoError, match=r"labeled as 320x240, its file shows 48x64 \(rotated"):
        read_frames(phone, [3], COUNT, (240, 320))


def test_a_cached_clip_is_not_used_for_labels_of_another_size(phone, tmp_path):
    options = {"folder": tmp_path / "kept", "cache_gb": 1}
    data = training_clips(phone, 64, 48, **options)
    fresh, cached = (data.clip(labeled(64, 48), 5) for _ in range(2))
    assert np.array_equal(fresh["frames"], cached["frames"])
    old = training_clips(phone, 48, 64, **options).clip(labeled(48, 64), 5)
    assert "was labeled as 64x48" in old["failed"]


def test_clips_cached_before_pictures_were_turned_are_not_used(phone, tmp_path, monkeypatch):
    cache, about = FrameCache(tmp_path, 1), (phone, [1, 2], (64, 48), (64, 48))
    now = cache.path_of(*about)
    monkeypatch.setattr(frame_cache, "VERSION", 1)
    assert cache.path_of(*about) != now
