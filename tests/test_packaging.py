"""What is installed: the wheel holds every room below `claus` and nothing else, and works
from another folder, beside NumPy and SciPy alone, as an editable install does.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".*", "__pycache__", "tests", "docs", "results", "files", "data", "Datasets")

SHIPPED = [
    f"claus/weights/{name}.pt" for name in ("small_encoder", "lite2_imagenet", "laptop_jhmdb")
]
# what NumPy and SciPy are enough for
PAGE = ROOT / "docs" / "evaluation.md"
SNIPPET = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)[1]
EXPECTED = "0.8"

# every module of the rooms that need NumPy and SciPy alone
IMPORTS = """
import importlib, pkgutil, sys
import claus.metrics, claus.selection
for room in (claus.metrics, claus.selection):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
for name in ("torch", "skimage", "cv2", "sklearn"):
    assert name not in sys.modules, name
print("imported", claus.__version__)
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None, reason="pip install setuptools"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, for a build leaves its folders beside the sources."""
    folder = tmp_path_factory.mktemp("source") / "claus"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return folder


def pip(*arguments, cwd):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    pip(
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(folder),
        ".",
        cwd=source,
    )
    return next(folder.glob("claus-*.whl"))


def beside_numpy_and_scipy(folder):
    """`folder` with links to this environment's NumPy and SciPy, and no other package."""
    packages = Path(importlib.util.find_spec("numpy").origin).parents[1]
    for name in ("numpy", "numpy.libs", "scipy", "scipy.libs"):
        if (packages / name).exists():
            (folder / name).symlink_to(packages / name)
    return folder


def run(folder, code, cwd):
    """What Python prints that finds packages in `folder` alone (and the standard library)."""
    begin = f"import site; site.addsitedir({str(folder)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", begin + code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_holds_every_room_below_claus_and_no_script(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"claus"}
    for path in ROOT.glob("*/**/*.py"):
        room = path.relative_to(ROOT)
        if room.parts[0] in ("selection", "metrics", "losses", "models", "datasets", "steps"):
            assert f"claus/{room.as_posix()}" in names
    for name in ("claus/engine.py", "claus/training.py", *SHIPPED):
        assert name in names
    for path in (ROOT / "annotators" / "page").iterdir():
        assert path.is_dir() or f"claus/annotators/page/{path.name}" in names
    for name in ("claus/claus_select.py", "claus/setup.py", "claus/claus/__init__.py"):
        assert name not in names


def test_installed_without_dependencies_the_snippet_of_the_docs_runs_elsewhere(wheel, tmp_path):
    folder = tmp_path / "site"
    pip("install", "--no-deps", "--no-index", "--target", str(folder), str(wheel), cwd=tmp_path)
    beside_numpy_and_scipy(folder)
    assert run(folder, SNIPPET, tmp_path)[:3] == EXPECTED
    assert run(folder, IMPORTS, tmp_path).startswith("imported ")


def test_an_editable_install_finds_the_checkout_and_shadows_nothing(source, tmp_path):
    build = "import sys; from setuptools import build_meta as b; b.build_editable(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=source,
        capture_output=True,
        timeout=120,
        check=True,
    )
    folder = tmp_path / "site"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(folder)
    beside_numpy_and_scipy(folder)
    assert run(folder, SNIPPET, tmp_path)[:3] == EXPECTED
    where = "import claus.metrics; print(claus.metrics.__file__)"
    assert run(folder, where, tmp_path) == str(source / "metrics" / "__init__.py")
    bare = "import importlib.util as u; print(u.find_spec('datasets'), u.find_spec('utils'))"
    assert run(folder, bare, tmp_path) == "None None"
