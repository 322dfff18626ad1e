"""What every script needs around its own work: one-line errors, atomic files, proof that a
folder can be written.

Standard library only, so that a script that needs no network starts without importing torch.
"""

import contextlib
import errno
import gc
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from claus.utils.shape import misfit

# ends the names of temporary files, so that no other program's file is ever removed
TEMPORARY = ".claus.tmp"
OLD = 24 * 3600  # seconds after which another machine's temporary file is a left-over
LINE = 1200  # characters of an error at most
DEEPEST = 64  # of JSON
_unfinished: set[str] = set()  # temporary files of this process
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Bad input or a full disk: one line that says what, where (the file) and how to fix
    it. What cannot be printed of names and values is escaped, and what is long is cut.
    """

    def __str__(self):
        return shown(super().__str__())


class CannotWrite(UserError):
    """A file could not be written: no fault of the one input that was being worked on."""


def shown(text: str, most: int = LINE) -> str:
    """A text of one line that every terminal can print."""
    if len(text) > most:
        text = f"{text[: most // 2]} […] {text[-most // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextlib.contextmanager
def one_line(*kinds):
    """Inside, an error of these `kinds`, as ground rooms raise them for bad values, becomes
    a UserError with the same words.
    """
    try:
        yield
    except kinds as error:
        raise UserError(str(error)) from error


def run_script(main, again="finished work is kept; run the same command to resume"):
    """Run `main()`; a UserError becomes one line on stderr and exit status 2, Ctrl-C and
    SIGTERM status 130.

    again: what an interrupted user is told.
    """
    from claus.utils import stopping

    try:
        _run_script(main, again)
    except KeyboardInterrupt:  # once more, while the first was dealt with
        stopping.say(f"\n{Path(sys.argv[0]).name}: stopped; {again}")
        stopping.leave(130)
    finally:
        _remove_unfinished()


def _run_script(main, again):
    from claus.utils import stopping

    name = Path(sys.argv[0]).name
    stopping.begin()
    try:
        status = main()
    except UserError as error:
        if not stopping.asked():  # else it is a consequence
            print(f"{name}: {error}", file=sys.stderr)
            stopping.leave(2)
    except MemoryError as error:
        print(
            f"{name}: the memory is full ({shown(str(error), 200)}); {again}", file=sys.stderr
        )
        stopping.leave(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        stopping.leave(1)
    except OSError as error:
        if not stopping.asked():
            if error.errno not in FULL:
                raise
            print(f"{name}: {error.filename or 'a file'}: {_reason(error)}", file=sys.stderr)
            stopping.leave(2)
    except KeyboardInterrupt:
        pass
    except Exception:
        if not stopping.asked():  # libraries turn an interruption into an error of their own
            raise
    else:
        if not stopping.asked():
            stopping.leave(status if isinstance(status, int) else 0)
    stopping.say(f"\n{name}: stopped; {again}")
    stopping.leave(130)


def check_alone(script: str) -> None:
    """UserError where torchrun has started several processes of a script that works in one."""
    if processes_started() > 1:
        raise UserError(f"{script} works in one process; start it without torchrun")


def processes_started() -> int:
    """How many processes torchrun says it has started; UserError where that is no number."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not re.fullmatch(r"0*[1-9]\d{0,5}", text, re.ASCII):
        raise UserError(
            f"the environment says WORLD_SIZE={text!r}, which torchrun does not; unset it"
        )
    return int(text)


@contextlib.contextmanager
def atomic_write(path, mode="wb"):
    """Yield a file object; `path` appears whole when the block ends, or not at all when it
    fails.

    The bytes go to a temporary file in the same folder, are flushed to disk, and replace
    `path` in one step, so a reader (or a run that was killed) never sees a half-written
    file. Raises UserError for a full or read-only disk.
    """
    with _replacing(path) as (descriptor, temporary):
        with os.fdopen(
            descriptor, mode, **({} if "b" in mode else {"encoding": "utf-8"})
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """`target` becomes the same file as `source`, or a copy of it where the disk has no
    links; whole or not at all.

    Only for files whose writers replace them whole, or neither of the two could be changed
    without the other. Raises UserError as atomic_write.
    """
    with _replacing(target) as (descriptor, temporary):
        os.close(descriptor)
        os.unlink(temporary)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)


