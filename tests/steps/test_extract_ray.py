"""Scoring on a Ray cluster: who scores, what every machine must see, and what an actor does;
without Ray, see tests/scripts/test_ray_run.py for a cluster.
"""

import importlib.util
import os
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cluster_extract
from claus.artifacts.part_log import Parts
from claus.flags import scoring
from claus.flags.scoring import RaySettings
from claus.steps import extract_ray
from claus.steps.extract_ray import Paths, Plan, Scorer
from claus.utils.runtime import UserError

RUN = ["--run", "r", "--data", "d"]
BIG = {"CPU": 16.0, "GPU": 4.0, "memory": 1e9}
SMALL = {"CPU": 6.0}


def settings(*flags):
    return scoring.parse([*RUN, "--ray", "auto", *flags])


def plan(resources, *flags, videos=10_000):
    nodes = [{"Resources": each} for each in resources]
    return extract_ray.plan_for(nodes, settings(*flags), videos)


def test_flags_of_a_cluster_become_settings():
    found = settings("--ray-actors", "3", "--ray-cpus", "2", "--ray-block", "7")
    assert found.ray == RaySettings("auto", 3, 2, 7)
    assert found.device == "" and found.workers is None
    alone = scoring.parse(RUN)
    for one in (alone, settings("--propose")):
        assert one.ray is None and one.device in ("cpu", "cuda") and one.workers is not None


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--ray", "ray://head:10001"], "on one of its machines, with --ray auto"),
        (["--ray", "head"], "give local, auto or host:port"),
        (["--ray", "local", "--shard", "1/2"], "both share the videos out"),
        (["--ray", "local", "--ray-block", "0"], "--ray-block must be at least 1, not 0"),
        (["--ray-actors", "2"], "--ray-actors is for --ray"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        scoring.parse([*RUN, *flags])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "address", ["local", "auto", "head:6379", "10.0.0.1:6379", "[::1]:6379"]
)
def test_addresses(address):
    assert scoring.ray_address(address) == address


def test_without_ray_one_line_names_the_extra(monkeypatch):
    real = importlib.util.find_spec
    blocked = lambda name, *more: None if name == "ray" else real(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", blocked)
    with pytest.raises(UserError, match=r"^--ray needs Ray.*pip install '\.\[ray\]'$"):
        cluster_extract.main([*RUN, "--ray", "local"])


def test_under_torchrun_it_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="start the script without torchrun"):
        extract_ray.check_installed()


def test_without_gpus_an_actor_for_every_processor():
    assert plan([SMALL, SMALL]) == Plan(12, 1, 0.0, "cpu", 0, 64)
    assert plan([SMALL, SMALL], "--ray-cpus", "4") == Plan(2, 4, 0.0, "cpu", 0, 64)
    assert plan([BIG], "--device", "cpu").actors == 16


def test_with_gpus_an_actor_for_each_and_the_rest_decodes():
    assert plan([BIG, SMALL]) == Plan(4, 4, 1.0, "cuda", 3, 64)
    assert plan([BIG], "--ray-actors", "8") == Plan(8, 2, 0.5, "cuda", 1, 64)
    assert plan([{"CPU": 64.0, "GPU": 1.0}]).cpus == 9
    assert plan([BIG], "--workers", "1").workers == 1


def test_few_videos_make_small_blocks_and_no_idle_actors():
    assert plan([SMALL], videos=24).block == 1
    assert plan([SMALL], videos=480).block == 10
    assert plan([SMALL], "--ray-block", "20", videos=30).actors == 2


