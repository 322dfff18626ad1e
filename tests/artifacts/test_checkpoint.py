"""Checkpoints go round; damaged, foreign and hostile files are refused in one line;
published names load.
"""

import hashlib
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from claus.artifacts import checkpoint
from claus.datasets.clips.geometry import GEOMETRY
from claus.losses.cluster import Clusters
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.utils.runtime import UserError

CLASSES = ("Diving", "Surfing", "Biking")


def small(classes=3, seed=0):
    torch.manual_seed(seed)
    return Detector(DetectorConfig(classes=classes, **PRESETS["small"])).eval()


def state_of(detector):
    clusters = Clusters(
        np.arange(2 * 51).reshape(2, 51), [100, 123], {"Diving/v": 0, "Biking/v": 1}
    )
    return checkpoint.detector_state(
        detector,
        clusters,
        CLASSES,
        "ucf101-24",
        GEOMETRY["small", "wide"],
        "0..1",
        {"steps": 7, "history": [{"epoch": 0, "total": 1.5}], "failed": {"a": "b"}},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(detector, path of its detector.pt)."""
    detector, path = small(), tmp_path_factory.mktemp("trained") / "detector.pt"
    checkpoint.save(state_of(detector), path)
    return detector, path


def refused(path, read=checkpoint.load):
    """The message of the UserError, which is one line and names the file."""
    with pytest.raises(UserError) as error:
        read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


# ---- there and back ----


def test_round_trip(saved):
    detector, path = saved
    trained = checkpoint.load(path)
    clip = torch.rand(1, 3, 8, 64, 64)
    with torch.no_grad():
        for a, b in zip(trained.detector(clip), detector(clip), strict=True):
            assert torch.equal(a, b)
    assert not trained.detector.training and trained.detector.config == detector.config
    assert (
        trained.classes == CLASSES
        and trained.dataset == "ucf101-24"
        and trained.pixel_range == "0..1"
    )
    assert trained.geometry == GEOMETRY["small", "wide"] and trained.about["history"] == [
        {"epoch": 0, "total": 1.5}
    ]
    assert trained.clusters.centers.tolist() == np.arange(102).reshape(2, 51).tolist()
    assert trained.clusters.counts.tolist() == [100, 123]
    assert trained.clusters.assignment == {"Diving/v": 0, "Biking/v": 1}


def test_the_source_is_the_files_own_fingerprint(saved, tmp_path):
    _, path = saved
    assert checkpoint.load(path).source == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    checkpoint.save(state_of(small(seed=1)), tmp_path / "other.pt")
    assert checkpoint.load(tmp_path / "other.pt").source != checkpoint.load(path).source


def test_a_failed_save_leaves_the_old_file(saved, tmp_path):
    path = tmp_path / "detector.pt"
    path.write_bytes(saved[1].read_bytes())
    with pytest.raises((pickle.PicklingError, AttributeError)):
        checkpoint.save({"detector": lambda: None}, path)
    assert path.read_bytes() == saved[1].read_bytes() and os.listdir(tmp_path) == [
        "detector.pt"
    ]


# ---- files that are none ----


def test_a_missing_file(tmp_path):
    assert "no detector checkpoint at" in refused(tmp_path / "none.pt")
    assert "no weights file at" in refused(
        tmp_path / "none.pt", lambda path: checkpoint.load_pretrained(small(), path)
    )
    refused(tmp_path)  # a folder


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.99, 0.99999])
def test_a_truncated_file(saved, tmp_path, share):
    whole = saved[1].read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(share * len(whole))])
    assert "cannot be read" in refused(tmp_path / "cut.pt")


def other_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("hello world\n"),
        lambda path: path.write_bytes(bytes(3000)),
        other_zip,
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(3000)),
        lambda path: path.write_bytes(pickle.dumps({"format": "claus-detector"})[:-3]),
        lambda path: np.savez(path.open("wb"), a=np.zeros(3)),
    ],
    ids=["text", "zeros", "zip", "noise", "pickle", "npz"],
)
def test_a_foreign_file(write, tmp_path):
    write(tmp_path / "foreign.pt")
    assert "cannot be read as a detector checkpoint" in refused(tmp_path / "foreign.pt")


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes_end_in_one_line_or_in_a_file(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "flipped.pt"
    for zipped in (True, False):
        torch.save(
            {"a": torch.rand(5, 5), "b": {"c": [1, 2, "x"]}},
            path,
            _use_new_zipfile_serialization=zipped,
        )
        whole = path.read_bytes()
        for _ in range(25):
            content = bytearray(whole)
            for at in rng.integers(min(len(whole), 1000), size=3):
                content[at] = rng.integers(256)
            path.write_bytes(content)
            try:
                checkpoint.read(path)
            except UserError as error:
                assert str(path) in str(error) and "\n" not in str(error)


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize(
    "write",
    [
        lambda content, path: torch.save(content, path),
        lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
        lambda content, path: path.write_bytes(pickle.dumps(content)),
        lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
    ],
    ids=["zip", "legacy", "pickle", "pickle2"],
)
def test_a_file_that_would_run_code_is_refused_before_it_does(write, tmp_path):
    path, mark = tmp_path / "hostile.pt", tmp_path / "mark"
    write({"state_dict": {"a": Hostile(mark)}}, path)
    refused(path)
    refused(path, lambda path: checkpoint.load_pretrained(small(), path))
    assert not mark.exists()


def test_what_a_hostile_file_names_is_said(tmp_path):
    torch.save({"a": Hostile(tmp_path / "mark")}, tmp_path / "hostile.pt")
    assert "system, which is not data; refused, nothing was executed" in refused(
        tmp_path / "hostile.pt"
    )


def change(state, **changes):
    return {**state, **changes}


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda s: [1, 2], "not a detector checkpoint of this project"),
        (lambda s: s["detector"], "not a detector checkpoint of this project"),
        (lambda s: change(s, version=2), "another version"),
        (lambda s: change(s, version="1"), "another version"),
        (lambda s: {k: v for k, v in s.items() if k != "clusters"}, "clusters"),
        (lambda s: change(s, clusters={"centres": 3, "counts": 3}), "damaged"),
        (lambda s: change(s, config={"classes": 3, "depth": 9}), "depth"),
        (lambda s: change(s, config=None), "damaged"),
        (lambda s: change(s, config=dict(s["config"], size=60)), "multiple of 8"),
        (lambda s: change(s, config=dict(s["config"], classes=4)), "damaged"),
        (
            lambda s: change(
                s, detector={k: v for k, v in s["detector"].items() if k != "smooth.bias"}
            ),
            "damaged",
        ),
        (lambda s: change(s, detector={0: torch.zeros(1)}), "damaged"),
        (
            lambda s: change(s, geometry=dict(s["geometry"], crop=[80, 80])),
            "larger than the frame",
        ),
    ],
    ids=[
        "list",
        "bare tensors",
        "newer",
        "odd version",
        "no clusters",
        "odd clusters",
        "unknown config",
        "no config",
        "odd size",
        "other classes",
        "missing tensor",
        "numbers for names",
        "odd crop",
    ],
)
def test_a_detector_file_with_something_wrong_in_it(damage, says, tmp_path):
    checkpoint.save(damage(state_of(small())), tmp_path / "wrong.pt")
    assert says in refused(tmp_path / "wrong.pt")


# ---- pretrained weights ----


def weights(detector):
    """Names and values without batch norm's counters, which nobody counts."""
    return {
        k: v for k, v in detector.state_dict().items() if not k.endswith("num_batches_tracked")
    }


def equal(detector, other, prefix=""):
    return all(
        torch.equal(v, weights(other)[k])
        for k, v in weights(detector).items()
        if k.startswith(prefix)
    )


def load_into(detector, content, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    return checkpoint.load_pretrained(detector, tmp_path / "weights.pt")


ALL, ENCODER = (
    len(weights(small())),
    len([k for k in weights(small()) if k.startswith("conv1.")]),
)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"detector": s},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
    ],
    ids=[
        "plain",
        "state_dict",
        "model",
        "detector",
        "wrapped module.",
        "module.",
        "no counters",
    ],
)
def test_a_published_checkpoint_loads_in_every_wrapping(wrap, tmp_path):
    source, target = small(seed=1), small(seed=2)
    published = dict(source.state_dict())
    published["conv_cluster.weight"], published["conv_cluster.bias"] = (
        torch.zeros(5, 408),
        torch.zeros(5),
    )
    assert not equal(target, source)
    assert load_into(target, wrap(published), tmp_path) == (
        ALL,
        0,
        0,
    )  # conv_cluster is used by nobody
    assert equal(target, source)


