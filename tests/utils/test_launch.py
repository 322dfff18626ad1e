"""Scripts of several processes, as run_cycles.py starts them."""

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from claus.artifacts.cycle import Run
from claus.steps import cycles
from claus.utils.launch import launch
from claus.utils.runtime import UserError

SCRIPT = """
import os, pathlib, sys, time
folder, rank = pathlib.Path(sys.argv[2]), os.environ["RANK"]
(folder / f"{rank}.txt").write_text(" ".join([os.environ["WORLD_SIZE"], *sys.argv[1:]]))
while not all((folder / f"{other}.txt").exists() for other in range(2)):
    time.sleep(0.05)
sys.exit(int(sys.argv[3]))
"""


def test_every_process_gets_the_arguments_and_a_failure_is_one_line(tmp_path):
    """`--run` among the arguments is the script's, not torchrun's."""
    (tmp_path / "work.py").write_text(SCRIPT)
    with pytest.raises(UserError, match="work.py in 2 processes has failed"):
        launch(tmp_path / "work.py", ["--run", str(tmp_path), "3"], 2)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [
        f"2 --run {tmp_path} 3"
    ] * 2


@pytest.mark.parametrize(
    "processes, semi, shared",
    [(1, None, []), (3, None, ["train", "extract"]), (1, "mixmatch", ["train"])],
)
def test_of_a_cycle_training_and_scoring_are_shared(
    tmp_path, monkeypatch, processes, semi, shared
):
    """What several processes share, and train_semi.py, runs outside of this process."""
    alone, together = [], []
    monkeypatch.setattr(
        cycles,
        "step",
        lambda name, *_: SimpleNamespace(
            script=name,
            parse=lambda arguments: (name, arguments),
            run=None if name == "train" and semi else alone.append,
        ),
    )
    monkeypatch.setattr(cycles, "launch", lambda *launched: together.append(launched))
    settings = SimpleNamespace(dataset="ucf101", semi=semi, processes=processes)
    for name in ("select", "train", "evaluate", "extract"):
        cycles.timed(settings, Run(tmp_path / "run").cycle(0), name, ["--cycle", "0"])
    assert together == [(name, ["--cycle", "0"], processes) for name in shared]
    assert [name for name, _ in alone] == [
        name for name in ("select", "train", "evaluate", "extract") if name not in shared
    ]


@pytest.mark.parametrize(
    "script, flags",
    [
        ("claus_select", ["--run", "r", "--cycle", "0", "--oracle", "x", "--test-list", "y"]),
        ("evaluate", ["--run", "r", "--cycle", "0", "--oracle", "x", "--test-list", "y"]),
        ("run_cycles", ["--run", "r", "--oracle", "x", "--test-list", "y"]),
        ("train_semi", ["--run", "r", "--cycle", "0"]),
    ],
)
def test_scripts_of_one_process_refuse_torchrun(monkeypatch, tmp_path, script, flags):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{script}.py works in one process"):
        __import__(script).main(flags)
    assert not list(tmp_path.iterdir())


def test_one_process_needs_no_torchrun(tmp_path):
    (tmp_path / "work.py").write_text(
        "import os, sys; print(os.environ.get('WORLD_SIZE')); sys.exit(int(sys.argv[1]))"
    )
    launch(tmp_path / "work.py", ["0"], 1)
    with pytest.raises(UserError, match="work.py in 1 process has failed"):
        launch(tmp_path / "work.py", ["3"], 1)


STUCK = """
import os, pathlib, sys, time
from datetime import timedelta
from torch.distributed import TCPStore
from claus.utils.runtime import run_script

def main():
    store = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), timeout=timedelta(seconds=90))
    pathlib.Path(sys.argv[1], os.environ["RANK"]).touch()
    if os.environ["RANK"] == "0":
        store.get("what the other would have said")  # no Python runs meanwhile
    time.sleep(90)

run_script(main)
"""


def test_a_process_that_waits_for_one_that_has_ended_is_not_waited_for(tmp_path, monkeypatch):
    """Ctrl-C once took 26 s: a process in torch's rendezvous hears no signal, and the other,
    for which it waits there, had ended.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "stuck.py").write_text(STUCK)
    begun = [tmp_path / "0", tmp_path / "1"]
    took = []

    def interrupt():
        while not all(path.exists() for path in begun):
            time.sleep(0.05)
        time.sleep(0.2)
        took.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path / "stuck.py", [str(tmp_path)], 2)
    assert time.monotonic() - took[0] < 10