@contextlib.contextmanager
def full_disk_at(path: str | Path):
    """Inside, a full disk, as writers of libraries raise it, becomes a UserError that names
    the file or folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def _replacing(path):
    """Yield (descriptor, name) of a new file beside `path` for the block to put in its
    place; gone where it has not.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = open_temporary(path)
        yield descriptor, temporary
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            remove_temporary(temporary)


def open_temporary(path):
    """(descriptor, name) of a new file in the folder of `path`, which put_in_place makes
    `path` once it is whole.
    """
    about = f"{machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = str(path.parent / f".{path.name[:90]}.{about}{TEMPORARY}")
    _unfinished.add(temporary)  # first: a signal may come as soon as there is a file
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(temporary, flags, 0o600), temporary


def remove_temporary(temporary):
    """Remove a file of open_temporary, where it was not put in place."""
    with contextlib.suppress(OSError):
        os.unlink(temporary)
    _unfinished.discard(temporary)


def _remove_unfinished():
    """Remove the temporary files that a signal has left: it may come where one is removed."""
    for temporary in list(_unfinished):  # threads go on writing
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def machine() -> str:
    """Text of this machine (or container), in which a process number means one process."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    about = f"{socket.gethostname()} {space}".encode()
    return hashlib.sha1(about, usedforsecurity=False).hexdigest()[:8]


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def sweep(folder: str | Path, deep: bool = False) -> None:
    """Remove the temporary files that killed processes have left in a folder; deep: and in
    all below it. Those of processes that are at work stay.
    """
    # some have the ending that a library wants behind it
    pattern = f"**/.*{TEMPORARY}*" if deep else f".*{TEMPORARY}*"
    with contextlib.suppress(OSError):
        for file in Path(folder).glob(pattern):
            if _left_over(file):
                with contextlib.suppress(OSError):
                    file.unlink()


def _left_over(file):
    """Whether nobody writes this temporary file any more."""
    ending = re.escape(TEMPORARY) + r"(\.\w+)?$"
    known = re.search(rf"\.([0-9a-f]{{8}})-(\d+)-[^.]*{ending}", file.name)
    if known and known[1] == machine():
        pid = int(known[2])
        return pid == os.getpid() or not alive(pid)
    try:
        return file.stat().st_mtime < time.time() - OLD
    except OSError:
        return False


def put_in_place(temporary, path):
    """A temporary file becomes `path`, with the rights that the umask gives new files:
    others may read the results.
    """
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)
    _unfinished.discard(temporary)


@contextlib.contextmanager
def gc_paused():
    """No search for reference cycles inside: it walks over every object again and again
    while millions are made.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically (see atomic_write)."""
    with atomic_write(path, "w") as file:
        file.write(text)


def append_line(path: str | Path, line: str) -> None:
    """Append a line to a file in one write, on a new line even where the last one is
    incomplete. Raises UserError for a full or read-only disk.
    """
    try:
        with open(path, "a+b") as file:
            if file.tell() and (file.seek(-1, 2), file.read(1))[1] != b"\n":
                line = "\n" + line
            file.write(line.encode() + b"\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_json(path: str | Path, fix: str, shape: object = None) -> dict | list:
    """The JSON object in a file, as a dict, or the list where `shape` is one; UserError in
    one line that names the file and ends with the fix. See parse_json; shape: what it must
    hold, see shape.py.
    """
    kind, words = (
        (list, "a list") if isinstance(shape, list) else (dict, "an object with names")
    )
    try:
        content = parse_json(Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {(error.strerror or str(error)).lower()}; {fix}"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON, or a damaged file ({error}); {fix}") from error
    if not isinstance(content, kind):
        raise UserError(
            f"{path}: holds a {type(content).__name__} where {words} belongs; {fix}"
        )
    problem = shape and misfit(content, shape)
    if problem:
        raise UserError(f"{path}: {problem}; {fix}")
    return content


def read_json_lines(
    path: str | Path, fix: str, wrong: Callable[[int, dict], str | None] | None = None
) -> list[dict]:
    """The JSON objects of a file that append_line has written, one a line; UserError in one
    line that names the file and the line and ends with the fix. See parse_json.

    wrong: (number of a line from 1, its object) -> what is wrong with it, or None. A line
    that a killed writer has left incomplete is passed over: the last one, where it has no
    end, and one that was broken off before append_line began another.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {(error.strerror or str(error)).lower()}; {fix}"
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        line = line.strip(b" \t\r\0")
        if not line:
            continue
        try:
            content = parse_json(line)
        except ValueError as error:
            if number == len(lines) or _is_broken_off(line):
                continue
            raise UserError(
                f"{path}, line {number}: not JSON, or damaged ({error}); {fix}"
            ) from error
        problem = None if isinstance(content, dict) else "is not an object"
        problem = problem or (wrong and wrong(number, content))
        if problem:
            raise UserError(f"{path}, line {number}: {problem}; {fix}")
        found.append(content)
    return found


