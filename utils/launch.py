"""A script of this project in processes of its own on this machine. Imports no torch."""

import subprocess
import sys
from pathlib import Path

from claus.utils.runtime import UserError


def launch(script: str | Path, arguments: list[str], processes: int) -> None:
    """What `torchrun --nproc-per-node processes -- script arguments` does, for one process
    `python script arguments`; UserError where it fails.

    All its processes end with this one, unless this one is killed without a chance to say so.
    """
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes), "--"]
    command += [str(script), *arguments]
    with subprocess.Popen(command) as running:
        try:
            status = running.wait()
        except BaseException:
            running.terminate()
            raise
    if status:
        raise UserError(
            f"{Path(script).name} in {processes} process{'es' * (processes > 1)} has failed, "
            f"see the reason above; run the same command to resume"
        )
