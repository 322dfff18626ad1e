"""Checks a cell's command lines with the parsers of the scripts, so that a misspelt flag is
found before hours of work.
"""

import contextlib
import io
from pathlib import Path

from claus.utils.runtime import UserError


def check(script: str, words: list[str]) -> None:
    """Parse the flags `words` of run_cycles.py, cluster_extract.py or claus_select.py, for
    run_cycles.py those of all its steps. UserError with the parser's message.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parse(Path(script).name, words)
    except (SystemExit, UserError) as error:
        lines = [line for line in said.getvalue().splitlines() if ": error: " in line]
        raise UserError(lines[0] if lines else str(error)) from None


def parse(name, words):
    # imported late: torch takes seconds, and a table of finished cells needs none of it
    import run_cycles

    step = {"cluster_extract.py": "extract", "claus_select.py": "select"}.get(name)
    if step:
        run_cycles.script(step).parse_args(words)
        return
    flags = run_cycles.parse_args(words)
    steps = [run_cycles.step_arguments(flags, cycle) for cycle in range(flags.cycles)]
    run_cycles.check_arguments(steps, flags)