def _is_broken_off(line):
    """Whether a line that is no JSON is the beginning of an object."""
    if not line.startswith(b"{"):
        return False
    try:
        json.loads(line.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:  # it ends before its last brace
        return error.pos >= len(error.doc) or not line.endswith(b"}")
    except (ValueError, RecursionError):
        pass
    return False


def parse_json(content: bytes) -> object:
    """What a text of JSON in UTF-8, with or without a byte order mark, says.

    ValueError, in a few words, for what is no such text, and for what no file here has and
    some reader would take for something else: numbers that are not finite or have more than
    64 bits, names that come twice, half characters, values nested deeper than DEEPEST.
    """
    try:
        found = json.loads(
            content.decode("utf-8-sig"),
            parse_float=_finite,
            parse_int=_whole,
            parse_constant=_finite,
            object_pairs_hook=_once,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST}") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if b"\\u" in content or content.count(b"[") + content.count(b"{") > DEEPEST:
        _check_inside(found, 0)
    return found


def _finite(text):
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def _whole(text):
    number = int(text) if len(text) < 25 else 2**64
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"the number {text[:20]}… has more than 64 bits")
    return number


def _once(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"the name {shown(twice, 80)!r} comes twice")
    return found


def _check_inside(value, depth):
    """ValueError where a part of it is nested too deep, or a text cannot be written."""
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("half a character in a text") from None
        return
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST}")
    if isinstance(value, dict):
        for name, inside in value.items():
            _check_inside(name, depth)
            _check_inside(inside, depth + 1)
    elif isinstance(value, list):
        for inside in value:
            _check_inside(inside, depth + 1)


def check_writable(folder: str | Path, clear: bool = True) -> Path:
    """Make `folder` and prove that a file can be written in it; UserError if not. Called
    before long work.

    clear: remove the temporary files of a run that was killed while writing; not where
    others may be writing now.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = open_temporary(folder / "probe")
        try:
            with os.fdopen(descriptor, "wb") as probe:
                probe.write(b"x" * 4096)
        finally:
            os.unlink(temporary)
        _unfinished.discard(temporary)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {_reason(error)}; choose another place with --files"
        ) from error
    if clear:
        sweep(folder)
    return folder


def cannot_write(path: str | Path, error: OSError) -> CannotWrite:
    """The UserError of a file that could not be written."""
    return CannotWrite(f"cannot write {path}: {_reason(error)}")


def _reason(error):
    if error.errno in FULL:
        return "the disk is full; free some space and run the same command again"
    return (error.strerror or str(error)).lower()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
