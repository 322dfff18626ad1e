"""What claus_select.py writes, byte for byte what it was before the rooms were moved."""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "golden"))
import make_bytes

EXPECTED = json.loads((make_bytes.HERE / "bytes.json").read_text())


@pytest.mark.parametrize("case", EXPECTED)
def test_a_selection_has_the_bytes_it_had(case, tmp_path):
    cycle, _, flags = case.partition(" ")
    assert make_bytes.digests(int(cycle), flags, tmp_path) == EXPECTED[case]
