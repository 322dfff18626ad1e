"""What the benchmarks of loading read: real videos where they are available, else one video
made for the purpose.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np

from claus.benchmarks.timing import SHARED
from claus.datasets import ucf101
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.sprites import random_texture, write_video

NAMES = ("Biking/v_Biking_g01_c03", "Biking/v_Biking_g02_c05", "Diving/v_Diving_g01_c01")
EVERY = 17  # each so many-th frame of a video is labeled


def real():
    """Whether real UCF-101 videos are at hand."""
    return all((SHARED / "ucf101_24" / part).exists() for part in ("pyannot.pkl", "videos"))


def read():
    """(Annotations with few labels, function from a video's name to its file, where they
    come from in words).
    """
    if real():
        truth = ucf101.read_ground_truth(SHARED / "ucf101_24" / "pyannot.pkl")
        videos = [few_labels(truth.videos[name]) for name in NAMES]
        find, where = (
            functools.partial(ucf101.find_video, SHARED / "ucf101_24"),
            "real UCF-101 files",
        )
    else:
        folder = Path(tempfile.mkdtemp())
        write_video(folder / "made.avi", moving_texture(151))
        boxes = np.array([(60 + f, 80, 140 + f, 200) for f in range(151)])
        videos = [
            few_labels(
                Video(
                    "made",
                    151,
                    240,
                    320,
                    0,
                    np.arange(151),
                    (Tube(0, 1, np.arange(151), boxes),),
                )
            )
        ]
        find, where = (
            functools.partial(_made, folder),
            "a video made on the spot (no real video at hand)",
        )
    return (
        Annotations("UCF-101-24", ucf101.CLASSES, {video.name: video for video in videos}),
        find,
        where,
    )


def _made(folder, name):
    return folder / f"{name}.avi"


def moving_texture(frames):
    """A texture that moves, uint8 (F,240,320,3)."""
    ground = random_texture(np.random.default_rng(0), 240 + frames, 320 + frames)
    return np.stack([ground[f : f + 240, f : f + 320] for f in range(frames)]).astype(np.uint8)


def few_labels(video, every=EVERY):
    """A densely labeled video with the labels of every so many-th frame alone."""
    labeled = np.arange(3, video.frames, every)
    tubes = [
        Tube(tube.label, tube.track, tube.frames[own], tube.boxes[own])
        for tube in video.tubes
        if (own := np.isin(tube.frames, labeled)).any()
    ]
    return Video(
        video.name, video.frames, video.height, video.width, video.label, labeled, tuple(tubes)
    )
