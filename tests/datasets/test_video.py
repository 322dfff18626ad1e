"""Video files to frames: frame k is the k-th decoded one, and whatever is wrong with a file
is said in one line.
"""

import shutil
import wave

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from made_videos import gray_frames, numbers, write_with_b_frames
from scipy.io import loadmat

from claus.datasets.sprites import write_video
from claus.datasets.ucf101 import find_video, read_ground_truth
from claus.datasets.video import reader as video
from claus.datasets.video.frame_index import IndexedVideos
from claus.datasets.video.reader import (
    SHORT_TAIL,
    VideoError,
    iter_frames,
    pixels,
    probe,
    read_blocks,
    read_frames,
)


def all_frames(path):
    return np.stack([pixels(frame) for frame in iter_frames(path)])


def test_a_picture_size_that_changes_is_said(tmp_path):
    parts = []
    for number, (width, height) in enumerate(((96, 64), (64, 48))):
        with av.open(str(tmp_path / f"{number}.m1v"), "w", format="mpeg1video") as container:
            stream = container.add_stream("mpeg1video", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in gray_frames(12, height, width):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        parts.append((tmp_path / f"{number}.m1v").read_bytes())
    (tmp_path / "both.mpg").write_bytes(b"".join(parts))
    for read in (read_frames, IndexedVideos().read_frames):
        with pytest.raises(VideoError, match="both.mpg: changes its picture size at frame 11"):
            read(tmp_path / "both.mpg", [5, 18], 24)
    # behind the last labeled frame it does no harm
    ((_, block),) = read_blocks(tmp_path / "both.mpg", 11, 16)
    assert block.shape == (11, 64, 96, 3)


# ---- frame k is the k-th decoded frame ----


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_stored_out_of_order_and_shown_in_order(codec, tmp_path):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    write_with_b_frames(tmp_path / "b.avi", gray_frames(30), codec)
    assert PictureType.B in {
        frame.decoded.pict_type for frame in iter_frames(tmp_path / "b.avi")
    }  # or it proves nothing
    assert numbers(all_frames(tmp_path / "b.avi")) == list(range(30))
    assert numbers(read_frames(tmp_path / "b.avi", [7, 0, 29, 13, 13], 30)) == [
        7,
        0,
        29,
        13,
        13,
    ]


def test_a_film_without_b_frames(made_videos):
    assert probe(made_videos / "gray20.avi") == (20, 48, 64)
    frames = all_frames(made_videos / "gray20.avi")
    assert (
        frames.dtype == np.uint8
        and frames.shape == (20, 48, 64, 3)
        and numbers(frames) == list(range(20))
    )


def test_pixels_are_rgb(tmp_path):
    red = np.zeros((3, 32, 32, 3), np.uint8)
    red[..., 0] = 250
    write_with_b_frames(tmp_path / "red.avi", red, "mpeg4")
    r, g, b = all_frames(tmp_path / "red.avi").mean((0, 1, 2))
    assert r > 230 and g < 20 and b < 20


# ---- reading some, reading all ----


def test_wanted_frames_may_repeat_and_come_in_any_order(made_videos):
    whole, wanted = all_frames(made_videos / "gray40.avi"), [31, 2, 2, 39, 0]
    np.testing.assert_array_equal(
        read_frames(made_videos / "gray40.avi", wanted, 40), whole[wanted]
    )
    np.testing.assert_array_equal(
        read_frames(made_videos / "gray40.avi", np.array(wanted, np.int32), 40), whole[wanted]
    )


@pytest.mark.parametrize("size", [1, 7, 16, 20, 64])
@pytest.mark.parametrize("frames", [1, 7, 16, 20])
def test_blocks_are_all_frames(tmp_path, size, frames):
    write_video(tmp_path / "v.avi", gray_frames(frames))
    blocks = list(read_blocks(tmp_path / "v.avi", frames, size))
    assert [start for start, _ in blocks] == list(range(0, frames, size))
    assert [len(block) for _, block in blocks[:-1]] == [size] * (len(blocks) - 1)
    np.testing.assert_array_equal(
        np.concatenate([block for _, block in blocks]),
        all_frames(tmp_path / "v.avi"),
    )
    assert numbers(all_frames(tmp_path / "v.avi")) == list(range(frames))


@pytest.mark.parametrize("size", [5, 16, 20, 24, 64])
@pytest.mark.parametrize("missing", [1, SHORT_TAIL])
def test_a_short_tail_repeats_the_last_frame(made_videos, size, missing):
    whole = all_frames(made_videos / "gray20.avi")
    expected = np.concatenate([whole, whole[[-1] * missing]])
    blocks = list(read_blocks(made_videos / "gray20.avi", 20 + missing, size))
    assert [start for start, _ in blocks] == list(range(0, 20 + missing, size))
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), expected)
    wanted = [19, 20, 20 + missing - 1, 3]
    np.testing.assert_array_equal(
        read_frames(made_videos / "gray20.avi", wanted, 20 + missing), expected[wanted]
    )


