"""A stranger's pickle is data or it is refused by name: nothing in it ever runs."""

import builtins
import ctypes
import io
import os
import pickle
import warnings

import numpy as np
import pytest

from claus.utils.runtime import UserError
from claus.utils.safe_pickle import safe_load


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def read(tmp_path, content):
    path = tmp_path / "some.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return safe_load(path)


def refusal(tmp_path, content):
    with pytest.raises(UserError) as error:
        read(tmp_path, content)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'some.pkl'}: ") and "\n" not in text
    return text


DATA = {
    "list": [1, -2.5, True, None, "text", "ünïcode", b"bytes", b"", (), (1, (2,))],
    "set": [{1, 2}, frozenset({3}), bytearray(b"ab"), 1 + 2j],
    "scalars": [
        np.uint8(251),
        np.float32(0.1),
        np.int64(-5),
        np.bool_(True),
        np.str_("ab"),
        np.str_(""),
    ],
    "arrays": [
        np.arange(6, dtype="u1").reshape(2, 3),
        np.zeros((0, 4), np.int32),
        np.array(7.5),
        np.arange(3, dtype=">f8"),
        np.array(["ab", "c"]),
        np.asfortranarray(np.eye(3, 2)),
        np.array([True, False]),
        np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
        np.array([b"x", b"yz"]),
    ],
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_data_comes_back_as_it_was(tmp_path, protocol):
    content = pickle.dumps(DATA, protocol)
    got, plain = read(tmp_path, content), pickle.loads(content)
    assert got["list"] == DATA["list"] and got["set"] == DATA["set"]
    for kind in ("scalars", "arrays"):
        for new, old, numpys in zip(got[kind], DATA[kind], plain[kind], strict=True):
            assert type(new) is type(old) and np.array_equal(new, old)
            assert new.dtype == numpys.dtype.newbyteorder("=")
            if isinstance(new, np.ndarray):
                assert (
                    new.flags.writeable and new.flags.f_contiguous == numpys.flags.f_contiguous
                )


def test_contents_used_twice_or_holding_themselves(tmp_path):
    array = np.arange(3)
    inner = [array, (array, [array])]
    loop = {"a": inner, "b": inner, "t": (1, array)}
    loop["self"] = [loop]
    got = read(tmp_path, loop)
    assert got["a"] is got["b"] and got["self"][0] is got
    assert [got["a"][1][1][0].tolist(), got["a"][1][0].tolist(), got["t"][1].tolist()] == [
        [0, 1, 2]
    ] * 3
    assert all(
        isinstance(one, np.ndarray) for one in (got["a"][0], got["a"][1][0], got["t"][1])
    )


def test_nests_too_deep_to_read_are_refused(tmp_path):
    assert "500 deep" in refusal(tmp_path, b"\x80\x02" + b"]" * 100000 + b"a" * 99999 + b".")


def test_the_old_and_the_new_name_of_numpys_core_are_both_read(tmp_path):
    new = pickle.dumps([np.arange(3), np.uint8(4)], protocol=2)
    assert b"numpy._core.multiarray" in new
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for content in (old, new):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns where its old name is really imported
            array, scalar = read(tmp_path, content)
        assert array.tolist() == [0, 1, 2] and scalar == 4


def test_python_2_text_is_read_as_latin1(tmp_path):
    assert read(tmp_path, b"U\x02\xe9a.") == "éa"


def test_os_system_is_refused_by_name_and_not_executed(tmp_path):
    mark = tmp_path / "executed"
    text = refusal(tmp_path, {"data": Call(os.system, f"touch {mark}")})
    assert f"{os.system.__module__}.system" in text and "nothing was executed" in text
    assert not mark.exists()


@pytest.mark.parametrize(
    "function, arguments, name",
    [
        (eval, ("1/0",), "eval"),
        (exec, ("1/0",), "exec"),
        (getattr, ("", "join"), "getattr"),
        (open, ("x", "w"), "open"),
        (__import__, ("os",), "__import__"),
        (print, ("x",), "print"),
        (list, ((1,),), "list"),
        (type, ("",), "type"),
    ],
)
def test_builtins_that_do_things_are_refused(tmp_path, function, arguments, name):
    assert name in refusal(tmp_path, Call(function, *arguments))
    assert getattr(builtins, name) is function or name == "open"


@pytest.mark.parametrize(
    "name",
    [
        "numpy.lib.npyio.load",
        "numpy.load",
        "numpy.ctypeslib.load_library",
        "ctypes.CDLL",
        "numpy.core.multiarray.fromfile",
        "numpy._core.multiarray.frombuffer",
        "posix.system",
        "subprocess.Popen",
        "numpy.f2py.crackfortran.myeval",
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "os.path",
        "numpy.core.numeric._rebuild",
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_globals_are_refused_by_their_dotted_name(tmp_path, name, protocol):
    module, _, attribute = name.rpartition(".")
    if protocol == 2:
        content = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"."
    else:
        parts = [bytes([0x8C, len(part)]) + part.encode() for part in (module, attribute)]
        content = b"\x80\x04" + b"".join(parts) + b"\x93."
    assert f"the pickle names {name}, which" in refusal(tmp_path, content)


def test_an_attribute_path_does_not_reach_through_an_allowed_module(tmp_path):
    content = (
        b"\x80\x04"
        + b"".join(bytes([0x8C, len(p)]) + p for p in (b"numpy", b"dtype.__class__"))
        + b"\x93."
    )
    assert "numpy.dtype.__class__" in refusal(tmp_path, content)


def test_a_ctypes_object_is_refused(tmp_path):
    assert "_ctypes" in refusal(tmp_path, ctypes.c_int(3))


def test_a_refused_name_cannot_break_the_line(tmp_path):
    content = b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93."
    assert r"a\nb.c" in refusal(tmp_path, content)


def test_a_codec_other_than_latin1_is_refused(tmp_path):
    import _codecs

    assert "rot13" in refusal(tmp_path, Call(_codecs.encode, "x", "rot13"))


def test_arrays_of_objects_and_records_are_refused(tmp_path):
    assert "numpy.dtype('O8')" in refusal(tmp_path, np.array([{}, []], dtype=object))
    assert "numpy.dtype('V8')" in refusal(tmp_path, np.zeros(2, "i4,f4"))


def test_the_state_of_a_forged_dtype_is_not_believed(tmp_path):
    """Given to numpy itself, this one reads 400 bytes where there are 4."""

    class Forged:
        def __reduce__(self):
            return (
                np.dtype,
                ("S4", False, True),
                (3, "|", (np.dtype("i4"), (100,)), None, None, 4, 1, 0),
            )

    from numpy._core.multiarray import scalar
    from numpy._core.numeric import _frombuffer

    assert (
        read(tmp_path, Forged()) == np.dtype("S4") and read(tmp_path, Forged()).subdtype is None
    )
    assert read(tmp_path, Call(_frombuffer, b"1234", Forged(), (1,), "C")).tolist() == [b"1234"]
    assert read(tmp_path, Call(scalar, Forged(), b"1234")) == b"1234"


def test_an_array_has_exactly_the_bytes_of_its_shape(tmp_path):
    from numpy._core.numeric import _frombuffer

    for shape in ((3,), (1,), (-2,), (2**62,), (2**40, 2**40)):
        assert "damaged" in refusal(
            tmp_path, Call(_frombuffer, b"1234", np.dtype("i2"), shape, "C")
        )


def test_numpys_ndarray_cannot_be_called(tmp_path):
    assert "not a pickle" in refusal(tmp_path, Call(np.ndarray, (1,), "O", b"A" * 8))


def test_damaged_files_are_named(tmp_path):
    whole = pickle.dumps({"a": np.arange(1000)})
    assert "empty" in refusal(tmp_path, b"")
    for length in (1, 3, len(whole) // 2, len(whole) - 1):
        assert "truncated" in refusal(tmp_path, whole[:length])
    for content in (
        b"hello, this is a text\n",
        b"PK\x03\x04zip",
        b"\x00" * 100,
        b"\x80\x04]\x94h\x55.",
        b"\xff\xfe",
    ):
        text = refusal(tmp_path, content)
        assert "not a pickle" in text or "truncated" in text
    assert "newer" not in text


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        safe_load(tmp_path / "none.pkl")
    with pytest.raises(UserError, match="cannot be read"):
        safe_load(tmp_path)


def test_every_single_damaged_byte_is_a_usererror_or_data(tmp_path):
    """No exception but UserError leaves the reader, whichever byte of a small file is
    spoilt.
    """
    whole = bytearray(
        pickle.dumps(
            {"frames": np.arange(5, dtype=np.int16), "label": np.uint8(3), "n": b"x"}, 2
        )
    )
    path = tmp_path / "some.pkl"
    errors = 0
    for i in range(len(whole)):
        spoilt = io.BytesIO(whole)
        spoilt.seek(i)
        spoilt.write(bytes([whole[i] ^ 0x15]))
        path.write_bytes(spoilt.getvalue())
        try:
            safe_load(path)
        except UserError as error:
            errors += 1
            assert "\n" not in str(error)
    assert errors > len(whole) // 2
