"""The old name of form, answers and simulated; goes when claus_select.py uses those."""

from claus.annotators.answers import check_answers, merge_answers
from claus.annotators.form import read_form, request_form, write_form
from claus.annotators.simulated import answer, strip_labels

__all__ = [
    "answer",
    "check_answers",
    "merge_answers",
    "read_form",
    "request_form",
    "strip_labels",
    "write_form",
]
