"""Parts of long videos as pool entries: which frames they are, by length and by list, with
even and uneven frame rates; and that these frames, and no others, are read.
"""

from fractions import Fraction

import av
import numpy as np
import pytest
from made_videos import counted_frames, counts_shown, whole, write_counted

from claus.datasets.clips.geometry import ClipGeometry
from claus.datasets.clips.tiles import TileLoader, VideoTiles
from claus.datasets.clips.training_clips import TrainingClips
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.labels.list_format import to_records
from claus.datasets.labels.segment import Segment, clock, entry_name
from claus.datasets.own_videos import read_pool
from claus.datasets.segments import CLIP, Times, cut_video, read_cut, read_length, read_place
from claus.datasets.truth import read_labels
from claus.datasets.video import frame_index
from claus.datasets.video.frame_index import ByGroups, FrameIndex, IndexedVideos
from claus.datasets.video.reader import SHORT_TAIL, InOrder, VideoError
from claus.datasets.video.times import read_times
from claus.semi.batches import UnlabeledClips
from claus.utils.runtime import UserError

PLAIN = ClipGeometry((48, 64), (48, 64), 48)


def even(frames, rate=25):
    """Times of a video of an even frame rate."""
    return Times(48, 64, np.arange(frames), Fraction(1, rate))


def spans(videos):
    return [(video.first, video.first + video.frames) for video in videos]


def cut(times, segment=None, segments=None):
    how = read_cut(segment, segments)
    return cut_video("cam/street", "street.mp4", times, how, how.rows)


def listed(tmp_path, *rows):
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    return str(tmp_path / "parts.csv")


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """cam/street.mp4, 400 frames, and what a pool of 4 s makes of it."""
    folder = tmp_path_factory.mktemp("long")
    write_counted(folder / "cam" / "street.mp4", 400)
    pool, failed = read_pool(
        folder,
        ("run", "wave"),
        known=folder / "known",
        any_folder=True,
        cut=read_cut("4s", None),
        cache=folder / "cache",
    )
    assert failed == {}
    return folder, pool


def finder(folder):
    return lambda name: folder / f"{name}.mp4"


# ---- which frames ----


def test_by_seconds_and_by_frames():
    assert spans(cut(even(1000), "10s")) == [(0, 250), (250, 500), (500, 750), (750, 1000)]
    assert spans(cut(even(1000), "300")) == [(0, 300), (300, 600), (600, 900), (900, 1000)]
    assert spans(cut(even(100, 1), "0:40")) == [(0, 40), (40, 80), (80, 100)]


@pytest.mark.parametrize("left, last", [(CLIP - 1, (500, 765)), (CLIP, (750, 766))])
def test_a_last_piece_shorter_than_a_clip_joins_the_one_before(left, last):
    found = spans(cut(even(750 + left), "10s"))
    assert found[:2] == [(0, 250), (250, 500)] and found[-1] == last


def test_a_piece_shorter_than_a_clip_goes_on_into_the_next():
    assert spans(cut(even(60, 5), "2s")) == [(0, 20), (20, 40), (40, 60)]


@pytest.mark.parametrize("frames", [1, 250, 250 + CLIP - 1])
def test_a_video_no_longer_than_a_segment_stays_itself(frames):
    (video,) = cut(even(frames), "10s")
    assert (video.name, video.frames, video.segment) == ("cam/street", frames, None)


def test_names_and_times():
    videos = cut(even(750), "10s")
    assert [video.name for video in videos] == [
        "cam/street_f000000-000249",
        "cam/street_f000250-000499",
        "cam/street_f000500-000749",
    ]
    assert videos[1].segment.shown(250) == {
        "video": "cam/street",
        "frames": [250, 499],
        "time": ["0:00:10.000", "0:00:20.000"],
    }
    assert entry_name("v", 0, 16, 2_000_000) == "v_f0000000-0000015"
    assert (clock(3661.0625), clock(59.9999), clock(-0.5)) == (
        "1:01:01.062",
        "0:01:00.000",
        "-0:00:00.500",
    )


