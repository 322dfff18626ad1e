"""Reading files of other programs without trusting them: JSON, XML and zip archives of
limited size and depth, of which nothing is ever executed, fetched or unpacked to disk.

Every refusal is one line that names the file and what to do. Names inside an archive are
compared, never used as a path.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.parsers import expat

from claus.utils.runtime import UserError, parse_json, shown

BYTES = 512 << 20  # of one file, and of what one is unpacked to
DEPTH = 32  # elements inside one another; CVAT needs 5
MEMBERS = 200_000  # files in an archive
VALUES = 20_000_000  # of a JSON file
NODES = 1_000_000  # elements inside one picture or track
TEXT = 1 << 20  # letters of one element
PIECE = 1 << 20
HEAD = 4096  # bytes that a file is recognized by


def check_size(path: str | Path, limit: int | None = None) -> Path:
    """The path, of a file that can be read and is not too large; UserError otherwise."""
    path, limit = Path(path), limit or BYTES
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path}: cannot be read: {reason}; check the path") from error
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the file that the tool exported")
    if size > limit:
        raise UserError(
            f"{path}: has {size >> 20} MB, more than the {limit >> 20} MB that are read; "
            "export fewer pictures at a time, without the pictures themselves"
        )
    return path


def head_of(path: str | Path) -> bytes:
    """The first bytes of a file, from which its format is recognized."""
    try:
        with open(check_size(path), "rb") as file:
            return file.read(HEAD)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path}: cannot be read: {reason}; check the path") from error


# ------------------------------------------------------------------------------------- JSON


def read_json(path: str | Path) -> object:
    """What a JSON file holds; UserError where it is none, is too large or too deep, or has
    numbers that are none (NaN), see runtime.parse_json.
    """
    check_values(path)
    try:
        return parse_json(Path(path).read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: {error.msg[0].lower()}{error.msg[1:]} at column "
            f"{error.colno}; export the file again"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path}: not JSON, or damaged ({error}); export the file again"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path}: cannot be read: {reason}; check the path") from error


def check_values(path: str | Path) -> Path:
    """The path, of a JSON file that is not too large, nor of more values than memory holds."""
    found = 0
    with open(check_size(path), "rb") as file:
        while piece := file.read(16 * PIECE):
            found += sum(map(piece.count, b"[{,"))
            if found > VALUES:
                raise UserError(
                    f"{path}: has more than {VALUES:,} values; export fewer pictures at a time"
                )
    return Path(path)


# -------------------------------------------------------------------------------------- XML


@dataclass
class Node:
    """An XML element: its name, attributes, children, and its own text."""

    name: str
    attributes: dict[str, str]
    children: list["Node"] = field(default_factory=list)
    text: str = ""

    def all(self, *names: str) -> list["Node"]:
        """Its children of these names, in order."""
        return [child for child in self.children if child.name in names]

    def first(self, *path: str) -> "Node | None":
        """The first child of the first name, of that the first of the second name, …"""
        node = self
        for name in path:
            node = next((child for child in node.children if child.name == name), None)
            if node is None:
                return None
        return node


def read_xml(path: str | Path, root: str) -> Iterator[Node]:
    """The children of the root element, one after another, of an XML file or of the XML
    files in a zip; UserError where it is no XML, has another root than `root`, a document
    type or entities, or is too large or too deep.
    """
    if zipfile.is_zipfile(check_size(path)):
        yield from _read_zipped(path, root)
        return
    with open(path, "rb") as file:
        yield from _parse(file, str(path), root)


def _read_zipped(path, root):
    try:
        with zipfile.ZipFile(path) as archive:
            for member in xml_members(path, archive):
                with archive.open(member) as file:
                    yield from _parse(file, f"{path}: {member.filename!r}", root)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: a damaged zip file; export it again") from error
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{path}: a zip file with a password or an unusual compression; unpack it and "
            "give the XML file in it"
        ) from error


def xml_members(path: str | Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The XML files of an archive; UserError where there is none or they are too large."""
    members = archive.infolist()
    if len(members) > MEMBERS:
        raise UserError(f"{path}: holds {len(members)} files; export fewer pictures at a time")
    found = [one for one in members if one.filename.lower().endswith(".xml")]
    if not found:
        raise UserError(
            f"{path}: no .xml file in it; export as 'CVAT for images 1.1' and give that zip"
        )
    if sum(one.file_size for one in found) > BYTES:
        raise UserError(
            f"{path}: its XML unpacks to more than {BYTES >> 20} MB; export fewer pictures "
            "at a time"
        )
    return found


def _parse(file: IO[bytes], where: str, root: str) -> Iterator[Node]:
    """The children of the root element of an open XML file."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    open_nodes, done, count = [], [], 0

    def stop(text):
        raise UserError(f"{where}: {text}")

    def doctype(*_):
        stop("has a document type (DOCTYPE), which no annotation tool writes; refused")

    def begin(name, attributes):
        nonlocal count
        count += 1
        if count > NODES:
            stop(f"more than {NODES:,} elements in one picture or track")
        if len(open_nodes) >= DEPTH:
            stop(f"more than {DEPTH} elements inside one another; export it again")
        if not open_nodes and name != root:
            stop(f"its root is <{name[:40]}>, not <{root}>; export as CVAT 1.1")
        node = Node(name, attributes)
        if len(open_nodes) > 1:
            open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_):
        nonlocal count
        node = open_nodes.pop()
        if len(open_nodes) == 1:
            done.append(node)
            count = 0

    def text(words):
        if len(open_nodes) > 1:
            open_nodes[-1].text += words
            if len(open_nodes[-1].text) > TEXT:
                stop(f"<{open_nodes[-1].name[:40]}> holds more than {TEXT >> 20} MB of text")

    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = doctype
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = text
    read = 0
    try:
        while piece := file.read(PIECE):
            read += len(piece)
            if read > BYTES:  # whatever size it was said to have
                stop(f"unpacks to more than {BYTES >> 20} MB; export fewer pictures at a time")
            parser.Parse(piece, False)
            yield from done
            done.clear()
        parser.Parse(b"", True)
    except LookupError as error:
        raise UserError(
            f"{where}: {shown(str(error), 80)}; export it again, in UTF-8"
        ) from error
    except expat.ExpatError as error:
        raise UserError(
            f"{where}, line {error.lineno}: not whole XML ({expat.ErrorString(error.code)}); "
            "export it again"
        ) from error
    yield from done
