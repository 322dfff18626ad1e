"""What a report is made of: rows of experiments' tables and of single runs, in one form,
and the runs' folders.

A row is a dict of the columns of experiments/table.py; what is a number there is
a float here, or None. `run` is a Path, or None where the folder is not on this machine.
"""

import itertools
import math
import shlex
from pathlib import Path

from claus.artifacts.cycle import Run
from claus.artifacts.cycle_row import cycle_row
from claus.artifacts.ledger import count_ledger
from claus.artifacts.run_settings import SHAPE as SETTINGS
from claus.experiments import table
from claus.selection.rules import RuleSettings
from claus.utils import runtime
from claus.utils.runtime import UserError

# columns that are text; steps is a number
TEXT = (*(name for name in table.WHAT if name != "steps"), "run")
SETTING = ("dataset", "model", "steps")  # what must be the same for scores to be compared
SINGLE = "runs"  # experiment of the runs that come from no table
DEFAULTS = {
    "method": "claus",
    "strategy": "hybrid",
    "increment": "samples",
    "loss": "stew",
    "semi": "",
}


def gather(paths):
    """Rows of all that is given: tables (.csv) and run folders. UserError for what is
    neither.
    """
    rows, runs = [], []
    for path in map(Path, paths):
        if path.suffix == ".csv" and path.is_file():
            rows += read_table(path)
        elif path.is_dir():
            runs.append(read_run(path))
        else:
            raise UserError(
                f"{path} is neither the folder of a run nor a table (.csv) of "
                "experiments/run.py; give one of these"
            )
    rows = apart(rows + [row for new in runs for row in new])
    if not rows:
        raise UserError(
            f"{', '.join(map(str, paths))}: there is no finished cycle in it; wait for the "
            "first one"
        )
    return rows


def read_table(path):
    """Rows of a table of experiments/run.py; a cell's folder is looked for as it is written,
    then beside the table.
    """
    if path.name == "results.csv" and (path.parent / "run.json").exists():
        raise UserError(
            f"{path} is the table of one run; give its folder {path.parent} instead"
        )
    rows = []
    for row in table.read(path):
        places = (
            [Path(row["run"]), path.parent / Path(row["run"]).name] if row.get("run") else []
        )
        rows.append(
            {name: value if name in TEXT else number(value) for name, value in row.items()}
            | {
                "place": row.get("run"),
                "run": next((place for place in places if place.is_dir()), None),
            }
        )
    return rows


def read_run(folder):
    """Rows of a run by its results.csv and run.json, or by its cycles where the single
    scripts were run by hand.
    """
    if (folder / "results.csv").exists():
        results = table.read_results(folder / "results.csv")
        settings = read_json(folder / "run.json", SETTINGS)
    else:
        results = rows_of_cycles(folder)
        settings = read_json(folder / "run.json", SETTINGS) or settings_by_cycles(
            folder, results
        )
    train, select = (words_of(settings.get(name, "")) for name in ("train", "select"))
    what = {
        "experiment": SINGLE,
        "schedule": settings.get("schedule") or "",
        "seed": str(settings.get("seed", "?")),
        "model": train.get("--model", settings.get("model", "full")),
        "steps": number(train.get("--steps")),
        "dataset": data_name(settings),
        "run": folder,
        "place": str(folder),
        "loss": train.get("--pseudo-label-loss", settings.get("loss", DEFAULTS["loss"])),
        **{
            name: settings.get(name) or select.get(f"--{name}", DEFAULTS[name])
            for name in ("method", "strategy", "increment", "semi")
        },
    }
    halves = (select.get(f"--{half}-rule", what["method"]) for half in ("video", "frame"))
    what["method"] = RuleSettings(*halves).method
    what["variant"] = ", ".join(
        [
            what["method"],
            *(
                what[name]
                for name in ("strategy", "increment", "loss", "semi")
                if what[name] not in (DEFAULTS[name], "?")
            ),
        ]
    )
    rows = []
    for row in results:
        values = table.result_row(row)
        if (folder / f"cycle{row['cycle']}" / "evaluation.json").exists():
            values |= table.more_of(folder, row["cycle"])
        rows.append(what | {name: number(value) for name, value in values.items()})
    return rows


def rows_of_cycles(folder):
    """The rows that run_cycles.py would have written of those cycles of a run that have
    been evaluated.
    """
    run = folder.resolve()  # with a slash, so that no other folder is meant by it
    done = [
        cycle
        for cycle in Run.of(run).numbers()
        if (run / f"cycle{cycle}" / "evaluation.json").exists()
    ]
    if not done and any(run.glob("cycle*/evaluation.json")):
        raise UserError(
            f"{folder}: no cycle of it has both annotations.pkl and evaluation.json; put "
            "the annotation file it was trained on there, for labels and cost are counted "
            "in it"
        )
    if not done:
        raise UserError(
            f"{folder} has no results.csv and no cycle with an evaluation.json; give the "
            "folder of a run, after evaluate.py or run_cycles.py has finished a cycle"
        )
    ledger = count_ledger(Run.of(run))
    return [cycle_row(Run(Path(run)).cycle(cycle), ledger) for cycle in done]


