"""Files that appear whole, folders cleared of our own leftovers alone, JSON that is read or
refused in one line.
"""

import argparse
import os
import stat

import pytest

from claus.flags.common import HelpFormatter
from claus.utils import runtime
from claus.utils.runtime import TEMPORARY, UserError, check_writable, read_json


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: no such file"),
        (b'{"a": 1', "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "holds a list"),
        (b"null", "holds a NoneType"),
        (b"3", "holds a int"),
    ],
)
def test_json_that_holds_no_names_is_one_line(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(path, "make it anew")
    line = str(error.value)
    assert (
        line.startswith(f"{path}: {said}")
        and line.endswith("; make it anew")
        and "\n" not in line
    )


def test_json_comes_back(tmp_path):
    (tmp_path / "x.json").write_text('{"ä": [1]}', encoding="utf-8")
    assert read_json(str(tmp_path / "x.json"), "") == {"ä": [1]}


def test_a_folder_is_cleared_of_our_own_leftovers_alone(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # as if killed while writing: the temporary file stays
        patch.setattr(runtime.os, "unlink", lambda path: None)
        patch.setattr(
            runtime.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed"))
        )
        with pytest.raises(UserError):
            runtime.write_text(tmp_path / "table.csv", "a,b")
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(TEMPORARY)
    others = [
        tmp_path / name
        for name in (".settings.tmp", ".a.b.tmp", ".table.csv.abcd1234.tmp", "x.claus.tmp")
    ]
    for file in others:
        file.write_text("not ours")
    check_writable(tmp_path, clear=False)
    assert left.exists()
    check_writable(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_written_files_have_the_rights_of_new_ones(tmp_path):
    before = os.umask(0o027)
    try:
        runtime.write_text(tmp_path / "x", "y")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_help_names_every_default_once():
    """Those that the text of a flag names itself are left to it."""
    parser = argparse.ArgumentParser(formatter_class=HelpFormatter)
    parser.add_argument("--rate", type=float, default=0.5, help="of all")
    parser.add_argument("--told", default="x", help="of some (default: as it is)")
    parser.add_argument("--switch", action="store_true", help="a switch")
    parser.add_argument("--none", help="nothing")
    parser.add_argument("--empty", default="", help="no flags")
    parser.add_argument("--percent", type=int, default=3, help="in %%")
    said = parser.format_help()
    assert (
        "of all (default: 0.5)" in said
        and "of some (default: as it is)\n" in said
        and "in % (default: 3)" in said
    )
    assert "a switch\n" in said and "nothing\n" in said and "no flags\n" in said


def test_what_a_signal_left_is_removed_while_threads_go_on_writing(tmp_path, monkeypatch):
    """A server's threads put further temporary files into the set meanwhile."""
    left = [tmp_path / f"{number}" for number in range(3)]
    unlink, names = os.unlink, {str(path) for path in left}

    def writing(path):
        names.add(f"{path}, another")
        unlink(path)

    for path in left:
        path.touch()
    monkeypatch.setattr(runtime, "_unfinished", names)
    monkeypatch.setattr(runtime.os, "unlink", writing)
    runtime._remove_unfinished()
    assert not any(path.exists() for path in left)
