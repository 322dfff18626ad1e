"""What training leaves: the detector's checkpoint, the state to resume from, and pretrained
weights coming in.

detector.pt  {"format", "version", "dataset", "classes", "config", "geometry",
              "pixel_range", "detector", "clusters", "about"}: everything that later scripts
              need; nothing about the network is guessed from a flag. "about" says how it was
              trained, and by which version of the program ("claus"). A shipped detector
              also has "trunk": {"file", "sha256", "prefix"}, whose tensors lie in a file of
              weights/, see shipped.py.
training.pt  the same plus optimizer, random state and progress.
"""

import hashlib
import pickle
import re
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import claus
from claus.artifacts import shipped
from claus.artifacts.changes import corrected_since
from claus.artifacts.parts import fingerprint
from claus.datasets.clips.geometry import ClipGeometry
from claus.losses.cluster import Clusters
from claus.models.detector import Detector, DetectorConfig
from claus.models.input import PIXEL_RANGE
from claus.utils.runtime import UserError, atomic_write
from claus.utils.shape import maybe, misfit, whole

FORMAT, VERSION = "claus-detector", 1
SHAPE = {
    "dataset": str,
    "classes": [str],
    "config": dict,
    "geometry": {"frame": object, "crop": object, "size": whole, "fit": maybe(str)},
    "pixel_range": lambda text: isinstance(text, str) and text in PIXEL_RANGE,
    "detector": dict,
    "clusters": {"centres": object, "counts": object, "assignment": {str: whole}},
    "about": {
        "arguments": maybe(dict),
        "history": maybe(list),
        "failed": maybe(dict),
        "license": maybe(str),
    },
}
UNUSED = ("conv_cluster.",)  # in published checkpoints, used by nothing
ENCODER = "conv1."


@dataclass
class Trained:
    """A detector with what it was trained for."""

    detector: Detector
    clusters: Clusters
    classes: tuple
    dataset: str
    geometry: ClipGeometry
    pixel_range: str
    about: dict  # how it was trained: arguments, steps, scores, version of the program
    source: str = ""  # fingerprint of the file it was read from
    amp: bool = True  # bf16 autocast in its forward passes on CUDA


def detector_state(detector, clusters, classes, dataset, geometry, pixel_range, about):
    """The contents of detector.pt."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "dataset": dataset,
        "classes": list(classes),
        "config": detector.config.to_dict(),
        "geometry": geometry.to_dict(),
        "pixel_range": pixel_range,
        "detector": detector.state_dict(),
        "clusters": clusters.state_dict(),
        "about": {**about, "claus": claus.__version__},
    }


def save(state, path):
    """torch.save, atomically."""
    with atomic_write(path) as file:
        torch.save(state, file)


def read(path, what="checkpoint"):
    """torch.load of tensors and builtins alone; UserError for a missing, truncated, foreign
    or unsafe file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"no {what} at {path}; run the training of this cycle first, or correct the path"
        )
    try:
        check_sums(path)
        with warnings.catch_warnings(action="ignore"):  # of pickles that it will refuse
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        refused = isinstance(error, pickle.UnpicklingError)
        name = re.search(r"GLOBAL ([\w.]+)", str(error)) if refused else None
        if name:
            raise UserError(
                f"{path} names {name[1]}, which is not data; refused, nothing was "
                f"executed, get the {what} from a source you trust"
            ) from error
        raise UserError(
            f"{path} cannot be read as a {what} (truncated, damaged or of another kind); "
            f"name another, or make this one again"
        ) from error


def check_sums(path):
    """ValueError where a part of a file of torch.save is not what its checksum says; torch
    does not look. Files of before torch 1.6, which are no zip, have none.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        if file.testzip() is not None:
            raise ValueError("a checksum differs")


def check_finite(tensors, path):
    """UserError where weights, {name: tensor}, hold a number that is not finite, or are none."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.is_complex():
            raise UserError(f"{path}: {name} is no tensor of weights; give another file")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"{path}: {name} holds a number that is not finite; the training that made it "
                "diverged, or the file is damaged: give other weights"
            )


def load(path, device="cpu", amp=True):
    """detector.pt -> Trained, the detector in evaluation mode on `device`."""
    state = read(path, "detector checkpoint")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a detector checkpoint of this project; weights of other "
            f"projects go in through --pretrained of the training script"
        )
    if state.get("version") != VERSION:
        raise UserError(
            f"{path} was written by another version of this project (format "
            f"{state.get('version')}, this program reads {VERSION}); update the code, or "
            f"train again"
        )
    trained = rebuilt(state, path)
    arguments = trained.about.get("arguments", {})
    learns = bool(arguments.get("train_encoder", True))
    trained.detector.conv1.pretrained().requires_grad_(learns)
    trained.detector.to(device)  # outside: a device that fails is no damage of the file
    trained.source, trained.amp = fingerprint(path), amp
    if said := corrected_since(Path(path), trained.source):
        print(said)
    return trained


