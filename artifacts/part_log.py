"""Finished parts of a long work in one append-only file a worker, so that the work is
resumable and may be shared out among processes and machines.

<folder>/<worker>-<n>.log, native byte order little:

    begin    8 bytes "CLAUSLOG" · version u32 · length of the digest u32 · digest, text of what
             all parts of the folder depend on · CRC-32 of all before u32
    record   4 bytes "\\xabPRT" · kind u32 (1: arrays, 2: failure) · number i64 of the part ·
             time u64 (ns) · length of the content u64 · CRC-32 of the content u32 · CRC-32 of
             the 36 bytes before u32
    content  arrays: length u32 of a JSON list of [name, dtype, shape], that list, the arrays
             one after the other; failure: its reason as text

Every start of a worker makes a file of its own, so that no two ever write to one. A write
goes to the system at once and to the disk every few seconds, beside the work: a killed
process loses the record it was writing, a machine that loses its power the last seconds.
Reading, a record counts where both checksums are right. What is torn, damaged or of another
digest is as if it were not there, and is made again.
"""

import contextlib
import functools
import json
import os
import re
import struct
import threading
import time
import zlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from claus.utils.runtime import UserError, cannot_write

SYNC = 5  # seconds after which what was written is on the disk
VERSION = 1
SUFFIX = ".log"
ARRAYS, FAILURE = 1, 2
_BEGIN, _MARK = b"CLAUSLOG", b"\xabPRT"
_RECORD = struct.Struct("<4sIqQQI")  # mark, kind, number, time, length, CRC of the content
_SUM = struct.Struct("<I")
_HEAD = _RECORD.size + _SUM.size
_BLOCK = 1 << 20  # bytes read at once where a mark is searched


