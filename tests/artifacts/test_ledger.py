"""ledger.csv, counted in the annotation files, and selection.json, which has the prices."""

from fractions import Fraction

import pytest

from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.ledger import Prices, money, write_ledger
from claus.artifacts.selection_file import load_selection, save_selection
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.utils.runtime import UserError


def refused(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def labeled(name, frames=(), actors=()):
    """A video of 10 frames; actors: lists of frames, one per actor."""
    tubes = tuple(
        Tube(0, track, list(seen), [[0, 0, 5, 5]] * len(seen))
        for track, seen in enumerate(actors, 1)
    )
    return Video(name, 10, 48, 64, 0 if frames else None, frames, tubes)


def write_cycle(root, cycle, *videos, prices=None):
    place = Cycle.of("r", cycle, root)
    annotations = Annotations("toy", ("A",), {video.name: video for video in videos})
    annotation_file.save(annotations, place.annotations)
    if prices:
        save_selection(
            {"run": "r", "cycle": cycle, "prices": prices, "videos": []},
            place.selection,
        )


def test_the_ledger_counts_what_the_annotation_files_hold(tmp_path):
    # cycle 0: one video, 3 frames of which one is empty and one shows two actors: 3 boxes,
    # 1 beyond the first
    first = labeled("a", [1, 4, 7], [[1, 4], [4]])
    write_cycle(tmp_path, 0, first, labeled("b"), labeled("c"), labeled("d"))
    # cycle 1: two more videos, 2 + 1 frames, 3 + 0 boxes, at other prices
    write_cycle(
        tmp_path,
        1,
        first,
        labeled("b", [0, 9], [[0, 9], [9]]),
        labeled("c", [5]),
        labeled("d"),
        prices={"video": "2", "frame": "0.5", "box": "0.25"},
    )
    rows = write_ledger(Run.of("r", tmp_path))
    assert (tmp_path / "r" / "ledger.csv").read_text().splitlines() == [
        "cycle,videos,frames,boxes,cost,total_videos,total_frames,total_boxes,total_cost,percent_of_frames",
        "0,1,3,3,4,1,3,3,4,7.5000",
        "1,2,3,3,5.75,3,6,6,9.75,15.0000",
    ]
    assert rows[1]["total_cost"] == "9.75" and rows[1]["cycle"] == 1


def test_a_hole_or_a_loss_in_the_cycles_is_named(tmp_path):
    write_cycle(tmp_path, 0, labeled("a", [1, 2]))
    write_cycle(tmp_path, 1, labeled("a", [1]))
    assert "cycle1/annotations.pkl holds fewer labels" in refused(
        write_ledger, Run.of("r", tmp_path)
    )
    (tmp_path / "r" / "cycle0" / "annotations.pkl").unlink()
    assert "cycle 0 before it is not" in refused(write_ledger, Run.of("r", tmp_path))


def test_prices_are_exact_and_never_negative():
    prices = Prices("0.1", 2, "0")
    assert prices.video * 3 == Fraction(3, 10)
    assert "box price must not be negative" in refused(lambda: Prices(box="-1"))
    assert "frame price must be a number" in refused(lambda: Prices(frame="free"))
    assert [money(Fraction(*value)) for value in ((1103, 1), (25, 2), (1, 3), (100, 1))] == [
        "1103",
        "12.5",
        "0.3333",
        "100",
    ]


def test_selections_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "selection.json"
    row = {"video": "A/ä", "cluster": None, "score": 1.5, "reason": "", "frames": []}
    save_selection(
        {
            "run": "r",
            "cycle": 0,
            "prices": {"video": "1", "frame": "1", "box": "0"},
            "videos": [row],
        },
        path,
    )
    assert load_selection(path)["videos"] == [row]
    path.write_text(path.read_text()[:-9])
    assert f"{path}: not JSON" in refused(load_selection, path)
    path.write_text('{"format": "claus-request"}')
    assert "not a selection" in refused(load_selection, path)
    path.write_text("[]")
    assert f"{path}: holds a list" in refused(load_selection, path)