def test_an_uneven_frame_rate_is_cut_by_the_timestamps(tmp_path):
    """Fifty frames at 25 a second, fifty at 50, a pause of three seconds, and fifty more."""
    steps = [40] * 50 + [20] * 50 + [3040] + [40] * 49
    ticks = np.cumsum([0, *steps[:-1]]).tolist()
    write_counted(tmp_path / "v.mkv", 150, ticks=ticks)
    times = read_times(tmp_path / "v.mkv")
    assert times.frames == 150 and times.known
    assert [float(times.seconds(k)) for k in (0, 50, 100, 101)] == [0, 2, 3, 6.04]
    assert times.end() == 8
    found = cut(times, "2s")
    assert spans(found) == [(0, 50), (50, 101), (101, 150)], "by its rate: 0, 50, 100"
    assert found[1].segment.seconds == (2.0, 6.04)
    by_list = cut(times, segments=listed(tmp_path, "street,0:02,0:03", "street,6.04s,7s"))
    assert spans(by_list) == [(50, 100), (101, 125)]


def test_times_are_kept_and_exact(tmp_path):
    write_counted(tmp_path / "v.mp4", 60, ticks=[33 * k + (k > 30) * 500 for k in range(60)])
    first = read_times(tmp_path / "v.mp4", tmp_path / "cache")
    again = read_times(tmp_path / "v.mp4", tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "times").rglob("*.npz"))) == 1
    assert np.array_equal(first.ticks, again.ticks) and first[:2] == again[:2] == (48, 64)
    assert first[3:] == again[3:]
    assert round(float(first.seconds(31)), 3) == 1.523
    assert first.frame_at(Fraction(1523, 1000)) == 31 == first.frame_at(Fraction(1, 1))
    assert even(10).frame_at(Fraction(1, 10)) == 3, "frame 2 is shown at 0.08, 3 at 0.12"
    assert first.frame_at(first.seconds(7)) == 7, "a frame shown at the start is in it"


def test_a_video_that_begins_later_than_its_sound_begins_later_than_0(tmp_path):
    for name, sound in (("with.mkv", True), ("without.mkv", False)):
        write_late(tmp_path / name, sound)
    assert round(float(read_times(tmp_path / "with.mkv").seconds(0)), 2) == 1
    assert read_times(tmp_path / "without.mkv").seconds(0) == 0


