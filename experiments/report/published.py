"""The paper's numbers, shown only where the data set is the paper's own and --published
says so.
"""

import csv
from pathlib import Path

from claus.experiments.report.gather import read_json
from claus.utils.runtime import UserError

TABLE = Path(__file__).resolve().parent / "published.csv"
TEST_VIDEOS = {"ucf101": 910, "jhmdb": 268}  # of the split that the paper tests on
NAMES = {"ucf101": "ucf101-24", "jhmdb": "jhmdb-21"}
# what a data set that was drawn here has in its folder
MADE_UP = ("silhouettes.json", "toy.json")


def published_rows(dataset):
    """Rows of the published numbers of a data set: dicts of text."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["dataset"] == dataset]


def curve_of(dataset, metric):
    """[(percent of frames, score)] of the paper's CLAUS for a metric column such as
    "capsule f-mAP@.5"; [] if none.
    """
    name = metric.removeprefix("capsule ")
    return (
        [
            (float(row["percent_of_frames"]), float(row[name]))
            for row in published_rows(dataset)
            if row["table"] == "curve" and row["method"] == "CLAUS" and row.get(name)
        ]
        if (metric.startswith("capsule "))
        else []
    )


def check_real(dataset, rows):
    """UserError unless what the rows' folders say agrees with their being runs on the
    paper's test set.
    """
    folders = {row["run"] for row in rows if row["run"] is not None}
    if not folders:
        raise UserError(
            f"--published {dataset}: none of the runs' folders is here, so nothing proves "
            "that their data set is the paper's; leave it out, or put the folders beside "
            "the table"
        )
    for folder in sorted(folders):
        evaluation, settings = (
            read_json(folder / "cycle0" / "evaluation.json"),
            read_json(folder / "run.json"),
        )
        oracle = Path(settings.get("oracle", ""))
        drawn = [
            name
            for place in (oracle, oracle.parent)
            for name in MADE_UP
            if (place / name).exists()
        ]
        known = evaluation.get("dataset"), evaluation.get("test_videos")
        if drawn or known != (NAMES[dataset], TEST_VIDEOS[dataset]):
            raise UserError(
                f"--published {dataset}: {folder} was tested on "
                f"{evaluation.get('test_videos', '?')} videos of "
                f"{'a made-up data set' if drawn else evaluation.get('dataset', '?')}, the "
                f"paper's numbers are for the {TEST_VIDEOS[dataset]} of {NAMES[dataset]}; "
                "leave it out"
            )
