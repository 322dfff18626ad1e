"""What a file of JSON or a pickle must hold, written down as Python shows it, and what of a
value does not fit.

    {"run": str, "cycle": WHOLE, "videos": [{"video": str, "score": (float, None)}]}

A type is itself; a number is finite, of 64 bits at most, and True is none; a text can be
written. [x] is a list of any length, (x, y) one
of these, {name: x} an object that has these names, and may have others; {str: x} one of any
names. maybe(x): the name may be missing.
"""

import math
from collections.abc import Callable


class maybe:  # noqa: N801  written as a word in shapes
    """A part that may be missing."""

    def __init__(self, shape: object):
        self.shape = shape


def whole(value: object) -> bool:
    """Whether a value is a whole number from 0 that 32 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def share(value: object) -> bool:
    """Whether a value is a number from 0 to 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= 1


def amount(value: object) -> bool:
    """Whether a value is a finite number from 0 on."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < math.inf


WORDS = {
    whole: "a whole number from 0",
    share: "a number from 0 to 1",
    amount: "a number from 0",
}
NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    None: "null",
    object: "anything",
}


def misfit(value: object, shape: object, where: str = "") -> str | None:
    """What is wrong with a value, in words that begin with the place; None where it fits."""
    if isinstance(shape, maybe):
        shape = shape.shape
    if isinstance(shape, tuple):
        found = [misfit(value, one, where) for one in shape]
        if None in found:
            return None
        # of several the one that came deepest says most
        return max(found, key=len) if isinstance(value, dict | list) else _wrong(where, shape)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _wrong(where, list)
        inside = ((f"{where}[{n}]", one, shape[0]) for n, one in enumerate(value))
        return _first(inside)
    if isinstance(shape, dict):
        return _misfit_object(value, shape, where)
    return None if _fits(value, shape) else _wrong(where, shape)


def _misfit_object(value, shape, where):
    if not isinstance(value, dict):
        return _wrong(where, dict)
    at = f"{where}." if where else ""
    if not all(isinstance(name, str) for name in value):
        return f"{where or 'it'} has a name that is no text"
    if str in shape:
        return _first((f"{at}{name}", one, shape[str]) for name, one in value.items())
    for name, part in shape.items():
        if name not in value and not isinstance(part, maybe):
            return f"{at}{name} is missing"
    return _first(
        (f"{at}{name}", value[name], part) for name, part in shape.items() if name in value
    )


def _first(parts):
    return next(
        filter(None, (misfit(value, shape, where) for where, value, shape in parts)), None
    )


def _fits(value, shape):
    if shape is None or shape is object:
        return shape is object or value is None
    if not isinstance(shape, type):
        return shape(value)
    if isinstance(value, bool) and shape in (int, float):
        return False
    if isinstance(value, int) and shape in (int, float):
        return -(2**63) <= value < 2**63
    if shape is str:
        return isinstance(value, str) and can_be_written(value)
    return isinstance(value, shape) and (shape is not float or math.isfinite(value))


def can_be_written(text: str) -> bool:
    """Whether a text has no half characters, which no file of UTF-8 can hold."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _wrong(where, shape):
    shapes = shape if isinstance(shape, tuple) else (shape,)
    names = [_word(one) for one in shapes]
    return f"{where or 'it'} is not {' or '.join(dict.fromkeys(names))}"


def _word(shape: Callable | type | list | dict | None) -> str:
    if isinstance(shape, list | dict):
        return NAMES[type(shape)]
    return WORDS.get(shape) or NAMES.get(shape) or shape.__name__.replace("_", " ")
