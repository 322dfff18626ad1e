"""What one script leaves for the next: round trips, refusals in one line, paths, and the
ledger.
"""

import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from golden.make_selection import extraction

from claus.artifacts import handoffs
from claus.artifacts.handoffs import Prices
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.utils.runtime import UserError


@pytest.fixture
def pair():
    return extraction({"A/a": 4, "A/b": 9, "B/c": 2}, np.random.default_rng(0), failed=["A/b"])


def refused(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------ paths


def test_paths_follow_from_run_and_cycle(tmp_path):
    assert handoffs.cycle_dir("demo", 3) == Path("files/demo/cycle3")
    assert handoffs.cycle_dir("demo", 0, tmp_path) == tmp_path / "demo" / "cycle0"
    assert handoffs.cycle_dir("some/where/demo", 1, tmp_path) == Path("some/where/demo/cycle1")
    assert not (tmp_path / "demo").exists()
    assert "no name for a run" in refused(handoffs.cycle_dir, "..", 0)
    assert "--cycle must be 0 or more" in refused(handoffs.cycle_dir, "demo", -1)


def test_existing_cycles_are_those_with_labels_in_the_order_of_their_numbers(tmp_path):
    for name in ("cycle0", "cycle2", "cycle10", "cycle01", "cycle_old"):
        (tmp_path / "r" / name).mkdir(parents=True)
        (tmp_path / "r" / name / "annotations.pkl").touch()
    (tmp_path / "r" / "cycle1").mkdir()
    assert handoffs.existing_cycles("r", tmp_path) == [0, 2, 10]


# ---------------------------------------------------------------------------------- pickles


def test_features_and_uncertainty_survive_a_round_trip(pair, tmp_path):
    features, uncertainty = pair
    handoffs.save_features(features, tmp_path / "f.pkl")
    handoffs.save_uncertainty(uncertainty, tmp_path / "u.pkl")
    for made, read in (
        (features, handoffs.load_features(tmp_path / "f.pkl")),
        (uncertainty, handoffs.load_uncertainty(tmp_path / "u.pkl")),
    ):
        for name, value in vars(made).items():
            other = getattr(read, name)
            if isinstance(value, np.ndarray):
                assert other.dtype == value.dtype
                np.testing.assert_array_equal(other, value)
            else:
                assert other == value
    assert (
        features.failed == {"A/b": "made up to be unreadable"}
        and "A/b" not in uncertainty.videos
    )


def test_equal_content_is_equal_bytes(pair, tmp_path):
    features, uncertainty = pair
    handoffs.save_features(features, tmp_path / "f1.pkl")
    handoffs.save_features(handoffs.load_features(tmp_path / "f1.pkl"), tmp_path / "f2.pkl")
    assert (tmp_path / "f1.pkl").read_bytes() == (tmp_path / "f2.pkl").read_bytes()
    shared = "".join(
        ["pap", "er"]
    )  # the same text as a key of the file, as another object and as the same one
    for number, text in enumerate((shared, "paper"), 1):
        changed = replace(
            uncertainty, settings={"score": text}, area=uncertainty.area[::-1][::-1]
        )
        handoffs.save_uncertainty(changed, tmp_path / f"u{number}.pkl")
    assert (tmp_path / "u1.pkl").read_bytes() == (tmp_path / "u2.pkl").read_bytes()


@pytest.mark.parametrize(
    "field, value, named",
    [
        ("source", "", "fingerprint"),
        ("videos", ["A/a", "A/a"], "listed twice"),
        (
            "latents",
            np.zeros((3, 8), np.float32),
            "latents has shape (3, 8), expected (2, any)",
        ),
        (
            "latents",
            np.full((2, 8), np.nan, np.float32),
            "latents holds a value that is not finite",
        ),
        ("clusters", np.array([0, 3], np.int32), "clusters must lie in 0..2"),
        ("clusters", np.array([-1, 0], np.int32), "clusters must lie in 0..2"),
        ("clusters", np.array([0.0, 1.0]), "clusters must be an array of integer"),
        ("centers", np.zeros((3, 7), np.float32), "centers has shape (3, 7)"),
        ("failed", {"A/a": "broken"}, "A/a is among the videos and among the failed"),
        ("failed", ["A/b"], "failed must be a dict"),
    ],
)
def test_features_that_do_not_fit_together_are_refused(pair, field, value, named):
    assert named in refused(lambda: replace(pair[0], **{field: value}))


@pytest.mark.parametrize(
    "field, value, named",
    [
        ("offsets", np.array([0, 4, 4]), "every video has a frame"),
        ("offsets", np.array([1, 4, 6]), "offsets must start at 0"),
        ("offsets", np.array([0, 6]), "offsets has shape (2,), expected (3)"),
        ("paper", np.zeros(5, np.float32), "paper has shape (5,), expected (6)"),
        ("paper", np.array([0, 0, -1, 0, 0, 0], np.float32), "paper must not be negative"),
        (
            "entropy",
            np.array([0, 0, np.inf, 0, 0, 0], np.float32),
            "entropy holds a value that is not finite",
        ),
        ("authors", [0] * 6, "authors must be an array"),
        ("settings", None, "settings must be a dict"),
    ],
)
def test_uncertainty_that_does_not_fit_together_is_refused(pair, field, value, named):
    assert named in refused(lambda: replace(pair[1], **{field: value}))


def test_files_of_another_kind_are_named(pair, tmp_path):
    path = tmp_path / "features.pkl"
    assert str(path) in refused(handoffs.load_features, path)  # not there
    handoffs.save_uncertainty(pair[1], path)
    assert f"{path}: this is not a claus-features file" in refused(handoffs.load_features, path)
    path.write_bytes(pickle.dumps({"format": "claus-features", "version": 2}))
    assert "version 2" in refused(handoffs.load_features, path)
    path.write_bytes(pickle.dumps({"format": "claus-features", "version": 1, "source": "x"}))
    assert "videos is missing" in refused(handoffs.load_features, path)
    handoffs.save_features(pair[0], path)
    path.write_bytes(path.read_bytes()[:-40])
    assert str(path) in refused(handoffs.load_features, path)  # truncated


def test_a_wrong_value_names_its_file(pair, tmp_path):
    path = tmp_path / "uncertainty.pkl"
    handoffs.save_uncertainty(pair[1], path)
    content = pickle.loads(path.read_bytes())
    content["offsets"] = content["offsets"][:-1]
    path.write_bytes(pickle.dumps(content))
    assert refused(handoffs.load_uncertainty, path).startswith(
        f"{path}: offsets has shape (2,)"
    )


def test_pickles_that_run_code_are_refused_and_nothing_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (tmp_path / "features.pkl").write_bytes(
        pickle.dumps({"format": "claus-features", "source": Evil()})
    )
    assert "open" in refused(handoffs.load_features, tmp_path / "features.pkl")
    assert not (tmp_path / "executed").exists()


def test_features_and_uncertainty_of_two_checkpoints_do_not_mix(pair):
    features, uncertainty = pair
    handoffs.check_same_source(features, uncertainty)
    message = refused(
        handoffs.check_same_source,
        features,
        replace(uncertainty, source="other"),
        "x/f.pkl",
        "x/u.pkl",
    )
    assert (
        "x/f.pkl and x/u.pkl come from different checkpoints" in message
        and "cluster_extract.py" in message
    )
    swapped = replace(features, videos=features.videos[::-1])
    assert "do not list the same videos" in refused(
        handoffs.check_same_source, swapped, uncertainty
    )


# ----------------------------------------------------------------------------------- ledger


def labeled(name, frames=(), actors=()):
    """A video of 10 frames; actors: lists of frames, one per actor."""
    tubes = tuple(
        Tube(0, track, list(seen), [[0, 0, 5, 5]] * len(seen))
        for track, seen in enumerate(actors, 1)
    )
    return Video(name, 10, 48, 64, 0 if frames else None, frames, tubes)


def write_cycle(root, cycle, *videos, prices=None):
    folder = handoffs.cycle_dir("r", cycle, root)
    annotations = Annotations("toy", ("A",), {video.name: video for video in videos})
    annotation_file.save(annotations, folder / "annotations.pkl")
    if prices:
        handoffs.save_selection(
            {"run": "r", "cycle": cycle, "prices": prices, "videos": []},
            folder / "selection.json",
        )


def test_the_ledger_counts_what_the_annotation_files_hold(tmp_path):
    # cycle 0: one video, 3 frames of which one is empty and one shows two actors: 3 boxes,
    # 1 beyond the first
    first = labeled("a", [1, 4, 7], [[1, 4], [4]])
    write_cycle(tmp_path, 0, first, labeled("b"), labeled("c"), labeled("d"))
    # cycle 1: two more videos, 2 + 1 frames, 3 + 0 boxes, at other prices
    write_cycle(
        tmp_path,
        1,
        first,
        labeled("b", [0, 9], [[0, 9], [9]]),
        labeled("c", [5]),
        labeled("d"),
        prices={"video": "2", "frame": "0.5", "box": "0.25"},
    )
    rows = handoffs.write_ledger("r", tmp_path)
    assert (tmp_path / "r" / "ledger.csv").read_text().splitlines() == [
        "cycle,videos,frames,boxes,cost,total_videos,total_frames,total_boxes,total_cost,percent_of_frames",
        "0,1,3,3,4,1,3,3,4,7.5000",
        "1,2,3,3,5.75,3,6,6,9.75,15.0000",
    ]
    assert rows[1]["total_cost"] == "9.75" and rows[1]["cycle"] == 1


def test_a_hole_or_a_loss_in_the_cycles_is_named(tmp_path):
    write_cycle(tmp_path, 0, labeled("a", [1, 2]))
    write_cycle(tmp_path, 1, labeled("a", [1]))
    assert "cycle1/annotations.pkl holds fewer labels" in refused(
        handoffs.write_ledger, "r", tmp_path
    )
    (tmp_path / "r" / "cycle0" / "annotations.pkl").unlink()
    assert "cycle 0 before it is not" in refused(handoffs.write_ledger, "r", tmp_path)


def test_prices_are_exact_and_never_negative():
    prices = Prices("0.1", 2, "0")
    assert prices.video * 3 == Fraction(3, 10)
    assert "box price must not be negative" in refused(lambda: Prices(box="-1"))
    assert "frame price must be a number" in refused(lambda: Prices(frame="free"))
    assert [
        handoffs.money(Fraction(*value)) for value in ((1103, 1), (25, 2), (1, 3), (100, 1))
    ] == ["1103", "12.5", "0.3333", "100"]


def test_selections_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "selection.json"
    handoffs.save_selection(
        {
            "run": "r",
            "cycle": 0,
            "prices": {"video": "1", "frame": "1", "box": "0"},
            "videos": [{"video": "A/ä"}],
        },
        path,
    )
    assert handoffs.load_selection(path)["videos"] == [{"video": "A/ä"}]
    path.write_text(path.read_text()[:-9])
    assert f"{path}: not JSON" in refused(handoffs.load_selection, path)
    path.write_text('{"format": "claus-request"}')
    assert "not a selection" in refused(handoffs.load_selection, path)
    path.write_text("[]")
    assert f"{path}: holds a list" in refused(handoffs.load_selection, path)