def test_a_longer_missing_tail_is_a_damaged_file(made_videos):
    announced = 20 + SHORT_TAIL + 1
    for read in (
        lambda: list(read_blocks(made_videos / "gray20.avi", announced, 16)),
        lambda: read_frames(made_videos / "gray20.avi", [3, 20], announced),
    ):
        with pytest.raises(
            VideoError, match=r"gray20\.avi decodes 20 frames where the annotation has 29"
        ):
            read()


@pytest.mark.parametrize("more", [1, SHORT_TAIL])
def test_a_few_frames_more_are_cut_at_the_annotated_length(made_videos, more):
    path, frames = made_videos / "gray40.avi", 40 - more
    assert sum(len(block) for _, block in read_blocks(path, frames, 16)) == frames
    assert numbers(read_frames(path, [frames - 1], frames)) == [frames - 1]
    assert numbers(IndexedVideos().read_frames(path, [4], frames)) == [4]


def test_decoding_stops_behind_the_last_frame_wanted(made_videos, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        video,
        "iter_frames",
        lambda *args: (decoded.append(1) or frame for frame in iter_frames(*args)),
    )
    assert numbers(read_frames(made_videos / "gray40.avi", [4, 9], 40)) == [4, 9]
    assert len(decoded) == 10
    decoded.clear()
    assert len(read_frames(made_videos / "gray40.avi", [12, 11], 13)) == 2
    assert len(decoded) == 13
    decoded.clear()
    with pytest.raises(VideoError, match="at least 21 frames where the annotation has 12"):
        list(read_blocks(made_videos / "gray40.avi", 12, 16))
    assert len(decoded) == 12 + SHORT_TAIL + 1


def scored(path, frames):
    return list(read_blocks(path, frames, 16))


def trained(path, frames):
    return IndexedVideos().read_frames(path, [3], frames)


@pytest.mark.parametrize("times, rate", [(2, 50), (3, 60)])
def test_a_file_of_another_frame_rate_is_another_video(made_videos, tmp_path, times, rate):
    write_video(tmp_path / "v.avi", np.repeat(gray_frames(20), times, axis=0), rate)
    for read in (scored, trained):
        with pytest.raises(VideoError, match="v.avi decodes at least .* has 20; was it re-enc"):
            read(tmp_path / "v.avi", 20)


@pytest.mark.parametrize("more", [SHORT_TAIL, SHORT_TAIL + 1])
def test_a_surplus_is_tolerated_up_to_the_same_limit_everywhere(made_videos, more):
    for read in (scored, trained):
        if more <= SHORT_TAIL:
            read(made_videos / "gray40.avi", 40 - more)
            continue
        with pytest.raises(VideoError, match="at least 40 frames where the annotation has 31"):
            read(made_videos / "gray40.avi", 40 - more)


def test_a_short_tail_is_told_once_where_the_whole_video_is_read(made_videos, tmp_path, capfd):
    shutil.copy(made_videos / "gray20.avi", tmp_path / "v.avi")
    read_frames(tmp_path / "v.avi", [3], 22)
    assert capfd.readouterr().err == ""
    for _ in range(2):
        scored(tmp_path / "v.avi", 22)
    said = f"note: {tmp_path / 'v.avi'} decodes 20 frames where the annotation has 22; the last"
    assert capfd.readouterr().err == f"{said} one is repeated\n"
    scored(tmp_path / "v.avi", 20)
    assert capfd.readouterr().err == ""


# ---- files that are no videos ----


def text(path):
    path.write_text("This is not a video.\n" * 50)


def page(path):
    path.write_text("<html><body>404 Not Found</body></html>")


def subtitles(path):
    path.write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n"
    )


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def zeros(path):
    path.write_bytes(bytes(20_000))


def sound(path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000))


