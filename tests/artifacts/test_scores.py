"""features.pkl and uncertainty.pkl: round trips, and refusals in one line."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from golden.make_selection import extraction

from claus.artifacts.scores import (
    check_same_source,
    load_features,
    load_uncertainty,
    save_features,
    save_uncertainty,
)
from claus.utils.runtime import UserError


@pytest.fixture
def pair():
    return extraction({"A/a": 4, "A/b": 9, "B/c": 2}, np.random.default_rng(0), failed=["A/b"])


def refused(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_features_and_uncertainty_survive_a_round_trip(pair, tmp_path):
    features, uncertainty = pair
    save_features(features, tmp_path / "f.pkl")
    save_uncertainty(uncertainty, tmp_path / "u.pkl")
    for made, read in (
        (features, load_features(tmp_path / "f.pkl")),
        (uncertainty, load_uncertainty(tmp_path / "u.pkl")),
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
    save_features(features, tmp_path / "f1.pkl")
    save_features(load_features(tmp_path / "f1.pkl"), tmp_path / "f2.pkl")
    assert (tmp_path / "f1.pkl").read_bytes() == (tmp_path / "f2.pkl").read_bytes()
    shared = "".join(
        ["pap", "er"]
    )  # the same text as a key of the file, as another object and as the same one
    for number, text in enumerate((shared, "paper"), 1):
        changed = replace(
            uncertainty, settings={"score": text}, area=uncertainty.area[::-1][::-1]
        )
        save_uncertainty(changed, tmp_path / f"u{number}.pkl")
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
    assert str(path) in refused(load_features, path)  # not there
    save_uncertainty(pair[1], path)
    assert f"{path}: this is not a claus-features file" in refused(load_features, path)
    path.write_bytes(pickle.dumps({"format": "claus-features", "version": 2}))
    assert "version 2" in refused(load_features, path)
    path.write_bytes(pickle.dumps({"format": "claus-features", "version": 1, "source": "x"}))
    assert "videos is missing" in refused(load_features, path)
    save_features(pair[0], path)
    path.write_bytes(path.read_bytes()[:-40])
    assert str(path) in refused(load_features, path)  # truncated


def test_a_wrong_value_names_its_file(pair, tmp_path):
    path = tmp_path / "uncertainty.pkl"
    save_uncertainty(pair[1], path)
    content = pickle.loads(path.read_bytes())
    content["offsets"] = content["offsets"][:-1]
    path.write_bytes(pickle.dumps(content))
    assert refused(load_uncertainty, path).startswith(f"{path}: offsets has shape (2,)")


def test_pickles_that_run_code_are_refused_and_nothing_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (tmp_path / "features.pkl").write_bytes(
        pickle.dumps({"format": "claus-features", "source": Evil()})
    )
    assert "open" in refused(load_features, tmp_path / "features.pkl")
    assert not (tmp_path / "executed").exists()


def test_features_and_uncertainty_of_two_checkpoints_do_not_mix(pair):
    features, uncertainty = pair
    check_same_source(features, uncertainty)
    message = refused(
        check_same_source,
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
    assert "do not list the same videos" in refused(check_same_source, swapped, uncertainty)
