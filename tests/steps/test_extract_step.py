"""steps.extract without a network: what the finished parts of videos become."""

import functools
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from claus.artifacts import score_columns
from claus.artifacts.cycle import Cycle
from claus.artifacts.part_log import PartLog, Parts
from claus.artifacts.parts import parts_dir
from claus.artifacts.scores import load_features, load_uncertainty
from claus.datasets.clips.geometry import ClipGeometry
from claus.datasets.labels.annotations import Video
from claus.flags import scoring as flags
from claus.losses.cluster import Clusters
from claus.selection.uncertainty import SCORES
from claus.steps import extract
from claus.utils.runtime import UserError

CENTERS = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
LABELED = {"A/a": 0, "B/c": 1}


@pytest.fixture
def made(tmp_path):
    """(trained, videos, parts, cycle); the second of three videos could not be read."""
    clusters = Clusters(CENTERS, [100, 100], LABELED)
    trained = SimpleNamespace(source="s" * 16, clusters=clusters)
    lengths = {"A/a": 3, "A/b": 2, "B/c": 4}
    videos = [SimpleNamespace(name=name, frames=count) for name, count in lengths.items()]
    cycle = Cycle.of("r", 0, tmp_path)
    parts = cycle.extract_parts / "x"
    parts.mkdir(parents=True)
    latents = {0: [[1, 1], [3, 5], [2, 0]], 2: [[0, 0], [12, 1], [11, 3]]}
    with PartLog(parts, "0", "x") as log:
        log.fail(1, "A/b is empty")
        for number, latents_n_D in latents.items():
            frames = videos[number].frames
            scores = {name: np.full(frames, number, np.float32) for name in SCORES}
            latents_n_D = np.array(latents_n_D, np.float32)
            log.append(number, {"latents": latents_n_D, **scores})
    return trained, videos, parts, cycle


def test_a_video_has_the_mean_of_its_latents_and_the_cluster_of_most(made):
    trained, videos, parts, cycle = made
    extract.merge(trained, videos, parts, {"passes": 2}, cycle)
    features, scores = load_features(cycle.features), load_uncertainty(cycle.uncertainty)
    assert features.videos == scores.videos == ["A/a", "B/c"]
    np.testing.assert_allclose(features.latents, [[2, 2], [23 / 3, 4 / 3]], rtol=1e-6)
    assert features.clusters.tolist() == [0, 1]
    assert features.failed == {"A/b": "A/b is empty"}
    assert scores.offsets.tolist() == [0, 3, 7] and scores.settings == {"passes": 2}
    assert scores.paper.tolist() == [0] * 3 + [2] * 4
    assert not cycle.extract_parts.exists()


def test_a_large_pool_goes_to_columns_that_hold_the_same(made, monkeypatch, capsys):
    trained, videos, parts, cycle = made
    again = shutil.copytree(cycle.extract_parts, cycle.folder / "kept")
    extract.merge(trained, videos, parts, {"passes": 2}, cycle)
    wanted = load_features(cycle.features), load_uncertainty(cycle.uncertainty)
    written = [path.read_bytes() for path in (cycle.features, cycle.uncertainty)]
    monkeypatch.setattr(score_columns, "LARGE", 5)
    for pickles in (False, True):
        shutil.copytree(again, cycle.extract_parts)
        extract.merge(trained, videos, parts, {"passes": 2}, cycle, pickles)
        assert cycle.features.exists() == pickles == cycle.uncertainty.exists()
        found = score_columns.find(cycle.folder)
        assert found.settings == {"passes": 2} and found.failed == wanted[0].failed
        read = load_features(cycle.features), load_uncertainty(cycle.uncertainty)
        for one, other in zip(read, wanted, strict=True):
            assert one.source == other.source and one.videos == other.videos
            for name, value in vars(other).items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(getattr(one, name), value)
    assert [p.read_bytes() for p in (cycle.features, cycle.uncertainty)] == written
    cycle.features.write_bytes(written[0] + b" ")  # another file: the columns are not of it
    assert score_columns.find(cycle.folder) is None


