"""The annotation file: what it admits, what it refuses and in which words, and that it
comes back as it was.
"""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claus.datasets.labels.annotations import (
    Annotations,
    Tube,
    Video,
    corners_from_xywh,
    load,
    save,
)
from claus.utils.runtime import UserError


def same(first, second):
    """Whether two Annotations say the same, with the same types."""

    def plain(a):
        return (
            a.dataset,
            a.classes,
            [
                (
                    v.name,
                    v.frames,
                    v.height,
                    v.width,
                    v.label,
                    v.labeled_frames.tolist(),
                    v.labeled_frames.dtype,
                    [
                        (
                            t.label,
                            t.track,
                            t.frames.tolist(),
                            t.frames.dtype,
                            None if t.boxes is None else (t.boxes.tolist(), t.boxes.dtype),
                            None if t.masks is None else (t.masks.tolist(), t.masks.dtype),
                        )
                        for t in v.tubes
                    ],
                )
                for v in a.videos.values()
            ],
        )

    return plain(first) == plain(second)


def small():
    """Two classes; one video with two actors and a frame without action, one unlabeled,
    one with a mask.
    """
    tubes = (
        Tube(1, 1, [2, 5], [[0, 0, 10, 20], [310, 220, 320, 240]]),
        Tube(1, 4, [5], [[1, 2, 3, 4]]),
    )
    masks = np.zeros((1, 6, 8), bool)
    masks[0, 2:5, 1:7] = True
    videos = [
        Video("b/one", 9, 240, 320, 1, [2, 5, 8], tubes),
        Video("a/two", 40000, 240, 320),
        Video("a/three", 3, 6, 8, 0, [0, 2], (Tube(0, 1, [2], None, masks),)),
    ]
    return Annotations("toy", ("a", "b"), {video.name: video for video in videos})


def video(**changes):
    fields = {
        "name": "A/v_A",
        "frames": 10,
        "height": 24,
        "width": 32,
        "label": 0,
        "labeled_frames": [3, 7],
        "tubes": (Tube(0, 1, [3], [[0, 0, 32, 24]]),),
    }
    return Video(**(fields | changes))


def test_it_knows_what_is_labeled():
    annotations = small()
    assert [v.name for v in annotations.labeled()] == ["b/one", "a/three"]
    assert annotations.counts() == {"videos": 2, "frames": 5, "boxes": 4}
    assert annotations.total_frames() == 9 + 40000 + 3
    assert not annotations.videos["a/two"].is_labeled
    tube = annotations.videos["b/one"].tubes[0]
    assert (tube.start, tube.end) == (2, 6)


def test_the_file_brings_everything_back_in_order(tmp_path):
    save(small(), tmp_path / "annotations.pkl")
    again = load(tmp_path / "annotations.pkl")
    assert same(again, small())
    assert list(again.videos) == ["b/one", "a/two", "a/three"]
    assert not same(again, Annotations("toy", ("a", "c"), small().videos))


def test_the_file_holds_builtins_and_numpy_only(tmp_path):
    save(small(), tmp_path / "annotations.pkl")
    content = pickle.loads((tmp_path / "annotations.pkl").read_bytes())

    def kinds(item):
        inside = (
            item.values()
            if isinstance(item, dict)
            else item
            if isinstance(item, list | tuple)
            else ()
        )
        return {type(item)}.union(*(kinds(one) for one in inside))

    assert kinds(content) == {dict, list, tuple, str, int, bytes, type(None), np.ndarray}
    assert content["format"] == "claus-annotations" and content["version"] == 1
    assert (
        content["videos"][0]["tubes"][0]["boxes"].dtype == np.int16
    )  # signed, and wide enough for sums


def test_large_numbers_do_not_wrap_in_the_file(tmp_path):
    big = Video(
        "A/v",
        70000,
        40000,
        40000,
        0,
        [65536, 69999],
        (Tube(0, 1, [69999], [[0, 0, 40000, 32768]]),),
    )
    save(Annotations("x", ("A",), {"A/v": big}), tmp_path / "a.pkl")
    again = load(tmp_path / "a.pkl").videos["A/v"]
    assert again.tubes[0].boxes.tolist() == [
        [0, 0, 40000, 32768]
    ] and again.labeled_frames.tolist() == [65536, 69999]


