"""The fast part of the campaign: a part of every kind of input; `python -m tests.faults
--long` has all.
"""

import signal

import pytest

from . import campaign, files, files_of_people, pickles, scripts, videos

KINDS = [*files.KINDS, *files_of_people.KINDS]

COUNT = 60


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


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_choice_is_made_again_with_the_same_bytes(bench, which):
    found = list(scripts.kills(bench, scripts.SELECT, [which], step=13, start=4))
    assert found and bad((outcome, text) for _, _, outcome, text in found) == []


def test_on_a_full_disk_there_is_one_line(bench):
    found = list(scripts.full_disk(bench, scripts.SELECT, step=17, start=2))
    assert found and bad((outcome, text) for _, outcome, text in found) == []


def test_two_choices_at_once_are_one_or_one_line(bench):
    assert scripts.pairs(bench, scripts.SELECT, scripts.SELECT)[0] in ("both", "one line")
