"""The one reader of lists of names: test videos, classes, labeled and unlabeled videos, clips.

A list is text, a name a line: UTF-8 with or without a byte order mark, or UTF-16 and UTF-32
with one; lines end as on any system. A line may write the name with the ending of a video
file, in quotes, with \\ or ./, as an absolute path below the data folder, in another normal
form of Unicode, and with a label or an index behind it or an index in front. What matches
nothing, or two names, is an error that says which line and what is near.
"""

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from claus.datasets.labels.annotations import is_name
from claus.datasets.layouts import VIDEOS
from claus.utils.runtime import UserError
from claus.utils.words import many

MOST_BYTES = 1 << 26  # of a list; a million names have about half of that
SHOWN = 5  # names of an error
COMPARED = 20_000  # known names that a wrong one is compared with
MARKS = (  # longer ones first
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
OTHER_FILES = (
    (b"\x80", "a pickle"),
    (b"PK\x03\x04", "an archive or a spreadsheet"),
    (b"MATLAB", "a MATLAB file"),
    (b"%PDF", "a PDF"),
    (b"{\\rtf", "a document with formatting"),
    (b"\x89PNG", "a picture"),
)
BETWEEN = r"[\s,;]+"  # a name and its label
NUMBER = r"[-+]?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Line:
    """A line of a list that is not blank. number: from 1; text: without its end."""

    number: int
    text: str


def decode(content: bytes) -> str:
    """The text of a file; ValueError that says what it is instead."""
    for beginning, kind in OTHER_FILES:
        if content.startswith(beginning):
            raise ValueError(f"is {kind}, not a text")
    for mark, encoding in MARKS:
        if content.startswith(mark):
            try:
                return content.decode(encoding)
            except UnicodeDecodeError as error:
                name = encoding.removesuffix("-sig").upper()
                raise ValueError(f"begins as {name} and is not; save it as UTF-8") from error
    if b"\0" in content:
        raise ValueError(
            "is UTF-16 without a byte order mark, or not text at all; save it as UTF-8"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\n|\r", content[: error.start])) + 1
        raise ValueError(
            f"is not text in UTF-8 (byte 0x{content[error.start]:02x} in line {line}); save it "
            "as UTF-8"
        ) from error


def read_lines(path: str | Path, what: str, fix: str) -> list[Line]:
    """The lines of a list that are not blank. what, fix: for the message of the UserError
    where it is not to be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UserError(f"{path}: the {what} cannot be read: {reason}; {fix}") from error
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES} bytes")
        text = decode(content)
    except ValueError as error:
        raise UserError(f"{path}: the {what} cannot be read: it {error}; {fix}") from error
    lines = enumerate(re.split(r"\r\n|\n|\r", text), start=1)
    # where files were joined, a byte order mark stands inside
    clean = [Line(number, line.replace("\ufeff", "")) for number, line in lines]
    return [line for line in clean if line.text.strip()]


def without_ending(name: str) -> str:
    """A name without the ending of a video file, in small or capital letters."""
    stem, dot, ending = name.rpartition(".")
    known = dot and f".{ending.lower()}" in VIDEOS
    return stem if known and stem and not stem.endswith("/") else name


def key_of(name: str) -> str:
    """What two spellings of one name have in common."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/")
    absolute = name.startswith("/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/" * absolute + "/".join(parts)


class Names:
    """Known names, found by any of their spellings.

    root, layouts: folder of the data, and folders in it that are no part of a name; where
    there is no root, an absolute path may lie below any folder. exists: of a name that is not
    in the list, whether there is such a video.
    """

    def __init__(
        self,
        known: Iterable[str],
        root: str | Path | None = None,
        layouts: Sequence[str] = (),
        exists: Callable[[str], bool] | None = None,
    ):
        self.known, self.exists = list(known), exists
        self.by_key = defaultdict(list)
        for name in self.known:
            self.by_key[key_of(name)].append(name)
        parts = (part for key in self.by_key for part in key.split("/")[:-1])
        self.folders = {part.casefold() for part in parts}
        self.layouts = [f"{layout}/" for layout in layouts if layout]
        self.roots = []
        if root is not None:
            absolute = (os.path.abspath(root), os.path.realpath(root))
            self.roots = [key_of(place).rstrip("/") + "/" for place in dict.fromkeys(absolute)]

    def find(self, text: str) -> list[str]:
        """The known names that a line can mean: one, none, or several."""
        found, keys = {}, {}
        for spelling in _spellings(text, self.folders):
            for key in self._keys(spelling):
                keys[key] = None
                names = self.by_key.get(key, ())
                found.update(dict.fromkeys([n for n in names if n == spelling] or names))
        if not found and self.exists:
            found = {key: None for key in keys if self.exists(key)}
        return list(found)

    def _keys(self, spelling):
        """The names below the data folder that a path may be."""
        key = key_of(spelling)
        yield key
        absolute = key.startswith("/") or re.match(r"[A-Za-z]:/", key)
        if absolute and not self.roots:
            parts = key.strip("/").split("/")
            yield from ("/".join(parts[skip:]) for skip in range(1, len(parts) - 1))
            return
        below = [] if absolute else [key]
        full = key if absolute else key_of(os.path.abspath(key)) if self.roots else ""
        below += [full.removeprefix(root) for root in self.roots if full.startswith(root)]
        yield from below[0 if absolute else 1 :]
        for name in below:
            for layout in self.layouts:
                if name.startswith(layout):
                    yield name.removeprefix(layout)

    def is_comment(self, text: str) -> bool:
        """Whether a line that begins with # is a remark, or takes a known name out."""
        if not text.lstrip().startswith("#"):
            return False
        rest = text.lstrip().lstrip("#")
        if "/" in key_of(rest) or without_ending(rest.strip()) != rest.strip():
            return bool(self.find(rest))
        named = any(part.startswith("#") for key in self.by_key for part in key.split("/"))
        return not named and (not rest or rest[0].isspace())

    def nearest(self, text: str) -> str | None:
        """The known name that is most like a line."""
        wanted = key_of(without_ending(re.split(rf"{BETWEEN}{NUMBER}$", text.strip())[0]))
        keys = list(self.by_key)
        folder = wanted.rpartition("/")[0]
        beside = [key for key in keys if key.rpartition("/")[0] == folder] if folder else []
        for some in (beside, keys):
            some = some[:: -(-len(some) // COMPARED)] if some else some
            near = difflib.get_close_matches(wanted, some, 1)
            if near:
                return self.by_key[near[0]][0]
        short = {key.rpartition("/")[2]: key for key in keys}
        near = difflib.get_close_matches(wanted.rpartition("/")[2], short, 1, 0.8)
        return self.by_key[short[near[0]]][0] if near else None


def _spellings(text: str, folders: set[str]) -> Iterator[str]:
    """What a line may write as the name. folders: casefolded class names, which may be
    labels.
    """
    bases = [text, text.strip()]
    quoted = re.fullmatch(r"""\s*(["'])(.+?)\1(?:[\s,;].*)?""", text)
    if quoted:
        bases.append(quoted[2])
    heads = []
    for base in bases[1:]:
        for cut in re.finditer(BETWEEN, base):
            head, rest = base[: cut.start()], base[cut.end() :]
            ends = without_ending(head) != head and without_ending(rest) == rest
            if head and (ends or _is_label(rest, folders)):
                heads.append(head)
            if re.fullmatch(r"\d+", head) and rest:
                heads.append(rest)
    for base in dict.fromkeys([*bases, *heads]):
        yield base
        if without_ending(base) != base:
            yield without_ending(base)


def _is_label(text, folders):
    words = [word for word in re.split(BETWEEN, text) if word]
    name = unicodedata.normalize("NFC", text.strip()).casefold()
    return name in folders or all(re.fullmatch(NUMBER, word) for word in words)


def find_names(
    path: str | Path,
    names: Names,
    *,
    what: str,
    where: str,
    fix: str,
    kind: str = "video",
    once: bool = False,
) -> list[str]:
    """The known names that a list names, in its order, each once; with `once` a name that comes
    twice is an error.

    what: "list of test videos"; where: "below data/UCF101"; fix: what to do; kind: what a
    name is of, for the message of the UserError where the list is empty, is not to be read,
    or a line of it matches none of the names or several.
    """
    lines = read_lines(path, what, fix)
    found, unknown = {}, []
    for line in lines:
        fitting = names.find(line.text)
        if len(fitting) > 1:
            raise UserError(
                f"{path}: line {line.number}, {_short(line.text)}, can be "
                f"{' or '.join(map(repr, fitting[:3]))}; write the ending of the file behind "
                "the name"
            )
        if fitting and once and fitting[0] in found:
            raise UserError(f"{path}: {kind} {fitting[0]} is listed twice; name it once")
        if fitting:
            found[fitting[0]] = None
        elif not names.is_comment(line.text):
            unknown.append(line)
    match = "matches" if len(unknown) == 1 else "match"
    if unknown:
        raise UserError(
            f"{path}: {len(unknown)} of {many(len(lines), 'name')} {match} no {kind} {where}: "
            f"{describe(unknown, names)}; {fix}"
        )
    if not found:
        raise UserError(f"{path}: the {what} is empty; {fix}")
    return list(found)


def describe(lines: Sequence[Line], names: Names) -> str:
    """Lines that match nothing, with the nearest names."""
    told = []
    for line in lines[:SHOWN]:
        near = names.nearest(line.text)
        hint = f" (is it {near!r}?)" if near else ""
        told.append(f"line {line.number} {_short(line.text)}{hint}")
    more = len(lines) - SHOWN
    return ", ".join(told) + (f", and {more} more" if more > 0 else "")


def _short(text):
    return repr(text.strip() if len(text) <= 90 else f"{text.strip()[:60]}…")


def read_class_names(text: str, flag: str = "--classes") -> list[str]:
    """Class names from a comma-separated list, or a text file with one a line; indices
    beside the names of a file say their order.
    """
    fix = f"give {flag} class names, separated by commas, or a file with one a line"
    if _is_file(text):
        lines = read_lines(text, "list of classes", fix)
        names = [line.text.strip() for line in lines if not line.text.startswith("# ")]
        names = names[0].split(",") if len(names) == 1 else _by_index(text, names)
    elif "," not in text and re.search(r"[/\\]|\.(txt|csv|lst|names)$", text):
        raise UserError(f"{flag} {text}: no such file; {fix}")
    else:
        names = text.split(",")
    names = [re.sub(r"^([\"'])(.*)\1$", r"\2", name.strip()) for name in names if name.strip()]
    keys = [key_of(name) for name in names]
    wrong = next((name for name in names if "/" in name or not is_name(name)), None)
    if wrong is not None:
        raise UserError(f"{flag}: {wrong!r} is no name of a class; {fix}")
    if not names:
        raise UserError(f"{flag} {_cut(text)}: names no class; {fix}")
    for name, key in zip(names, keys, strict=True):
        if keys.count(key) > 1:
            raise UserError(f"{flag}: {name!r} comes twice; {fix}, each once")
    return names


def _by_index(path, lines):
    """Names of a file of classes: without indices beside them, in the order of these."""
    behind = rf"(?P<name>.+?){BETWEEN}(?P<index>\d+)"
    in_front = rf"(?P<index>\d+){BETWEEN}(?P<name>.+)"
    for pattern in (behind, in_front):
        matches = [re.fullmatch(pattern, line) for line in lines]
        if len(lines) < 2 or not all(matches):
            continue
        heads, numbers = [m["name"] for m in matches], [int(m["index"]) for m in matches]
        if len(set(heads)) < len(heads):
            continue  # "stage 1", "stage 2"
        first = min(numbers)
        if first > 1 or sorted(numbers) != list(range(first, first + len(numbers))):
            raise UserError(
                f"{path}: has a number beside each class and they do not count from 0 or 1; "
                "write the names alone"
            )
        return [name for _, name in sorted(zip(numbers, heads, strict=True))]
    return lines


def _is_file(text):
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # class names, longer than a path may be
        return False


def _cut(text):
    return text if len(text) <= 80 else f"{text[:60]}…"