def rebuilt(state, path):
    """The Trained of what detector.pt holds, or training.pt of the best epoch; UserError
    naming the file where its parts do not fit.
    """
    problem = misfit(state, SHAPE)
    if problem:
        raise UserError(f"{path} is a damaged detector checkpoint ({problem}); train again")
    borrowed = shipped.borrowed_tensors(state.get("trunk"), path)
    tensors = {**state["detector"], **borrowed}
    check_finite(tensors, path)
    try:
        config = DetectorConfig(**state["config"])
        with torch.device("meta"):  # a forged size is found before any memory is asked for
            fits = {name: t.shape for name, t in Detector(config).state_dict().items()}
        if fits != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError("its weights are not of its network")
        detector = Detector(config)
        detector.load_state_dict(tensors)
        trained = Trained(
            detector.eval(),
            Clusters.from_state(state["clusters"]),
            tuple(state["classes"]),
            state["dataset"],
            ClipGeometry(**state["geometry"]),
            state["pixel_range"],
            state["about"],
        )
        check_clusters(trained)
    except MemoryError:
        raise
    except Exception as error:  # a damaged configuration raises nearly anything
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is a damaged detector checkpoint ({reason}); train again"
        ) from error
    return trained


def check_clusters(trained):
    """ValueError unless clusters, classes and geometry fit the network and each other."""
    config, geometry = trained.detector.config, trained.geometry
    sides = (*geometry.frame, *geometry.crop)
    if len(sides) != 4 or not all(map(whole, sides)) or geometry.size != config.size:
        raise ValueError("its geometry is not that of its network")
    if len(set(trained.classes)) != config.classes:
        raise ValueError("its classes are not those of its network")
    check_clusters_of(trained.clusters, trained.detector.config)


def check_clusters_of(clusters, config, names=()):
    """ValueError unless clusters are of a network of this config, and have these videos."""
    size = config.latent_size
    centers = torch.as_tensor(np.asarray(clusters.centers))
    if centers.ndim != 2 or centers.shape[1] != size or not torch.isfinite(centers).all():
        raise ValueError(f"its centers are not K rows of {size} numbers")
    if not all(0 <= number < len(centers) for number in clusters.assignment.values()):
        raise ValueError("a video is in a cluster that is not there")
    counts = torch.as_tensor(np.asarray(clusters.counts))
    if counts.shape != centers.shape[:1] or not bool((counts > 0).all()):
        raise ValueError("its clusters have not a count each")
    if not set(names) <= clusters.assignment.keys():
        raise ValueError("a video is in no cluster")


def check_sha256(path, expected):
    """UserError unless a file that comes with the program is the one that was shipped."""
    found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if found != expected:
        raise UserError(
            f"{path} is not the file that belongs to this version (SHA-256 {found[:12]}…, not "
            f"{expected[:12]}…); restore it with git, or give your own by --pretrained"
        )


def download(url, path):
    """Fetch a file of weights whose name ends with the beginning of its SHA-256, `-<hash>.pth`.
    UserError where it cannot be had, or is another; nothing is left then.
    """
    expected = Path(url).stem.rpartition("-")[2]
    print(f"fetching {url} to {path}", flush=True)
    try:
        torch.hub.download_url_to_file(url, str(path), expected, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:  # the second: another hash
        raise UserError(
            f"{url} cannot be fetched ({error}); put it at {path} by hand, or start without by "
            "--pretrained none"
        ) from error


def load_pretrained(detector, path):
    """Copy every tensor of `path` that fits into `detector` by name; returns (matched,
    missing, ignored) counts.

    Reads a published detector checkpoint (names as they are), the public I3D weights (names
    without `conv1.`), an encoder of ours, or a detector.pt; a wrapping {"state_dict": ...}
    or {"detector": ...} and a leading `module.` are taken off. UserError where no tensor
    matches, or where an encoder tensor has another shape (capsule layers of another number
    of classes are skipped and counted as ignored).
    """
    tensors = _tensors(read(path, "weights file"), path)
    own = detector.state_dict()
    matched, ignored, wrong = {}, [], []
    for name, tensor in tensors.items():
        name = name if name in own else ENCODER + name
        if name not in own:
            ignored.append(name)
        elif own[name].shape != tensor.shape:
            wrong.append(name)
        else:
            matched[name] = tensor
    encoder_wrong = [name for name in wrong if name.startswith(ENCODER)]
    if encoder_wrong or not matched:
        example = f" (e.g. {encoder_wrong[0]})" if encoder_wrong else ""
        raise UserError(
            f"{path}: {len(matched)} tensors match this network, {len(wrong)} differ in "
            f"shape{example}; these weights are of another network (--model full takes "
            f"rgb_charades.pt)"
        )
    check_finite(matched, path)
    detector.load_state_dict(matched, strict=False)
    useful = sum(not name.endswith("num_batches_tracked") for name in own)
    found = sum(not name.endswith("num_batches_tracked") for name in matched)
    return found, useful - found, len(ignored) + len(wrong)


def _tensors(content, path):
    for key in ("state_dict", "detector", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds no table of tensors; give a state_dict saved with torch.save"
        )
    tensors = {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    return {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor) and not name.startswith(UNUSED)
    }
