"""The allocator keeps large blocks, in scripts alone and where nobody has chosen otherwise."""

import os
import subprocess
import sys

import pytest

from claus.utils import allocator

# page faults of the second of two blocks of 64 MiB that are made one after the other
SECOND = """
import sys
if sys.argv[1] == "kept":
    import claus.utils.startup
import resource
from claus.utils import allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults(), allocator.settings(), sep="|")
"""


def second(how, **environment):
    done = subprocess.run(
        [sys.executable, "-c", SECOND, how],
        env={**undecided(), **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    faults, settings = done.stdout.strip().split("|")
    return int(faults), settings


def undecided():
    """This environment without any choice of an allocator."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("LD_PRELOAD", "CLAUS_MALLOC")
    }


def test_a_block_is_used_again():
    faults, settings = second("kept")
    if settings == "default malloc":
        pytest.skip("another C library than glibc")
    assert settings == "malloc keeps large blocks"
    assert faults < 100  # of 16,384 pages
    assert second("left")[0] > 10000


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("CLAUS_MALLOC", "default", "default malloc"),
        ("MALLOC_TRIM_THRESHOLD_", "131072", "MALLOC_TRIM_THRESHOLD_=131072"),
    ],
)
def test_what_the_user_chose_stays(name, value, said):
    faults, settings = second("kept", **{name: value})
    assert settings == said
    assert faults > 10000


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_kept", False)
    monkeypatch.setattr(allocator, "chosen", lambda: "")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_blocks()
    assert allocator.settings() == "default malloc"
