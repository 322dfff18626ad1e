"""Frames read through an index are those of decoding from the start, bit by bit, whatever
the file is like.
"""

import functools
import os
import shutil
from concurrent.futures import ProcessPoolExecutor

import av
import numpy as np
import pytest
from jhmdb_maker import write_pngs
from made_videos import gray_frames, numbers, write_with_b_frames

from claus.datasets.sprites import write_video
from claus.datasets.ucf101 import find_video
from claus.datasets.video import frame_index
from claus.datasets.video.frame_index import FrameIndex, IndexedVideos, build
from claus.datasets.video.reader import (
    SHORT_TAIL,
    VideoError,
    iter_frames,
    pixels,
    probe,
    read_frames,
)

JHMDB_CLIP = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2.avi"


def moving(count, height=48, width=64):
    """A video of noise that moves a pixel a frame: no two frames are alike, and each leans
    on the one before.
    """
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([np.roll(picture, k, 1) for k in range(count)])


def all_frames(path):
    return np.stack([pixels(frame) for frame in iter_frames(path)])


def write(path, frames, codec, b_frames=0, times=None, options=None):
    """A video of this codec, a key frame every 12; times: the time stamp of each frame."""
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    with av.open(str(path), "w") as container:
        cuts = {
            "sc_threshold": "0" if codec == "libx264" else "1000000000"
        }  # no key frame but every 12th
        stream = container.add_stream(
            codec, rate=25, options={"bf": str(b_frames), **cuts, **(options or {})}
        )
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = 12, 1
        for k, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = times[k] if times is not None else k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def every_frame_is_exact(path, videos=None):
    """Every frame by itself, and spans across groups, against decoding from the start;
    returns the index.
    """
    whole, videos = all_frames(path), videos or IndexedVideos()
    for k in range(len(whole)):
        assert np.array_equal(videos.read_frames(path, [k], len(whole))[0], whole[k])
    for start in range(0, len(whole) - 15, 5):
        span = np.arange(start, start + 16, 2)
        assert np.array_equal(videos.read_frames(path, span, len(whole)), whole[span])
    return videos.index(path)


# ---- exactness ----


@pytest.mark.parametrize(
    "codec, b_frames, name, groups",
    [
        ("mpeg4", 0, "plain.avi", 4),
        ("mpeg4", 0, "plain.mp4", 4),
        ("mpeg4", 0, "plain.mkv", 4),
        ("libx264", 0, "plain.mp4", 4),
        ("libx264", 2, "closed.avi", 4),
        ("libx264", 2, "closed.mp4", 4),
        ("mpeg4", 2, "open.avi", 0),  # B-frames before a key frame lean on the group before
        ("mpeg2video", 0, "in_pieces.mpg", 0),
        ("libx264", 2, "in_pieces.ts", 0),
    ],
)
def test_every_frame_of_every_kind_of_file(codec, b_frames, name, groups, tmp_path):
    write(tmp_path / name, moving(40), codec, b_frames)
    index = every_frame_is_exact(tmp_path / name)
    assert index.frames == 40 and len(index.groups) == groups


@pytest.mark.parametrize(
    "options", ["open-gop=1:keyint=12:min-keyint=12", "keyint=12:min-keyint=12:intra-refresh=1"]
)
def test_ways_of_x264_to_begin_a_group(options, tmp_path):
    write(tmp_path / "open.mp4", moving(40), "libx264", 3, options={"x264-params": options})
    assert every_frame_is_exact(tmp_path / "open.mp4").frames == 40


def test_gaps_in_the_time_stamps(tmp_path):
    times = np.cumsum([1 + 3 * (k % 5 == 0) for k in range(40)]).tolist()
    write(tmp_path / "gaps.avi", moving(40), "mpeg4", times=times)
    with av.open(str(tmp_path / "gaps.avi")) as container:
        assert (
            container.streams.video[0].frames > 40
        )  # or it proves nothing: the header counts the gaps
    index = every_frame_is_exact(tmp_path / "gaps.avi")
    assert index.frames == 40 and len(index.groups) == 4
    assert probe(tmp_path / "gaps.avi") == (40, 48, 64), "frames are counted, not announced"


