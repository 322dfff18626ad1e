"""Arrays in a folder, one .npy a column, for what has too many rows to be held twice: written
row by row, read whole or in part, with a checksum for every few megabytes.

    <folder>/head.json       {"format": "claus-columns", "version": 1, "about": {...},
                              "columns": {name: {"dtype", "shape", "sums": [CRC-32 of each
                              BLOCK bytes of the data]}}, "sum": CRC-32 of all before}
    <folder>/<name>.npy      as numpy.load reads it

The head is removed first and written last, so that columns with a head are whole.
"""

import contextlib
import json
import math
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from claus.utils.runtime import cannot_write, write_text
from claus.utils.shape import misfit

BLOCK = 1 << 22  # bytes of data under one checksum
HEAD = "head.json"
KIND = "claus-columns"
VERSION = 1


def _whole(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _number_type(value):
    """Whether a text is the type of an array of numbers."""
    try:
        return isinstance(value, str) and np.dtype(value).kind in "biuf"
    except (TypeError, ValueError, SyntaxError):
        return False


SHAPE = {
    "format": str,
    "version": _whole,
    "about": dict,
    "columns": {str: {"dtype": _number_type, "shape": [_whole], "sums": [_whole]}},
    "sum": _whole,
}
_NPY = 128  # bytes of the head of a .npy here
_MAGIC = b"\x93NUMPY\x01\x00"


class DamagedColumns(ValueError):
    """Columns that are not there, damaged, or of another program."""


# ------------------------------------------------------------------------------- writing


class Writer:
    """Writes columns into a folder, which holds nothing else; whole once close() returns.

    UserError for a full or read-only disk. Left by an error, nothing is there.
    """

    def __init__(self, folder: str | Path):
        self.folder, self._columns = Path(folder), {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / HEAD).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def column(self, name: str, dtype: object, *width: int) -> "Column":
        """A new column of rows of this type and width."""
        self._columns[name] = Column(self.folder / f"{name}.npy", np.dtype(dtype), width)
        return self._columns[name]

    def put(self, name: str, array: np.ndarray) -> None:
        """A column that is an array."""
        array = np.asarray(array)
        self.column(name, array.dtype, *array.shape[1:]).append(array)

    def close(self, about: dict) -> None:
        """All rows are there. about: what the head says of them, anything json can write."""
        columns = {name: column.close() for name, column in self._columns.items()}
        _write_head(self.folder, about, columns)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            for column in self._columns.values():
                column.drop()
            shutil.rmtree(self.folder, ignore_errors=True)


class Column:
    """One column while it is being written."""

    def __init__(self, path, dtype, width):
        self.path, self.dtype, self.width = path, dtype, tuple(width)
        self.rows, self._sums, self._sum, self._filled = 0, [], 0, 0
        try:
            path.unlink(missing_ok=True)  # whoever has mapped the old one keeps it
            self._file = open(path, "wb", buffering=BLOCK)  # noqa: SIM115  see close
            self._file.write(bytes(_NPY))
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, array: np.ndarray) -> None:
        """More rows."""
        array = np.ascontiguousarray(array, self.dtype)
        if array.shape[1:] != self.width:
            raise ValueError(f"{self.path.name}: rows of {array.shape[1:]}, not {self.width}")
        self.rows += len(array)
        content = memoryview(array.reshape(-1).view(np.uint8))
        while len(content):
            some = content[: BLOCK - self._filled]
            self._sum = zlib.crc32(some, self._sum)
            self._filled += len(some)
            self._write(some)
            if self._filled == BLOCK:
                self._end_block()
            content = content[len(some) :]

    def close(self):
        """What the head says of the column."""
        if self._filled:
            self._end_block()
        shape = (self.rows, *self.width)
        try:
            self._file.flush()
            self._file.seek(0)
            self._file.write(_npy_head(self.dtype, shape))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return {"dtype": self.dtype.str, "shape": list(shape), "sums": self._sums}

    def drop(self):
        with contextlib.suppress(OSError):
            self._file.close()

    def _end_block(self):
        self._sums.append(self._sum)
        self._sum = self._filled = 0

    def _write(self, content):
        try:
            self._file.write(content)
        except OSError as error:
            raise cannot_write(self.path, error) from error


# ------------------------------------------------------------------------------- reading


