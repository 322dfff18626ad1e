"""selection.json: what a cycle has chosen and why, for people and for the ledger."""

import json

from claus.utils.runtime import UserError, read_json, write_text
from claus.utils.shape import maybe, misfit, whole

VERSION = 1
NUMBER, COUNT, COUNTS = (float, None), (whole, None), {"videos": whole, "frames": whole}
CLUSTER = ("cluster", "videos", "labelled", "candidates", "quota", "picked")
FRAME = {"frame": whole, "score": maybe(NUMBER), "damped_score": maybe(NUMBER)}
SHAPE = {  # what scripts go on with; files of older versions have less
    "run": str,
    "cycle": whole,
    "prices": {"video": str, "frame": str, "box": str},
    "settings": maybe({"method": maybe(str), "strategy": maybe(str), "seed": maybe(whole)}),
    "source": maybe((str, None)),
    "asked": maybe(COUNTS),
    "spent": maybe(COUNTS),
    "new_videos": maybe(whole),
    "frames_per_video": maybe(COUNT),
    "notes": maybe([str]),
    "pool_videos": maybe(whole),
    "candidates": maybe(whole),
    "set_aside": maybe({str: str}),
    "clusters": maybe([dict.fromkeys(CLUSTER, whole)]),
    "videos": [
        {
            "video": str,
            "cluster": maybe(COUNT),
            "rank": maybe(COUNT),
            "score": maybe(NUMBER),
            "reason": maybe(str),
            "frames": [FRAME],
        }
    ],
}


def save_selection(content, path):
    """Write selection.json atomically: what was chosen and why, a line for every video, as
    claus_select.py makes it.
    """
    content = {"format": "claus-selection", "version": VERSION, **content}
    lines = [
        f" {json.dumps(key)}: {_json(value)}"
        for key, value in content.items()
        if key != "videos"
    ]
    videos = ",\n".join(f"  {_json(video)}" for video in content["videos"])
    write_text(path, "{\n" + ",\n".join(lines) + f',\n "videos": [\n{videos}\n ]\n}}\n')


def load_selection(path):
    """Read selection.json -> dict; UserError naming the file."""
    fix = "make it again with claus_select.py --force"
    content = read_json(path, fix)
    if content.get("format") != "claus-selection":
        raise UserError(f"{path}: this is not a selection; {fix}")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: selection of version {content.get('version')}, this program "
            f"reads {VERSION}; {fix}"
        )
    if missing := [key for key in ("run", "cycle", "prices", "videos") if key not in content]:
        raise UserError(f"{path}: {missing[0]} is missing; {fix}")
    prices = content["prices"]
    if not isinstance(prices, dict) or set(prices) != {"video", "frame", "box"}:
        raise UserError(f"{path}: prices must name video, frame and box; {fix}")
    problem = misfit(content, SHAPE)
    if problem:
        raise UserError(f"{path}: {problem}; {fix}")
    return content


def _json(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
