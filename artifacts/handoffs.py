"""Old names of what artifacts/ holds; only until every caller asks a Run or a Cycle."""

from claus.artifacts import ledger
from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.ledger import LEDGER_COLUMNS, Prices, money, paid_for  # noqa: F401
from claus.artifacts.parts import fingerprint, parts_dir, save_part  # noqa: F401
from claus.artifacts.scores import (  # noqa: F401
    FRAME_ARRAYS,
    FRAME_SCORES,
    Features,
    Uncertainty,
    check_same_source,
    load_features,
    load_uncertainty,
    save_features,
    save_uncertainty,
)
from claus.artifacts.selection_file import load_selection, save_selection  # noqa: F401


def run_dir(run, root="files"):
    return Run.of(run, root).folder


def cycle_dir(run, cycle, root="files"):
    return Cycle.of(run, cycle, root).folder


def existing_cycles(run, root="files"):
    return [cycle.number for cycle in Run.of(run, root).cycles()]


def write_ledger(run, root="files", known=None):
    return ledger.write_ledger(Run.of(run, root), known)


def count_ledger(run, root="files", known=None):
    return ledger.count_ledger(Run.of(run, root), known)
