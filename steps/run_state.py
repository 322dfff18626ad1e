"""What claus_select.py knows of a run before it does anything: its labels, its videos, what
it asks people for, and the flags that lead back to it.
"""

import shlex

from claus.annotators.form import request_form
from claus.artifacts import identities
from claus.artifacts.changes import read_changes, with_changes
from claus.artifacts.cycle import Cycle
from claus.artifacts.selection_report import request_picks
from claus.datasets import table
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations
from claus.flags.selection import SelectSettings, Source
from claus.utils.runtime import UserError


def finder(settings: SelectSettings, cycle: Cycle) -> identities.IdentifiedVideos:
    """Function from the name of a video to its path, which must be the run's own file."""
    source = settings.source
    find_video = table.video_finder(source.dataset, source.data)
    return identities.of_run(cycle.run, find_video)


def labels_before(settings: SelectSettings, cycle: Cycle) -> Annotations:
    """The labels that a request of this cycle is made from, with what has joined or was
    withdrawn since.
    """
    path = cycle.before().annotations if cycle.number else cycle.run.pool
    labels = load_labels(path, settings.source.dataset)
    return with_changes(labels, cycle.run, cycle.number)


def load_labels(path, dataset: str) -> Annotations:
    """An annotation file of this data set; UserError naming the file."""
    labels = annotation_file.load(path)
    table.check_same(dataset, labels.dataset, path)
    return labels


def start_of(cycle: Cycle) -> dict:
    """How the pool of a run on one's own videos was made, see artifacts/changes.py; {} where
    that is not known.
    """
    starts = read_changes(cycle.run, "start")
    return starts[-1] if starts else {}


def kind_of(source: Source, cycle: Cycle) -> str:
    """What actors are marked with: "masks" where the data set or --masks says so."""
    masks = source.masks or start_of(cycle).get("masks", False)
    return "masks" if masks else table.DATASETS[source.dataset].ANSWERS


def request_of(source: Source, cycle: Cycle, before: Annotations, report: dict) -> dict:
    """The form that asks for what a selection's report has chosen, but for videos that were
    withdrawn since.
    """
    picks = [pick for pick in request_picks(report) if pick["video"] in before.videos]
    if not picks and report["videos"]:
        raise UserError(
            f"every video of {cycle.selection} was withdrawn: choose again with --force"
        )
    kind = kind_of(source, cycle)
    return request_form(before, picks, report["run"], report["cycle"], kind)


def data_of(source: Source) -> str:
    """--data, where it is not the data set's own folder."""
    default = table.data_folder(source.dataset)
    return "" if source.data == default else f" {flag('data', source.data)}"


def flags_of(settings: SelectSettings, cycle: int) -> str:
    """The flags that lead any script to this run's `cycle`."""
    files = "" if settings.files == "files" else f" {flag('files', settings.files)}"
    return f"{flag('run', settings.run)} --cycle {cycle}{files}"


def flag(name: str, value: str) -> str:
    """A flag and its value as a shell takes them, also where the value begins as a flag."""
    value = shlex.quote(value)
    return f"--{name}={value}" if value.startswith("-") else f"--{name} {value}"
