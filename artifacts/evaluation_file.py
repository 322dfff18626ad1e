"""evaluation.json: every number of the test set, by the name of its protocol.

{"format": "claus-evaluation", "version": 1, "claus": program version,
 "capsule", "act", "floor": results by protocol, None where not scored,
 "failed": {video: reason}, "source": fingerprint of the checkpoint,
 "dataset", "run", "cycle", "test_videos",
 "labels", "labels_path": fingerprint and path of --labels, else None}

Files of program versions before 0.2 have no "format" and are read as version 1.
"""

import json
from pathlib import Path

import claus
from claus.utils.runtime import UserError, read_json, write_text

FORMAT, VERSION = "claus-evaluation", 1
FIX = "run evaluate.py of this cycle again, with --force"


def save_evaluation(report: dict, path: Path) -> None:
    """Write evaluation.json atomically, with the versions of format and program."""
    head = {"format": FORMAT, "version": VERSION, "claus": claus.__version__}
    write_text(path, json.dumps(head | report, indent=1) + "\n")


def load_evaluation(path: Path, fix: str = FIX) -> dict:
    """Read evaluation.json -> dict; UserError naming the file and ending with `fix`."""
    content = read_json(path, fix)
    if content.get("format", FORMAT) != FORMAT:
        raise UserError(f"{path}: this is not an evaluation; {fix}")
    version = content.get("version", VERSION)
    if version != VERSION:
        raise UserError(
            f"{path}: evaluation of version {version}, this program reads {VERSION}; {fix}"
        )
    return content
