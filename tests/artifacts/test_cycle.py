"""Where the files of a run lie."""

from pathlib import Path

import pytest

from claus.artifacts.cycle import Cycle, Run
from claus.utils.runtime import UserError


def refused(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_paths_follow_from_run_and_cycle(tmp_path):
    assert Cycle.of("demo", 3).folder == Path("files/demo/cycle3")
    assert Cycle.of("demo", 0, tmp_path).folder == tmp_path / "demo" / "cycle0"
    assert Cycle.of("some/where/demo", 1, tmp_path).folder == Path("some/where/demo/cycle1")
    assert not (tmp_path / "demo").exists()
    assert "is not a run name" in refused(Cycle.of, "..", 0)
    assert "--cycle must be 0 or more" in refused(Cycle.of, "demo", -1)


def test_existing_cycles_are_those_with_labels_in_the_order_of_their_numbers(tmp_path):
    for name in ("cycle0", "cycle2", "cycle10", "cycle01", "cycle_old"):
        (tmp_path / "r" / name).mkdir(parents=True)
        (tmp_path / "r" / name / "annotations.pkl").touch()
    (tmp_path / "r" / "cycle1").mkdir()
    assert Run.of("r", tmp_path).numbers() == [0, 2, 10]
    cycles = Run.of("r", tmp_path).cycles()
    assert [cycle.number for cycle in cycles] == [0, 2, 10]


def test_every_file_of_a_cycle_lies_in_its_folder_under_a_name_of_its_own(tmp_path):
    cycle = Cycle.of("r", 2, tmp_path)
    paths = [
        getattr(cycle, name)
        for name, kind in vars(Cycle).items()
        if isinstance(kind, property) and name != "folder"
    ]
    assert len(set(paths)) == len(paths) == 24
    assert {path.parent for path in paths} == {cycle.folder}
    assert cycle.before().folder == tmp_path / "r" / "cycle1"
