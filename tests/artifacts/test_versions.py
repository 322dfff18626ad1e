"""Files that say which version of the program wrote them, and files from before that."""

import json

import pytest

from claus import __version__
from claus.artifacts.cycle import Run
from claus.artifacts.evaluation_file import load_evaluation, save_evaluation
from claus.artifacts.run_settings import load_settings, save_settings
from claus.utils.runtime import UserError


def test_an_evaluation_says_its_version_and_older_ones_are_read(tmp_path):
    path = tmp_path / "evaluation.json"
    save_evaluation({"capsule": None, "source": "s"}, path)
    content = json.loads(path.read_text())
    assert content.pop("claus") == __version__
    expected = {"format": "claus-evaluation", "version": 1, "capsule": None, "source": "s"}
    assert content == expected
    path.write_text('{"capsule": null, "source": "older"}')
    assert load_evaluation(path)["source"] == "older"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format": "claus-request"}', "this is not an evaluation"),
        ('{"format": "claus-evaluation", "version": 2}', "version 2, this program reads 1"),
        ("{", "not JSON"),
    ],
)
def test_another_file_is_refused_with_the_command_that_makes_it(tmp_path, content, said):
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        load_evaluation(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value)
    assert str(error.value).endswith("run evaluate.py of this cycle again, with --force")


def test_the_settings_of_a_run_survive_a_round_trip(tmp_path):
    run = Run(tmp_path)
    save_settings(run, {"seed": 3, "train": "--steps 5"})
    assert json.loads(run.settings.read_text())["claus"] == __version__
    assert load_settings(run) == {"seed": 3, "train": "--steps 5"}
    run.settings.write_text("[")
    with pytest.raises(UserError, match="give the flags this run began with"):
        load_settings(run)
