"""The machine's part between two rounds of labeling: a process of its own, which outlives
the page and its server.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from claus.artifacts.cycle import Run
from claus.utils.runtime import UserError, read_json

ROOT = Path(__file__).resolve().parents[2]
SILENT = 600  # seconds without a word after which a run is said to be silent
LOG = 4000  # last bytes of the log that are shown


def status(run: Run) -> dict:
    """What next.json says, and the last lines of the log; {"state": "idle"} without one, and
    "failed" where its process has died without a word.
    """
    said = {"state": "idle"}
    if run.next.exists():
        try:
            said = read_json(run.next, "start again")
        except UserError as error:
            said = {"state": "failed", "message": str(error)}
    told = {
        "state": str(said.get("state", "idle")),
        "cycle": _number(said.get("cycle")),
        "stage": str(said.get("stage") or ""),
        "progress": min(max(_number(said.get("progress")) or 0, 0), 1),
        "message": str(said.get("message") or "")[:500],
        "age": None,
        "log": log_of(run),
    }
    if _number(said.get("updated")) is not None:
        told["age"] = round(time.time() - said["updated"], 1)
    if told["state"] == "running" and not _alive(said.get("pid")):
        told["state"], told["message"] = "failed", "the process ended; the log says why"
    told["silent"] = told["state"] == "running" and (told["age"] or 0) > SILENT
    return told


def start(run: Run, commands: list[list[str]]) -> None:
    """Run commands one after the other, as long as they succeed, in a session of their own.

    UserError where the machine is at work already.
    """
    if status(run)["state"] == "running":
        raise UserError("the machine is at work already")
    run.folder.mkdir(parents=True, exist_ok=True)
    run.next.unlink(missing_ok=True)  # of the time before: the new process writes its own
    words = json.dumps(commands)
    with open(run.next_log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", ONE_AFTER_THE_OTHER, words, str(run.next.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT if (ROOT / "run_cycles.py").exists() else None,
            start_new_session=True,
        )
    _started.append(process)  # so that poll() can tell that it has ended


# Standard library only, and no import of the house: it says what failed, whatever failed.
ONE_AFTER_THE_OTHER = """
import json, os, subprocess, sys, time

def say(state, message):
    text = json.dumps({"state": state, "stage": "", "progress": 0, "message": message,
                       "updated": time.time(), "pid": os.getpid()})
    with open(sys.argv[2] + ".new", "w") as file:
        file.write(text)
    os.replace(sys.argv[2] + ".new", sys.argv[2])

def state():
    try:
        return json.load(open(sys.argv[2]))["state"]
    except Exception:  # it is missing, or damaged
        return ""

say("running", "starting")
for words in json.loads(sys.argv[1]):
    print("$", " ".join(words[1:]), flush=True)
    code = subprocess.call(words)
    if code and state() != "failed":
        say("failed", "%s ended with status %d" % (os.path.basename(words[1]), code))
    if code:
        sys.exit(code)
if state() == "running":
    say("label", "")
"""
_started = []


def log_of(run: Run) -> str:
    """The end of the log, without the parts of a line that a progress bar wrote over."""
    try:
        with open(run.next_log, "rb") as file:
            file.seek(max(0, run.next_log.stat().st_size - LOG))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _alive(pid):
    for process in _started:
        process.poll()
    if not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _number(value):
    """A finite number, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return None
