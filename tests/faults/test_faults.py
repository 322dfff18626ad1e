"""The fast part of the campaign: a part of every kind of input; `python -m tests.faults
--long` has all.
"""

import os
import signal

import pytest

from . import (
    campaign,
    column_files,
    files,
    files_of_people,
    pickles,
    scripts,
    states,
    videos,
    works,
)

KINDS = [*files.KINDS, *files_of_people.KINDS, *column_files.KINDS]

COUNT = 20


def bad(outcomes):
    return [(outcome, text) for outcome, text in outcomes if outcome in campaign.BAD]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_mutated_files_are_read_right_or_refused_in_one_line(kind):
    number = max(int(COUNT * kind.share), 5)
    assert bad(campaign.outcomes(kind, number, seed=1)) == []


def test_the_campaign_sees_what_is_wrong(tmp_path):
    """A reader that checks nothing is found out."""
    import json

    def make(folder):
        path = tmp_path / "x.json"
        path.write_text('{"a": 1.5, "b": ["x", 2]}')
        return path

    careless = files.Kind(
        "x", make, lambda path: json.loads(path.read_bytes()), files.mutate.of_json_file
    )
    found = {outcome for outcome, _ in campaign.outcomes(careless, 200)}
    assert {"wrong", "traceback"} <= found


def test_hostile_pickles_are_refused_and_run_nothing():
    found = list(pickles.outcomes())
    assert len(found) > 100 and bad(found) == []


def test_hostile_videos_and_folders_are_left_out_by_name():
    found = list(videos.outcomes(step=7))
    assert len(found) > 35 and bad(found) == []


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return scripts.Bench.make(tmp_path_factory.mktemp("bench"))


SIGNALS = [[signal.SIGKILL], [signal.SIGINT], [signal.SIGTERM]]
# a script of each kind; corrections and the first call of run_cycles.py were not the same
STOPPED = [works.SELECT, works.ASK, works.ANSWERS, works.CORRECT, works.LABEL, works.BEGIN]


@pytest.mark.parametrize("work", STOPPED, ids=lambda work: work.name)
def test_a_stopped_script_leaves_the_same_bytes_at_its_second_try(bench, work):
    found = list(scripts.kills(bench, work, SIGNALS, places=7))
    assert len(found) == 7
    assert bad((outcome, text) for _, _, outcome, text in found) == []


def test_the_second_try_of_a_killed_script_leaves_the_same_bytes(bench):
    found = list(states.rerun(bench, works.ANSWERS, places=5))
    assert len(found) == 5
    assert bad((outcome, text) for _, outcome, text in found) == []


CARELESS = """
from pathlib import Path

def main(arguments):
    for line in ("first", "second"):
        with open(Path(arguments[0]) / "a.txt", "a") as file:
            file.write(line)
    return 0
"""


def test_a_script_that_does_not_begin_again_is_found(bench, tmp_path, monkeypatch):
    """Its folder has three states: nothing, a torn line, the first one."""
    (tmp_path / "careless.py").write_text(CARELESS)
    monkeypatch.syspath_prepend(tmp_path)
    work = works.Work("careless", "careless", lambda run, data: [str(run)])
    found = [(outcome, how[:5]) for _, outcome, how in states.rerun(bench, work)]
    assert found == [("same bytes", "whole"), ("wrong", "torn:"), ("wrong", "whole")]


def test_a_signal_where_a_temporary_file_is_made_or_removed_leaves_none(bench):
    """At every operation of the first ten, each signal that a script can hear."""
    whole = bench.undisturbed(works.SELECT)[1]
    for number in range(10):
        run = bench.fresh(works.SELECT)
        stop = scripts.at_operation(number, run, lambda: os.kill(os.getpid(), signal.SIGTERM))
        status, text = scripts.run_work(works.SELECT, run, bench.data, before=stop)
        assert scripts.said(status, text, 130), text
        left = [path.name for path in run.rglob("*") if path.name.startswith(".")]
        assert not left and whole


def test_a_training_that_was_killed_ends_with_the_same_weights(bench):
    found = list(scripts.kills(bench, works.TRAINING, SIGNALS, places=3))
    assert bad((outcome, text) for _, _, outcome, text in found) == []


@pytest.mark.parametrize(
    "work", [works.SELECT, works.DETECT, works.LABEL], ids=lambda work: work.name
)
def test_on_a_full_disk_there_is_one_line(bench, work):
    found = list(scripts.full_disk(bench, work, places=4))
    assert found and bad((outcome, text) for _, outcome, text in found) == []


def test_two_choices_at_once_are_one_or_one_line(bench):
    assert scripts.pairs(bench, works.SELECT, works.SELECT)[0] in ("both", "one line")
