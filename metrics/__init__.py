"""Scores of video action detection, on arrays alone: two protocols whose numbers are not
comparable.

`capsule`, rates of hits of foreground masks: fill a VideoOverlap for each video, then
`evaluate` them. `act`, average precision of boxes and tubes: `frame_ap` of Boxes,
`video_ap` of Tubes, which `link` makes of Boxes. `capsule_table` and `act_table` print
their results. Everything but `metrics.masks.mask_boxes`, which needs scikit-image, needs
NumPy and SciPy alone.
"""

from claus.metrics.act import ApResult, frame_ap, video_ap
from claus.metrics.boxes import Boxes, box_iou, inclusive_corners
from claus.metrics.capsule import CapsuleResult, Switches, VideoOverlap, evaluate
from claus.metrics.linking import LinkRule, link
from claus.metrics.tables import act_table, capsule_table
from claus.metrics.tubes import Tube, tube_iou

__all__ = [
    "ApResult",
    "Boxes",
    "CapsuleResult",
    "LinkRule",
    "Switches",
    "Tube",
    "VideoOverlap",
    "act_table",
    "box_iou",
    "capsule_table",
    "evaluate",
    "frame_ap",
    "inclusive_corners",
    "link",
    "tube_iou",
    "video_ap",
]
