"""The row of a finished cycle: labels and cost of the ledger, scores of evaluation.json,
minutes of seconds.json.
"""

from pathlib import Path

from claus.artifacts.cycle import Cycle
from claus.artifacts.evaluation_file import load_evaluation
from claus.utils.runtime import read_json
from claus.utils.shape import amount

COLUMNS = (
    "cycle",
    "videos",
    "frames",
    "boxes",
    "% of frames",
    "cost",
    "f-mAP@.5",
    "v-mAP@.5",
    "f-mAP@.5 aware",
    "v-mAP@.5 aware",
    "accuracy",
    "floor f@.5",
    "floor v@.5",
    "minutes",
)
ACT_COLUMNS = ("act frame-mAP@.5", "act video-mAP@.2", "act video-mAP@.5")


def cycle_row(cycle: Cycle, ledger: list[dict]) -> dict:
    """{column: value} by COLUMNS and ACT_COLUMNS; scores in percent with one decimal, None
    where there is none.

    cycle: one that evaluate.py has scored. ledger: rows of ledger.count_ledger, one of
    which is this cycle's. UserError where evaluation.json is missing or damaged.
    """
    spent = next(row for row in ledger if int(row["cycle"]) == cycle.number)
    evaluation = load_evaluation(cycle.evaluation)
    capsule = evaluation.get("capsule") or {}  # {} where act alone was scored
    floor = evaluation.get("floor") or {}
    accuracy = capsule.get("accuracy")
    row = {
        "cycle": cycle.number,
        "videos": spent["total_videos"],
        "frames": spent["total_frames"],
        "boxes": spent["total_boxes"],
        "% of frames": spent["percent_of_frames"],
        "cost": spent["total_cost"],
        "f-mAP@.5": percent_at(capsule, "f_map", 0.5),
        "v-mAP@.5": percent_at(capsule, "v_map", 0.5),
        "f-mAP@.5 aware": percent_at(capsule, "f_map_class_aware", 0.5),
        "v-mAP@.5 aware": percent_at(capsule, "v_map_class_aware", 0.5),
        "accuracy": None if accuracy is None else round(100 * accuracy, 1),
        "floor f@.5": percent_at(floor, "f_map", 0.5),
        "floor v@.5": percent_at(floor, "v_map", 0.5),
        "minutes": minutes_of(cycle),
    }
    return row | act_columns(evaluation)


def minutes_of(cycle: Cycle) -> float | None:
    """Minutes that the steps of a cycle took together; None where they were not timed."""
    if not cycle.seconds.exists():
        return None
    return round(sum(load_seconds(cycle.seconds).values()) / 60, 1)


def load_seconds(path: Path) -> dict[str, float]:
    """Seconds of each step of a cycle, of its seconds.json; UserError naming the file."""
    return read_json(path, "remove it", {str: amount})


def act_columns(evaluation: dict) -> dict:
    """The numbers of the act protocol, by ACT_COLUMNS; None where it was not scored."""
    act = evaluation.get("act") or {}
    frame, video = act.get("frame") or {}, act.get("video") or {}
    values = (
        percent_at(frame, "mean_ap", 0.5),
        percent_at(video, "mean_ap", 0.2),
        percent_at(video, "mean_ap", 0.5),
    )
    return dict(zip(ACT_COLUMNS, values, strict=True))


def percent_at(scores: dict, name: str, threshold: float) -> float | None:
    """A score at an IoU threshold of a part of evaluation.json, in percent with one
    decimal; None where it has none.
    """
    values = scores.get(name)
    known = values is not None and threshold in scores["thresholds"]
    value = values[scores["thresholds"].index(threshold)] if known else None
    return None if value is None else round(100 * value, 1)
