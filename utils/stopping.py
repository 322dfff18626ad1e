"""Ctrl-C and SIGTERM: one line, never lost, wherever they come.

A signal raises KeyboardInterrupt where the program is. Some places swallow it: a callback of
a weak reference or a destructor (Python prints it and goes on), a library that turns it into
an error of its own, code that takes any error for a damaged file. So a signal is remembered,
and until the script has ended, it is raised again every few seconds; run_script looks
whether there was one before it believes any other error.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import time

from claus.utils.runtime import FULL

AGAIN = 3.0  # seconds after which an interruption that was swallowed is raised again
PATIENCE = 20.0  # seconds that a process has to end after that which started it
LAUNCHED = (
    "CLAUS_LAUNCHED_BY"  # descriptor of a pipe that closes with the process that started it
)
_asked = _cleaning = _launched = False
_since = 0.0  # when it was asked to stop


def begin() -> None:
    """From here on signals interrupt this script; called by run_script, once."""
    global _asked
    _asked = False
    for number in (signal.SIGINT, signal.SIGTERM):
        # Ctrl-C stays without effect where it is so from outside (nohup, `command &`)
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, functools.partial(_interrupt, os.getpid()))
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, functools.partial(_once_more, os.getpid()))
    threading.excepthook = functools.partial(_in_thread, threading.excepthook)
    sys.unraisablehook = functools.partial(_swallowed, sys.unraisablehook)
    end_with_parent()


def asked() -> bool:
    """Whether this script was asked to stop."""
    return _asked


def leave(status: int) -> None:
    """End with this exit status; further signals end the process at once."""
    _silence()
    sys.exit(status)


def say(text: str) -> None:
    """The line of a stopped script; none where the one that started it says so."""
    _silence()
    if not _launched:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr)


@contextlib.contextmanager
def cleaning_up():
    """Inside, an interruption is not raised again by itself: other processes are waited for."""
    global _cleaning
    before, _cleaning = _cleaning, True
    try:
        yield
    finally:
        _cleaning = before


def _interrupt(script, signum, frame):
    """SIGTERM ends a script as Ctrl-C does; the workers that it forked, which have this
    handler too, just end.
    """
    global _asked, _since
    if os.getpid() != script:
        os._exit(128 + signum)
    if hasattr(signal, "SIGCHLD"):
        # torch's handler would raise that its workers have ended, too
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if _asked and time.monotonic() - _since < AGAIN:
        return  # Ctrl-C reaches a process and what it was started by, which passes it on
    _asked, _since = True, time.monotonic()
    _raise_again_in(AGAIN)
    raise KeyboardInterrupt


def _once_more(script, signum, frame):
    if os.getpid() == script and _asked and not _cleaning:
        raise KeyboardInterrupt


def _swallowed(before, unraisable):
    """What Python would print and pass over: an interruption is raised where the program
    goes on.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _raise_again_in(0.01)
    else:
        before(unraisable)


def _in_thread(before, failed):
    """A full disk in a thread that writes (TensorBoard's): the script is told of it, too, and
    says so in one line.
    """
    if not (isinstance(failed.exc_value, OSError) and failed.exc_value.errno in FULL):
        before(failed)


def _raise_again_in(seconds):
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)


def _silence():
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(number, lambda *_: os._exit(130))


# --------------------------------------------------------------------------- the one above


def end_with_parent() -> None:
    """Where another process of ours started this one, end with it, however it ends: it holds
    the other end of a pipe, which closes with it even after kill -9.
    """
    global _launched
    pipe = os.environ.pop(LAUNCHED, "")  # not for those that this one starts
    if not pipe.isdecimal():
        return
    _launched, pipe = True, int(pipe)
    threading.Thread(target=_watch, args=(pipe, os.getpid()), daemon=True).start()


def _watch(pipe, script):
    with contextlib.suppress(OSError):
        while os.read(pipe, 1):
            pass
        if os.getpid() == script:
            os.kill(script, signal.SIGTERM)
            time.sleep(PATIENCE)
            os._exit(128 + signal.SIGTERM)