@pytest.mark.parametrize(
    "content, says",
    [
        (text, "decoding fails after 0 frames"),
        (page, "decoding fails"),
        (subtitles, "no video stream"),
        (noise, "decoding fails"),
        (zeros, "decoding fails"),
        (sound, "no video stream"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "no video at"),
        (lambda path: None, "no video at"),
    ],
    ids=["text", "page", "subtitles", "noise", "zeros", "sound", "empty", "folder", "missing"],
)
def test_no_video_is_named_in_one_line(content, says, tmp_path):
    path = tmp_path / "wrong.avi"
    content(path)
    for read in (
        lambda: read_frames(path, [0], 20),
        lambda: list(read_blocks(path, 20, 16)),
        lambda: probe(path),
    ):
        with pytest.raises(VideoError) as error:
            read()
        assert (
            says in str(error.value)
            and str(path) in str(error.value)
            and "\n" not in str(error.value)
        )


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A video of 40 frames whose bytes are nearly all picture."""
    path = tmp_path_factory.mktemp("noisy") / "noisy.avi"
    write_video(
        path, np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
    )
    return path


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.6, 0.7])
def test_truncated_bytes_never_pass_for_the_whole_video(noisy, tmp_path, share):
    path, whole = tmp_path / "cut.avi", noisy.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(VideoError, match="cut.avi"):
        list(read_blocks(path, 40, 16))
    with pytest.raises(VideoError, match="cut.avi"):
        read_frames(path, [0, 39], 40)


def test_what_lies_before_the_cut_can_still_be_read(noisy, tmp_path):
    path, whole = tmp_path / "cut.avi", noisy.read_bytes()
    path.write_bytes(whole[: int(0.6 * len(whole))])
    np.testing.assert_array_equal(
        read_frames(path, [2, 9], 40), all_frames(noisy)[[2, 9]]
    )  # looks no farther than 9


def test_a_title_in_another_alphabet_does_no_harm(tmp_path):
    with av.open(str(tmp_path / "title.avi"), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in gray_frames(5, 32, 32):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / "title.avi").read_bytes()
    assert content.count(b"TITLE") == 1
    (tmp_path / "title.avi").write_bytes(
        content.replace(b"TITLE", b"T\xeftre")
    )  # Latin-1, not UTF-8
    assert probe(tmp_path / "title.avi") == (5, 32, 32)


def test_spaces_and_colons_in_a_path_are_part_of_the_name(made_videos, tmp_path):
    folder = tmp_path / "päth with spaces %d"
    folder.mkdir()
    shutil.copy(made_videos / "gray20.avi", folder / "film:1.avi")
    assert probe(folder / "film:1.avi")[0] == 20


# ---- real files ----


@pytest.mark.parametrize(
    "name, frames", [("Biking/v_Biking_g01_c03", 151), ("Biking/v_Biking_g02_c05", 180)]
)
def test_real_ucf_videos_decode_as_many_frames_as_annotated(shared_data, name, frames):
    root = shared_data / "ucf101_24"
    assert read_ground_truth(root / "pyannot.pkl").videos[name].frames == frames
    assert probe(find_video(root, name)) == (frames, 240, 320)


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: np.repeat(frames, 2, axis=0),  # 25 to 50 pictures a second
        lambda frames: frames[np.arange(len(frames) * 12 // 5) * 5 // 12],  # to 60
        lambda frames: frames[SHORT_TAIL + 1 :],
        lambda frames: frames[: -SHORT_TAIL - 1],
    ],
    ids=["50 fps", "60 fps", "cut in front", "cut behind"],
)
def test_a_real_ucf_video_that_was_changed(shared_data, tmp_path, change):
    name = "Biking/v_Biking_g01_c03"
    frames = all_frames(find_video(shared_data / "ucf101_24", name))
    write_video(tmp_path / "v.avi", change(frames))
    with pytest.raises(VideoError, match="frames where the annotation has 151; "):
        scored(tmp_path / "v.avi", 151)
    with pytest.raises(VideoError, match="frames where the annotation has 151; "):
        IndexedVideos().read_frames(tmp_path / "v.avi", [150], 151)


def test_a_real_ucf_video_re_encoded_at_its_rate_reads(shared_data, tmp_path):
    frames = all_frames(find_video(shared_data / "ucf101_24", "Biking/v_Biking_g01_c03"))
    write_video(tmp_path / "v.avi", frames)
    assert sum(len(block) for _, block in scored(tmp_path / "v.avi", 151)) == 151


def test_a_real_jhmdb_clip_claims_48_frames_and_has_40(shared_data):
    clip = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"
    path = shared_data / "jhmdb" / "videos" / f"{clip}.avi"
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 48
    assert probe(path) == (40, 240, 320)
    mask = loadmat(shared_data / "jhmdb" / "puppet_mask" / clip / "puppet_mask.mat")[
        "part_mask"
    ]
    assert mask.shape == (240, 320, 40)
    whole = all_frames(path)
    np.testing.assert_array_equal(read_frames(path, [39, 10], 40), whole[[39, 10]])