def test_arrays_are_int32_read_only_copies():
    frames, boxes = (
        np.array([3, 7], np.uint8),
        np.array([[250, 1, 255, 9], [0, 0, 5, 5]], np.uint8),
    )
    tube = Tube(0, 1, frames, boxes)
    assert tube.frames.dtype == tube.boxes.dtype == np.int32
    assert int(tube.boxes[0, 2]) + 200 == 455
    frames[0] = 0
    assert tube.frames.tolist() == [3, 7]
    with pytest.raises(ValueError, match="read-only"):
        tube.boxes[0, 0] = 1


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Tube(0, 1, [], np.zeros((0, 4), int)), "no labeled frame"),
        (lambda: Tube(0, 1, [3, 3], [[0, 0, 1, 1]] * 2), "not strictly increasing"),
        (lambda: Tube(0, 1, [4, 3], [[0, 0, 1, 1]] * 2), "not strictly increasing"),
        (lambda: Tube(0, 1, [3]), "neither boxes nor masks"),
        (lambda: Tube(0, 1, [3], [[0, 0, 0, 5]]), r"frame 3: box \[0, 0, 0, 5\].* has no area"),
        (lambda: Tube(0, 1, [3], [[0, 9, 4, 5]]), "has no area"),
        (
            lambda: Tube(0, 1, [3], [[0, 0, 1, 1], [0, 0, 1, 1]]),
            r"boxes have shape \(2, 4\); expected \(1, 4\)",
        ),
        (lambda: Tube(0, 1, [3], [0, 0, 1, 1]), r"boxes have shape \(4,\)"),
        (lambda: Tube(0, 1, [3], [[0, 0, 1, 1.5]]), "give whole numbers"),
        (lambda: Tube(0, 1, [[3]], [[0, 0, 1, 1]]), r"frames have shape \(1, 1\)"),
        (lambda: Tube(0, 1, [2**40], [[0, 0, 1, 1]]), "32 bits"),
        (lambda: Tube(-1, 1, [3], [[0, 0, 1, 1]]), "label is -1"),
        (lambda: Tube(None, 1, [3], [[0, 0, 1, 1]]), "label is None"),
        (lambda: Tube(True, 1, [3], [[0, 0, 1, 1]]), "label is True"),
        (lambda: Tube(0, 1, [3], None, np.ones((1, 4, 4), np.uint8)), "masks are uint8"),
        (lambda: Tube(0, 1, [3], None, np.zeros((1, 4, 4), bool)), "a mask is empty"),
    ],
)
def test_a_tube_that_does_not_hold_together_is_refused(make, words):
    with pytest.raises(UserError, match=words) as error:
        make()
    assert "\n" not in str(error.value) and "tube" in str(error.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"frames": 0}, "frames is 0"),
        ({"height": 2.5}, "height is 2.5"),
        ({"labeled_frames": [7, 3]}, "labeled_frames are not strictly increasing"),
        ({"labeled_frames": [3, 3, 7]}, "labeled_frames are not strictly increasing"),
        (
            {"labeled_frames": [3, 10]},
            "labeled frame 10 is not in the video; it has frames 0 to 9",
        ),
        ({"labeled_frames": [-1, 3]}, "labeled frame -1 is not in the video"),
        ({"labeled_frames": [2, 7]}, "tube 1 has frame 3, which is not labeled"),
        ({"labeled_frames": [2]}, "tube 1 has frame 3, which is not labeled"),
        ({"label": None}, "has labeled frames and no class"),
        ({"labeled_frames": [], "tubes": ()}, "has a class and no labeled frame"),
        ({"labeled_frames": [], "label": None}, "tube 1 has frame 3, which is not labeled"),
        (
            {"width": 31},
            r"tube 1, frame 3: box \[0, 0, 32, 24\] .* extends outside the picture of 31x24",
        ),
        ({"height": 23}, "extends outside the picture of 32x23"),
        ({"tubes": (Tube(0, 1, [3], [[-1, 0, 4, 4]]),)}, "extends outside the picture"),
        ({"tubes": (Tube(0, 1, [3], [[0, -1, 4, 4]]),)}, "extends outside the picture"),
        (
            {"tubes": (Tube(0, 1, [3], [[0, 0, 1, 1]]), Tube(0, 1, [7], [[0, 0, 1, 1]]))},
            "one track number",
        ),
        (
            {"tubes": (Tube(0, 1, [3], None, np.ones((1, 9, 9), bool)),)},
            r"masks of \(9, 9\) pixels",
        ),
    ],
)
def test_a_video_that_does_not_hold_together_is_refused_by_name(changes, words):
    video()
    with pytest.raises(UserError, match=f"^video A/v_A: .*{words}") as error:
        video(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", None, "two\nlines"])
def test_a_video_needs_a_printable_name(name):
    with pytest.raises(UserError, match="video name"):
        video(name=name)


def test_labels_must_be_classes():
    for wrong in (video(label=1), video(tubes=(Tube(1, 1, [3], [[0, 0, 1, 1]]),))):
        with pytest.raises(UserError, match="video A/v_A: label 1 is not a class; there are 1"):
            Annotations("x", ("A",), {"A/v_A": wrong})
    with pytest.raises(UserError, match="stored under the key other"):
        Annotations("x", ("A",), {"other": video()})
    for classes in ((), ("A", "A"), ("A", "")):
        with pytest.raises(UserError, match="classes"):
            Annotations("x", classes, {})


def written(tmp_path, content):
    path = tmp_path / "some.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    with pytest.raises(UserError) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


def content_of(tmp_path):
    save(small(), tmp_path / "good.pkl")
    return pickle.loads((tmp_path / "good.pkl").read_bytes())


def test_other_files_are_told_apart(tmp_path):
    assert "empty" in written(tmp_path, b"")
    save(small(), tmp_path / "good.pkl")
    assert "truncated" in written(tmp_path, (tmp_path / "good.pkl").read_bytes()[:-20])
    assert "from_records" in written(tmp_path, [("A/v", [])])
    assert "read_ground_truth" in written(
        tmp_path, {"A/v": {"numf": 3, "label": 0, "annotations": []}}
    )
    assert "a claus-features file" in written(
        tmp_path, {"format": "claus-features", "version": 1}
    )
    assert "another kind" in written(tmp_path, {"x": 1}) and "another kind" in written(
        tmp_path, {}
    )
    assert "holds a int" in written(tmp_path, 3)
    assert "version 2, this program reads 1; update" in written(
        tmp_path, content_of(tmp_path) | {"version": 2}
    )
    assert "version None" in written(tmp_path, content_of(tmp_path) | {"version": None})
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.pkl")


def test_damage_inside_the_file_names_file_and_video(tmp_path):
    def spoil(change):
        content = content_of(tmp_path)
        change(
            content,
            content["videos"][0],
            content["videos"][0]["tubes"][0],
            content["videos"][2]["tubes"][0],
        )
        return written(tmp_path, content)

    assert "no 'classes'" in spoil(lambda c, v, t, m: c.pop("classes"))
    assert "no 'name'" in spoil(lambda c, v, t, m: v.pop("name"))
    assert "video b/one: a record has no 'frames'" in spoil(lambda c, v, t, m: t.pop("frames"))
    assert "video b/one: a record has no 'height'" in spoil(lambda c, v, t, m: v.pop("height"))
    assert "'tubes' is a dict" in spoil(lambda c, v, t, m: v.update(tubes={}))
    assert "video b/one: tube 1, frame 2: box" in spoil(
        lambda c, v, t, m: t["boxes"].__setitem__((0, 2), 0)
    )
    assert "video b/one: tube 1: boxes are <U" in spoil(
        lambda c, v, t, m: t.update(boxes=[["a"] * 4] * 2)
    )
    assert "extends outside the picture" in spoil(lambda c, v, t, m: v.update(width=300))
    assert "label 1 is not a class" in spoil(lambda c, v, t, m: c.update(classes=["a"]))
    assert "video b/one is in it twice" in spoil(lambda c, v, t, m: c["videos"].append(v))
    assert "masks are cut short" in spoil(
        lambda c, v, t, m: m["masks"].update(shape=(10**6, 6, 8))
    )
    assert "cannot be unpacked" in spoil(lambda c, v, t, m: m["masks"].update(zlib=b"nonsense"))
    assert "masks of shape" in spoil(lambda c, v, t, m: m["masks"].update(shape=(1, -6, 8)))
    assert "'masks'" not in spoil(lambda c, v, t, m: m.update(masks=[1]))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "annotations.pkl"
    save(small(), path)
    before = path.read_bytes()
    broken = Annotations("x", ("A",), {"A/v_A": video()})
    object.__setattr__(broken, "dataset", lambda: None)  # cannot be pickled
    with pytest.raises(Exception, match="pickle"):
        save(broken, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [
        "annotations.pkl"
    ]


def test_corners_from_xywh_casts_first():
    boxes = np.array([[200, 1, 100, 239]], np.uint8)
    assert corners_from_xywh(boxes).tolist() == [[200, 1, 300, 240]]
    assert corners_from_xywh(boxes, one_based=True).tolist() == [[199, 0, 300, 240]]
    assert boxes.tolist() == [[200, 1, 100, 239]]


@st.composite
def videos(draw):
    """A valid video, labeled or not, of at most 40 frames."""
    frames, height, width = (
        draw(st.integers(1, 40)),
        draw(st.integers(2, 300)),
        draw(st.integers(2, 400)),
    )
    labeled = sorted(draw(st.sets(st.integers(0, frames - 1))))
    tubes = []
    for track in range(1, draw(st.integers(0, 3)) + 1 if labeled else 1):
        seen = sorted(draw(st.sets(st.sampled_from(labeled), min_size=1)))
        boxes = []
        for _ in seen:
            x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
            boxes.append(
                [x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))]
            )
        tubes.append(Tube(draw(st.integers(0, 2)), track, seen, boxes))
    label = draw(st.integers(0, 2)) if labeled else None
    return Video("x/v", frames, height, width, label, labeled, tuple(tubes))


@settings(max_examples=60, deadline=None)
@given(videos())
def test_any_valid_video_survives_the_file(tmp_path_factory, one):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    annotations = Annotations("x", ("a", "b", "c"), {one.name: one})
    save(annotations, path)
    assert same(load(path), annotations)
