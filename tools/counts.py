"""Counts that say how the code reads: today's beside those from before the rooms were moved.

    python tools/counts.py                  # this checkout beside the recorded counts
    python tools/counts.py --at bc09aa9~1   # count another commit instead

Reads   every Python file that is not a test, and README.md
Writes  nothing; prints a Markdown table
Expect  three seconds. Characters are counted without the spaces at both ends of a line, and
        blank lines are not counted. tests/test_counts.py holds the limits.
"""

import argparse
import ast
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from claus.utils.markdown import table  # noqa: E402

GROUND = ("models", "losses", "selection", "metrics")
NOT_COUNTED = ("tests", ".venv", "build", "files", "data", "Datasets")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LONG = 100  # characters
# of bc09aa9~1, before the code was formatted and moved
BEFORE = {
    "characters": 55.4,
    "long": 19.2,
    "nested": 3.7,
    "typed": 0.0,
    "readme": 5491,
    "lines": 15506,
}


def counts(root: Path) -> dict[str, float]:
    """Counts of the checkout at `root`, see LABELS."""
    paths = python_files(root)
    texts = [path.read_text(encoding="utf-8") for path in paths]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    trees = [ast.parse(text) for text in texts]
    nested = sum(len(nested_comprehensions(tree)) for tree in trees)
    typed, parameters = typed_parameters(root)
    readme = (root / "README.md").read_text(encoding="utf-8")
    return {
        "characters": sum(len(line.strip()) for line in lines) / len(lines),
        "long": 100 * sum(len(line) > LONG for line in lines) / len(lines),
        "nested": 1000 * nested / len(lines),
        "typed": 100 * typed / max(parameters, 1),
        "readme": len(readme.split()),
        "lines": len(lines),
    }


LABELS = {
    "characters": "characters a line",
    "long": f"lines above {LONG} characters, %",
    "nested": "nested comprehensions in 1,000 lines",
    "typed": "typed parameters of public functions in ground rooms, %",
    "readme": "words in README.md",
    "lines": "lines of code, tests left out",
}


def python_files(root: Path) -> list[Path]:
    """Python files below `root` that are not tests, sorted."""
    paths = sorted(root.rglob("*.py"))
    return [path for path in paths if counted(path.relative_to(root))]


def counted(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.parts[0] not in NOT_COUNTED


def nested_comprehensions(tree: ast.AST) -> list[int]:
    """Line numbers of comprehensions that have another one inside."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            inner = [child for child in ast.walk(node) if child is not node]
            if any(isinstance(child, COMPREHENSIONS) for child in inner):
                found.append(node.lineno)
    return found


def typed_parameters(root: Path) -> tuple[int, int]:
    """(parameters with a type, all parameters) of public functions in the ground rooms."""
    typed, total = 0, 0
    for path in python_files(root):
        if path.relative_to(root).parts[0] in GROUND:
            for function in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
                given = parameters_of(function)
                typed += sum(parameter.annotation is not None for parameter in given)
                total += len(given)
    return typed, total


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Functions of a module and methods of its classes whose names have no leading
    underscore, those of private classes left out.
    """
    found = []
    for node in tree.body:
        if isinstance(node, FUNCTIONS):
            found.append(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += [child for child in node.body if isinstance(child, FUNCTIONS)]
    return [function for function in found if not function.name.startswith("_")]


def parameters_of(function: ast.FunctionDef) -> list[ast.arg]:
    """Parameters but for self, cls and the ctx of an autograd function."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [a for a in every if a is not None and a.arg not in ("self", "cls", "ctx")]


def counts_at(commit: str) -> dict[str, float]:
    """Counts of another commit of this repository."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "code.tar"
        command = ["git", "-C", str(ROOT), "archive", "-o", str(packed), commit]
        subprocess.run(command, check=True)
        with tarfile.open(packed) as archive:
            archive.extractall(Path(folder) / "code", filter="data")
        return counts(Path(folder) / "code")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at", metavar="COMMIT", help="count this commit (default: the files)")
    args = parser.parse_args(argv)
    now = counts_at(args.at) if args.at else counts(ROOT)
    rows = [[label, shown(BEFORE[key]), shown(now[key])] for key, label in LABELS.items()]
    print(table(["", "before", args.at or "now"], rows))
    return 0


def shown(value: float) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())
