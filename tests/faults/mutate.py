"""Mutations of files, by kind: of their bytes, of JSON as text, of what a pickle holds."""

import copy
import json
import math
import pickle

import numpy as np

HOLE = "@@hole@@"
RAW = {  # kind: what stands in the place of a JSON value
    "NaN": ("NaN",),
    "Infinity": ("Infinity", "-Infinity"),
    "1e999": ("1e999", "-1e999"),
    "lone surrogate": (r'"a\ud800b"', r'"\udfff"'),
    "deep nesting": ("[" * 3000 + "]" * 3000, "[" * 90 + "1" + "]" * 90, '{"a":' * 200_000),
    "wrong type": (
        "null",
        "true",
        "3",
        "-1",
        "0.5",
        '""',
        '"x"',
        "[]",
        "{}",
        "[[]]",
        '{"a": 1}',
    ),
    "2**63 and more": ("9223372036854775808", "18446744073709551617", "-9223372036854775809"),
    "integer of 4,300 digits": ("9" * 4300, "-" + "7" * 4299, "1" + "0" * 5000),
    "huge": ("1e308", "123456789012", '"' + "x" * 100_000 + '"'),
    "line break in text": (r'"a\nb"', r'"a\u2028b\u0000"', r'"\u001b[31m"'),
}
OBJECTS = {
    "NaN": lambda: math.nan,
    "Infinity": lambda: math.inf,
    "lone surrogate": lambda: "a\ud800b",
    "deep nesting": lambda: _deep(300),
    "wrong type": lambda: None,
    "2**63 and more": lambda: 2**63,
    "integer of 4,300 digits": lambda: 10**4300,
    "huge": lambda: 123_456_789_012,
    "line break in text": lambda: "a\nb",
}
ODD = (True, -1, 0.5, "", "x", b"x", [], {}, (), [[]], {"a": 1}, {1, 2}, 1j, np.float32(2))
ARRAYS = {
    "NaN": lambda a: _put(a.astype(float), math.nan),
    "Infinity": lambda a: _put(a.astype(float), -math.inf),
    "2**63 and more": lambda a: _put(a.astype(np.uint64), 2**63 + 1),
    "huge": lambda a: _put(a.astype(np.int64), 2**62),
    "wrong type": lambda a: a.astype(str),
    "wrong shape": lambda a: a[None],
    "shorter": lambda a: a[:-1],
    "empty array": lambda a: a[:0],
    "negative": lambda a: -a.astype(np.int64) - 1 if a.dtype.kind in "iub" else -a - 1,
}


def _deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def _put(array, value):
    array = np.array(array)
    if array.size:
        array.flat[array.size // 2] = value
    return array


def of_bytes(content, rng):
    """(kind, mutated bytes) of any file."""
    kinds = (
        "truncated",
        "empty",
        "bit flip",
        "bytes changed",
        "byte order mark",
        "zeros",
        "twice",
        "junk before",
        "junk behind",
        "UTF-16",
    )
    kind, content = kinds[rng.integers(len(kinds))], bytes(content)
    at = int(rng.integers(max(len(content), 1)))
    if kind == "truncated":
        return kind, content[:at]
    if kind == "empty":
        return kind, b""
    if kind == "bit flip":
        return kind, content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[
            at + 1 :
        ]
    if kind == "bytes changed":
        count = int(rng.integers(1, 9))
        return kind, content[:at] + rng.bytes(count) + content[at + count :]
    if kind == "byte order mark":
        return kind, b"\xef\xbb\xbf" + content
    if kind == "zeros":
        return kind, content[:at] + bytes(len(content) - at)
    if kind == "twice":
        return kind, content + content
    if kind == "junk before":
        return kind, rng.bytes(7) + content
    if kind == "junk behind":
        return kind, content + rng.bytes(7)
    return kind, content.decode("utf-8", "replace").encode("utf-16")


def of_json(text, rng):
    """(kind, mutated text) of JSON: a value replaced, a key left out, twice, or added."""
    value = json.loads(text)
    path = _somewhere(value, rng)
    parent, key = value, None
    for step in path[:-1]:
        parent = parent[step]
    key = path[-1] if path else None
    choice = int(rng.integers(10))
    if key is not None and isinstance(parent, dict) and choice == 0:
        del parent[key]
        return "key left out", json.dumps(value)
    if key is not None and isinstance(parent, dict) and choice == 1:
        before, other = parent[key], _raw(rng)[1]
        parent[key] = HOLE
        raw = f"{other}, {json.dumps(key)}: {json.dumps(before)}"
        if rng.integers(2):
            raw = f"{json.dumps(before)}, {json.dumps(key)}: {other}"
        return "key twice", json.dumps(value).replace(json.dumps(HOLE), raw, 1)
    if key is not None and isinstance(parent, list) and choice == 0:
        parent.insert(key, copy.deepcopy(parent[key]))
        return "item twice", json.dumps(value)
    kind, raw = _raw(rng)
    if key is None:
        return kind, raw
    parent[key] = HOLE
    return kind, json.dumps(value).replace(json.dumps(HOLE), raw, 1)


def _raw(rng):
    kinds = [*RAW, "wrong type", "wrong type"]
    kind = kinds[rng.integers(len(kinds))]
    return kind, RAW[kind][rng.integers(len(RAW[kind]))]


def _somewhere(value, rng):
    """Path to a value inside, any depth."""
    path = []
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(rng.integers(len(keys)))]
        path.append(key)
        value = value[key]
        if rng.random() < 0.25:
            break
    return path


