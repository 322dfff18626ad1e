"""A script of this project in several processes of this machine. Imports no torch."""

import subprocess
import sys
from pathlib import Path

from claus.utils.runtime import UserError


def launch(script: str | Path, arguments: list[str], processes: int) -> None:
    """What `torchrun --nproc-per-node processes -- script arguments` does; UserError where
    it fails.

    All its processes end with this one, unless this one is killed without a chance to say so.
    """
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "--",
        str(script),
        *arguments,
    ]
    with subprocess.Popen(command) as running:
        try:
            status = running.wait()
        except BaseException:
            running.terminate()
            raise
    if status:
        raise UserError(
            f"{Path(script).name} in {processes} processes has failed, the reason "
            f"stands above; the same command is resumable"
        )
