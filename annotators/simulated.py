"""The simulated annotator: dense ground truth answers a request in a person's place.

Ground truth enters here and in evaluation, nowhere else.
"""

import copy
from collections.abc import Mapping

from claus.annotators.actors import actors_in, answers_with
from claus.datasets.labels.annotations import Annotations, Video
from claus.utils.runtime import UserError

GIVE = "give the ground truth of this data set"


def strip_labels(ground_truth: Annotations) -> Annotations:
    """The same videos as `ground_truth`, without a single label: where a simulation starts."""
    videos = {
        name: Video(name, video.frames, video.height, video.width, segment=video.segment)
        for name, video in ground_truth.videos.items()
    }
    return Annotations(ground_truth.dataset, ground_truth.classes, videos)


def answer(ground_truth: Annotations, request: Mapping) -> dict:
    """Answers to a request, in the form of a person's, out of dense ground truth.

    Of a video only its class and the boxes or masks of the requested frames are looked at.
    A track is the number of the ground-truth tube, so it is the same in every cycle; of
    tubes that agree in all requested frames the first is answered. Raises UserError where
    the ground truth does not know a video or a frame.
    """
    kind = answers_with(request)
    if list(ground_truth.classes) != request.get("classes"):
        raise UserError(f"the ground truth has other classes than the request; {GIVE}")
    answers = copy.deepcopy(request)
    for entry in answers["videos"]:
        name = entry["video"]
        video = ground_truth.videos.get(name)
        if video is None or not video.is_labeled:
            raise UserError(f"video {name}: the ground truth does not know it; {GIVE}")
        asked = [frame["frame"] - video.first for frame in entry["frames"]]
        unknown = sorted(set(asked) - set(video.labeled_frames.tolist()))
        if unknown:
            raise UserError(
                f"video {name}: the ground truth says nothing of frame {unknown[0] + video.first} "
                f"(video of {video.frames} frames); give dense ground truth"
            )
        actors = actors_in(video, asked, kind)
        entry["class"] = ground_truth.classes[video.label]
        for frame in entry["frames"]:
            frame["actors"] = actors[frame["frame"] - video.first]
    return answers