def of_object(content, rng):
    """(kind, mutated copy) of what a pickle or a checkpoint holds."""
    content = copy.deepcopy(content)
    path, parent = [], content
    value = content
    while isinstance(value, dict | list) and len(value):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(rng.integers(len(keys)))]
        path.append((value, key))
        value = value[key]
        if rng.random() < 0.2:
            break
    if not path:
        return "wrong type", None
    parent, key = path[-1]
    choice = int(rng.integers(8))
    if choice == 0 and isinstance(parent, dict):
        del parent[key]
        return "key left out", content
    if choice == 1 and isinstance(parent, list):
        parent.insert(key, parent[key])
        return "item twice", content
    if choice == 2 and isinstance(parent, dict):
        odd = (1, None, ("a", 1), "x\n", 2.5, True)[rng.integers(6)]
        parent[odd] = parent.pop(key)
        return "odd key", content
    if isinstance(value, np.ndarray) and choice < 7:
        kind = list(ARRAYS)[rng.integers(len(ARRAYS))]
        parent[key] = ARRAYS[kind](value)
        return kind, content
    if rng.random() < 0.4:
        parent[key] = ODD[rng.integers(len(ODD))]
        return "wrong type", content
    kind = list(OBJECTS)[rng.integers(len(OBJECTS))]
    parent[key] = OBJECTS[kind]()
    return kind, content


def of_pickle(content, rng):
    """(kind, bytes) of a pickle: what it holds mutated, or its bytes."""
    if rng.random() < 0.35:
        return of_bytes(content, rng)
    kind, mutated = of_object(pickle.loads(content), rng)
    return kind, pickle.dumps(mutated, 4)


def of_json_file(content, rng):
    if rng.random() < 0.2:
        return of_bytes(content, rng)
    kind, text = of_json(content.decode(), rng)
    return kind, text.encode("utf-8", "surrogatepass")


def of_lines(content, rng):
    """Of JSON lines: one of them."""
    if rng.random() < 0.2:
        return of_bytes(content, rng)
    lines = content.decode().splitlines()
    at = int(rng.integers(len(lines)))
    kind, lines[at] = of_json(lines[at], rng)
    return kind, "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")


def of_table(content, rng):
    """Of a CSV: one of its cells, a line, or bytes."""
    if rng.random() < 0.2:
        return of_bytes(content, rng)
    rows = [line.split(",") for line in content.decode().splitlines()]
    row = int(rng.integers(len(rows)))
    column = int(rng.integers(len(rows[row])))
    cells = {
        "NaN": "nan",
        "Infinity": "inf",
        "1e999": "1e999",
        "wrong type": "x",
        "empty cell": "",
        "2**63 and more": str(2**63),
        "integer of 4,300 digits": "9" * 4400,
        "line break in text": '"a\nb"',
        "lone quote": '"',
        "a cell more": "1,2",
        "NUL": "\0",
        "negative": "-3",
    }
    kind = list(cells)[rng.integers(len(cells))]
    rows[row][column] = cells[kind]
    if rng.random() < 0.1:
        kind = "line left out"
        del rows[row]
    return kind, "\n".join([*map(",".join, rows), ""]).encode()
