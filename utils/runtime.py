"""What every script needs around its own work: one-line errors, atomic files, proof that a
folder can be written.

Standard library only, so that a script that needs no network starts without importing torch.
"""

import contextlib
import errno
import functools
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# ends the names of temporary files, so that no other program's file is ever removed
TEMPORARY = ".claus.tmp"


class UserError(Exception):
    """Bad input or a full disk: one line that says what, where (the file) and how to fix
    it.
    """


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
    signal.signal(signal.SIGTERM, functools.partial(_interrupt, os.getpid()))
    try:
        status = main()
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{Path(sys.argv[0]).name}: stopped; {again}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _interrupt(script, signum, frame):
    """SIGTERM ends a script as Ctrl-C does; the workers that it forked, which have this
    handler too, just end.
    """
    if os.getpid() != script:
        os._exit(128 + signum)
    if hasattr(
        signal, "SIGCHLD"
    ):  # torch's handler would raise that its workers have ended, too
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    raise KeyboardInterrupt


def check_alone(script: str) -> None:
    """UserError where torchrun has started several processes of a script that works in one."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(f"{script} works in one process; start it without torchrun")


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
        raise UserError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # it has been put in place
                os.unlink(temporary)


def open_temporary(path):
    """(descriptor, name) of a new file in the folder of `path`, which put_in_place makes
    `path` once it is whole.
    """
    return tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)


def put_in_place(temporary, path):
    """A temporary file becomes `path`, with the rights that the umask gives new files:
    others may read the results.
    """
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)


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
        raise UserError(f"cannot write {path}: {_reason(error)}") from error


def read_json(path: str | Path, fix: str) -> dict:
    """The JSON object in a file, as a dict; UserError in one line that names the file and
    ends with the fix.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {(error.strerror or str(error)).lower()}; {fix}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON, or a damaged file; {fix}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds a {type(content).__name__} where an object with names "
            f"belongs; {fix}"
        )
    return content


def check_writable(folder: str | Path, clear: bool = True) -> Path:
    """Make `folder` and prove that a file can be written in it; UserError if not. Called
    before long work.

    clear: remove the temporary files of a run that was killed while writing; not where
    others may be writing now.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=folder, prefix=".probe.", suffix=TEMPORARY
        ) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {_reason(error)}; choose another place with --files"
        ) from error
    for leftover in folder.glob(f".*{TEMPORARY}") if clear else ():
        with contextlib.suppress(OSError):
            leftover.unlink()
    return folder


def _reason(error):
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run the same command again"
    return (error.strerror or str(error)).lower()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
