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
    from claus.flags import cycles as flags
    from claus.steps import cycles

    step = {"cluster_extract.py": "extract", "claus_select.py": "select"}.get(name)
    if step:
        cycles.step(step).parse(words)
        return
    settings = flags.parse(words)
    numbers = range(settings.cycles)
    cycles.check_arguments([cycles.step_arguments(settings, k) for k in numbers], settings)
