"""What evaluate.py scores against: ground truth or labels of one's own, as masks, and the
no-model floor.
"""

import zlib
from dataclasses import replace

import numpy as np

from claus.datasets import table as which
from claus.datasets.clips.geometry import center_crop, transform
from claus.datasets.labels import annotations as annotation_file
from claus.metrics import capsule, floor
from claus.utils.runtime import UserError


def read_truth(args, folder):
    """Annotations of the test videos. With --labels those that have any; UserError where
    the run was trained on one.
    """
    if not args.labels:
        return which.read_ground_truth(
            args.dataset, args.oracle, args.test_list, args.split, "test"
        )
    labels = annotation_file.load(args.labels)
    which.check_same(args.dataset, labels.dataset, args.labels)
    tested = {video.name: video for video in labels.labeled() if len(video.tubes)}
    idle = len(labels.labeled()) - len(tested)
    print(
        f"test set: the labeled frames with an actor of {len(tested)} videos of {args.labels}"
        f"{f'; {idle} labeled videos show none and are not scored' * bool(idle)}"
    )
    if not tested:
        raise UserError(
            f"{args.labels}: no frame with an actor is labeled in it; label some test "
            f"videos first"
        )
    trained_on = folder / "annotations.pkl"
    if trained_on.exists():
        both = sorted(
            {video.name for video in annotation_file.load(trained_on).labeled()} & set(tested)
        )
        if both:
            raise UserError(
                f"{args.labels}: {len(both)} of its videos are labeled in "
                f"{trained_on} too, the first is "
                f"{both[0]}; a test video must not be trained on, keep them in folders "
                f"of their own"
            )
    return replace(labels, videos=tested)


def check_classes(trained, truth, args):
    if tuple(trained.classes) != tuple(truth.classes):
        given = args.labels or args.oracle
        raise UserError(
            f"{given} has {len(truth.classes)} classes ({truth.classes[0]} …), the "
            f"detector was trained "
            f"for {len(trained.classes)} ({trained.classes[0]} …); give the ground "
            f"truth of the data set "
            "it was trained on"
        )


def truth_of(video, geometry, gt):
    """Ground truth of a video inside the center crop, at the network's resolution; `gt`
    says which actors count.
    """
    rng, size = (
        np.random.default_rng(zlib.crc32(video.name.encode())),
        (geometry.size, geometry.size),
    )
    if all(tube.masks is None for tube in video.tubes):
        return floor.video_truth(video, geometry.crop, gt, rng, geometry.frame, size)
    masks_A_F_S_S = np.zeros((len(video.tubes), video.frames, *size), bool)
    for actor, tube in enumerate(video.tubes):
        masks_A_F_S_S[actor, tube.frames] = transform(
            tube.masks[:].view(np.uint8), geometry, center_crop(geometry)
        )
    return floor.Truth(
        video.name, video.label, size, masks_F_H_W=capsule.reduce_actors(masks_A_F_S_S, gt, rng)
    )


def truth_masks(truth):
    """Masks of a floor.Truth: bool (F,S,S), boxes filled."""
    if truth.masks_F_H_W is not None:
        return truth.masks_F_H_W
    masks_F_S_S = np.zeros((truth.frames, *truth.size), bool)
    for boxes_F_4 in truth.boxes_A_F_4:
        for mask, (x0, y0, x1, y1) in zip(masks_F_S_S, boxes_F_4, strict=True):
            mask[y0:y1, x0:x1] = True
    return masks_F_S_S


def no_model_floor(args, folder, classes, videos, geometry, switches):
    """The best centered rectangle of the training split (beside --labels: of the cycle's),
    scored on the test videos.
    """

    def truths(videos):
        return (truth_of(video, geometry, args.gt) for video in videos)

    if args.labels:
        own = folder / "annotations.pkl"
        training = annotation_file.load(own).labeled() if own.exists() else []
    else:
        training = which.read_ground_truth(
            args.dataset, args.oracle, args.test_list, args.split, "train"
        ).videos.values()
    rectangle = floor.choose_rectangle(truths(training), classes, switches)
    if rectangle is None:
        return None
    return floor.to_dict(
        rectangle, floor.score_rectangle(rectangle, truths(videos), classes, switches)
    )
