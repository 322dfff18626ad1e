"""Ctrl-C, SIGTERM and kill -9: one line, never lost, and nothing goes on alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claus.utils.locks import locked
from claus.utils.runtime import TEMPORARY, UserError, machine, sweep

ROOT = Path(__file__).resolve().parents[2]
HEAD = f"""
import os, signal, sys, time, weakref
sys.path.insert(0, {str(ROOT)!r})
from claus.utils import stopping
from claus.utils.runtime import UserError, run_script
stopping.AGAIN = 0.3
"""
PLACES = {
    "plain": "os.kill(os.getpid(), NUMBER); time.sleep(20)",
    "a weak reference's callback": """
class A: pass
a = A()
r = weakref.ref(a, lambda _: os.kill(os.getpid(), NUMBER))
del a
time.sleep(20)""",
    "a destructor": """
class A:
    def __del__(self): os.kill(os.getpid(), NUMBER); time.sleep(1)
A()
time.sleep(20)""",
    "a library that makes it an error of its own": """
try:
    os.kill(os.getpid(), NUMBER); time.sleep(20)
except KeyboardInterrupt as error:
    raise RuntimeError("unexpected pos 64 vs 0") from error""",
    "code that takes any error for damage": """
try:
    os.kill(os.getpid(), NUMBER); time.sleep(20)
except BaseException:
    pass
time.sleep(20)""",
    "a consequence": """
try:
    os.kill(os.getpid(), NUMBER); time.sleep(20)
except KeyboardInterrupt:
    raise UserError("a file is damaged")""",
}


def script(tmp_path, body):
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    path = tmp_path / "work.py"
    path.write_text(f"{HEAD}\ndef main():\n{lines}\nrun_script(main, 'go on')\n")
    return [sys.executable, str(path)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_anywhere_is_one_line(tmp_path, place, number):
    began = time.monotonic()
    command = script(tmp_path, PLACES[place].replace("NUMBER", str(int(number))))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130 and time.monotonic() - began < 15
    assert ended.stderr.strip() == "work.py: stopped; go on"


def test_what_a_killed_script_has_started_ends_with_it(tmp_path):
    """Also by kill -9, of which nobody is told."""
    (tmp_path / "child.py").write_text(
        f"{HEAD}\ndef main():\n    open({str(tmp_path)!r} + f'/{{os.environ[\"RANK\"]}}', 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\nrun_script(main)\n"
    )
    body = (
        f"from claus.utils.launch import launch\nlaunch({str(tmp_path / 'child.py')!r}, [], 2)"
    )
    with subprocess.Popen(script(tmp_path, body), stderr=subprocess.PIPE, text=True) as process:
        ranks = [tmp_path / "0", tmp_path / "1"]
        _until(lambda: all(rank.exists() and rank.read_text() for rank in ranks))
        process.kill()
        process.wait()
    children = [int(rank.read_text()) for rank in ranks]
    _until(lambda: not any(_runs(child) for child in children))


def test_ctrl_c_of_several_processes_is_one_line(tmp_path):
    (tmp_path / "child.py").write_text(
        f"{HEAD}\ndef main():\n    open({str(tmp_path)!r} + f'/{{os.environ[\"RANK\"]}}', 'w').write('x')\n"
        "    time.sleep(60)\nrun_script(main)\n"
    )
    body = (
        f"from claus.utils.launch import launch\nlaunch({str(tmp_path / 'child.py')!r}, [], 2)"
    )
    command = script(tmp_path, body)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        _until(lambda: all((tmp_path / rank).exists() for rank in "01"))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=40)
    assert said.strip() == "work.py: stopped; go on" and process.returncode == 130


def _runs(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


def _until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


# ------------------------------------------------------------------------------------ locks

HOLD = """
from claus.utils.locks import locked
with locked({folder!r}, "train"):
    open({folder!r} + "/there", "w").close()
    time.sleep(60)
"""


def test_a_lock_says_who_holds_it_and_ends_with_its_process(tmp_path):
    folder = tmp_path / "cycle0"
    folder.mkdir()
    with subprocess.Popen(script(tmp_path, HOLD.format(folder=str(folder)))) as process:
        _until((folder / "there").exists)
        with pytest.raises(
            UserError, match=rf"work.py \(process {process.pid} on .*\) is at work"
        ):
            with locked(folder, "train"):
                pass
        with locked(folder, "evaluate"):  # another work
            pass
        process.kill()
        process.wait()
    left = folder / f".a.pkl.{machine()}-{process.pid}-x{TEMPORARY}"
    left.write_text("half")
    with locked(folder, "train", clear=folder):  # which also sweeps what it has left
        assert not left.exists()
    assert [path.name for path in folder.iterdir()] == ["there"]


def test_shared_locks_exclude_the_one_that_is_not(tmp_path):
    with locked(tmp_path, "labels", shared=True), locked(tmp_path, "labels", shared=True):
        with pytest.raises(UserError, match="is at work there"), locked(tmp_path, "labels"):
            pass
    with locked(tmp_path, "labels"):
        pass
    assert not list(tmp_path.iterdir())


def test_temporary_files_of_others_that_are_at_work_stay(tmp_path):
    ours = tmp_path / f".a.{machine()}-{os.getppid()}-x{TEMPORARY}"
    others = tmp_path / f".a.00000000-1-x{TEMPORARY}"
    dead = tmp_path / "frames" / f".a.{machine()}-{2**22 + 5}-x{TEMPORARY}"
    dead.parent.mkdir()
    for file in (ours, others, dead):
        file.write_text("half")
    sweep(tmp_path, deep=True)
    assert ours.exists() and others.exists() and not dead.exists()
    os.utime(others, (0, 0))
    sweep(tmp_path)
    assert ours.exists() and not others.exists()
