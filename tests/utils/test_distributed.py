"""Two gloo processes against one: the same losses, centers and selections; what happens
when one of them ends.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from semi_tools import batch, tiny_detector

import claus_select
import cluster_extract
import train_ucf101
from claus import engine
from claus.artifacts import checkpoint
from claus.datasets import toy
from claus.losses.cluster import Clusters
from claus.losses.criterion import LossSettings, total_loss
from claus.models.detector import PRESETS, Detection, Detector, DetectorConfig
from claus.utils import distributed
from claus.utils.runtime import UserError

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["--model", "small", "--pretrained", "none", "--device", "cpu", "--no-validation"]
STEPS = [*TRAIN, "--freeze-bn", "--batch-size", "4", "--steps", "5", "--epochs", "5"]
LONG = [*TRAIN, "--freeze-bn", "--batch-size", "2", "--epochs", "300"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "toy"
    toy.make(folder, seed=3, train=10, test=6)
    return folder


@pytest.fixture(scope="module")
def selected(videos, tmp_path_factory):
    """A run with the labels of cycle 0 alone; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("runs") / "selected"
    select(folder, videos, 0)
    return folder


@pytest.fixture
def run(selected, tmp_path):
    return Path(shutil.copytree(selected, tmp_path / "run"))


def common(folder, videos, cycle=0):
    return ["--run", str(folder), "--cycle", str(cycle), "--data", str(videos)]


def select(folder, videos, cycle):
    claus_select.main(
        [
            *common(folder, videos, cycle),
            "--oracle",
            str(videos / "pyannot.pkl"),
            "--test-list",
            str(videos / "testlist01.txt"),
            "--videos-count",
            "3",
            "--frames-count",
            "9",
        ]
    )


