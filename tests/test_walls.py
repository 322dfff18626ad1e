"""The walls between the rooms, see docs/layout.md: what each may import, and where flags end."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUND = {"models", "losses", "selection", "metrics"}
STORES = {"datasets", "annotators", "artifacts"}
WINGS = {"experiments", "benchmarks"}  # with scripts of their own
OTHERS = {"utils", "flags", "detection", "steps", "semi", "reference", "tools"}
ROOMS = GROUND | STORES | WINGS | OTHERS
MIDDLE = {"engine", "training", "batch_parts"}  # modules at top level that are no scripts
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - MIDDLE
MODULES = {
    path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
    if path.relative_to(ROOT).parts[0] in ROOMS or path.parent == ROOT
}
SEMI_DOORS = {Path("train_semi.py"), Path("flags/semi.py")}
LIGHT = {"claus", "numpy", "scipy", *sys.stdlib_module_names}


def imported(tree):
    """Dotted names of everything that a module imports, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(path):
    """Rooms that a module imports, and modules of the top level."""
    names = [name.split(".") for name in imported(MODULES[path])]
    return {parts[1] for parts in names if parts[0] == "claus" and len(parts) > 1}


def is_script(path):
    starts = [node for node in MODULES[path].body if isinstance(node, ast.If)]
    return any("__name__" in ast.unparse(node.test) for node in starts)


def broken(rule):
    """Modules for which rule(path) gives something, with what it gives."""
    found = {str(path): rule(path) for path in MODULES}
    return {path: what for path, what in found.items() if what}


def of(rooms):
    return lambda path: path.parts[0] in rooms


def test_ground_rooms_import_ground_rooms_alone():
    ground = of(GROUND)
    assert broken(lambda path: ground(path) and rooms_of(path) - GROUND) == {}


def test_selection_and_metrics_need_numpy_and_scipy_alone():
    def heavy(path):
        if path.parts[0] not in ("selection", "metrics"):
            return None
        at_the_top = ast.Module(MODULES[path].body, [])
        at_the_top.body = [
            n for n in at_the_top.body if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        return {name.split(".")[0] for name in imported(at_the_top)} - LIGHT

    assert broken(heavy) == {}


def test_utils_import_no_room():
    utils = of({"utils"})
    assert broken(lambda path: utils(path) and rooms_of(path) - {"utils"}) == {}


def test_stores_import_ground_rooms_stores_and_utils():
    stores = of(STORES)
    allowed = GROUND | STORES | {"utils"}
    assert broken(lambda path: stores(path) and rooms_of(path) - allowed) == {}


def test_nobody_imports_a_script():
    def scripts_of(path):
        bare = {name.split(".")[0] for name in imported(MODULES[path])}
        return (bare | rooms_of(path)) & (SCRIPTS | {"experiments.run"})

    assert broken(scripts_of) == {}


def test_rooms_are_imported_by_their_full_name():
    def bare(path):
        return {name.split(".")[0] for name in imported(MODULES[path])} & (ROOMS | MIDDLE)

    assert broken(bare) == {}


def test_nothing_but_the_wings_imports_a_wing():
    def wings_of(path):
        return (
            path.parts[0] not in WINGS and path != Path("report.py") and rooms_of(path) & WINGS
        )

    assert broken(wings_of) == {}
    experiments = of({"experiments"})
    assert broken(lambda path: experiments(path) and "benchmarks" in rooms_of(path)) == {}


def test_only_its_doors_import_semi():
    def semi(path):
        outside = path.parts[0] != "semi" and path not in SEMI_DOORS
        return outside and "semi" in rooms_of(path)

    assert broken(semi) == {}


def test_only_tests_and_benchmarks_import_the_reference():
    free = of({"reference", "benchmarks"})
    assert broken(lambda path: not free(path) and "reference" in rooms_of(path)) == {}


def test_flags_stop_at_the_door():
    def flags_in(path):
        if path.parts[0] == "flags" or is_script(path):
            return None
        nodes = [*ast.walk(MODULES[path])]
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        modules = {name.split(".")[0] for name in imported(MODULES[path])}
        return (names & {"args"}) | (modules & {"argparse"})

    assert broken(flags_in) == {}
