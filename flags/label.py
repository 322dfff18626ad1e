"""Flags of label.py -> LabelSettings."""

import getpass
import re
from dataclasses import dataclass

from claus.datasets import table
from claus.flags.common import new_parser, whole_number


@dataclass(frozen=True)
class LabelSettings:
    """What steps.label does. cycle: None for the one that waits for labels. dataset, data:
    None as the run had them the last time. twice: share of the frames that two people
    label. test_set: no proposals. port: 0 for the one of the last time, or any.
    """

    run: str
    cycle: int | None
    files: str
    dataset: str | None
    data: str | None
    who: str
    twice: float
    test_set: bool
    port: int
    browser: bool
    agreement: bool


def parse(argv: list[str] | None = None, description: str | None = None) -> LabelSettings:
    """Command line -> settings; description: what --help begins with."""
    parser = new_parser(description)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    add("--cycle", type=whole_number, help="cycle to label (default: the one that waits)")
    add("--files", default="files", help="folder of all runs")
    videos = parser.add_argument_group("videos").add_argument
    videos("--dataset", choices=table.DATASETS, help="data set (default: as last time)")
    videos("--data", help="folder with the videos (default: as last time)")
    people = parser.add_argument_group("people").add_argument
    people("--who", default=user(), help="annotator where the address does not say ?who=NAME")
    people(
        "--twice",
        type=share,
        default=0.0,
        metavar="10%",
        help="share of the frames that two people label; their agreement is printed, and where "
        "they disagree a third is asked (default: none)",
    )
    people(
        "--agreement",
        action="store_true",
        help="with --twice: print the agreement so far, and serve no page",
    )
    people(
        "--test-set",
        action="store_true",
        help="these labels are for evaluation: show nobody what a detector proposes",
    )
    page = parser.add_argument_group("page").add_argument
    page(
        "--port", type=whole_number, default=0, help="port (default: that of last time, or any)"
    )
    page("--no-browser", dest="browser", action="store_false", help="only print the address")
    args = parser.parse_args(argv)
    if args.agreement and not args.twice:
        parser.error("--agreement has an effect only with --twice")
    if args.port > 65535:
        parser.error(f"--port {args.port} is above 65535")
    return LabelSettings(**vars(args))


def share(text: str) -> float:
    """argparse type of a share: "10%", or "0.1", 0 to 1."""
    number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= number <= 1:
        raise ValueError(f"{text} is no share")
    return number


def user() -> str:
    """The name of who is logged in, as an annotator may be called."""
    try:
        name = re.sub(r"[^\w-]", "_", getpass.getuser())[:40]
    except (OSError, KeyError, ImportError):
        name = ""
    return name or "me"