def test_a_checkpoint_of_this_project_loads_too(saved, tmp_path):
    target = small(seed=2)
    assert checkpoint.load_pretrained(target, saved[1]) == (ALL, 0, 0) and equal(
        target, saved[0]
    )


def test_encoder_names_without_their_prefix(tmp_path):
    source, target, fresh = small(seed=1), small(seed=2), small(seed=2)
    public = {
        k.removeprefix("conv1."): v
        for k, v in source.state_dict().items()
        if k.startswith("conv1.")
    }
    public |= {
        "Mixed_5b.b0.conv3d.weight": torch.zeros(4, 4, 1, 1, 1),
        "logits.conv3d.bias": torch.zeros(157),
    }
    assert load_into(target, public, tmp_path) == (ENCODER, ALL - ENCODER, 2)
    assert equal(target, source, "conv1.") and equal(target, fresh, "primary_caps.")


def test_another_number_of_classes_keeps_its_own_class_layers(tmp_path):
    source, target, fresh = small(5, seed=1), small(3, seed=2), small(3, seed=2)
    matched, missing, ignored = load_into(target, source.state_dict(), tmp_path)
    other = ["conv_caps.weights", "conv_caps.beta_u", "conv_caps.beta_a", "upsample1.weight"]
    assert (matched, missing, ignored) == (ALL - 4, 4, 4)
    for name, value in weights(target).items():
        assert torch.equal(value, weights(fresh if name in other else source)[name]), name


