"""Markdown tables, and the line about the machine above them."""

from claus.utils import allocator
from claus.utils.machine import machine_line
from claus.utils.markdown import table


def test_a_table():
    assert table(["a", "b"], [[1, "x"], [2.5, ""]]) == (
        "| a | b |\n| --- | --- |\n| 1 | x |\n| 2.5 |  |"
    )


def test_the_machine_says_which_allocator(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "7")
    assert "MALLOC_MMAP_THRESHOLD_=7" in allocator.settings()
    assert allocator.settings() in machine_line()
