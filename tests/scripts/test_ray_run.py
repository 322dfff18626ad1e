"""cluster_extract.py --ray on real clusters of this machine: the bytes of a single process,
whatever is killed. Needs `pip install ray[data]`.
"""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import claus_select
import cluster_extract
import train_ucf101
from claus.artifacts.part_log import Parts
from claus.artifacts.scores import load_features
from claus.datasets import toy

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "--model small --pretrained none --device cpu --no-validation --steps 2 --epochs 1"
VIDEOS = 16
TOKEN = secrets.token_hex(32)  # of all clusters here: Ray reads it once a process
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
LIMIT = 400  # seconds of a command on a busy machine

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="pip install ray[data]"),
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Toy videos, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    toy.make(folder, seed=3, train=VIDEOS, test=6)
    return folder


@pytest.fixture(scope="module")
def trained(videos, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "trained"
    truth = ["--oracle", str(videos / "pyannot.pkl")]
    truth += ["--test-list", str(videos / "testlist01.txt")]
    counts = ["--videos-count", "3", "--frames-count", "9"]
    claus_select.main([*common(run, videos), *truth, *counts])
    train_ucf101.main([*common(run, videos), *TRAIN.split(), "--batch-size", "2"])
    return run


@pytest.fixture(scope="module")
def alone(trained, videos, tmp_path_factory):
    """What a single process makes of all."""
    damage(trained, videos)
    run = shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "alone")
    cluster_extract.main([*common(run, videos), "--device", "cpu"])
    (reason,) = load_features(run / "cycle0" / "features.pkl").failed.values()
    assert reason
    return run


def damage(run, videos):
    """Cut off a video that the detector was not trained on."""
    from claus.artifacts import checkpoint

    labeled = checkpoint.load(run / "cycle0" / "detector.pt").clusters.assignment
    names = {path.stem: path for path in sorted(videos.rglob("*.avi"))}
    from claus.datasets.labels import annotations

    pool = annotations.load(run / "cycle0" / "annotations.pkl").videos
    name = next(name for name in pool if name not in labeled)
    path = names[name.split("/")[-1]]
    path.write_bytes(path.read_bytes()[:2000])


@pytest.fixture
def run(alone, trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(autouse=True)
def own_token(monkeypatch):
    """Ray's clusters here let nobody else in, and leave no token in the home folder."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def cluster(own_token):
    """Two nodes of a processor each on this machine, as two machines would be."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.second = made.add_node(**NODE)
    yield made
    made.shutdown()


def common(run, videos):
    return ["--run", str(run), "--cycle", "0", "--data", str(videos)]


def start(run, videos, *flags):
    command = [sys.executable, "cluster_extract.py", *common(run, videos), *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """(exit status, what it printed)."""
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out + err


def until_scored(run, process, count, actors=1):
    """Wait for so many scored videos -> process numbers of the actors that have begun."""
    ends = time.monotonic() + LIMIT
    while time.monotonic() < ends and process.poll() is None:
        (parts,) = list(run.glob("cycle0/extract.parts/*")) or [None]
        if parts is not None:
            logs = sorted(parts.glob("ray-*.log"))
            with Parts(parts, parts.name) as found:
                if len(found) >= count and len(logs) >= actors:
                    return [int(re.search(r"-(\d+)-\d+\.log", log.name)[1]) for log in logs]
        time.sleep(0.05)
    pytest.fail(f"it ended before it could be killed: {process.communicate()}")


def assert_same(run, alone):
    for name in ("features.pkl", "uncertainty.pkl"):
        paths = [folder / "cycle0" / name for folder in (run, alone)]
        assert paths[0].read_bytes() == paths[1].read_bytes(), name
    assert not (run / "cycle0" / "extract.parts").exists()
    assert not list((run / "cycle0").glob(".*"))


def gone(pid):
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or ") Z " in state.read_text():
            return True
        time.sleep(0.2)
    return False


def test_an_actor_and_a_node_killed_cost_their_blocks_alone(cluster, run, videos, alone):
    flags = ["--ray", cluster.address, "--ray-block", "2"]
    process = start(run, videos, *flags)
    actors = until_scored(run, process, 1)
    os.kill(actors[0], signal.SIGKILL)
    until_scored(run, process, 4, actors=3)
    cluster.remove_node(cluster.second, allow_graceful=False)
    status, said = ended(process)
    assert status == 0, said
    assert "2 actors on 2 machines, 2 videos a block, on cpu" in said
    assert "1 of 16 videos were skipped" in said
    assert_same(run, alone)


def test_the_driver_killed_and_the_rest_done_by_others(cluster, run, videos, alone):
    process = start(run, videos, "--ray", "auto", "--ray-block", "3")
    actors = until_scored(run, process, 3)
    process.kill()
    process.communicate()
    assert all(map(gone, actors))
    again = ["--ray", cluster.address, "--ray-actors", "1", "--ray-block", "100"]
    status, said = ended(start(run, videos, *again))
    assert status == 0, said
    left = int(re.search(r"(\d+) of 16 videos to score", said)[1])
    assert 1 <= left <= VIDEOS - 3
    assert "1 actor on 2 machines, 100 videos a block" in said
    assert_same(run, alone)


def test_a_cluster_started_here_ends_with_the_command(run, videos, alone):
    process = start(run, videos, "--ray", "local", "--ray-actors", "2")
    actors = until_scored(run, process, 2)
    process.terminate()
    status, said = ended(process)
    assert status == 130 and said.splitlines()[-1].endswith("run the same command to resume")
    assert all(map(gone, actors))
    status, said = ended(start(run, videos, "--ray", "local", "--workers", "1"))
    assert status == 0, said
    assert_same(run, alone)


def test_one_line_says_what_is_wrong(cluster, run, videos, alone):
    status, said = ended(start(run, videos, "--ray", "127.0.0.1:1"))
    assert status == 2
    assert said.splitlines()[-1].startswith("cluster_extract.py: no Ray cluster at 127.0.0.1:1")
    status, said = ended(start(run, videos, "--ray", cluster.address, "--strict"))
    assert status == 2 and "Traceback" not in said
    (reason,) = load_features(alone / "cycle0" / "features.pkl").failed.values()
    assert said.splitlines()[-1] == f"cluster_extract.py: {reason}"


def test_a_machine_without_the_run_folder_is_named(cluster, tmp_path):
    look = """
import sys, ray
from claus.steps import extract_ray
from claus.steps.extract_ray import Paths, check_machines
from claus.utils.runtime import UserError
ray.init(address=sys.argv[1], log_to_driver=False)
paths = Paths("/", False, "/nowhere/run/token", "text", None, None, extract_ray.versions(), 0)
try:
    check_machines(ray, ray.nodes(), paths)
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", look, cluster.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    line = done.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"machine \S+ \(\S+\) of the Ray cluster: not the run folder /nowhere/run of the "
        r"driver; mount the same storage there",
        line,
    ), done.stderr
