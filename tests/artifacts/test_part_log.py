"""Logs of finished parts: what is read of them, whatever became of the files."""

import os
import signal
import threading

import numpy as np
import pytest

from claus.artifacts import part_log
from claus.artifacts.part_log import PartLog, Parts, wait_for
from claus.utils.runtime import UserError


def arrays(number, count=3):
    return {"a": np.full((count, 2), number, np.float32), "b": np.array(number, np.int64)}


def write(folder, worker, numbers, digest="d"):
    with PartLog(folder, worker, digest) as log:
        for number in numbers:
            log.append(number, arrays(number))
    return log


def kept(folder, digest="d"):
    with Parts(folder, digest) as found:
        for number in found.numbers():
            part = found.arrays(number)
            assert part["a"].tolist() == [[number] * 2] * 3 and part["b"] == number
        return found.numbers().tolist()


def test_parts_of_several_workers_come_back_as_they_were(tmp_path):
    write(tmp_path, "1of2", [4, 0])
    write(tmp_path, "2of2", [7, 2])
    write(tmp_path, "2of2", [1])
    assert kept(tmp_path) == [0, 1, 2, 4, 7]
    assert len(list(tmp_path.iterdir())) == 3  # every start has a file of its own
    with Parts(tmp_path, "d") as found:
        assert 4 in found and 3 not in found and len(found) == 5
        with pytest.raises(KeyError):
            found.arrays(3)


def test_logs_of_another_work_are_not_read(tmp_path):
    write(tmp_path, "1", [0])
    assert kept(tmp_path, "e") == []
    (tmp_path / "2-0.log").write_bytes(b"something else")
    assert kept(tmp_path) == [0]


def test_the_latest_part_counts_and_a_failure_only_without_one(tmp_path):
    with PartLog(tmp_path, "b", "d") as log:
        log.append(0, arrays(5))
        log.fail(1, "no such file")
        log.fail(2, "is empty")
        log.fail(2, "of other size")
    with PartLog(tmp_path, "a", "d") as log:
        log.append(0, arrays(6))
        log.append(1, arrays(1))
    with Parts(tmp_path, "d") as found:
        assert found.arrays(0)["b"] == 6
        assert found.failures() == {2: "of other size"}


@pytest.mark.parametrize("cut", [1, 60, 100])
def test_a_torn_tail_is_not_read_and_the_next_start_goes_on(tmp_path, cut):
    path = write(tmp_path, "1", range(5)).path
    path.write_bytes(path.read_bytes()[:-cut])
    assert kept(tmp_path) == [0, 1, 2, 3]
    write(tmp_path, "1", [4])
    assert kept(tmp_path) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("where", ["mark", "length", "content"])
def test_a_damaged_part_costs_itself_alone(tmp_path, where):
    log = write(tmp_path, "1", range(5))
    content = bytearray(log.path.read_bytes())
    starts = [at for at in range(len(content)) if content.startswith(b"\xabPRT", at)]
    at = starts[2] + {"mark": 0, "length": 24, "content": 60}[where]
    content[at] ^= 4
    log.path.write_bytes(content)
    assert kept(tmp_path) == [0, 1, 3, 4]


def test_a_mark_across_two_blocks_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(part_log, "_BLOCK", 5)
    log = write(tmp_path, "1", range(3))
    content = bytearray(log.path.read_bytes())
    content[content.index(b"\xabPRT") + 1] ^= 1
    log.path.write_bytes(content)
    assert kept(tmp_path) == [1, 2]


def test_a_part_damaged_after_the_logs_were_opened_is_named(tmp_path):
    log = write(tmp_path, "1", range(2))
    with Parts(tmp_path, "d") as found:
        content = bytearray(log.path.read_bytes())
        content[-3] ^= 1
        log.path.write_bytes(content)
        assert found.arrays(0)["b"] == 0
        with pytest.raises(UserError, match="1-0.log: part 1 was damaged.*made again"):
            found.arrays(1)


def test_a_killed_process_loses_nothing_that_it_had_appended(tmp_path):
    """Kill -9 right after the third part, long before the disk is asked for."""
    child = os.fork()
    if not child:
        log = PartLog(tmp_path, "1", "d")
        for number in range(3):
            log.append(number, arrays(number))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert kept(tmp_path) == [0, 1, 2]


def test_the_disk_is_asked_for_beside_the_work_and_by_time(tmp_path, monkeypatch):
    synced, going = [], threading.Event()

    def slow(descriptor):
        going.wait(10)
        synced.append(threading.current_thread() is threading.main_thread())

    monkeypatch.setattr(part_log.os, "fsync", slow)
    with PartLog(tmp_path, "1", "d") as log:
        log.append(0, arrays(0))
        assert synced == []
        monkeypatch.setattr(part_log, "SYNC", 0)
        log.append(1, arrays(1))  # returns although the disk does not
        monkeypatch.setattr(part_log, "SYNC", 60)
        log.append(2, arrays(2))
        going.set()
    assert synced == [False, True]


def test_a_disk_that_is_full_is_one_line_at_the_next_part(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    log = PartLog(tmp_path, "1", "d")
    monkeypatch.setattr(part_log.os, "fsync", full)
    monkeypatch.setattr(part_log, "SYNC", 0)
    log.append(0, arrays(0))
    log._wait()
    with pytest.raises(UserError, match="cannot write .*1-0.log: the disk is full"):
        log.append(1, arrays(1))


def test_what_another_machine_wrote_is_waited_for(tmp_path):
    log = write(tmp_path, "1", range(2))
    wait_for({log.path.name: log.size()}, tmp_path, patience=0)
    with pytest.raises(UserError, match="has not all of 1-0.log.*same --files folder"):
        wait_for({log.path.name: log.size() + 1}, tmp_path, patience=0)


@pytest.mark.parametrize("worker", ["", "a/b", "../x", "ä"])
def test_a_worker_has_a_plain_name(tmp_path, worker):
    with pytest.raises(ValueError, match="no name of a worker"):
        PartLog(tmp_path, worker, "d")
