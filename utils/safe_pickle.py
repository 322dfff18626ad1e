"""Reading pickles that come from strangers: data only, nothing that could run.

A pickle is a small program that may call any function it can name. The reader here admits
the names that numpy arrays and builtin containers need, under numpy's old and new module
names, and refuses every other.
"""

import math
import pickle
import re

import numpy as np

from claus.utils.runtime import UserError


def safe_load(path):
    """Read a pickle that may come from a stranger: builtin containers, numpy arrays and
    scalars, nothing else.

    Anything else the pickle names (a function, a class) is refused by its name before it is
    looked up, so nothing of it is executed; numpy's own functions are not called either.
    Arrays are of numbers, text or bytes (no objects, records or dates), in native byte
    order. Python 2 pickles are read as latin1. Returns the object; raises UserError (one
    line, naming the file).
    """
    try:
        with open(path, "rb") as file:
            if not file.peek(1):
                raise UserError(f"{path}: the file is empty; make it again")
            return _finish(_Unpickler(file, encoding="latin1").load(), {})
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: there is no such file; check the path, or run the step that writes it"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error
    except _Refused as error:
        raise UserError(
            f"{path}: the pickle names {error}, which is not data; refused, nothing was "
            "executed, get the file from a source you trust"
        ) from error
    except MemoryError as error:
        raise UserError(
            f"{path}: asks for more memory than there is; the file is damaged, make it again"
        ) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        if isinstance(error, EOFError) or "truncated" in str(error):
            raise UserError(
                f"{path}: the file is truncated; make it or copy it again"
            ) from error
        raise UserError(
            f"{path}: not a pickle, or a damaged one; make it or copy it again"
        ) from error


class _Refused(Exception):
    """The dotted name of something that a pickle may not use."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        allowed = _ALLOWED.get((module.replace("numpy.core", "numpy._core", 1), name))
        if allowed is None:
            raise _Refused(ascii(f"{module}.{name}")[1:-1])
        return allowed


class _Dtype:
    """What a pickle says of a dtype. Only code and byte order are believed: a forged state
    can point anywhere.
    """

    def __init__(self, code, align=False, copy=False):
        if not isinstance(code, str) or not re.fullmatch(r"[?biufcSU]\d*", code):
            raise _Refused(f"numpy.dtype({code!r})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array that the pickle has named and describes in its next step."""

    def __init__(self, kind, shape, code):
        pass

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.array = _from_buffer(data, dtype, shape, "F" if fortran else "C")


def _from_buffer(data, dtype, shape, order, axis_order=None):
    """Array of its own memory and native byte order from raw bytes (text in Python 2
    pickles).
    """
    data = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError("an array of another size than its bytes")
    flat = "C" if order == "K" else order
    array = np.ndarray(shape, dtype.dtype, data or None, order=flat).astype(
        dtype.dtype.newbyteorder("="), order="A"
    )
    return array if axis_order is None else array.transpose(axis_order)


def _scalar(dtype, data=b""):
    return _from_buffer(data, dtype, (), "C")[()]


def _encode(text, encoding):
    """bytes, as pickles of protocol 2 spell them; no other codec is looked up."""
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode with the codec {encoding!r}")
    return text.encode("latin1")


def _finish(item, done):
    """`item` with the real arrays and dtypes in the place of the stand-ins; lists and dicts
    are changed in place.

    done: id -> (what was there, what stands there now), for contents that are used twice or
    hold themselves.
    """
    if isinstance(item, _Array):
        return item.array
    if isinstance(item, _Dtype):
        return item.dtype
    if not isinstance(item, list | tuple | dict):
        return item
    if id(item) not in done:
        if not isinstance(item, tuple):
            done[id(item)] = item, item
        if isinstance(item, dict):
            for key, value in item.items():
                if type(value) not in _PLAIN:
                    item[key] = _finish(value, done)
        elif isinstance(item, list):
            item[:] = [
                value if type(value) in _PLAIN else _finish(value, done) for value in item
            ]
        else:
            done[id(item)] = item, tuple(_finish(value, done) for value in item)
    return done[id(item)][1]


_PLAIN = {str, int, float, bool, bytes, type(None)}  # what stays as it is

_ALLOWED = {
    (
        "numpy",
        "ndarray",
    ): "numpy.ndarray",  # only ever an argument of _reconstruct, which has no need of it
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {
        (_module, kind.__name__): kind for kind in (set, frozenset, bytes, bytearray, complex)
    }
