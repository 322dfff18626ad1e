"""What a pickle would build, found out without building it.

A pickle is a program for a machine with a stack. Here its instructions are followed with
sizes in the place of values, so that a few bytes cannot ask for more than they hold: a value
that is referred to again and again and grows to billions when it is walked over, keys whose
hashes take for ever or overflow the stack, numbers of thousands of digits. Instructions that
data has no need of are refused.
"""

import pickletools
import re

SPARE = 10_000_000  # items that references may add, beside as many as the file has bytes
DEPTH = 500  # of values in values
DIGITS = 9  # bytes of a whole number, at most
HASHED = ("scalar", "encode")  # calls that give what may be a key: a number, text or bytes
SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")  # half a character, which no file can hold


class NotData(Exception):
    """What a pickle does that data has no need of, in words."""


def check(content: bytes) -> None:
    """Follow the instructions of a pickle. NotData for what is refused; IndexError, KeyError,
    TypeError, ValueError or EOFError where it is damaged.
    """
    machine = _Machine(content)
    machine.run()


# What is on the stack, and in the memo: 1 for a number or bytes, the place in the file (2 and
# up) of the instruction for a text, the name of a function, [size, depth] for everything
# that holds others.
_SIMPLE, _TEXT, _BYTES, _LINE, _NEW, _GET, _PUT, _MARK, _OTHER = range(9)


class _Machine:
    def __init__(self, content):
        self.content = content
        self.stack, self.marks, self.memo = [], [], {}  # marks: heights of the stack
        self.most = SPARE + len(content)
        self.surrogates = SURROGATE.search(content) is not None

    def run(self):
        """Until STOP. The most frequent instructions are followed here, without a call."""
        content, stack, memo, table = self.content, self.stack, self.memo, _TABLE
        push, marks, at = stack.append, self.marks, 0
        while True:
            start, code = at, content[at]
            entry = table[code]
            if entry is None and not (content[0] == 0x80 and code in _NAMES):
                raise ValueError("no pickle")
            if entry is None:
                raise NotData(f"has the instruction {_NAMES[code]}")
            kind, size, work = entry
            at += 1 + size
            if kind == _SIMPLE:
                push(1)
            elif kind == _GET:
                push(memo[content[start + 1]])
            elif kind == _PUT:
                memo[len(memo)] = stack[-1]
            elif kind == _MARK:
                marks.append(len(stack))
            elif kind == _OTHER:
                if work is None:
                    return
                argument = int.from_bytes(content[start + 1 : at], "little") if size else 0
                moved = work(self, argument, start)
                at = moved if moved else at
            elif kind == _TEXT:
                at += int.from_bytes(content[start + 1 : at], "little")
                push(start + 2)
                if self.surrogates:
                    self.check_text(content[start + 1 + size : at])
            elif kind == _BYTES:
                at += int.from_bytes(content[start + 1 : at], "little")
                push(1)
            elif kind == _NEW:
                push([1, 1])
            else:
                at = content.index(b"\n", at) + 1
                self.line(content[start + 1 : at - 1], work)
                push(1)
            if at > len(content):
                raise EOFError

    def line(self, text, name):
        """A value of protocol 0, written as text."""
        if name in ("INT", "LONG") and len(text) > 3 * DIGITS:
            raise NotData(f"has a number of {len(text)} digits")
        if name == "UNICODE":
            self.check_text(text.decode("raw-unicode-escape").encode("utf-8", "surrogatepass"))

    @staticmethod
    def check_text(text):
        if SURROGATE.search(text):
            raise NotData("has half a character in a text")

    def long(self, size, start):
        if size > DIGITS:
            raise NotData(f"has a number of {size} bytes")
        self.stack.append(1)
        return start + 1 + _TABLE[self.content[start]][1] + size

    # ------------------------------------------------------------------------------- memo

    def place(self, key):
        """A place in the memo, of which there are no more than bytes in the file: pickle makes
        room for all below the highest.
        """
        if not 0 <= key <= len(self.content):
            raise NotData("keeps something at a place that it cannot have")
        return key

    def put(self, key, start):
        self.memo[self.place(key)] = self.stack[-1]

    def get(self, key, start):
        self.stack.append(self.memo[key])

    def put_line(self, key, start):
        at = self.content.index(b"\n", start)
        self.memo[self.place(int(self.content[start + 1 : at]))] = self.stack[-1]
        return at + 1

    def get_line(self, key, start):
        at = self.content.index(b"\n", start)
        self.stack.append(self.memo[int(self.content[start + 1 : at])])
        return at + 1

    def dup(self, key, start):
        self.stack.append(self.stack[-1])

    # ------------------------------------------------------------------------- containers

    def since_mark(self):
        """What was put on the stack since the last mark, taken off with it."""
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def put_into(self, whole, items):
        """Count items as parts of a container, [size, depth]."""
        size, depth = whole[0] + len(items), whole[1]
        for item in items:
            if item.__class__ is list:
                size += item[0]
                if item[1] >= depth:
                    depth = item[1] + 1
        if size > self.most:
            raise NotData(f"refers to its own parts until it has more than {self.most} items")
        if depth > DEPTH:
            raise NotData(f"nests values more than {DEPTH} deep")
        whole[0], whole[1] = size, depth

    def collect(self, argument, start):
        """A tuple, list or frozenset of all since the mark."""
        items, whole = self.since_mark(), [1, 1]
        self.put_into(whole, items)
        if self.content[start : start + 1] == b"\x91":
            self.check_keys(items)
        self.stack.append(whole)

    def tuple_of(self, count):
        items, whole = self.stack[-count:], [1, 1]
        if len(items) < count:
            raise IndexError
        del self.stack[-count:]
        self.put_into(whole, items)
        self.stack.append(whole)

    def appends(self, argument, start):
        items = self.since_mark()
        self.put_into(self.stack[-1], items)

    def append(self, argument, start):
        item = self.stack.pop()
        self.put_into(self.stack[-1], [item])

    def set_items(self, argument, start):
        items = self.since_mark()
        self.check_keys(items[::2])
        self.put_into(self.stack[-1], items)

    def set_item(self, argument, start):
        value, key = self.stack.pop(), self.stack.pop()
        self.check_keys([key])
        self.put_into(self.stack[-1], [value])

    def add_items(self, argument, start):
        items = self.since_mark()
        self.check_keys(items)
        self.put_into(self.stack[-1], items)

    def dict_of(self, argument, start):
        items, whole = self.since_mark(), [1, 1]
        self.check_keys(items[::2])
        self.put_into(whole, items)
        self.stack.append(whole)

    @staticmethod
    def check_keys(keys):
        for key in keys:
            if key.__class__ is not int:
                raise NotData("has keys that are neither texts nor numbers")

    def pop(self, argument, start):
        self.stack.pop()

    def pop_mark(self, argument, start):
        self.since_mark()

    # -------------------------------------------------------------------------- functions

    def named(self, argument, start):
        middle = self.content.index(b"\n", start)
        end = self.content.index(b"\n", middle + 1)
        self.stack.append(self.content[middle + 1 : end].decode("utf-8", "replace"))
        return end + 1

    def named_on_stack(self, argument, start):
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not int or type(module) is not int or min(name, module) < 2:
            raise NotData("names a function by something that is no text")
        self.stack.append(self.text_at(name - 2).decode("utf-8", "replace"))

    def text_at(self, start):
        _, size, _ = _TABLE[self.content[start]]
        begin = start + 1 + size
        length = int.from_bytes(self.content[start + 1 : begin], "little")
        return self.content[begin : begin + length]

    def reduce(self, argument, start):
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not str or type(arguments) is not list:
            raise NotData("calls something that is no function")
        self.stack.append(1 if function in HASHED else list(arguments))

    def build(self, argument, start):
        state = self.stack.pop()
        if type(self.stack[-1]) is not list or type(state) is not list:
            raise NotData("sets the state of something that has none")
        self.put_into(self.stack[-1], [state])


