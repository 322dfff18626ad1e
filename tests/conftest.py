"""Fixtures shared by the tests, and a closing line that counts what was skipped for want of
the real data.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import claus.utils.startup  # noqa: E402, F401  before torch

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in `make test &`; the scripts that are run inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("CLAUS_SHARED", ROOT.parent / "shared"))
NO_DATA = "needs the real data (../shared, or where CLAUS_SHARED points)"


def _shared(part):
    folder = SHARED / part
    if not folder.is_dir():
        pytest.skip(NO_DATA)
    return folder


@pytest.fixture(scope="session")
def shared_data():
    """Folder with real UCF-101 and J-HMDB data; the test is skipped where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_golden():
    """Folder with numbers from the field's own code; the test is skipped where it is absent."""
    return _shared("golden")


@pytest.fixture(scope="session")
def made_videos(tmp_path_factory):
    """Folder of tiny videos: gray20.avi and gray40.avi (frame k is gray level 6k + 8),
    square.avi (see made_videos.py).
    """
    import made_videos

    from claus.datasets.sprites import write_video

    folder = tmp_path_factory.mktemp("made_videos")
    for count in (20, 40):
        write_video(folder / f"gray{count}.avi", made_videos.gray_frames(count))
    write_video(folder / "square.avi", made_videos.white_square_frames(30)[0])
    return folder


def pytest_terminal_summary(terminalreporter):
    skipped = [
        r for r in terminalreporter.stats.get("skipped", []) if NO_DATA in str(r.longrepr)
    ]
    terminalreporter.write_line(f"skipped for want of the real data: {len(skipped)}")
