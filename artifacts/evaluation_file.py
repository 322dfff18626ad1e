"""evaluation.json: every number of the test set, by the name of its protocol.

{"format": "claus-evaluation", "version": 1, "claus": program version,
 "capsule", "act", "floor": results by protocol, None where not scored,
 "failed": {video: reason}, "source": fingerprint of the checkpoint, "precision": float32,
 tf32 or bfloat16,
 "dataset", "run", "cycle", "test_videos",
 "labels", "labels_path": fingerprint and path of --labels, else None}

Files of program versions before 0.2 have no "format" and are read as version 1.
"""

import json
from pathlib import Path

import claus
from claus.utils.runtime import UserError, read_json, write_text
from claus.utils.shape import amount, maybe, misfit, share, whole

FORMAT, VERSION = "claus-evaluation", 1
RATES = [(share, None)]
TEXT = maybe((str, None))
CAPSULE = {
    "protocol": str,
    "switches": {str: (str, bool, int)},
    "thresholds": [share],
    "videos": whole,
    "frames": whole,
    "videos_without_gt": whole,
    "accuracy": (share, None),
    "f_map": RATES,
    "v_map": RATES,
    "f_map_class_aware": (RATES, None),
    "v_map_class_aware": (RATES, None),
    "per_class": [
        {
            "class": str,
            "videos": whole,
            "frames": whole,
            "correct": (whole, None),
            "f_ap": RATES,
            "v_ap": RATES,
            "f_ap_class_aware": (RATES, None),
            "v_ap_class_aware": (RATES, None),
        }
    ],
}
ACT = {
    "protocol": str,
    "measure": str,
    "switches": {str: (str, bool, amount, None, dict)},
    "thresholds": [share],
    "truths": whole,
    "detections": whole,
    "mean_ap": RATES,
    "mean_ap_50_95": (share, None),
    "per_class": [{"class": str, "truths": whole, "detections": whole, "ap": RATES}],
}
# older programs, and runs of one protocol, say less; what is said must be right
CAPSULE, ACT = (
    {
        name: shape if name == "thresholds" else maybe(shape)
        for name, shape in whole_part.items()
    }
    for whole_part in (CAPSULE, ACT)
)
RECTANGLE = {"rectangle": maybe({"height": share, "width": share})}
SHAPE = {
    "capsule": maybe((CAPSULE, None)),
    "floor": maybe((CAPSULE | RECTANGLE, None)),
    "act": maybe((dict.fromkeys(("frame", "video"), maybe((ACT, None))), None)),
    "failed": maybe({str: str}),
    "test_videos": maybe(whole),
    "cycle": maybe(whole),
    **dict.fromkeys(
        ("source", "precision", "dataset", "run", "labels", "labels_path", "claus"), TEXT
    ),
}
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
    problem = misfit(content, SHAPE) or _unequal(content)
    if problem:
        raise UserError(f"{path}: {problem}; {fix}")
    return content


def _unequal(content):
    """What is wrong where parts of a result do not belong together, or None."""
    act = content.get("act") or {}
    parts = {name: content.get(name) for name in ("capsule", "floor")}
    parts |= {f"act.{name}": act.get(name) for name in ("frame", "video")}
    classes = set()
    for name, part in parts.items():
        if not part:
            continue
        protocol = name.partition(".")[0].replace("floor", "capsule")
        if part.get("protocol", protocol) != protocol:
            return f"{name}.protocol is not {protocol}"
        if part.get("measure", f"{name[4:]}-AP") != f"{name[4:]}-AP":
            return f"{name}.measure is not {name[4:]}-AP"
        rows = part.get("per_class", [])
        values = [value for row in (part, *rows) for value in row.values()]
        curves = [value for value in values if isinstance(value, list)]
        lengths = {len(curve) for curve in curves if curve is not rows}
        if lengths != {len(part["thresholds"])} or len(set(part["thresholds"])) not in lengths:
            return f"{name} has not one number for each of its thresholds"
        classes.add(tuple(row["class"] for row in rows))
        right = [(row["correct"] or 0) - row["videos"] for row in rows if "correct" in row]
        if max(right, default=0) > 0:
            return f"{name} has more videos right than it has videos"
    if len(classes) > 1:
        return "its parts are of other classes"
    switches = [part.get("switches") for part in (parts["capsule"], parts["floor"]) if part]
    if switches[1:] and switches[0] != switches[1]:
        return "the floor was scored with other switches than the result"
    return _other_switches(act)


def _other_switches(act):
    """Where frame-AP and video-AP were computed with other switches."""
    if not act:
        return None
    frame, video = ((act.get(name) or {}).get("switches", {}) for name in ("frame", "video"))
    made = [one.get("made_by", {}) for one in (frame, video)]
    if not all(isinstance(one, dict) for one in made):
        return "act.switches.made_by is not an object"
    for mine, theirs in ((frame, video), made):
        for name, value in mine.items():
            if name != "made_by" and theirs.get(name, value) != value:
                return f"act.frame and act.video were computed with another {name}"
    return None
