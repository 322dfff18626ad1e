"""Packaging: every room installs below `claus`, so that none shadows another package.

The folders beside this file become claus.<folder>, and the modules beside it that are no
scripts (engine.py, ...) become claus.<module>. Everything else is in pyproject.toml.
"""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NOT_INSTALLED = ["claus*", "tests*", "tools*"]
ROOMS = [*find_packages(str(ROOT), exclude=NOT_INSTALLED), "weights"]


def is_module(path):
    """Whether a Python file beside this one is imported by others, and so installed."""
    text = path.read_text(encoding="utf-8")
    return path.name != "setup.py" and '__name__ == "__main__"' not in text


class BuildRooms(build_py):
    def find_package_modules(self, package, package_dir):
        """(package, module, file) of a package; `claus` has the modules beside this file."""
        if package == "claus.weights":
            return []  # its files are data
        modules = super().find_package_modules(package, package_dir)
        if package == "claus":
            beside = filter(is_module, sorted(ROOT.glob("*.py")))
            modules += [(package, path.stem, path.name) for path in beside]
        return modules


setup(
    packages=["claus", *(f"claus.{room}" for room in ROOMS)],
    package_dir={
        "claus": "claus",
        **{f"claus.{room}": room.replace(".", "/") for room in ROOMS},
    },
    package_data={
        "claus.weights": ["*.pt", "*.md"],
        "claus.annotators.page": ["*.html", "*.css", "*.js"],
        "": ["*.csv"],
    },
    cmdclass={"build_py": BuildRooms},
)
