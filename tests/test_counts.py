"""The code stays as easy to read as tools/counts.py measured it."""

import ast

import pytest

from claus.tools import counts

LIMITS = {"characters": 46, "long": 5, "nested": 1, "readme": 1100}


@pytest.fixture(scope="module")
def now():
    return counts.counts(counts.ROOT)


@pytest.mark.parametrize("name", LIMITS)
def test_counts_are_below_their_limits(now, name):
    assert now[name] <= LIMITS[name], counts.LABELS[name]


def test_public_functions_of_ground_rooms_are_typed():
    untyped = []
    for path in counts.python_files(counts.ROOT):
        room = path.relative_to(counts.ROOT)
        if room.parts[0] in counts.GROUND:
            for function in counts.public_functions(ast.parse(path.read_text())):
                given = [a.annotation for a in counts.parameters_of(function)]
                if None in given or function.returns is None:
                    untyped.append(f"{room}:{function.lineno} {function.name}")
    assert not untyped, "\n".join(untyped)


def test_what_is_counted(tmp_path):
    long = "x = " + "1 + " * 30 + "1"
    code = (
        "def f(a: int, b):\n    return [[c for c in d] for d in a]\n\n"
        f"class K:\n    def g(self, e: int) -> int:\n        {long}\n    def _h(self, z): ...\n"
    )
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "a.py").write_text(code)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "b.py").write_text(f"{long}\n" * 9)
    (tmp_path / "README.md").write_text("three short words\n")
    found = counts.counts(tmp_path)
    assert found["lines"] == 6
    assert found["long"] == pytest.approx(100 / 6)
    assert found["nested"] == pytest.approx(1000 / 6)
    assert found["typed"] == pytest.approx(200 / 3)
    assert found["readme"] == 3
