"""CLAUS: a video action detector from as few labels as possible.

Every room has one import name, `claus.<room>`: claus.selection, claus.metrics, claus.losses,
claus.models, ... In a checkout the rooms are the folders beside this one; in an installed
package they lie inside it.
"""

from pathlib import Path

__version__ = "0.2.0"

_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "claus_select.py").exists() and (_ROOT / "pyproject.toml").exists():
    __path__.append(str(_ROOT))  # a checkout
