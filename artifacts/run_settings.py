"""run.json: the flags that run_cycles.py began a run with, {"claus": program version,
"<flag>": value}.
"""

import json

import claus
from claus.artifacts.cycle import Run
from claus.utils.runtime import read_json, write_text
from claus.utils.shape import amount, maybe, whole

TEXT = maybe((str, None))
TEXTS = (
    "claus run dataset data oracle test_list files schedule method strategy increment start_from "
    "semi device train extract select evaluate "
    # of runs that people label
    "classes segment segments test_labels test_data model videos frames random_share"
).split()
SHAPE = {name: TEXT for name in TEXTS} | {
    "split": maybe((whole, None)),
    "cycles": maybe((whole, None)),
    "seed": maybe(whole),
    "processes": maybe(whole),
    "budget": maybe((amount, None)),
    "target": maybe((amount, None)),
    "continue_weights": maybe(bool),
    "any_folder": maybe(bool),
    "masks": maybe(bool),
}
FIX = "remove it, and give the flags this run began with"


def save_settings(run: Run, settings: dict) -> None:
    """Write run.json atomically."""
    write_text(
        run.settings, json.dumps(settings | {"claus": claus.__version__}, indent=1) + "\n"
    )


def load_settings(run: Run) -> dict:
    """The flags of run.json, without the program's version; UserError naming the file."""
    settings = read_json(run.settings, FIX, SHAPE)
    settings.pop("claus", None)
    return settings