def write_late(path, sound):
    """Thirty frames from 1 s on, beside silence from 0 s on."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        if sound:
            audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            quiet.rate, quiet.pts = 8000, 0
            container.mux(audio.encode(quiet))
        for k in range(30):
            frame = av.VideoFrame.from_ndarray(counted_frames([k])[0], format="rgb24")
            frame.pts, frame.time_base = 25 + k, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())


# ---- what a list may say ----


@pytest.mark.parametrize(
    "text, number, unit",
    [
        ("300f", 300, "frames"),
        ("10s", 10, "seconds"),
        ("10.5", Fraction(21, 2), "seconds"),
        ("1:05", 65, "seconds"),
        ("75:00", 4500, "seconds"),
        ("1:02:03.25", Fraction(14893, 4), "seconds"),
    ],
)
def test_places(text, number, unit):
    place = read_place(text)
    assert (place.number, place.unit) == (number, unit)


@pytest.mark.parametrize("text", ["12", "1:75", "1:62:00", "-3s", "ten", "", "3.5f"])
def test_places_that_are_none(text):
    with pytest.raises(UserError):
        read_place(text)


@pytest.mark.parametrize("text", ["0", "0s", "15", "", "x", "-5s"])
def test_lengths_that_are_none(text):
    with pytest.raises(UserError, match=f"--segment {text}"):
        read_length(text)


def test_rows_with_heading_tabs_blanks_and_a_whole_video(tmp_path):
    rows = "video,start,end", "# comment", "", '"cam/street",0:02,0:04'
    assert spans(cut(even(250), segments=listed(tmp_path, *rows))) == [(50, 100)]
    assert spans(cut(even(250), segments=listed(tmp_path, "street\t10f\t40f"))) == [(10, 40)]
    assert spans(cut(even(250), segments=listed(tmp_path, "street 9s 10.5s"))) == [(225, 250)]
    assert spans(cut(even(250), segments=listed(tmp_path, "street"))) == [(0, 250)]


@pytest.mark.parametrize(
    "rows, said",
    [
        (["street,0:02,0:04", "street,90f,120f"], "lines 1 and 2: .*f000050-000099 and .*over"),
        (["# one", "street,0:04,0:02"], "line 2: ends at 0:00:02.000, not after its start"),
        (["street,40f,40f"], "line 1: ends at frame 40, not after"),
        (
            ["street,0:02,0:12"],
            "line 1: 0:00:12.000 is beyond the end of cam/street: 250 frames",
        ),
        (["street,0f,251f"], "line 1: frame 251 is beyond the end .* at 0:00:10.000"),
        (["steet,0:02,0:04"], r"line 1: no video steet in the pool \(is it cam/street\?\)"),
        (["street,2,4"], "line 1: is 2 seconds or frames"),
        (["street,0:02"], "line 1: has 2 columns"),
        (["street,2.001,2.002"], "line 1: no frame of cam/street is shown from"),
        (["# nothing"], "names no part"),
    ],
)
def test_wrong_rows_are_one_line_each(rows, said, tmp_path, street):
    write_counted(tmp_path / "data" / "cam" / "street.mp4", 250)
    with pytest.raises(UserError, match=said) as caught:
        read_pool(
            tmp_path / "data",
            ("a",),
            known=tmp_path / "known",
            any_folder=True,
            cut=read_cut(None, listed(tmp_path, *rows)),
            cache=tmp_path / "cache",
        )
    assert "\n" not in str(caught.value) and "parts.csv" in str(caught.value)


def test_a_list_that_is_missing(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_cut(None, str(tmp_path / "none.csv"))


def test_a_name_in_two_folders_needs_its_folder(tmp_path):
    for folder in ("a", "b"):
        write_counted(tmp_path / folder / "v.mp4", 40)
    options = {"known": tmp_path / "known", "any_folder": True}
    with pytest.raises(UserError, match="v.mp4 is a/v or b/v"):
        cut_by = read_cut(None, listed(tmp_path, "v.mp4"))
        read_pool(tmp_path, ("x",), cut=cut_by, **options)
    cut_by = read_cut(None, listed(tmp_path, "b/v.mp4,0f,20f"))
    pool, _ = read_pool(tmp_path, ("x",), cut=cut_by, **options)
    assert list(pool.videos) == ["b/v_f000000-000019"], "what a list does not name is left out"


def test_a_segment_called_as_another_video_is_refused(tmp_path):
    write_counted(tmp_path / "cam" / "v.mp4", 40)
    write_counted(tmp_path / "cam" / "v_f000000-000019.mp4", 20)
    with pytest.raises(UserError, match="are both called cam/v_f000000-000019"):
        read_pool(
            tmp_path,
            ("x",),
            known=tmp_path / "known",
            any_folder=True,
            cut=read_cut("20", None),
        )


def test_images_have_frames_and_no_times(tmp_path):
    from PIL import Image

    folder = tmp_path / "cam" / "v"
    folder.mkdir(parents=True)
    for k in range(40):
        Image.fromarray(np.full((8, 8, 3), k, np.uint8)).save(folder / f"{k:04d}.png")
    times = read_times(folder)
    assert (times.frames, times.height, times.known) == (40, 8, False)
    videos = cut(times, "20")
    assert spans(videos) == [(0, 20), (20, 40)] and videos[0].segment.seconds is None
    assert "time" not in videos[0].segment.shown(20)
    with pytest.raises(UserError, match="does not say when .* give frames"):
        cut(times, "10s")


# ---- the annotation file ----


def test_a_segment_survives_the_file_and_others_have_no_trace_of_it(street, tmp_path):
    _, pool = street
    assert [video.name for video in pool.videos.values()] == [
        f"cam/street_f{first:06d}-{first + 99:06d}" for first in (0, 100, 200, 300)
    ]
    annotation_file.save(pool, tmp_path / "pool.pkl")
    again = annotation_file.load(tmp_path / "pool.pkl").videos["cam/street_f000100-000199"]
    assert again.segment == Segment("cam/street", 100, 400, (4.0, 8.0))
    assert (again.source, again.first, again.file_frames) == ("cam/street", 100, 400)
    plain = Video("cam/street", 9, 48, 64)
    assert (plain.source, plain.first, plain.file_frames) == ("cam/street", 0, 9)
    assert "segment" not in annotation_file.video_to(plain)


@pytest.mark.parametrize("first, of", [(300, 399), (-1, 400), (400, 400), ("0", 400)])
def test_a_segment_outside_its_video_is_refused(first, of):
    with pytest.raises(UserError):
        Video("v", 100, 48, 64, segment=Segment("w", first, of))


def test_the_older_list_has_the_whole_video_with_its_numbers(street):
    _, pool = street
    names = list(pool.videos)
    tubes = [Tube(k, 1, [10, 12], [[0, 0, 5, 5], [2, 2, 7, 7]]) for k in (0, 1)]
    for name, tube in zip(names[1:3], tubes, strict=True):
        old = pool.videos[name]
        labeled = Video(name, 100, 48, 64, tube.label, [10, 12], (tube,), old.segment)
        pool = Annotations(pool.dataset, pool.classes, pool.videos | {name: labeled})
    ((name, records),) = to_records(pool)
    assert name == "cam/street"
    assert [record[:3] for record in records] == [(110, 112, 0), (210, 212, 1)]
    assert [record[4].tolist() for record in records] == [[110, 112], [210, 212]]


# ---- what is read ----


@pytest.mark.parametrize("fill", ["repeat", "black", "shift"])
@pytest.mark.parametrize("workers", [0, 2])
def test_tiles_show_the_segments_frames_and_no_others(street, fill, workers):
    folder, pool = street
    videos = list(pool.videos.values())
    tiles = VideoTiles(videos, finder(folder), PLAIN, 2, fill, chunk=3, cache=folder / "cache")
    for video, chunks in TileLoader(tiles, workers):
        item = whole(chunks)
        seen = set()
        for clip, frames in zip(item["clips"].numpy(), item["frames"], strict=True):
            real = frames >= 0
            expected = frames[real] + video.first
            assert counts_shown(clip[real]) == expected.tolist()
            seen |= set(expected.tolist())
        assert seen == set(range(video.first, video.first + 100))


def test_a_segment_in_the_middle_decodes_its_own_groups_alone(street, monkeypatch):
    folder, pool = street
    decoded, real = [], FrameIndex.decode

    def decode(index, file, group):
        for frame in real(index, file, group):
            decoded.append(group)
            yield frame

    indexed = IndexedVideos(folder / "cache")
    assert [first for _, first in indexed.index(folder / "cam/street.mp4").groups] == [
        *range(0, 400, 50)
    ]
    monkeypatch.setattr(FrameIndex, "decode", decode)
    (block,) = indexed.read_runs(folder / "cam/street.mp4", 400, [[210, 220]])
    assert counts_shown(block) == [210, 220]
    assert decoded == [4] * 21, "frames 200 to 220, nothing before and nothing after"
    list(indexed.read_runs(folder / "cam/street.mp4", 400, [[222], [260]]))
    assert decoded[21:] == [4, 4] + [5] * 11, "it goes on where it was"


def test_indices_of_long_videos_do_not_pile_up_in_memory(tmp_path, monkeypatch):
    for k in range(3):
        write_counted(tmp_path / f"{k}.mp4", 60)
    monkeypatch.setattr(frame_index, "PACKETS", 130)
    indexed = IndexedVideos()
    for k in range(3):
        indexed.index(tmp_path / f"{k}.mp4")
    assert len(indexed._known) == 2 and indexed._packets() == 120


@pytest.mark.parametrize("kind", [ByGroups, InOrder])
def test_any_order_of_runs_is_exact(street, kind):
    folder, _ = street
    path = folder / "cam/street.mp4"
    indexed = IndexedVideos(folder / "cache")
    made = ByGroups(path, indexed.index(path)) if kind is ByGroups else InOrder(path)
    indexed._decoder = lambda path, frames: made
    for first in (250, 249, 249, 0, 399, 399, 1, 50, 49, 51):
        (block,) = indexed.read_runs(path, 400, [[first]])
        assert counts_shown(block) == [first]
    blocks = indexed.read_runs(path, 400, [[3, 40, 60], [], [61, 62, 210], [399]][::3])
    assert [counts_shown(block) for block in blocks] == [[3, 40, 60], [399]]


@pytest.mark.parametrize("kind", [ByGroups, InOrder])
def test_a_short_file_repeats_its_last_frame_and_a_shorter_one_is_an_error(street, kind):
    folder, _ = street
    path = folder / "cam/street.mp4"
    indexed = IndexedVideos(folder / "cache")
    made = ByGroups(path, indexed.index(path)) if kind is ByGroups else InOrder(path)
    indexed._decoder = lambda path, frames: made
    for _ in range(2):  # also from where the first time ended
        (block,) = indexed.read_runs(path, 400 + SHORT_TAIL, [[398, 400, 407]])
        assert counts_shown(block) == [398, 399, 399]
    with pytest.raises(VideoError, match="truncated"):
        list(indexed.read_runs(path, 401 + SHORT_TAIL, [[400]]))
    with pytest.raises(VideoError, match="was labeled as 64x50, its file shows 64x48"):
        list(indexed.read_runs(path, 400, [[100]], (50, 64)))


def test_a_file_that_is_too_long_is_an_error_for_any_segment(street):
    folder, _ = street
    with pytest.raises(VideoError, match="decodes at least 400 frames"):
        runs = IndexedVideos(folder / "cache").read_runs(folder / "cam/street.mp4", 390, [[5]])
        list(runs)


def test_a_file_without_a_way_in_is_decoded_once_for_all_its_segments(tmp_path, monkeypatch):
    params = "open-gop=1:keyint=24:min-keyint=24:bframes=3"
    write_counted(tmp_path / "cam" / "v.mp4", 200, params=params)
    pool, _ = read_pool(
        tmp_path,
        ("a",),
        known=tmp_path / "known",
        any_folder=True,
        cut=read_cut("50", None),
        cache=tmp_path / "cache",
    )
    videos = list(pool.videos.values())
    tiles = VideoTiles(videos, finder(tmp_path), PLAIN, cache=tmp_path / "cache")
    index = tiles.indexed.index(tmp_path / "cam" / "v.mp4")
    if index.groups:  # this FFmpeg can enter it
        index = FrameIndex(index.frames)
        monkeypatch.setattr(tiles.indexed, "index", lambda path: index)
    opened, real = [], InOrder.__next__
    monkeypatch.setattr(InOrder, "__next__", lambda self: opened.append(1) or real(self))
    for place, video in enumerate(videos):
        item = whole(tiles.chunks(place))
        expected = (item["frames"] + video.first).reshape(-1).tolist()
        assert counts_shown(item["clips"].numpy().reshape(-1, 3, 48, 48)) == expected
    assert len(opened) == 201, "every frame once, and the end"


def labeled(video, label, frames):
    tube = Tube(label, 1, frames, [[4, 4, 20, 20]] * len(frames))
    return Video(video.name, 100, 48, 64, label, frames, (tube,), video.segment)


def test_training_clips_stay_inside_and_two_actions_of_one_video_have_their_classes(street):
    folder, pool = street
    names = list(pool.videos)
    given = {
        names[1]: labeled(pool.videos[names[1]], 0, [0, 50, 99]),
        names[2]: labeled(pool.videos[names[2]], 1, [0, 50, 99]),
    }
    labels = Annotations("own", ("run", "wave"), pool.videos | given)
    clips = TrainingClips(
        labels, finder(folder), PLAIN, seed=0, folder=folder / "cache", cache_gb=0.1
    )
    for _ in range(2):  # the second time from the cache
        for name, label in zip(names[1:3], (0, 1), strict=True):
            video = labels.videos[name]
            for anchor in (0, 50, 99):
                clip = clips.clip(video, anchor)
                shown = counts_shown(clip["frames"].numpy())
                assert shown[clip["anchor"]] == video.first + anchor
                assert video.first <= min(shown) and max(shown) < video.first + 100
                assert np.diff(shown).tolist() == [2] * 7 or anchor in (0, 99)
                assert clip["label"] == label and clip["on_label"][clip["anchor"]]
    free = UnlabeledClips(clips)
    for position in range(12):
        item = free[0, position, names[3]]
        frames = item["frames"].numpy()
        mirrored = counts_shown(frames[..., ::-1]), counts_shown(frames)
        assert any(min(shown) >= 300 and max(shown) < 400 for shown in mirrored)


# ---- a test set of segments ----


def test_a_test_segment_must_not_share_frames_with_a_labeled_one(street, tmp_path, capsys):
    _, pool = street
    names = list(pool.videos)

    def save(name, *videos):
        every = {video.name: video for video in videos}
        annotation_file.save(Annotations("own", ("run", "wave"), every), tmp_path / name)
        return tmp_path / name

    trained = save("trained.pkl", labeled(pool.videos[names[1]], 0, [3]))
    apart = save("apart.pkl", labeled(pool.videos[names[2]], 1, [5]))
    assert list(read_labels(apart, "ucf101", trained).videos) == [names[2]]
    assert (
        "note: 1 test segments are of videos with labeled segments" in capsys.readouterr().out
    )
    across = Video(
        "cam/street_f000150-000249", 100, 48, 64, segment=Segment("cam/street", 150, 400)
    )
    over = save("over.pkl", labeled(across, 1, [5]))
    with pytest.raises(UserError, match="f000150-000249 shares frames with .*f000100-000199"):
        read_labels(over, "ucf101", trained)
    whole_video = labeled(Video("cam/street", 100, 48, 64), 1, [5])
    with pytest.raises(UserError, match="shares frames"):
        read_labels(
            over,
            "ucf101",
            save("whole.pkl", Video("cam/street", 400, 48, 64, 1, [5], whole_video.tubes)),
        )
