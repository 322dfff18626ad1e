"""The C library's allocator keeps large blocks for the next layer instead of giving each back
to the system, which would clear its pages anew every time.

A tensor of a megabyte or more is else mapped, filled with zeros page by page and unmapped, once a
layer. Results are the same bytes. Only glibc is asked, and only where the user has chosen
nothing: CLAUS_MALLOC=default, a MALLOC_ variable of glibc, or another allocator in LD_PRELOAD
leaves everything as it is.
"""

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # of malloc.h
LARGE = 1 << 30  # bytes: blocks that are still mapped one by one
LARGE_BEFORE = 1 << 25  # the most that glibc before 2.35 takes
NEVER = -1

_kept = False


def keep_blocks() -> bool:
    """Ask the allocator for it -> whether it agreed. Before torch is imported: threads that
    run already keep memory of their own.
    """
    global _kept
    if chosen() or _kept:
        return _kept
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library or system
        return False
    _kept = bool(mallopt(MMAP_THRESHOLD, LARGE) or mallopt(MMAP_THRESHOLD, LARGE_BEFORE))
    if _kept:
        mallopt(TRIM_THRESHOLD, NEVER)
        # memory of threads is given back in pieces of 64 MiB, whatever the thresholds
        mallopt(ARENA_MAX, 1)
    return _kept


def chosen() -> str:
    """What the environment says of the allocator, as text; empty where it says nothing."""
    told = []
    for name, value in sorted(os.environ.items()):
        if name.startswith("MALLOC_") or name == "LD_PRELOAD" and value:
            told.append(f"{name}={value}")
        if name == "CLAUS_MALLOC" and value == "default":
            told.append("default malloc")
    return ", ".join(told)


def settings() -> str:
    """What this process' allocator was told, in words."""
    return chosen() or ("malloc keeps large blocks" if _kept else "default malloc")
