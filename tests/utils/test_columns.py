"""Arrays in a folder: whole, in part, and damaged."""

import json

import numpy as np
import pytest

from claus.utils import columns
from claus.utils.columns import Columns, DamagedColumns, Writer
from claus.utils.runtime import UserError


@pytest.fixture(params=[64, 100, 1 << 22])
def folder(tmp_path, monkeypatch, request):
    """Two columns, in blocks that hold whole rows, parts of rows, or everything."""
    monkeypatch.setattr(columns, "BLOCK", request.param)
    with Writer(tmp_path / "c") as writer:
        wide = writer.column("wide", np.float32, 4)
        for start in range(0, 30, 7):
            wide.append(WIDE[start : start + 7])
        writer.put("names", np.frombuffer(b"one\ntwo", np.uint8))
        writer.close({"source": "s"})
    return tmp_path / "c"


WIDE = np.arange(120, dtype=np.float32).reshape(30, 4)


def test_columns_come_back_and_numpy_reads_them(folder):
    found = Columns(folder)
    assert found.about == {"source": "s"} and found.shape("wide") == (30, 4)
    np.testing.assert_array_equal(found.read("wide"), WIDE)
    np.testing.assert_array_equal(found.mapped("wide"), WIDE)
    np.testing.assert_array_equal(np.load(folder / "wide.npy", mmap_mode="r"), WIDE)
    assert found.read("names").tobytes() == b"one\ntwo"


@pytest.mark.parametrize("wanted", [[], [0], [29], [3, 4, 6, 28], list(range(30))])
def test_some_rows_of_a_column(folder, wanted):
    found = Columns(folder).rows("wide", np.array(wanted, np.int64))
    np.testing.assert_array_equal(found, WIDE[wanted])


@pytest.mark.parametrize("at", [9, 40, 127, 128, 400, -1])
def test_a_changed_byte_is_found(folder, at):
    content = bytearray((folder / "wide.npy").read_bytes())
    content[at] ^= 2
    (folder / "wide.npy").write_bytes(content)
    with pytest.raises(DamagedColumns, match="wide.npy is damaged"):
        Columns(folder).read("wide")


@pytest.mark.parametrize("cut", [0, 100, 130, 300])
def test_a_cut_column_is_found(folder, cut):
    (folder / "wide.npy").write_bytes((folder / "wide.npy").read_bytes()[:cut])
    for how in ("read", "mapped"):
        with pytest.raises(DamagedColumns):
            getattr(Columns(folder), how)("wide")


@pytest.mark.parametrize("key, value", [("dtype", "O"), ("dtype", "x"), ("shape", [10**12, 4])])
def test_a_head_that_says_what_no_column_is_asks_for_no_memory(folder, key, value):
    found = Columns(folder)
    found._columns["wide"][key] = value
    found.say(found.about)  # with a checksum that fits
    with pytest.raises(DamagedColumns):
        Columns(folder).read("wide")


def test_a_changed_head_is_found(folder):
    head = (folder / "head.json").read_text()
    for changed in (head.replace('"s"', '"t"'), head[:-9], "[]", "{}", ""):
        (folder / "head.json").write_text(changed)
        with pytest.raises(DamagedColumns, match="head.json"):
            Columns(folder)
    assert json.loads(head)["about"] == {"source": "s"}


def test_columns_that_are_not_finished_are_none(tmp_path):
    with pytest.raises(RuntimeError), Writer(tmp_path / "c") as writer:
        writer.put("a", np.arange(3))
        raise RuntimeError
    assert not (tmp_path / "c").exists()
    with pytest.raises(DamagedColumns):
        Columns(tmp_path / "c")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "c").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        Writer(tmp_path / "c")
