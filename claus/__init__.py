"""CLAUS: a video action detector from as few labels as possible.

Every room has one import name, `claus.<room>`: claus.selection, claus.metrics, claus.losses,
claus.models, ... In a checkout the rooms are the folders beside this one; in an installed
package they lie inside it.
"""

import os
from pathlib import Path

__version__ = "0.2.0"

_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "claus_select.py").exists() and (_ROOT / "pyproject.toml").exists():
    __path__.append(str(_ROOT))  # a checkout


def __getattr__(name):
    """Detector, imported when it is first asked for: importing claus stays cheap."""
    if name == "Detector":
        os.environ.setdefault(
            "OMP_WAIT_POLICY", "PASSIVE"
        )  # before torch, see utils/startup.py
        from claus.detection.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