class Columns:
    """The columns of a folder; DamagedColumns, in a few words, here and wherever the data
    is not what was written.

    about: what the writer said of them.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            head = json.loads((self.folder / HEAD).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedColumns(f"{self.folder / HEAD} is missing or damaged") from error
        if misfit(head, SHAPE) or head.pop("sum") != _sum(head):
            raise DamagedColumns(f"{self.folder / HEAD} is damaged")
        if (head["format"], head["version"]) != (KIND, VERSION):
            raise DamagedColumns(f"{self.folder / HEAD} is of another version")
        self.about, self._columns = head["about"], head["columns"]

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows and width of a column."""
        return tuple(self._column(name)["shape"])

    def read(self, name: str) -> np.ndarray:
        """A whole column, as an array of its own."""
        dtype, shape = self._checked(name)
        array = np.empty(shape, dtype)
        content, at = array.reshape(-1).view(np.uint8), 0
        for block in self._blocks(name):
            content[at : at + len(block)] = block
            at += len(block)
        return array

    def rows(self, name: str, wanted: np.ndarray) -> np.ndarray:
        """Rows of a column, by rising numbers (n,); no more of it is in memory than these
        and a block. A row must fit into a block.
        """
        dtype, shape = self._checked(name)
        size = dtype.itemsize * math.prod(shape[1:])
        found = np.empty((len(wanted), size), np.uint8)
        carried, start = np.empty(0, np.uint8), 0  # bytes of a row that two blocks share
        for block in self._blocks(name):
            content = np.concatenate([carried, block]) if len(carried) else block
            first, last = start // size, (start + len(content)) // size
            low, high = np.searchsorted(wanted, [first, last])
            whole = content[: (last - first) * size].reshape(-1, size)
            found[low:high] = whole[np.asarray(wanted[low:high]) - first]
            carried = content[(last - first) * size :].copy()
            start = last * size
        return found.view(dtype).reshape(len(wanted), *shape[1:])

    def mapped(self, name: str) -> np.ndarray:
        """A whole column, of which the system reads what is looked at; nothing of it but its
        head and size is checked.
        """
        dtype, shape = self._checked(name)
        if not math.prod(shape):
            return np.empty(shape, dtype)
        try:
            return np.memmap(self.folder / f"{name}.npy", dtype, "r", _NPY, shape)
        except (OSError, ValueError) as error:
            raise DamagedColumns(f"{self.folder / name}.npy cannot be read") from error

    def say(self, about: dict) -> None:
        """Change what the head says of the columns."""
        _write_head(self.folder, about, self._columns)
        self.about = about

    def _column(self, name):
        try:
            return self._columns[name]
        except KeyError:
            raise DamagedColumns(f"{self.folder} has no column {name}") from None

    def _checked(self, name):
        """(dtype, shape) of a column whose file has the head and the size that belong to them:
        before memory for it is asked for.
        """
        known, path = self._column(name), self.folder / f"{name}.npy"
        dtype, shape = np.dtype(known["dtype"]), tuple(known["shape"])
        try:
            with open(path, "rb") as file:
                if file.read(_NPY) != _npy_head(dtype, shape):
                    raise DamagedColumns(f"{path} is damaged")
                if os.fstat(file.fileno()).st_size != _NPY + dtype.itemsize * math.prod(shape):
                    raise DamagedColumns(f"{path} has another size than its head says")
        except OSError as error:
            raise DamagedColumns(f"{path} cannot be read") from error
        return dtype, shape

    def _blocks(self, name) -> Iterator[np.ndarray]:
        """The data of a column, uint8 (up to BLOCK,) at a time; a block is overwritten by
        the next.
        """
        dtype, shape = self._checked(name)
        path, left = self.folder / f"{name}.npy", dtype.itemsize * math.prod(shape)
        try:
            with open(path, "rb") as file:
                buffer = np.empty(BLOCK, np.uint8)
                file.seek(_NPY)
                for wanted in self._column(name)["sums"]:
                    block = buffer[: min(left, BLOCK)]
                    if file.readinto(block) != len(block) or zlib.crc32(block) != wanted:
                        raise DamagedColumns(f"{path} is damaged")
                    left -= len(block)
                    yield block
                if left:
                    raise DamagedColumns(f"{path} is damaged")
        except OSError as error:
            raise DamagedColumns(f"{path} cannot be read") from error


def _write_head(folder, about, columns):
    head = {"format": KIND, "version": VERSION, "about": about, "columns": columns}
    write_text(folder / HEAD, json.dumps({**head, "sum": _sum(head)}))


def _npy_head(dtype, shape):
    """The head of a .npy of this type and shape, _NPY bytes."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)})
    length = _NPY - len(_MAGIC) - 2
    return _MAGIC + struct.pack("<H", length) + text.encode().ljust(length - 1) + b"\n"


def _sum(head):
    return zlib.crc32(json.dumps(head, sort_keys=True).encode())


def remove(folder: str | Path) -> None:
    """Remove columns, their head first: a folder without it holds none."""
    with contextlib.suppress(OSError):
        (Path(folder) / HEAD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
