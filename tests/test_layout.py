"""docs/layout.md is what tools/layout.py generates."""

import pytest

from claus.tools import layout


def test_the_page_is_up_to_date():
    assert layout.main(["--check"]) == 0


def test_every_module_says_what_it_is():
    paths = [*layout.ROOT.glob("*.py")]
    for folder in layout.FOLDERS:
        paths += (layout.ROOT / folder).rglob("*.py")
    silent = [str(path) for path in paths if path.stat().st_size]
    silent = [path for path in silent if not layout.first_sentence(layout.Path(path))]
    assert not silent


@pytest.mark.parametrize(
    "docstring, sentence",
    [
        ('"""One. Two."""', "One."),
        ('"""One line\nwrapped\n\nMore."""', "One line wrapped"),
        ("x = 1", ""),
    ],
)
def test_first_sentence(tmp_path, docstring, sentence):
    path = tmp_path / "m.py"
    path.write_text(docstring + "\n")
    assert layout.first_sentence(path) == sentence
