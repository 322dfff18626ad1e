"""Hostile pickles: each is refused in one line, at once, and nothing of it runs."""

import io
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np

from . import campaign

MARK = "ran"  # a file that the code in them would make


def text(value):
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def of(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def named(module, name):
    return text(module) + text(name) + b"\x93"


def call(module, name, *arguments):
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


def laughs(levels, width, empty=b"]", close=b"e"):
    """A value that holds the one before `width` times, `levels` times over."""
    parts = [b"K\x01q\x00"]
    for level in range(levels):
        inside = (b"h" + bytes([level])) * width
        parts.append(b"](" + inside + b"e" if close == b"e" else b"(" + inside + b"t")
        parts.append(b"q" + bytes([level + 1]))
    return b"".join(parts)


def array(shape, code, data):
    dtype = call("numpy", "dtype", text(code), b"\x89", b"\x88")
    sides = (
        b"("
        + b"".join(
            b"\x8a" + bytes([9]) + int(n).to_bytes(9, "little", signed=True) for n in shape
        )
        + b"t"
    )
    return call("numpy._core.numeric", "_frombuffer", data, dtype, sides, text("C"))


def blob(content):
    return b"B" + struct.pack("<I", len(content)) + content


def number(value):
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(raw)) + raw


def hostile(folder):
    """[(name, bytes)], at least 100."""
    touch = f"touch {Path(folder) / MARK}"
    found = []

    def add(name, content):
        found.append((name, content))

    # code: functions by name, in both forms of naming, and through instances
    functions = [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("subprocess", "call"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "compile"),
        ("builtins", "open"),
        ("builtins", "getattr"),
        ("builtins", "setattr"),
        ("builtins", "__import__"),
        ("builtins", "print"),
        ("builtins", "type"),
        ("builtins", "object"),
        ("builtins", "list"),
        ("builtins", "map"),
        ("builtins", "memoryview"),
        ("builtins", "slice"),
        ("builtins", "range"),
        ("__builtin__", "apply"),
        ("__builtin__", "file"),
        ("importlib", "import_module"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("functools", "reduce"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy.ctypeslib", "load_library"),
        ("numpy", "dtype.__class__"),
        ("numpy", "ndarray.tofile"),
        ("ctypes", "CDLL"),
        ("pickle", "loads"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("shutil", "rmtree"),
        ("pathlib", "Path"),
        ("socket", "socket"),
        ("webbrowser", "open"),
        ("code", "interact"),
        ("claus.utils.safe_pickle", "_from_buffer"),
        ("claus.utils.runtime", "write_text"),
        ("numpy._core.multiarray", "fromfile"),
        ("numpy.f2py.crackfortran", "myeval"),
    ]
    for module, name in functions:
        add(f"call of {module}.{name}", of(call(module, name, text(touch))))
    for module, name in functions[:10]:
        add(
            f"old call of {module}.{name}",
            b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + text(touch) + b"tR.",
        )
    add("INST", b"\x80\x02(" + text(touch) + b"ios\nsystem\n.")
    add("OBJ", of(b"(", named("os", "system"), text(touch), b"o"))
    add("NEWOBJ", of(named("subprocess", "Popen"), b"(", text(touch), b"t\x81"))
    add("NEWOBJ_EX", of(named("subprocess", "Popen"), b"(", text(touch), b"t}\x92"))
    add("persistent id", of(text("x"), b"Q"))
    add("old persistent id", b"\x80\x02Px\n.")
    for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
        add("extension code", of(code))
    add("buffer out of band", of(b"\x97"))
    # functions of the reader itself
    for module, name in (
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy._core.multiarray", "scalar"),
        ("_codecs", "encode"),
        ("numpy", "dtype"),
        ("builtins", "set"),
        ("builtins", "bytes"),
    ):
        add(
            f"slot state of {name}",
            of(named(module, name), b"N}", text("__defaults__"), b"(", text("F"), b"ts\x86b"),
        )
        add(f"state of {name}", of(named(module, name), b"}", text("x"), b"K\x01sb"))
        add(f"{name} as data", of(b"](", named(module, name), b"e"))
    add(
        "defaults of the array's reader",
        of(
            b"(",
            named("numpy._core.numeric", "_frombuffer"),
            b"N}",
            text("__defaults__"),
            b"(",
            text("F"),
            b"\x85\x94ts\x86bK\x01t",
        ),
    )
    # memory
    add(
        "set of bytes(4e9)",
        of(call("builtins", "set", call("builtins", "bytes", number(4 * 10**9)))),
    )
    add("bytes(4e9)", of(call("builtins", "bytes", number(4 * 10**9))))
    add("bytearray(4e9)", of(call("builtins", "bytearray", number(4 * 10**9))))
    add(
        "frozenset of bytearray",
        of(call("builtins", "frozenset", call("builtins", "bytearray", number(10**9)))),
    )
    for code in ("S0", "U0", "S", "U"):
        add(f"10**12 items of {code}", of(array([10**12], code, blob(b""))))
    add("10**18 x 10**18 items", of(array([10**18, 10**18], "u1", blob(b""))))
    add("negative sides", of(array([-1, -8], "u1", blob(b"x" * 8))))
    add("text of 4 GB", of(b"X\xff\xff\xff\xff"))
    add("text of 2**63 bytes", of(b"\x8d" + b"\xff" * 8))
    add("bytearray of 2**40", of(b"\x96" + (2**40).to_bytes(8, "little")))
    add("memo at 4e9", of(b"K\x01r\xff\xff\xff\xff"))
    add("memo at 3e8", of(b"K\x22r\x58\x2a\x8d\x13"))
    add("memo at 3e8, in text", b"\x80\x02K\x01p300000000\n.")
    add("frame of 2**62", b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"N.")
    for code in ("V8", "O", "O8", "M8[s]", "S99999999999", "i99", "(2,3)i4", "S" + "9" * 5000):
        add(f"dtype {code[:14]}", of(call("numpy", "dtype", text(code), b"\x89", b"\x88")))
    # time
    add("billion laughs in lists", of(laughs(9, 80)))
    add("billion laughs in tuples", of(laughs(9, 80, close=b"t")))
    add("billion laughs as a key", of(b"}" + laughs(9, 80, close=b"t") + b"Ns"))
    add("laughs in 737 bytes", of(laughs(100, 2, close=b"t") + b"N\x86\x85" + b"}h\x64Ns"))
    add("deep tuple as a key", of(b"})" + b"\x85" * 200_000 + b"Ns"))
    add("deep tuple", of(b")" + b"\x85" * 1_000_000))
    add("deep lists", of(b"]" * 100_000 + b"a" * 99_999))
    add("deep dicts", of((b"}" + text("a")) * 5_000 + b"N" + b"s" * 5_000))
    hashes = [number((2**61 - 1) * k) for k in range(60_000)]
    add("60,000 numbers of one hash", of(b"}(" + b"".join(one + b"N" for one in hashes) + b"u"))
    add("a set of such", of(b"\x8f(" + b"".join(hashes) + b"\x90"))
    add(
        "complex keys",
        of(
            b"}"
            + b"".join(
                call(
                    "builtins",
                    "complex",
                    b"G" + struct.pack(">d", -1000003.0 * k),
                    b"G" + struct.pack(">d", k),
                )
                + b"Ns"
                for k in range(2000)
            )
        ),
    )
    add("frozensets as keys", of(b"}" + b"(K\x01K\x02\x91" + b"Ns"))
    add(
        "complex scalars as keys",
        of(
            b"}"
            + call(
                "numpy._core.multiarray",
                "scalar",
                call("numpy", "dtype", text("c16"), b"\x89", b"\x88"),
                blob(bytes(16)),
            )
            + b"Ns"
        ),
    )
    for digits in (5_000, 1_000_000):
        add(f"a number of {digits} digits", b"\x80\x02L" + b"9" * digits + b"L\n.")
        add(
            f"a number of {digits} bytes",
            of(b"\x8b" + struct.pack("<i", digits) + b"\x01" * digits),
        )
    # damaged machines
    add("more taken than there is", of(b"000"))
    add("mark that is not there", of(b"t"))
    add("memo that is not there", of(b"h\x07"))
    add("endless", b"\x80\x04" + b"N" * 100_000)
    add("stop at once", b"\x80\x04.")
    add("protocol 200", b"\x80\xc8N.")
    add("half a character", of(text("a\ud800")))
    add("half a character as a key", of(b"}" + text("\udfff") + b"Ns"))
    add(
        "names by memo",
        of(text("os"), b"q\x01", text("system"), b"q\x02h\x01h\x02\x93(", text(touch), b"tR"),
    )
    add("call of a text", of(text("os.system"), b"(", text(touch), b"tR"))
    add("a codec with a side effect", of(call("_codecs", "encode", text("x"), text("rot13"))))
    add("a codec by a list", of(call("_codecs", "encode", text("x"), b"]")))
    add(
        "an array as itself",
        of(
            call(
                "numpy._core.multiarray",
                "_reconstruct",
                named("numpy", "ndarray"),
                b")",
                blob(b"b"),
            ),
            b"q\x01h\x01b",
        ),
    )
    return found


def data():
    """[(name, object)] that must be read, and as it is."""
    return [
        ("numbers", [1, -(2**62), 2.5, True, None, b"x", "ü", bytearray(b"ab"), 1 + 2j]),
        ("sets", [{1, 2}, frozenset({3})]),
        (
            "arrays",
            {
                "a": np.arange(6).reshape(2, 3),
                "n": np.array(["ab", "c"]),
                "e": np.empty((0, 4)),
            },
        ),
        ("names of numpy", {np.str_("A/a"): {"numf": np.uint8(3)}}),
        ("shared", [[1, 2]] * 1000),
    ]


def read(content, folder):
    """What safe_load makes of it."""
    from claus.utils.safe_pickle import safe_load

    path = Path(folder) / "some.pkl"
    path.write_bytes(content)
    return safe_load(path)


class Hostile:
    """A campaign.Kind of the hostile pickles: reading one is wrong."""

    name, sealed = "hostile pickles", True

    @staticmethod
    def read(path):
        from claus.utils.safe_pickle import safe_load

        found = safe_load(path)
        ascii(found)[:1]
        return found


def equal(a, b):
    stream = [io.BytesIO(), io.BytesIO()]
    for value, file in zip((a, b), stream, strict=True):
        pickle.dump(value, file, 4)
    return stream[0].getvalue() == stream[1].getvalue()


def outcomes():
    """(outcome, text) of every hostile pickle, and of data."""
    with tempfile.TemporaryDirectory() as folder:
        items = hostile(folder)

        def work(say):
            path = Path(folder) / "some.pkl"
            for name, content in items:
                path.write_bytes(content)
                outcome, text = campaign.tried(Hostile, path, object())
                if (Path(folder) / MARK).exists():
                    outcome = "wrong"
                say([outcome, f"{name}: {text}"])
            for name, value in data():
                same = equal(read(pickle.dumps(value, 2), folder), value)
                say(["read as it was" if same else "wrong", name])

        done, status = campaign.items_of(work)
        yield from done
        if status:
            yield "death", f"after {done[-1]}"
