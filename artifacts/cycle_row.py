"""The row of a finished cycle: labels and cost of the ledger, scores of evaluation.json,
minutes of seconds.json.
"""

from claus.utils.runtime import read_json

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


def cycle_row(folder, cycle, ledger):
    """{column: value} by COLUMNS and ACT_COLUMNS; scores in percent with one decimal, None
    where there is none.

    folder: that of the cycle, where evaluate.py has been. ledger: rows of
    handoffs.count_ledger, one of which is this cycle's. UserError where evaluation.json is
    missing or damaged.
    """
    spent = next(row for row in ledger if int(row["cycle"]) == cycle)
    evaluation = read_json(
        folder / "evaluation.json", "run evaluate.py of this cycle again, with --force"
    )
    scores, floor = (
        evaluation.get(name) or {} for name in ("capsule", "floor")
    )  # {} where act alone was scored
    percent = [
        percent_at(part, name, 0.5)
        for part, name in (
            (scores, "f_map"),
            (scores, "v_map"),
            (scores, "f_map_class_aware"),
            (scores, "v_map_class_aware"),
            (floor, "f_map"),
            (floor, "v_map"),
        )
    ]
    seconds = folder / "seconds.json"
    minutes = (
        round(sum(read_json(seconds, "remove it").values()) / 60, 1)
        if seconds.exists()
        else None
    )
    accuracy = None if scores.get("accuracy") is None else round(100 * scores["accuracy"], 1)
    values = (
        cycle,
        spent["total_videos"],
        spent["total_frames"],
        spent["total_boxes"],
        spent["percent_of_frames"],
        spent["total_cost"],
        *percent[:4],
        accuracy,
        *percent[4:],
        minutes,
    )
    return dict(zip(COLUMNS, values, strict=True)) | act_columns(evaluation)


def act_columns(evaluation):
    """The numbers of the act protocol, by ACT_COLUMNS; None where it was not scored."""
    frame, video = (
        (evaluation.get("act") or {}).get(part) or {} for part in ("frame", "video")
    )
    values = (
        percent_at(part, "mean_ap", at)
        for part, at in ((frame, 0.5), (video, 0.2), (video, 0.5))
    )
    return dict(zip(ACT_COLUMNS, values, strict=True))


def percent_at(scores, name, threshold):
    """A score at an IoU threshold of a part of evaluation.json, in percent with one
    decimal; None where it has none.
    """
    values = scores.get(name)
    value = None if values is None else values[scores["thresholds"].index(threshold)]
    return None if value is None else round(100 * value, 1)