def launch(script, *arguments, processes=2):
    """torchrun of a script, as a Popen of its own process group."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "--",
        str(script),
        *map(str, arguments),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def launch_alone(script, port):
    """Two processes as two machines would start them, with nothing but the variables that
    name them; as Popens.
    """
    command, env = (
        [sys.executable, str(script)],
        {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    env |= {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return [
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**env, "RANK": str(rank)},
        )
        for rank in range(2)
    ]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finish(process, seconds=600):
    """(status, stdout, stderr), and nothing left running whatever happened."""
    try:
        out, error = process.communicate(timeout=seconds)
        return process.returncode, out, error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def history(folder):
    return checkpoint.load(folder / "cycle0" / "detector.pt").about["history"]


# ---- shares ----


@pytest.mark.parametrize(
    "samples, parts",
    [
        (8, [[0, 1, 4, 5], [2, 3, 6, 7]]),
        (7, [[0, 1, 4, 5], [2, 3, 6]]),
        (5, [[0, 1, 4], [2, 3]]),  # the second has nothing of the last batch
        (1, [[0], []]),
    ],
)
def test_the_parts_of_each_batch_put_in_order_are_the_batch(monkeypatch, samples, parts):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        share = distributed.BatchShare(range(samples), 4)
        assert list(share) == parts[rank] and len(share) == len(parts[rank]) and share.size == 2


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(
        UserError, match="--batch-size 8 is the batch of all 3 processes.*a multiple of 3"
    ):
        distributed.BatchShare(range(10), 8)


def test_shares_of_a_list_put_in_order_are_the_list(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.shard("abcde"))
    assert parts == [["a"], ["b", "c"], ["d", "e"]]


def test_one_process_has_everything():
    assert distributed.gather("x") == ["x"] and distributed.broadcast_from_rank0("x") == "x"
    assert distributed.shard("ab") == ["a", "b"]
    assert list(distributed.BatchShare(range(5), 2)) == [0, 1, 2, 3, 4]
    assert distributed.own_device("cpu") == "cpu"


@pytest.mark.parametrize(
    "device, local, there, said",
    [
        ("cuda", 1, 1, "process 2 of this machine finds 1 GPUs; lower --nproc-per-node"),
        ("cuda:1", 0, 2, "give --device cuda, and each takes its own"),
    ],
)
def test_a_gpu_for_each_process(monkeypatch, device, local, there, said):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setenv("LOCAL_RANK", str(local))
    with pytest.raises(UserError, match=said):
        distributed.own_device(device)
    assert distributed.own_device("cpu") == "cpu"


def test_compiling_and_synchronizing_leave_the_names_of_the_weights():
    detector = Detector(DetectorConfig(3, **PRESETS["small"]))
    names = list(detector.state_dict())
    engine.forward_pass(detector, compiled=True)
    assert list(torch.nn.SyncBatchNorm.convert_sync_batchnorm(detector).state_dict()) == names


def test_losses_are_logged_though_the_first_process_had_no_clip(monkeypatch):
    """All its videos may be unreadable; the others' terms are the epoch's."""
    monkeypatch.setattr(
        distributed,
        "gather",
        lambda item: [({}, {"lost": "damaged"}), item] if isinstance(item[0], dict) else [item],
    )
    detector, given = tiny_detector(), batch(2, 0)
    clusters = Clusters(
        torch.zeros(1, detector.config.latent_size), [1], dict.fromkeys(given["name"], 0)
    )
    optimizer = torch.optim.Adam([{"params": detector.parameters(), "base_lr": 1e-3}], 1e-3)
    step, pace = engine.ClausStep(detector), engine.Pace(0, 1)
    epoch = engine.train_one_epoch(step, clusters, [given], optimizer, pace, "-1..1")
    assert list(epoch.terms) == ["total", "bce", "dice", "margin", "cluster"]
    assert epoch.terms["bce"] > 0
    assert epoch.failed == {"lost": "damaged"}


def test_frozen_batch_norm_is_used_and_does_not_change():
    detector = Detector(DetectorConfig(3, **PRESETS["small"]))
    engine.train_mode(detector, freeze_bn=True)
    layers = engine.batch_norms(detector)
    assert detector.training and layers and not any(layer.training for layer in layers)
    engine.train_mode(detector)
    assert all(layer.training for layer in layers)


def made_up_batch(shows, size=6):
    """A batch of clips of which `shows` says which have foreground, and a detection of them."""
    generator = torch.Generator().manual_seed(0)
    n = len(shows)
    batch = {
        "target": (torch.rand(n, 8, size, size, generator=generator) < 0.3).to(torch.uint8),
        "weight": torch.rand(n, 8, size, size, generator=generator),
        "label": torch.arange(n) % 3,
    }
    batch["target"][~torch.tensor(shows)] = 0
    detection = Detection(
        torch.randn(n, 1, 8, size, size, generator=generator),
        torch.rand(n, 3, generator=generator),
        torch.randn(n, 5, generator=generator),
        torch.randn(n, 3, generator=generator),
    )
    return batch, Detection(*(x.requires_grad_() for x in detection))


@pytest.mark.parametrize("weighting", ["paper", "authors"])
@pytest.mark.parametrize(
    "shows, cut",
    [([True, False, True, True, True], 2), ([False, False, True], 2), ([False] * 3, 1)],
)
def test_losses_and_gradients_of_parts_add_up_to_those_of_the_batch(shows, cut, weighting):
    """Uneven parts, and parts without any action: every mean is over the whole batch."""
    batch, detection = made_up_batch(shows)
    centers, options = (
        torch.zeros(len(shows), 5),
        LossSettings(weighting=weighting, cluster_weight=0.1),
    )
    whole, terms = total_loss(detection, batch, centers, options, 0.5)
    expected = torch.autograd.grad(whole, detection[:3])
    parts = []
    for part in (slice(0, cut), slice(cut, None)):
        mine = {key: value[part] for key, value in batch.items()}
        parts.append(
            total_loss(
                Detection(*(x[part] for x in detection)),
                mine,
                centers[part],
                options,
                0.5,
                len(mine["label"]) / len(shows),
                sum(shows[part]) / max(sum(shows), 1),
            )
        )
    for name, value in terms.items():
        torch.testing.assert_close(sum(part[name] for _, part in parts), value)
    got = torch.autograd.grad(sum(total for total, _ in parts), detection[:3])
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_dropout_masks_depend_on_seed_and_step_alone():
    detector = Detector(DetectorConfig(3, **PRESETS["small"]))
    one, same, later = (engine.dropout_masks(detector, 7, step, 4) for step in (2, 2, 3))
    assert [mask.shape for mask in one] == [
        (4, channels) for channels in detector.dropped_channels
    ]
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True)) and not torch.equal(
        one[0], later[0]
    )
    assert set(one[0].unique().tolist()) == {0, 2} and 0.4 < (one[0] > 0).float().mean() < 0.6


# ---- two processes against one ----

CHECKS = """
import json, sys
import torch, torch.distributed as dist
from claus import engine
from claus.utils import distributed
from claus.utils.runtime import run_script

