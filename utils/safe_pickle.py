"""Reading pickles that come from strangers: data only, nothing that could run.

A pickle is a small program that may call any function it can name. The reader here admits
the names that numpy arrays and builtin containers need, under numpy's old and new module
names, and refuses every other. Before anything is built, pickle_check.py walks over the
program and refuses what no data needs.
"""

import io
import math
import pickle
import re

import numpy as np

from claus.utils.pickle_check import NotData, check
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
    return _reading(path, lambda: _read(path))


def safe_loads(content: bytes, path):
    """The same for the bytes of a pickle; path: the file they are from, for the error."""
    return _reading(path, lambda: _build(content))


def _read(path):
    with open(path, "rb") as file:
        content = file.read()
    if not content:
        raise UserError(f"{path}: the file is empty; make it again")
    return _build(content)


def _build(content):
    check(content)
    return _finish(_Unpickler(io.BytesIO(content), encoding="latin1").load(), {})


def _reading(path, read):
    """What read() gives; UserError that names the file."""
    try:
        return read()
    except UserError:
        raise
    except NotData as error:
        raise UserError(
            f"{path}: the pickle {error}, which no data of ours or of the field needs; refused, "
            "nothing of it was built, get the file from a source you trust"
        ) from error
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
        cut = isinstance(error, EOFError | IndexError) or "subsection not found" in str(error)
        if cut or "truncated" in str(error):
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


class _Callable:
    """A function that a pickle may call, and do nothing else with: its defaults and its
    attributes are out of reach, for it has no state to be set.
    """

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *arguments):
        return self._function(*arguments)

    def __setstate__(self, state):
        raise _Refused("the state of a function")


class _Dtype:
    """What a pickle says of a dtype. Only code and byte order are believed: a forged state
    can point anywhere.
    """

    __slots__ = ("dtype",)

    def __init__(self, code, align=False, copy=False):
        known = isinstance(code, str) and re.fullmatch(r"[?biufcSU]\d{0,6}", code, re.ASCII)
        if not known:
            raise _Refused(f"numpy.dtype({_shown(code)})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array that the pickle has named and describes in its next step."""

    __slots__ = ("array",)

    def __init__(self, kind, shape, code):
        pass

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.array = _from_buffer(data, dtype, shape, "F" if fortran else "C")


def _from_buffer(data, dtype, shape, order, axis_order=None):
    """Array of its own memory and native byte order from raw bytes (text in Python 2
    pickles).
    """
    if not isinstance(data, str | bytes | bytearray):
        raise ValueError("an array whose bytes are none")
    data = data.encode("latin1") if isinstance(data, str) else bytes(data)
    items, nbytes = math.prod(shape), dtype.dtype.itemsize
    # of items without bytes (empty text) there could be any number, made of nothing
    if items * nbytes != len(data) or (items > 1 and not nbytes):
        raise ValueError("an array of another size than its bytes")
    flat = "C" if order == "K" else order
    array = np.ndarray(shape, dtype.dtype, data or None, order=flat).astype(
        dtype.dtype.newbyteorder("="), order="A"
    )
    return array if axis_order is None else array.transpose(axis_order)


def _scalar(dtype, data=b""):
    if dtype.dtype.kind == "c":  # as keys, any number of them can have one hash
        raise _Refused("a complex number of numpy")
    return _from_buffer(data, dtype, (), "C")[()]


def _encode(text, encoding):
    """bytes, as pickles of protocol 2 spell them; no other codec is looked up."""
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode with the codec {_shown(encoding)}")
    return text.encode("latin1")


def _set(items=()):
    return set(_listed(items))


def _frozenset(items=()):
    return frozenset(_listed(items))


def _listed(items):
    """A list as it is; not a number of zeros, nor a text."""
    if not isinstance(items, list | tuple):
        raise ValueError("a set of no list")
    return items


def _bytes(content=b"", encoding="latin1"):
    """Bytes of what is there; not so many zeros."""
    if isinstance(content, str):
        return _encode(content, encoding.replace("-", ""))
    if isinstance(content, list):  # as protocol 0 and 1 spell them
        return bytes(content)
    if not isinstance(content, bytes | bytearray):
        raise ValueError("bytes of no bytes")
    return bytes(content)


def _bytearray(content=b"", encoding="latin1"):
    return bytearray(_bytes(content, encoding))


def _complex(real=0.0, imaginary=0.0):
    return complex(float(real), float(imaginary))


def _shown(value):
    """A value of a pickle, short enough for a message."""
    return ascii(value)[:60] if isinstance(value, str) else f"a {type(value).__name__}"


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
    if isinstance(item, _Callable):
        raise _Refused("a function as data")
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
    # only ever an argument of _reconstruct, which has no need of it
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _Callable(_Dtype),
    ("numpy._core.multiarray", "_reconstruct"): _Callable(_Array),
    ("numpy._core.multiarray", "scalar"): _Callable(_scalar),
    ("numpy._core.numeric", "_frombuffer"): _Callable(_from_buffer),
    ("_codecs", "encode"): _Callable(_encode),
}
for _module in ("builtins", "__builtin__"):
    for _function in (_set, _frozenset, _bytes, _bytearray, _complex):
        _ALLOWED[_module, _function.__name__[1:]] = _Callable(_function)