def test_an_encoder_of_another_width_is_refused_and_its_tensor_named(tmp_path):
    source = small(seed=1).state_dict()
    source["conv1.Conv3d_1a_7x7.conv3d.weight"] = torch.zeros(64, 3, 7, 7, 7)
    target, fresh = small(seed=2), small(seed=2)
    torch.save(source, tmp_path / "wide.pt")
    message = refused(
        tmp_path / "wide.pt", lambda path: checkpoint.load_pretrained(target, path)
    )
    assert "conv1.Conv3d_1a_7x7.conv3d.weight" in message and "1 differ in shape" in message
    assert equal(target, fresh)  # and nothing was copied


@pytest.mark.parametrize(
    "content",
    [
        {"fc.weight": torch.zeros(3)},
        {},
        {0: torch.zeros(3)},
        {"conv1": 3, "name": "x"},
        {"conv_cluster.weight": torch.zeros(3)},
    ],
    ids=["other names", "empty", "numbers for names", "no tensors", "unused alone"],
)
def test_a_file_that_matches_nothing_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    message = refused(
        tmp_path / "other.pt", lambda path: checkpoint.load_pretrained(small(), path)
    )
    assert "0 tensors match" in message


def test_a_file_without_a_table_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    assert "no table of tensors" in refused(
        tmp_path / "list.pt", lambda p: checkpoint.load_pretrained(small(), p)
    )


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_every_published_name_finds_its_place_in_the_full_network(shared_golden, tmp_path):
    """Shapes alone: the tensors are one number each, repeated, and the network has no
    memory of its own.
    """
    rows = [
        line.split("\t")[:2]
        for line in (shared_golden / "network" / "keys.tsv").read_text().splitlines()[1:]
    ]
    shapes = {
        name: () if shape == "scalar" else tuple(map(int, shape.split("x")))
        for name, shape in rows
    }
    assert len(shapes) == 295 and any(name.startswith("conv_cluster.") for name in shapes)
    with torch.device("meta"):
        detector = Detector(DetectorConfig(classes=24))
    counted = [
        n
        for n in shapes
        if not n.endswith("num_batches_tracked") and not n.startswith("conv_cluster.")
    ]
    content = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    assert load_into(detector, content, tmp_path) == (len(counted), 0, 0)
    encoder = {
        name.removeprefix("conv1."): value
        for name, value in content.items()
        if name.startswith("conv1.")
    }
    matched, missing, ignored = load_into(detector, encoder, tmp_path)
    assert matched + missing == len(counted) and ignored == 0 and 0 < missing < matched