def settings_by_cycles(folder, results):
    """What the files of a run of single scripts tell of the flags: data set, seed, rule of
    the last choice. The others are "?".
    """

    def chosen(cycle):
        return read_json(folder / f"cycle{cycle}" / "selection.json").get("settings", {})

    last = int(results[-1]["cycle"])
    rule = next((chosen(cycle) for cycle in range(last, 0, -1) if chosen(cycle)), {})
    evaluation = read_json(folder / f"cycle{last}" / "evaluation.json")
    return {
        "oracle": evaluation.get("dataset", "?"),
        "seed": chosen(0).get("seed", "?"),
        **dict.fromkeys(("model", "loss", "semi"), "?"),
        **{name: rule[name] for name in ("method", "strategy", "increment") if name in rule},
    }


def apart(rows):
    """The rows with other names for what one name stands for twice.

    An experiment on several data sets, networks or numbers of steps becomes several; a
    variant with several schedules too; and two folders that differ in nothing that is known
    here are told apart by the folder's name.
    """
    settings, schedules, places, named = {}, {}, {}, []
    for row in rows:
        settings.setdefault(row["experiment"], set()).add(
            tuple(row.get(name) for name in SETTING)
        )
    for row in rows:
        experiment, variant = row["experiment"], row["variant"]
        if len(settings[experiment]) > 1:
            about = ", ".join(
                f"{row[name]:g} steps" if name == "steps" else str(row[name])
                for name in SETTING
                if row.get(name)
            )
            experiment = f"{experiment} ({about})"
        if schedules.setdefault((experiment, variant), row.get("schedule")) != row.get(
            "schedule"
        ):
            variant = f"{variant} ({row['schedule']})"
        if places.setdefault((experiment, variant, row["seed"]), row["place"]) != row["place"]:
            variant = f"{variant} ({Path(row['place']).name})"
        named.append(row | {"experiment": experiment, "variant": variant})
    return named


def words_of(text):
    """Flags of a string as a dict: what follows each, "" for a switch; {} where it is none."""
    try:
        words = shlex.split(text or "")
    except ValueError:  # quotes that do not close
        words = []
    found = {}
    for word, after in itertools.pairwise([*words, "--"]):
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            found[name] = value if equals else "" if after.startswith("--") else after
    return found


def data_name(settings):
    """The folder or file that a run's ground truth lies in, by its name."""
    path = Path(settings.get("oracle") or "?")
    return path.parent.name or path.name if path.suffix == ".pkl" else path.name


def number(value):
    """A finite float, or None for "", "-", None and what is no number."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def read_json(path, shape=None):
    """Content of a JSON file that holds a dict; {} where it is missing or damaged, or has not
    this shape.
    """
    try:
        return runtime.read_json(path, "", shape)
    except UserError:
        return {}


# ------------------------------------------------------------------------------------ views


def experiments_of(rows):
    """{experiment: {variant: rows}}, both in the order of the table."""
    found = {}
    for row in rows:
        found.setdefault(row["experiment"], {}).setdefault(row["variant"], []).append(row)
    return found


def budgets_of(variants):
    """The cycles of an experiment's rows, rising."""
    return sorted({int(row["cycle"]) for rows in variants.values() for row in rows})


def metrics_of(rows):
    """The metric columns that have a number somewhere, in the order of the table."""
    names = dict.fromkeys(
        name
        for row in rows
        for name in row
        if name.startswith(("capsule ", "act ")) and row[name] is not None
    )
    return list(names)


def by_seed(rows, cycle, name):
    """{seed: value} of a column in a cycle."""
    return {row["seed"]: row.get(name) for row in rows if int(row["cycle"]) == cycle}


def folders_of(rows):
    """{(variant, seed): folder} of the rows whose folder is here."""
    return {(row["variant"], row["seed"]): row["run"] for row in rows if row["run"] is not None}


def names_of(rows):
    """{folder: "claus, seed 0 (table2, fig5)"} of the rows whose folder is here."""
    found = {}
    for row in rows:
        if row["run"] is not None:
            names = found.setdefault(row["run"], {})
            names.setdefault(f"{row['variant']}, seed {row['seed']}", {})[row["experiment"]] = (
                True
            )
    words = {}
    for folder, names in found.items():
        parts = [f"{name} ({', '.join(of)})" for name, of in names.items()]
        words[folder] = "; ".join(parts)
    return words