def test_the_pool_goes_to_the_centers_of_what_is_seen_without_dropout(made):
    trained, videos, parts, cycle = made
    far = torch.tensor([[90.0, 0.0], [50.0, 0.0]])  # where latents with dropout were
    trained.clusters = Clusters(far, [100, 100], LABELED, "evaluation")
    extract.merge(trained, videos, parts, {}, cycle)
    features = load_features(cycle.features)
    wanted = [[2, 2], [23 / 3, 4 / 3]]  # of the tiles of A/a, and of B/c
    np.testing.assert_allclose(features.centers, wanted, rtol=1e-6)
    assert features.clusters.tolist() == [0, 1]


def test_nothing_is_written_where_no_video_can_be_read(made):
    trained, videos, _, cycle = made
    parts = cycle.extract_parts / "y"
    parts.mkdir()
    with PartLog(parts, "0", "y") as log:
        log.fail(0, "A/b is empty")
    with pytest.raises(UserError, match="none of the 1 videos can be read: A/b is empty"):
        extract.merge(trained, videos[1:2], parts, {}, cycle)
    assert not cycle.features.exists()


def test_a_part_that_never_comes_is_named(made):
    trained, videos, parts, cycle = made
    videos.append(SimpleNamespace(name="B/d", frames=5))
    with pytest.raises(UserError, match="has nothing of B/d: run the same command"):
        extract.merge(trained, videos, parts, {}, cycle)
    assert not cycle.features.exists() and parts.exists()


@pytest.fixture
def broken_in_the_middle(made_videos, monkeypatch, tmp_path):
    """(trained, videos, find_video, parts, settings) where the first of two videos, read clip by clip,
    ends before its annotation does; what is scored of a video are its tiles' numbers.
    """
    videos = [Video("square", 60, 72, 96), Video("gray40", 40, 48, 64)]
    trained = SimpleNamespace(
        detector=torch.nn.Linear(1, 1), geometry=ClipGeometry((48, 64), (48, 64), 16)
    )
    settings = SimpleNamespace(
        **dict(seed=0, passes=1, threshold=0.4, phases=1, tail="repeat", amp=False),
        **dict(
            tf32=False,
            cudnn_benchmark=False,
            cpu_bf16=False,
            compile=False,
            dataset="ucf101",
            data=None,
            workers=0,
            strict=False,
        ),
        masks="independent",
    )

    def score(trained, video, chunks, *rest):
        seen = [int(tile) for chunk in chunks for tile in chunk["tile"]]
        return {"tiles": np.array(seen)}

    one_by_one = functools.partial(extract.VideoTiles, chunk=1)
    monkeypatch.setattr(extract, "VideoTiles", one_by_one)
    monkeypatch.setattr(extract, "score_video", score)
    find_video = functools.partial("{}/{}.avi".format, made_videos)
    return trained, videos, find_video, tmp_path, settings


def test_a_video_that_breaks_in_the_middle_is_skipped_whole(broken_in_the_middle):
    trained, videos, find_video, parts, settings = broken_in_the_middle
    extract.extract(trained, videos, [0, 1], find_video, parts, settings)
    with Parts(parts, parts.name) as found:
        assert found.numbers().tolist() == [1]
        assert "30 frames where the annotation has 60" in found.failures()[0]
        assert found.arrays(1)["tiles"].tolist() == [0, 1, 2]


def test_strict_stops_at_a_video_that_breaks_in_the_middle(broken_in_the_middle):
    trained, videos, find_video, parts, settings = broken_in_the_middle
    settings.strict = True
    with pytest.raises(UserError, match="30 frames where the annotation has 60"):
        extract.extract(trained, videos, [0, 1], find_video, parts, settings)
    with Parts(parts, parts.name) as found:
        assert len(found) == 0 and found.failures() == {}


def test_scores_by_other_masks_are_not_resumed():
    """Another --masks has parts of its own and is named in the pickle; the published form is
    not, so that runs from before it existed go on.
    """
    plain, pairs = (
        flags.parse(["--run", "r", "--cycle", "0", "--device", "cpu", *more])
        for more in ([], ["--masks", "antithetic"])
    )
    assert "masks" not in extract.shaping(plain)
    assert extract.shaping(pairs) == {**extract.shaping(plain), "masks": "antithetic"}
    folders = {parts_dir("p", ["source", extract.shaping(how), []]) for how in (plain, pairs)}
    assert len(folders) == 2