class PartLog:
    """Appends the parts that one worker finishes, until it is closed.

    folder: of all logs of the work, which is there · worker: text, of letters, digits and
    "._-", that tells the workers of a work apart · digest: text of all that the parts depend
    on. UserError for a full or read-only disk, here and in every method.
    """

    def __init__(self, folder: str | Path, worker: str, digest: str):
        if not re.fullmatch(r"[\w.-]{1,100}", worker, re.ASCII):
            raise ValueError(f"{worker!r} is no name of a worker")
        self.path, self._file = _new_file(Path(folder), worker)
        self._written = self._synced = 0
        self._last, self._thread, self._error = time.monotonic(), None, None
        self._write(_beginning(digest))

    def append(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """The part `number` is finished: a dict of arrays of numbers."""
        spec = [[name, values.dtype.str, values.shape] for name, values in arrays.items()]
        head = json.dumps(spec).encode()
        content = [_SUM.pack(len(head)), head]
        content += [values.tobytes() for values in arrays.values()]
        self._append(ARRAYS, number, b"".join(content))

    def fail(self, number: int, reason: str) -> None:
        """The part `number` cannot be made, for a reason in one line."""
        self._append(FAILURE, number, reason.encode("utf-8", "replace"))

    def sync(self) -> None:
        """Everything appended so far is on the disk when this returns."""
        self._wait()
        self._sync()
        self._raise()

    def close(self) -> None:
        """Write all to the disk, and append no more."""
        if self._file is None:
            return
        try:
            self.sync()
        finally:
            os.close(self._file)
            self._file = None

    def size(self) -> int:
        """Bytes written so far."""
        return self._written

    def __enter__(self) -> "PartLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _append(self, kind, number, content):
        sums = zlib.crc32(content)
        head = _RECORD.pack(_MARK, kind, number, time.time_ns(), len(content), sums)
        self._write(head + _SUM.pack(zlib.crc32(head)) + content)
        if time.monotonic() - self._last >= SYNC:
            self._last = time.monotonic()
            self._wait()
            self._thread = threading.Thread(target=self._sync, daemon=True)
            self._thread.start()

    def _write(self, content):
        """Write all of it, in as few calls as it takes."""
        self._raise()
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._written += len(content)

    def _sync(self):
        """In a thread of its own; an error is raised by the next call that writes."""
        end = self._written
        try:
            if end > self._synced:
                os.fsync(self._file)
                self._synced = end
        except OSError as error:
            self._error = error

    def _wait(self):
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _raise(self):
        if self._error is not None:
            raise cannot_write(self.path, self._error) from self._error


def _new_file(folder, worker):
    """(path, descriptor) of a file that no other worker writes."""
    taken = len(list(folder.glob(f"{worker}-*{SUFFIX}")))
    while True:
        path = folder / f"{worker}-{taken}{SUFFIX}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            return path, os.open(path, flags, 0o666)
        except FileExistsError:
            taken += 1
        except OSError as error:
            raise cannot_write(path, error) from error


def _beginning(digest):
    text = digest.encode()
    head = _BEGIN + struct.pack("<II", VERSION, len(text)) + text
    return head + _SUM.pack(zlib.crc32(head))


# ------------------------------------------------------------------------------- reading


class Parts:
    """The parts in all logs of a folder, as they are now: reading goes through every log
    once, and keeps 24 bytes of each part.

    Of a part that is there several times the latest counts; a failure only where there are
    no arrays. check: compare the checksums of the contents here, so that `in` is true of
    whole parts only; else arrays() does, of those it is asked for.
    """

    def __init__(self, folder: str | Path, digest: str, check: bool = True):
        self.folder = Path(folder)
        self._paths = sorted(self.folder.glob(f"*{SUFFIX}"))
        self._files = {}
        found, failures = array("q"), {}
        for place, path in enumerate(self._paths):
            for kind, number, when, start in _records(path, digest, check):
                if kind == ARRAYS:
                    found.extend((number, when, place, start))
                else:
                    failures.setdefault(number, []).append((when, place, start))
        columns_4 = np.array(found, np.int64).reshape(-1, 4).T
        self._number, self._place, self._start = _latest(*columns_4)
        self._failures = failures

    def numbers(self) -> np.ndarray:
        """Of the parts whose arrays are there, rising, int64."""
        return self._number

    def __len__(self) -> int:
        return len(self._number)

    def __contains__(self, number: int) -> bool:
        return self._find(number) is not None

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of a part, not writable; KeyError where there is none, UserError where
        it is damaged.
        """
        at = self._find(number)
        if at is None:
            raise KeyError(number)
        content = self._content(int(self._place[at]), int(self._start[at]))
        found = None if content is None else _unpack(content)
        if found is None:
            raise UserError(
                f"{self._paths[self._place[at]]}: part {number} was damaged while it was "
                "read; run the same command again, and it is made again"
            )
        return found

    def failures(self) -> dict[int, str]:
        """{number: the latest reason} of the parts that failed and are not there, rising."""
        failed = {}
        for number in sorted(self._failures):
            if number in self:
                continue
            _, place, start = max(self._failures[number])
            content = self._content(place, start)
            if content is not None:
                failed[number] = content.decode("utf-8", "replace")
        return failed

    def close(self) -> None:
        """Close the logs."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _find(self, number):
        at = int(np.searchsorted(self._number, number))
        return at if at < len(self._number) and self._number[at] == number else None

    def _content(self, place, start):
        """The content of a record that begins there, None where it is damaged."""
        if place not in self._files:
            self._files[place] = open(self._paths[place], "rb")  # noqa: SIM115  see close
        file = self._files[place]
        file.seek(start)
        head = _head(file.read(_HEAD))
        content = None if head is None else file.read(head[4])
        return content if content is not None and zlib.crc32(content) == head[5] else None


def wait_for(sizes: Mapping[str, int], folder: str | Path, patience: float = 120) -> None:
    """Wait until the logs of these names have grown to these sizes here too: a file that
    another machine has written may take seconds to be seen. UserError where one does not.
    """
    ends = time.monotonic() + patience
    missing = dict(sizes)
    while missing:
        for name in list(missing):
            with contextlib.suppress(OSError):
                if (Path(folder) / name).stat().st_size >= missing[name]:
                    del missing[name]
        if missing and time.monotonic() >= ends:
            raise UserError(
                f"{folder} has not all of {next(iter(missing))}, which another process has "
                "written; do all processes have the same --files folder? Run the same command "
                "to resume"
            )
        if missing:
            time.sleep(min(1, patience))


def _latest(number, when, place, start):
    """Of each number the row with the latest time: (numbers rising, places, starts)."""
    order = np.lexsort((when, number))
    number = number[order]
    last = np.ones(len(number), bool)
    last[:-1] = number[1:] != number[:-1]
    order = order[last]
    return number[last], place[order].astype(np.int32), start[order]


def _records(path, digest, check) -> Iterator[tuple[int, int, int, int]]:
    """(kind, number, time, where it begins) of the whole records of a log."""
    try:
        with open(path, "rb") as file:
            begin = _beginning(digest)
            if file.read(len(begin)) == begin:
                yield from _whole(file, os.fstat(file.fileno()).st_size, check)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from error


def _whole(file, size, check):
    start = file.tell()
    while start + _HEAD <= size:
        head = _head(file.read(_HEAD))
        end = 0 if head is None else start + _HEAD + head[4]
        if head is None or end > size:  # damaged or torn: what follows may be whole
            start = _next_mark(file, start + 1, size)
            file.seek(start)
            continue
        _, kind, number, when, length, wanted = head
        whole = True
        if check:
            content = file.read(length)
            whole = zlib.crc32(content) == wanted
            whole = whole and (kind != ARRAYS or _unpack(content) is not None)
        else:
            file.seek(end)
        if whole and kind in (ARRAYS, FAILURE):
            yield kind, number, when, start
        start = end


def _head(packed):
    """The fields of a record's head, None where it is none or damaged."""
    if len(packed) < _HEAD or not packed.startswith(_MARK):
        return None
    if zlib.crc32(packed[: _RECORD.size]) != _SUM.unpack_from(packed, _RECORD.size)[0]:
        return None
    return _RECORD.unpack_from(packed)


def _next_mark(file, start, size):
    """Where the next mark of a record begins, `size` without one."""
    while start < size:
        file.seek(start)
        block = file.read(_BLOCK)
        at = block.find(_MARK)
        if at >= 0:
            return start + at
        start += max(len(block) - len(_MARK) + 1, 1)
    return size


def _unpack(content):
    """The dict of arrays that a content holds, None where it holds none."""
    try:
        (length,) = _SUM.unpack_from(content)
        at, found = _SUM.size + length, {}
        for name, dtype, shape, nbytes in _spec(bytes(content[_SUM.size : at])):
            found[name] = np.frombuffer(content[at : at + nbytes], dtype).reshape(shape)
            at += nbytes
        return found if at == len(content) else None
    except (ValueError, TypeError, KeyError, OverflowError, struct.error):
        return None


@functools.lru_cache(1000)
def _spec(head):
    """((name, dtype, shape, bytes), ...) of the arrays of a content."""
    found = []
    for name, text, shape in json.loads(head):
        dtype = np.dtype(text)
        if dtype.kind not in "biuf" or not all(length >= 0 for length in shape):
            raise ValueError("not of numbers")
        count = int(np.prod(shape, dtype=object)) if shape else 1
        found.append((name, dtype, tuple(shape), count * dtype.itemsize))
    return tuple(found)
