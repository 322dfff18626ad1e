"""A detector as a file that runs without this project: ONNX, or torch.export's .pt2.

The exported network takes clips, uint8 (B,8,3,S,S) RGB, as datasets/clips/geometry.py cuts
them, and gives foreground probabilities (B,8,S,S) and class scores (B,C). Beside the file
lies <file>.json: classes, size of a clip, stride in time, and what of a frame is seen.

torch.onnx's old exporter (dynamo=False) is wrong by .04 to .08 on this network without a
word, and so is the new one with its own optimizer (onnxscript 0.7: by .06 on real clips, by
nothing on noise). Neither is used, and each file is compared with torch before it is kept.
"""

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from claus.artifacts.checkpoint import Trained
from claus.datasets.clips.geometry import STRIDE, center_crop
from claus.datasets.clips.stream import LENGTH, clips_of, read_header, read_tiles
from claus.models.input import normalize
from claus.utils.runtime import (
    UserError,
    cannot_write,
    open_temporary,
    put_in_place,
    remove_temporary,
    sweep,
    write_text,
)

LIMIT = 1e-4  # of any probability or score, from torch
NAMES = ("probabilities", "scores")
CLIPS = 6  # that a file is compared on, at most
BATCH = 2  # traced with; any other number will do


class Exported(nn.Module):
    """What is exported: a detector between bytes and probabilities."""

    def __init__(self, trained: Trained):
        super().__init__()
        self.detector, self.pixel_range = trained.detector, trained.pixel_range

    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (B,8,3,S,S) -> (B,8,S,S), (B,C), float32."""
        detection = self.detector(normalize(clips, self.pixel_range))
        return detection.logits[:, 0].sigmoid(), detection.scores


def clips_to_check(trained: Trained, videos: Sequence[str]) -> torch.Tensor:
    """Up to CLIPS clips of videos, uint8 (n,8,3,S,S), or moving stripes and noise."""
    size, clips = trained.geometry.size, []
    for path in videos:
        header = read_header(path)
        corners = [center_crop(trained.geometry)]
        for tile in read_tiles(path, trained.geometry, corners, header.start):
            places = clips_of(tile, tile.pictures.shape[1] - 1).places
            clips += list(tile.pictures[0][torch.from_numpy(places)])
            if len(clips) >= CLIPS:
                return torch.stack(clips[:CLIPS])
    if clips:
        return torch.stack(clips)
    place = np.arange(size)
    for number in range(CLIPS - 1):
        rng = np.random.default_rng(number)
        steps = np.arange(LENGTH)[:, None, None, None] * rng.integers(1, 6)
        waves = np.sin((place + place[:, None] + steps) / (3 + 2 * number))
        colors = rng.uniform(20, 120, (1, 3, 1, 1))
        clips.append(torch.from_numpy((128 + colors * waves).astype(np.uint8)))
    noise = np.random.default_rng(0).integers(0, 256, (LENGTH, 3, size, size))
    return torch.stack([*clips, torch.from_numpy(noise.astype(np.uint8))])


def write_onnx(trained: Trained, path: Path, clips: torch.Tensor) -> float:
    """Write an ONNX file -> the largest difference from torch. UserError where onnx,
    onnxscript or onnxruntime is not installed, or the difference is beyond LIMIT.
    """
    with needs("onnx", "onnxscript", "onnxruntime"):
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    network = Exported(trained).eval()

    def write(place):
        batch = torch.export.Dim("batch", min=1, max=1024)
        with warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                network,
                (clips[:BATCH],),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                input_names=["clips"],
                output_names=list(NAMES),
                optimize=False,  # see the head of this module
                verbose=False,
            )
        for key, value in described(trained).items():
            program.model.metadata_props[key] = json.dumps(value)
        program.save(place)

    def load(place):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # its notes on folding constants are for its makers
        session = onnxruntime.InferenceSession(
            place, options, providers=["CPUExecutionProvider"]
        )
        return lambda some: session.run(list(NAMES), {"clips": some.numpy()})

    return _kept(network, path, clips, write, load, described(trained))


def write_pt2(trained: Trained, path: Path, clips: torch.Tensor) -> float:
    """Write a file of torch.export -> the largest difference from torch. UserError where
    that is beyond LIMIT.
    """
    network = Exported(trained).eval()

    def write(place):
        batch = torch.export.Dim("batch", min=1, max=1024)
        program = torch.export.export(network, (clips[:BATCH],), dynamic_shapes=({0: batch},))
        content = io.BytesIO()  # torch's own writer ends in a C++ stack where the disk is full
        torch.export.save(program, content)
        Path(place).write_bytes(content.getbuffer())

    def load(place):
        module = torch.export.load(place).module()
        return lambda some: [result.numpy() for result in module(some)]

    return _kept(network, path, clips, write, load, described(trained))


def described(trained: Trained) -> dict:
    """What a user of the file must know."""
    geometry = trained.geometry
    return {
        "classes": list(trained.classes),
        "frames": LENGTH,
        "stride": STRIDE,
        "size": geometry.size,
        "resize_to": list(geometry.frame),
        "center_crop": list(geometry.crop),
        "fit": geometry.fit,
        "source": trained.source,
        "license": trained.about.get("license", ""),
    }


@torch.no_grad()
def difference(network: nn.Module, other: Callable, clips: torch.Tensor) -> float:
    """The largest difference of any probability or score, for batches of one and of all."""
    worst = 0.0
    for some in (clips[:1], clips):
        pairs = zip(network(some), other(some), strict=True)
        for ours, theirs in pairs:
            worst = max(worst, float(np.abs(ours.numpy() - theirs).max()))
    return worst


@torch.no_grad()
def _kept(network, path, clips, write, load, about):
    """Write a temporary file, compare it, and put it in place if it is right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    descriptor, temporary = open_temporary(path)
    os.close(descriptor)
    place = f"{temporary}{path.suffix}"  # torch.export.save wants the ending
    try:
        write(place)
        worst = difference(network, load(place), clips)
        if not worst <= LIMIT:
            raise UserError(
                f"{path}: the exported network differs from torch by {worst:.1e}, the limit is "
                f"{LIMIT:.0e}; it was not kept"
            )
        put_in_place(place, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        for leftover in (temporary, place):
            remove_temporary(leftover)
    write_text(path.with_name(f"{path.name}.json"), json.dumps(about, indent=1) + "\n")
    return worst


@contextlib.contextmanager
def needs(*packages: str):
    """Inside, a package that is not installed is a UserError that says how it is."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed; pip install {' '.join(packages)}"
        ) from error
