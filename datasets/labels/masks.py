"""Masks of one actor as compressed bits, and as the run lengths that people and tools
exchange.

All J-HMDB masks are 2.4 GB as one byte a pixel and 25 MB compressed; one frame unpacks in
0.1 ms.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from claus.utils.runtime import UserError

DAMAGED = "the file is damaged, write it again"


class PackedMasks:
    """Masks (n,H,W) bool, each stored as compressed bits: masks[i] is bool (H,W),
    masks[indices] (k,H,W).

    Also len, .shape, iteration and np.asarray; every access returns a copy. `read`: a
    function that returns the masks, called at the first access.
    """

    dtype = np.dtype(bool)

    def __init__(self, shape: Sequence[int], read: Callable[[], np.ndarray] | None):
        self.shape = tuple(int(side) for side in shape)
        self._read, self._rows = read, None

    @classmethod
    def pack(cls, masks: np.ndarray) -> "PackedMasks":
        """The masks of a bool array (n,H,W)."""
        packed = cls(np.shape(masks), None)
        packed._take(np.asarray(masks))
        return packed

    @classmethod
    def pack_blocks(cls, blocks: Iterable[np.ndarray]) -> "PackedMasks":
        """The masks of at least one bool array (n,H,W), one after another."""
        rows, shape = [], ()
        for masks in blocks:
            shape = masks.shape[1:]
            rows += cls.pack(masks)._rows
        packed = cls((len(rows), *shape), None)
        packed._rows = rows
        return packed

    def _take(self, masks):
        if masks.shape != self.shape or masks.dtype != bool:
            raise ValueError(f"masks are {masks.dtype} {masks.shape}, not bool {self.shape}")
        self._rows = [zlib.compress(np.packbits(mask).tobytes(), 1) for mask in masks]
        self._read = None

    def __len__(self):
        return self.shape[0]

    @property
    def nbytes(self):
        """Bytes held, compressed; 0 as long as the masks have not been read."""
        return sum(map(len, self._rows or ()))

    def __getitem__(self, index):
        if self._rows is None:
            self._take(self._read())
        if isinstance(index, int | np.integer):
            return self._unpack(self._rows[index])
        wanted = np.arange(len(self))[index]
        if not len(wanted):
            return np.zeros((0, *self.shape[1:]), bool)
        return np.stack([self._unpack(self._rows[i]) for i in wanted])

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or bool, copy=False)

    def tolist(self):
        return self[:].tolist()

    def _unpack(self, row):
        height, width = self.shape[1:]
        packed = np.frombuffer(zlib.decompress(row), np.uint8)
        bits = np.unpackbits(packed, count=height * width)
        return bits.view(bool).reshape(height, width)


def to_record(masks: PackedMasks | np.ndarray) -> dict:
    """Masks (n,H,W) as the annotation file has them: {"shape": (n, H, W), "zlib": zlib of
    np.packbits}.
    """
    return {"shape": masks.shape, "zlib": zlib.compress(np.packbits(masks[:]).tobytes(), 6)}


def from_record(record: object) -> PackedMasks:
    """The masks of a record of to_record, none of them whole in memory; UserError where it
    is damaged or forged, or a mask is empty.
    """
    shape, packed = None, None
    if isinstance(record, dict):
        shape, packed = record.get("shape"), record.get("zlib")
    sides = shape if isinstance(shape, tuple) else ()
    if len(sides) != 3 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"masks of shape {shape}; {DAMAGED}")
    return PackedMasks.pack_blocks(_blocks(shape, packed if isinstance(packed, bytes) else b""))


def _blocks(shape, packed):
    """The masks of a record as bool arrays (n,H,W) of up to eight, which begin at a whole
    byte.
    """
    count, height, width = shape
    stream = _Unpacked(packed)
    for start in range(0, count, 8):
        masks = min(8, count - start)
        pixels = masks * height * width
        try:  # never more than the shape says, so that a few bytes cannot fill the memory
            bits = stream.read(-(-pixels // 8))
        except zlib.error as error:
            raise UserError(f"masks cannot be unpacked ({error}); {DAMAGED}") from error
        if len(bits) * 8 < pixels:
            raise UserError(f"masks are cut short; {DAMAGED}")
        unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), count=pixels)
        block = unpacked.view(bool).reshape(masks, height, width)
        if not block.any(axis=(1, 2)).all():
            raise UserError(
                "a mask is empty; leave out the frames where the actor is not visible"
            )
        yield block


class _Unpacked:
    """What a zlib stream holds, piece by piece."""

    def __init__(self, packed, piece=1 << 16):
        self.packed, self.at, self.piece = memoryview(packed), 0, piece
        self.zlib, self.waiting = zlib.decompressobj(), b""

    def read(self, count):
        """The next `count` bytes, fewer where the stream ends."""
        found = bytearray()
        while len(found) < count:
            if not self.waiting:
                self.waiting = self.packed[self.at : self.at + self.piece]
                self.at += len(self.waiting)
            ended = not self.waiting
            some = self.zlib.decompress(self.waiting, count - len(found))
            self.waiting = self.zlib.unconsumed_tail
            found += some
            if self.zlib.eof or (ended and not some):
                break
        return found


# ------------------------------------------------------------------------------ run lengths


def encode_rle(mask: np.ndarray) -> dict:
    """Mask (H,W) bool -> {"size": [H, W], "counts": [ints]}: COCO's uncompressed run
    lengths.

    Pixels go column by column, top to bottom; counts are lengths of runs, alternately
    outside and inside the mask, beginning outside (0 where the first pixel is inside).
    """
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [flat.size - 1]]))
    return {"size": [int(side) for side in np.shape(mask)], "counts": counts.tolist()}


def decode_rle(rle: Mapping) -> np.ndarray:
    """Mask (H,W) bool of the run lengths of encode_rle, which must fill it exactly (see
    rle_problem).
    """
    height, width = rle["size"]
    inside = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(inside, rle["counts"]).reshape(width, height).T


def rle_problem(rle: object, height: int, width: int) -> str | None:
    """What is wrong with run lengths for a picture of height x width, in words, or None."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        return 'is not {"size": [height, width], "counts": [...]}'
    size, counts = rle["size"], rle["counts"]
    if not isinstance(size, list) or not all(map(_is_length, size)):
        return f"has size {size!r}, which is not [height, width]"
    if size != [height, width]:
        return f"has size {size!r}; the picture is [{height}, {width}] (height, width)"
    if not isinstance(counts, list) or not all(map(_is_length, counts)):
        return (
            "has counts that are not a list of whole numbers from 0 (uncompressed run lengths)"
        )
    total, pixels = sum(counts), height * width
    if total != pixels:
        return f"has counts that sum to {total}, not to the picture's {pixels} pixels"
    if not sum(counts[1::2]):
        return "is empty; leave the actor out of this frame"
    return None


def _is_length(count):
    return isinstance(count, int) and not isinstance(count, bool) and count >= 0


def look_up(masks: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What a finished clip shows of masks (T,H,W): those of the pixels rows (S,), columns
    (S,) of clips.geometry.sources, (T,S,S); 0 where one is -1, in a bar.
    """
    shown = masks.take(columns, 2, mode="clip").take(rows, 1, mode="clip")
    shown[:, rows < 0] = 0
    shown[:, :, columns < 0] = 0
    return shown
