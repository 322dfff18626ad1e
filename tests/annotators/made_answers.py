"""Random labels for the tests of annotation tools: names that are hard, several classes,
empty, skipped and unanswered frames.
"""

import numpy as np

from claus.annotators.form import request_form
from claus.datasets.labels.annotations import Annotations, Video
from claus.datasets.labels.masks import encode_rle

NAMES = ("cam2/jump_b", "a/b__c", "a__b/c", 'weird/<&"> ü 跳', "plain/x")
CLASSES = ("jump", "a & b", "跳")


def pool(height=60, width=80, frames=40):
    videos = {name: Video(name, frames, height, width) for name in NAMES}
    return Annotations("own", CLASSES, videos)


def request(seed, kind="boxes", labels=None):
    rng, labels = np.random.default_rng([seed, 1]), labels or pool()
    picks = [
        {"video": name, "frames": rng.choice(video.frames, 4, replace=False), "reason": "drawn"}
        for name, video in labels.videos.items()
    ]
    return request_form(labels, picks, "mine", 0, kind)


def shape(rng, kind, height, width):
    x0, y0 = (int(rng.integers(0, side - 12)) for side in (width, height))
    w, h = int(rng.integers(6, width - x0 + 1)), int(rng.integers(6, height - y0 + 1))
    if kind == "boxes":
        return {"box": [x0, y0, w, h]}
    mask = np.zeros((height, width), bool)
    mask[y0 : y0 + h, x0 : x0 + w] = rng.random((h, w)) < 0.7
    mask[y0, x0] = True
    return {"mask": encode_rle(mask)}


def fill_in(form, seed, kind="boxes", height=60, width=80):
    """Answer a request at random: about a fifth of the frames is skipped or left."""
    rng = np.random.default_rng([seed, 2])
    for entry in form["videos"]:
        label = str(rng.choice(CLASSES))
        own = {2: str(rng.choice(CLASSES))}
        for frame in entry["frames"]:
            what = rng.random()
            if what < 0.1:
                frame["skipped"] = "blurred"
            elif what > 0.2:
                count = int(rng.integers(0, 3))
                frame["actors"] = [
                    {"track": track, **shape(rng, kind, height, width)}
                    for track in range(1, count + 1)
                ]
                for actor in frame["actors"]:
                    if own.get(actor["track"], label) != label:
                        actor["class"] = own[actor["track"]]
        if any(frame["actors"] is not None for frame in entry["frames"]):
            entry["class"] = label
    return form


def plain(form, reasons=True):
    """{video: (class, {frame: what is said})}, without what tools add."""
    said = {}
    for entry in form["videos"]:
        frames = {}
        for frame in entry["frames"]:
            actors = frame["actors"]
            if frame.get("skipped"):
                frames[frame["frame"]] = frame["skipped"] if reasons else True
            elif actors is not None:
                kept = ("track", "box", "mask", "class")
                frames[frame["frame"]] = [{k: a[k] for k in kept if k in a} for a in actors]
        said[entry["video"]] = (entry["class"], frames)
    return said