def test_a_packet_that_only_seems_to_be_a_key_frame_is_no_way_in(tmp_path, monkeypatch):
    """Two groups of the file, the second entered at a frame that leans on others: the proof
    must fail.
    """
    write_video(tmp_path / "v.avi", moving(30))
    real = frame_index._verified

    def shifted(index, file, digests):
        groups = (index.groups[0], (index.groups[1][0] + 3, 0), *index.groups[2:])
        return real(FrameIndex(index.frames, groups, *vars_of(index)), file, digests)

    def vars_of(index):
        return index.packets, index.codec, index.tag, index.size, index.extradata

    assert len(build(tmp_path / "v.avi").groups) == 3
    monkeypatch.setattr(frame_index, "_verified", shifted)
    assert build(tmp_path / "v.avi").groups == ()
    every_frame_is_exact(tmp_path / "v.avi")


@pytest.mark.parametrize("wrong", ["one missing", "one more", "empty group"])
def test_groups_that_give_other_frames_than_the_whole_file_are_not_used(
    wrong, tmp_path, monkeypatch
):
    """The pictures that come are the right ones, but one is missing or comes twice at the
    end, or a group decodes to none of its own.
    """
    write_video(tmp_path / "v.avi", moving(30))
    real = FrameIndex.decode

    def decode(index, file, group):
        frames = list(real(index, file, group))
        if wrong == "empty group":
            before = list(real(index, file, 0))
            return iter([[], before + frames, frames][group])
        if group == len(index.groups) - 1:
            frames = frames[:-1] if wrong == "one missing" else frames + frames[-1:]
        return iter(frames)

    assert len(build(tmp_path / "v.avi").groups) == 3
    monkeypatch.setattr(FrameIndex, "decode", decode)
    index = build(tmp_path / "v.avi")
    assert index.groups == () and index.frames == 30


def test_no_frame_of_a_sound_file_is_read_from_the_start(tmp_path, monkeypatch):
    write_video(tmp_path / "v.avi", moving(30))
    videos, whole = IndexedVideos(), all_frames(tmp_path / "v.avi")
    assert len(videos.index(tmp_path / "v.avi").groups) == 3
    monkeypatch.setattr(frame_index, "read_frames", lambda *_: pytest.fail("from the start"))
    for k in range(30):
        frame = videos.read_frames(tmp_path / "v.avi", [k], 30)[0]
        assert np.array_equal(frame, whole[k])


@pytest.mark.parametrize(
    "name", ["Biking/v_Biking_g01_c03", "Biking/v_Biking_g02_c05", "Diving/v_Diving_g01_c01"]
)
def test_real_ucf_files(shared_data, name):
    path = find_video(shared_data / "ucf101_24", name)
    index = every_frame_is_exact(path)
    assert len(index.groups) > 10


def test_a_real_jhmdb_clip_whose_container_claims_frames_it_has_not(shared_data):
    index = every_frame_is_exact(shared_data / "jhmdb" / "videos" / JHMDB_CLIP)
    assert index.frames == 40 and len(index.groups) == 4


# ---- as little as possible ----


def test_only_the_group_is_decoded(tmp_path, monkeypatch):
    write_video(tmp_path / "v.avi", moving(40))
    videos, decoded = IndexedVideos(), []
    videos.read_frames(tmp_path / "v.avi", [0], 40)
    real = FrameIndex.decode
    monkeypatch.setattr(
        FrameIndex,
        "decode",
        lambda *args: (decoded.append(1) or frame for frame in real(*args)),
    )
    videos.read_frames(tmp_path / "v.avi", [27, 25], 40)
    assert len(decoded) == 4  # 24 is the key frame


def test_indices_may_repeat_and_come_in_any_order(made_videos):
    assert numbers(
        IndexedVideos().read_frames(made_videos / "gray40.avi", [31, 2, 2, 39, 0], 40)
    ) == [31, 2, 2, 39, 0]


# ---- the same errors ----


def test_a_short_tail_repeats_the_last_frame_and_more_is_an_error(made_videos):
    videos, short = IndexedVideos(), 20 + SHORT_TAIL
    assert numbers(videos.read_frames(made_videos / "gray20.avi", [3, 25, 19], short)) == [
        3,
        19,
        19,
    ]
    assert numbers(videos.read_frames(made_videos / "gray20.avi", [3], short + 1)) == [3]
    with pytest.raises(
        VideoError, match=r"gray20\.avi decodes 20 frames where the annotation has 29"
    ):
        videos.read_frames(made_videos / "gray20.avi", [3, 25], short + 1)


@pytest.mark.parametrize("content", [None, b"", b"no video " * 100, bytes(20_000)])
def test_no_video_is_named_as_without_an_index(content, tmp_path):
    path = tmp_path / "wrong.avi"
    if content is not None:
        path.write_bytes(content)
    said = []
    for read in (read_frames, IndexedVideos(tmp_path / "kept").read_frames):
        with pytest.raises(VideoError) as error:
            read(path, [0], 20)
        said.append(str(error.value))
    assert said[0] == said[1] and "\n" not in said[0]


