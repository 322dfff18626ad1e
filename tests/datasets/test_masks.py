"""Packed masks and run lengths: what goes in comes out, and what is wrong is said."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claus.datasets.labels import masks as mask_module
from claus.datasets.labels.masks import (
    PackedMasks,
    decode_rle,
    encode_rle,
    from_record,
    rle_problem,
    to_record,
)
from claus.utils.runtime import UserError


def some_masks(n=5, height=7, width=9, seed=0):
    return np.random.default_rng(seed).random((n, height, width)) < 0.4


# ---- packed ----


def test_what_is_packed_comes_out_again():
    masks = some_masks()  # 63 pixels: not a whole number of bytes
    packed = PackedMasks.pack(masks)
    assert len(packed) == 5 and packed.shape == (5, 7, 9) and packed.dtype == bool
    for i in (0, 4, -1, np.int64(2)):
        assert packed[i].dtype == bool and np.array_equal(packed[i], masks[i])
    for index in (
        slice(None),
        slice(1, 4, 2),
        [3, 0, 3],
        np.array([4, 1]),
        np.array([True, False] * 2 + [True]),
        [],
    ):
        assert (
            np.array_equal(packed[index], masks[index])
            and packed[index].shape == masks[index].shape
        )
    assert np.array_equal(np.stack(list(packed)), masks) and packed.tolist() == masks.tolist()
    assert (
        np.array_equal(np.asarray(packed), masks)
        and np.asarray(packed, np.uint8).dtype == np.uint8
    )
    with pytest.raises(IndexError):
        packed[5]


def test_what_comes_out_is_a_copy():
    packed = PackedMasks.pack(some_masks())
    packed[0][:] = True
    packed[:][:] = True
    assert np.array_equal(packed[:], some_masks())


def test_it_reads_when_the_first_mask_is_asked_for_and_once():
    calls = []

    def read():
        calls.append(1)
        return some_masks()

    packed = PackedMasks((5, 7, 9), read)
    assert len(packed) == 5 and packed.shape[1:] == (7, 9) and not calls
    assert (
        np.array_equal(packed[3], some_masks()[3])
        and np.array_equal(packed[:], some_masks())
        and len(calls) == 1
    )
    with pytest.raises(ValueError, match=r"bool \(5, 7, 9\), not bool \(4, 7, 9\)"):
        PackedMasks((4, 7, 9), read)[0]


def test_real_masks_take_little_room():
    yy, xx = np.mgrid[:240, :320]
    masks = np.stack([(yy - 120) ** 2 + (xx - 160 - f) ** 2 < 50**2 for f in range(8)])
    assert sum(map(len, PackedMasks.pack(masks)._rows)) < masks.size / 100


# ---- run lengths ----


def test_run_lengths_by_hand():
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)  # by columns: 0 0 | 1 1 | 1 0
    assert encode_rle(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert encode_rle(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}
    assert encode_rle(np.zeros((2, 2), bool))["counts"] == [4] and encode_rle(
        np.ones((2, 2), bool)
    )["counts"] == [0, 4]
    assert decode_rle({"size": [2, 3], "counts": [2, 3, 1]}).tolist() == mask.tolist()
    assert (
        decode_rle({"size": [2, 3], "counts": [1, 0, 1, 2, 0, 1, 1]}).tolist() == mask.tolist()
    )  # empty runs


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_run_lengths_come_back(height, width, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    rle = encode_rle(mask)
    assert all(type(count) is int for count in rle["counts"]) and all(rle["counts"][1:])
    assert np.array_equal(decode_rle(rle), mask)
    assert (rle_problem(rle, height, width) is None) == bool(mask.any())


@pytest.mark.parametrize(
    "rle, words",
    [
        (None, "is not"),
        ([3, 3], "is not"),
        ({"size": [2, 3]}, "is not"),
        ({"counts": [6]}, "is not"),
        ({"size": [3, 2], "counts": [2, 4]}, r"has size \[3, 2\]; the picture is \[2, 3\]"),
        ({"size": [{}, 3], "counts": [6]}, r"not \[height, width\]"),
        ({"size": None, "counts": [6]}, r"not \[height, width\]"),
        ({"size": [2, 3], "counts": "PQ"}, "not a list of whole numbers"),
        ({"size": [2, 3], "counts": [2, -1, 5]}, "not a list of whole numbers"),
        ({"size": [2, 3], "counts": [2, 4.0]}, "not a list of whole numbers"),
        ({"size": [2, 3], "counts": [5, True]}, "not a list of whole numbers"),
        ({"size": [2, 3], "counts": [2, 3]}, "sum to 5, not to the picture's 6"),
        ({"size": [2, 3], "counts": [2, 10**30]}, "not to the picture's 6"),
        ({"size": [2, 3], "counts": []}, "sum to 0"),
        ({"size": [2, 3], "counts": [6]}, "is empty"),
        ({"size": [2, 3], "counts": [3, 0, 3]}, "is empty"),
    ],
)
def test_wrong_run_lengths_are_named(rle, words):
    assert re.search(words, rle_problem(rle, 2, 3))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 30])
def test_records_are_unpacked_piece_by_piece(monkeypatch, count):
    """Masks of 35 pixels begin in the middle of a byte; of noise a piece holds less than
    one, of a plain one more than all.
    """
    noise = np.random.default_rng(count).random((count, 5, 7)) < 0.5
    noise[:, 0, 0] = True
    for masks in (noise, np.ones((count, 5, 7), bool)):
        record = to_record(masks)
        whole = from_record(record)
        np.testing.assert_array_equal(whole[:], masks)
        monkeypatch.setattr(mask_module._Unpacked.__init__, "__defaults__", (3,))
        np.testing.assert_array_equal(from_record(record)[:], masks)
        monkeypatch.undo()
    with pytest.raises(UserError, match="cut short"):
        from_record({**to_record(noise), "shape": (count + 8, 5, 7)})
    noise[-1] = False
    with pytest.raises(UserError, match="a mask is empty"):
        from_record(to_record(noise))
