"""READERS: what --answers and --correct take, recognized by content, not by name.

A reader is one line: recognizes(head), of the first bytes of a file -> bool, and
read(paths, request), of all files given of its kind -> a copy of the request filled in, or a
list of such, one for each person: [(who, form)].
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from claus.annotators import cvat, form, journal, label_studio
from claus.annotators.limits import check_values, head_of
from claus.annotators.mend import Notes, fit
from claus.annotators.people import combine
from claus.datasets.labels.annotations import Annotations, naming
from claus.utils.runtime import UserError


def _each(read: Callable) -> Callable:
    """A reader of several files from that of one."""

    def read_all(paths, request):
        forms = []
        for path in paths:
            given = read(path, request)
            forms += given if isinstance(given, list) else [(Path(path).name, given)]
        return forms

    return read_all


def _is_form(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _read_form(path, request):
    return form.read_form(check_values(path))


# the first that recognizes a file reads it
READERS = {
    "a journal of label.py": (journal.recognizes, journal.read_answers),
    "a Label Studio export": (label_studio.recognizes, _each(label_studio.read_answers)),
    "CVAT for images 1.1": (cvat.recognizes, _each(cvat.read_answers)),
    "our own form": (_is_form, _each(_read_form)),
}
# of --correct: the same, and a second look's journals
CORRECTIONS = {
    **READERS,
    "a journal of label.py": (journal.recognizes, journal.read_corrections),
}


def read_answers(
    paths: Sequence[str | Path],
    request: Mapping,
    before: Annotations,
    same_head: bool = True,
    readers: Mapping = READERS,
) -> tuple[dict, Notes]:
    """(one copy of `request` with what all files say, Notes). before, same_head: see
    mend.fit. UserError naming a file that cannot be read, or is of another request.
    """
    forms, notes = [], Notes()
    for kind, named in _by_kind(paths, readers).items():
        given = readers[kind][1](named, request)
        given = given if isinstance(given, list) else [(kind, given)]
        for who, answers in given:
            with naming(", ".join(map(str, named))):
                fitted, found = fit(request, answers, before, same_head)
            forms.append((who, fitted))
            notes.add(found)
    joined, found = combine(forms)
    notes.add(found)
    return joined, notes


def _by_kind(paths, readers):
    """{kind: its paths}, in the order of the paths; UserError for a file of none."""
    kinds = {}
    for path in paths:
        head = head_of(path)
        kind = next((name for name, (known, _) in readers.items() if known(head)), None)
        if kind is None:
            known = ", ".join(readers)
            raise UserError(f"{path}: is none of {known}; export it as one of these")
        kinds.setdefault(kind, []).append(path)
    return kinds