def test_what_lies_before_a_cut_can_still_be_read(tmp_path):
    write_video(
        tmp_path / "whole.avi",
        np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8),
    )
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: int(0.6 * len(content))])
    videos = IndexedVideos()
    np.testing.assert_array_equal(
        videos.read_frames(tmp_path / "cut.avi", [2, 9], 40),
        all_frames(tmp_path / "whole.avi")[[2, 9]],
    )
    with pytest.raises(VideoError, match="cut.avi"):
        videos.read_frames(tmp_path / "cut.avi", [0, 39], 40)


def test_a_folder_of_images_needs_no_index(tmp_path):
    write_pngs(tmp_path / "clip", gray_frames(20))
    assert numbers(IndexedVideos(tmp_path).read_frames(tmp_path / "clip", [4, 18], 20)) == [
        4,
        18,
    ]


# ---- what is kept ----


def kept(folder):
    return sorted(folder.rglob("*.json"))


def test_an_index_is_made_once_and_kept(made_videos, tmp_path, monkeypatch):
    IndexedVideos(tmp_path).read_frames(made_videos / "gray40.avi", [3], 40)
    assert len(kept(tmp_path)) == 1
    monkeypatch.setattr(frame_index, "build", None)
    assert numbers(
        IndexedVideos(tmp_path).read_frames(made_videos / "gray40.avi", [38], 40)
    ) == [38]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: bytes(len(content)),
        lambda content: content.replace(b'"frames": 40', b'"frames": 41'),
    ],
    ids=["empty", "cut", "zeros", "another"],
)
def test_a_damaged_index_is_made_again(made_videos, tmp_path, spoil):
    IndexedVideos(tmp_path).read_frames(made_videos / "gray40.avi", [3], 40)
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    assert spoil(whole) != whole
    file.write_bytes(spoil(whole))
    assert numbers(
        IndexedVideos(tmp_path).read_frames(made_videos / "gray40.avi", [39], 40)
    ) == [39]
    assert file.read_bytes() == whole


def test_a_file_that_changes_gets_another_index(made_videos, tmp_path):
    videos = IndexedVideos(tmp_path / "kept")
    shutil.copy(made_videos / "gray40.avi", tmp_path / "v.avi")
    assert numbers(videos.read_frames(tmp_path / "v.avi", [30], 40)) == [30]
    write_video(tmp_path / "v.avi", gray_frames(40)[::-1])
    assert numbers(videos.read_frames(tmp_path / "v.avi", [30], 40)) == [9]


def test_a_file_replaced_behind_our_back_is_read_from_its_start(made_videos, tmp_path):
    """Same place, size and time of change: the index finds nothing where it looks."""
    shutil.copy(made_videos / "gray40.avi", tmp_path / "v.avi")
    videos, state = IndexedVideos(), os.stat(tmp_path / "v.avi")
    videos.read_frames(tmp_path / "v.avi", [3], 40)
    (tmp_path / "v.avi").write_bytes(b"x" * state.st_size)
    os.utime(tmp_path / "v.avi", ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(VideoError, match="v.avi: decoding fails"):
        videos.read_frames(tmp_path / "v.avi", [30], 40)


def read_some(folder, path, k):
    return numbers(IndexedVideos(folder).read_frames(path, [k, k + 2], 40))


def test_processes_may_make_the_same_index_at_once(made_videos, tmp_path):
    with ProcessPoolExecutor(2) as pool:
        seen = list(
            pool.map(
                functools.partial(read_some, tmp_path, made_videos / "gray40.avi"), range(8)
            )
        )
    assert seen == [[k, k + 2] for k in range(8)] and len(kept(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_one_warning(made_videos, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    for k in (3, 5):
        assert numbers(
            IndexedVideos(tmp_path / "file").read_frames(made_videos / "gray40.avi", [k], 40)
        ) == [k]
    assert capsys.readouterr().err.count("WARNING: cannot write below") == 1


def test_memory_is_bounded(made_videos, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_index, "IN_MEMORY", 2)
    videos = IndexedVideos()
    for k in range(4):
        shutil.copy(made_videos / "gray20.avi", tmp_path / f"{k}.avi")
        videos.read_frames(tmp_path / f"{k}.avi", [1], 20)
    assert len(videos._known) == 2


def test_b_frames_of_the_films_maker(tmp_path):
    write_with_b_frames(tmp_path / "b.avi", moving(30), "mpeg4")
    every_frame_is_exact(tmp_path / "b.avi")