def main():
    rank, n = distributed.rank(), distributed.world_size()
    group = distributed.alone()
    layer = torch.nn.BatchNorm3d(2)
    layer.num_batches_tracked.fill_([3, 1][rank]); layer.running_mean.fill_([1.0, 5.0][rank])
    layer.running_var.fill_([2.0, 6.0][rank])
    engine.average_batch_norm([layer])
    other = torch.nn.BatchNorm3d(2)
    other.running_mean.fill_(rank + 4.0)
    distributed.same_buffers(other)
    rows = torch.arange(2.0)[:, None] + 10 * rank
    said = {"n": n, "gather": distributed.gather({"rank": rank}), "first": distributed.broadcast_from_rank0(["a", "b"][rank]),
            "rows": distributed.gather_rows(rows[:2 - rank], [2, 1]).tolist(), "mean": layer.running_mean.tolist(),
            "var": layer.running_var.tolist(), "seen": int(layer.num_batches_tracked),
            "buffers": other.running_mean.tolist(), "alone": dist.get_world_size(group)}
    assert all(item == said for item in distributed.gather(said))
    print(json.dumps(said))

run_script(distributed.together(main))
"""


def test_what_goes_between_processes(tmp_path):
    (tmp_path / "checks.py").write_text(CHECKS)
    (first, out, error), (second, nothing, _) = map(
        finish, launch_alone(tmp_path / "checks.py", free_port())
    )
    assert (first, second) == (0, 0), error
    said = json.loads(out)  # one line: only the first process speaks
    assert nothing == ""
    assert said == {
        "n": 2,
        "gather": [{"rank": 0}, {"rank": 1}],
        "first": "a",
        "rows": [[0], [1], [10]],
        "mean": [2, 2],
        "var": [3, 3],
        "seen": 4,
        "buffers": [4, 4],
        "alone": 1,
    }


def test_two_processes_train_as_one_and_select_the_same(selected, videos, tmp_path):
    """Batches of 4, 2, 4, 2, 4 of 3 videos (the second process has nothing of the short
    ones); dropout is on.
    """
    one, two = (Path(shutil.copytree(selected, tmp_path / name)) for name in ("one", "two"))
    train_ucf101.main([*common(one, videos), *STEPS])
    status, out, error = finish(launch(ROOT / "train_ucf101.py", *common(two, videos), *STEPS))
    assert status == 0, error
    assert (
        out.count("epoch   5/5") == 1
        and "batch of 4 clips a step: 2 in each of 2 processes" in out
    )
    assert "learning rate 0.001, encoder 2e-05" in out
    first, second = (
        checkpoint.load(folder / "cycle0" / "detector.pt") for folder in (one, two)
    )
    losses = np.array(
        [
            [
                [epoch[term] for term in ("total", "bce", "dice", "margin", "cluster")]
                for epoch in state.about["history"]
            ]
            for state in (first, second)
        ]
    )
    assert losses.shape == (2, 5, 5) and np.ptp(losses[0, :, 0]) > 0.01
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        second.clusters.centers, first.clusters.centers, rtol=1e-5, atol=1e-5
    )
    assert second.clusters.assignment == first.clusters.assignment
    assert torch.equal(second.clusters.counts, first.clusters.counts)
    for folder in (one, two):
        cluster_extract.main([*common(folder, videos), "--device", "cpu", "--passes", "2"])
        select(folder, videos, 1)
    chosen = [
        [
            (v["video"], [f["frame"] for f in v["frames"]])
            for v in json.loads((folder / "cycle1" / "request.json").read_text())["videos"]
        ]
        for folder in (one, two)
    ]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 3


def test_validation_and_batch_norm_statistics_do_not_depend_on_the_number_of_processes(
    videos, tmp_path
):
    """A training without steps worth the name: re-estimated statistics and held-out scores
    are those of one process.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    claus_select.main(
        [
            *common(one, videos),
            "--oracle",
            str(videos / "pyannot.pkl"),
            "--test-list",
            str(videos / "testlist01.txt"),
            "--videos-count",
            "10",
            "--frames-count",
            "400",
        ]
    )
    shutil.copytree(one, two)
    flags = [
        "--model",
        "small",
        "--pretrained",
        "none",
        "--device",
        "cpu",
        "--batch-size",
        "4",
        "--steps",
        "3",
        "--epochs",
        "1",
        "--lr",
        "1e-12",
        "--encoder-lr",
        "1e-12",
        "--bn-batches",
        "3",
    ]
    train_ucf101.main([*common(one, videos), *flags])
    status, _, error = finish(launch(ROOT / "train_ucf101.py", *common(two, videos), *flags))
    assert status == 0, error
    first, second = (
        checkpoint.load(folder / "cycle0" / "detector.pt") for folder in (one, two)
    )
    for a, b in zip(
        engine.batch_norms(first.detector), engine.batch_norms(second.detector), strict=True
    ):
        torch.testing.assert_close(b.running_mean, a.running_mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(b.running_var, a.running_var, rtol=1e-4, atol=1e-6)
        assert b.num_batches_tracked == a.num_batches_tracked == 3
    for name in ("f@.5", "mean IoU", "accuracy"):
        assert history(two)[0][name] == pytest.approx(
            history(one)[0][name], abs=1e-3, nan_ok=False
        )


# ---- one of them ends ----


def children(pid):
    return [
        int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


def test_a_killed_process_ends_all_and_leaves_a_training_that_resumes(run, videos):
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc to find the process to kill")
    process = launch(ROOT / "train_ucf101.py", *common(run, videos), *LONG)
    try:
        for _ in range(1200):  # in the middle of an epoch after the first
            if (run / "cycle0" / "training.pt").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()[1]
        os.kill(children(process.pid)[1], signal.SIGKILL)
        began = time.time()
    finally:
        status, _, error = finish(process, 600)
    assert status != 0 and time.time() - began < 400
    ours = [line for line in error.splitlines() if line.startswith("train_ucf101.py: ")]
    assert len(ours) == 1 and "--resume" in ours[0], error
    assert not (run / "cycle0" / "detector.pt").exists()
    state = checkpoint.read(run / "cycle0" / "training.pt")
    assert 1 <= state["epoch"] < 300
    state["arguments"]["epochs"] = state["epoch"] + 1  # one more epoch is enough here
    state["all_steps"] = state["step"] // state["epoch"] * (state["epoch"] + 1)
    checkpoint.save(state, run / "cycle0" / "training.pt")
    flags = [*LONG[:-1], str(state["epoch"] + 1), "--resume"]
    train_ucf101.main([*common(run, videos), *flags])  # in a single process
    assert history(run)[:-1] == state["history"] and len(history(run)) == state["epoch"] + 1


FAILS = """
import sys, time
from claus.utils import distributed
from claus.utils.runtime import UserError, run_script

def main():
    if sys.argv[1] == "both":
        distributed.BatchShare(range(9), 3)
    if distributed.rank() == 1:
        time.sleep(1)
        raise UserError("the second process has had enough")
    distributed.gather(None)

run_script(distributed.together(main))
"""


@pytest.mark.parametrize(
    "who, said",
    [
        (
            "both",
            "--batch-size 3 is the batch of all 2 processes and cannot be split "
            "evenly; give a multiple of 2",
        ),
        ("one", "the second process has had enough"),
    ],
)
def test_a_fault_ends_all_processes_with_one_line(tmp_path, who, said):
    """Both find it, or one finds it while the other waits for it."""
    (tmp_path / "fails.py").write_text(FAILS)
    status, _, error = finish(launch(tmp_path / "fails.py", who), 300)
    assert status != 0
    assert [line for line in error.splitlines() if line.startswith("fails.py: ")] == [
        f"fails.py: {said}"
    ], error