def _table():
    """[(kind, bytes of the argument, work)] by the code of an instruction; None: refused."""
    table, names = [None] * 256, {op.name: op for op in pickletools.opcodes}

    def put(kind, work, *of):
        for name in of:
            arg = names[name].arg
            # arguments of varying length begin with their length, in 1, 4 or 8 bytes
            lengths = {-3: 4, -2: 1, -4: 4, -5: 8, -1: 0}
            size = 0 if arg is None else lengths.get(arg.n, arg.n)
            table[ord(names[name].code)] = kind, size, work(name) if work else None

    put(
        _SIMPLE, None, "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT"
    )
    put(_TEXT, None, "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
    put(_BYTES, None, "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
    put(_BYTES, None, "BYTEARRAY8")
    put(_LINE, str, "INT", "LONG", "FLOAT", "STRING", "UNICODE")
    put(_NEW, None, "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "EMPTY_TUPLE")
    put(_GET, None, "BINGET")
    put(_PUT, None, "MEMOIZE")
    put(_MARK, None, "MARK")
    put(_OTHER, None, "STOP")
    works = {
        "LONG_BINGET": _Machine.get,
        "BINPUT LONG_BINPUT": _Machine.put,
        "GET": _Machine.get_line,
        "PUT": _Machine.put_line,
        "DUP": _Machine.dup,
        "LONG1 LONG4": _Machine.long,
        "TUPLE LIST FROZENSET": _Machine.collect,
        "TUPLE1": lambda machine, *_: machine.tuple_of(1),
        "TUPLE2": lambda machine, *_: machine.tuple_of(2),
        "TUPLE3": lambda machine, *_: machine.tuple_of(3),
        "APPENDS": _Machine.appends,
        "APPEND": _Machine.append,
        "SETITEMS": _Machine.set_items,
        "SETITEM": _Machine.set_item,
        "ADDITEMS": _Machine.add_items,
        "DICT": _Machine.dict_of,
        "POP": _Machine.pop,
        "POP_MARK": _Machine.pop_mark,
        "GLOBAL": _Machine.named,
        "STACK_GLOBAL": _Machine.named_on_stack,
        "REDUCE": _Machine.reduce,
        "BUILD": _Machine.build,
        "PROTO FRAME": lambda *_: None,
    }
    for of, work in works.items():
        put(_OTHER, lambda name, work=work: work, *of.split())
    return table


_TABLE = _table()
_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