def test_a_cluster_that_cannot_is_refused():
    with pytest.raises(UserError, match="no machine of the Ray cluster has a GPU"):
        extract_ray.plan_for([{"Resources": SMALL}], replace(settings(), device="cuda"), 9)
    with pytest.raises(UserError, match="has 7 processors for an actor; lower --ray-cpus"):
        plan([SMALL, SMALL], "--ray-cpus", "7")
    with pytest.raises(UserError, match="has 1 processors"):
        plan([{"CPU": 0.0}])


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Paths as a machine sees them that sees all."""
    monkeypatch.chdir(tmp_path)
    video = tmp_path / "v.avi"
    video.write_bytes(b"x" * 10)
    with extract_ray.token(tmp_path) as mark:
        found = SimpleNamespace(data=str(tmp_path), cache_dir=None)
        yield replace(Paths.of(mark, video, found), patience=0)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["v.avi"]


def test_a_machine_that_sees_all_has_no_problem(seen):
    assert not seen.relative and seen.problem() == ""


def test_a_machine_says_what_it_does_not_see(seen, tmp_path):
    wrong = replace(seen, text="of another start")
    assert wrong.problem() == (
        f"not the run folder {tmp_path} of the driver; mount the same storage there"
    )
    assert "not the run folder" in replace(seen, token=seen.token + "x").problem()
    assert "mount the same videos there" in replace(seen, sample="/nowhere/v.avi").problem()
    assert "v.avi, or another one" in replace(seen, size=9).problem()
    assert "no folder /nowhere" in replace(seen, start="/nowhere", relative=True).problem()
    assert replace(seen, start="/nowhere").problem() == ""
    other = replace(seen, versions={**seen.versions, "torch": "1.0"})
    assert "where the driver has 1.0, so that scores would differ" in other.problem()


def test_an_address_where_nobody_listens_is_refused_at_once():
    with pytest.raises(OSError):
        extract_ray.answers("127.0.0.1:1")
    extract_ray.answers("local")


def made(parts, score, seen):
    """A Scorer whose videos are scored by the function (log, numbers)."""
    plain, threads = asdict(replace(settings(), ray=None)), torch.get_num_threads()
    return Scorer(np.arange(10), plain, seen, os.fspath(parts), lambda *_: score, threads)


@pytest.fixture
def parts(tmp_path):
    folder = tmp_path / "parts" / "0123"
    folder.mkdir(parents=True)
    return folder


def write(log, numbers):
    for number in numbers:
        log.append(number, {"x": np.array([number])})


def test_an_actor_writes_all_its_blocks_to_one_log(parts, seen):
    actor = made(parts, write, seen)
    for numbers in ([4, 7], [1]):
        rows = actor({"id": np.array(numbers)})
        assert rows["number"] == numbers and rows["problem"] == [""] * len(numbers)
    (log,) = parts.iterdir()
    assert rows["log"] == [log.name] and rows["size"] == [log.stat().st_size]
    with Parts(parts, parts.name) as found:
        assert found.numbers().tolist() == [1, 4, 7]


def test_two_actors_never_share_a_log(parts, seen):
    for number in (0, 1):
        made(parts, write, seen)({"id": np.array([number])})
    assert len(list(parts.glob("*.log"))) == 2


def test_an_actor_tells_what_went_wrong(parts, seen, capsys):
    def bad_video(log, numbers):
        raise UserError("v.avi is damaged")

    def broken(log, numbers):
        raise KeyError("x")

    block = {"id": np.array([3, 4])}
    assert made(parts, bad_video, seen)(block)["problem"] == ["v.avi is damaged"] * 2
    (problem, _) = made(parts, broken, seen)(block)["problem"]
    assert "has failed (KeyError: 'x')" in problem
    elsewhere = replace(seen, text="of another start")
    (problem, _) = made(parts, write, elsewhere)(block)["problem"]
    assert problem.startswith("machine ") and "not the run folder" in problem


def test_a_block_that_kills_its_actors_is_left_out_at_last(parts, seen):
    def killed(log, numbers):
        raise KeyboardInterrupt  # as abrupt as it gets here

    block = {"id": np.array([3, 4])}
    for _ in range(extract_ray.TRIES):
        with pytest.raises(KeyboardInterrupt):
            made(parts, killed, seen)(block)
    rows = made(parts, write, seen)(block)
    assert rows["log"] == ["", ""] and rows["problem"] == ["", ""]
    assert made(parts, write, seen)({"id": np.array([3])})["log"] != [""]
