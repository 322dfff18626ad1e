"""One page of results: curves, tables, what was picked, detections, costs and commands, in
a single HTML file.

    python report.py files/my_run
    python report.py files/run_a files/run_b files/run_c --output compared.html
    python report.py files/experiments/results.csv --data data/toy

Reads   the folders of runs of run_cycles.py, tables of experiments/run.py and, where
        they are on this machine, the folders of their cells; the videos below --data for
        the strips of frames
Writes  report.html beside the first of them (--output): it needs no network and no other
        file when it is opened
        <--export>/*.svg, *.md   the curves and tables as files of their own
Expect  some seconds. What is missing (pickles, pictures, videos) is left out, with a
        sentence saying so. Metrics name their protocol. Runs that differ in nothing but the
        seed are one line with error bars.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

from claus.experiments.report import html
from claus.experiments.report.export import export
from claus.experiments.report.gather import gather
from claus.experiments.report.pages import PROTOCOLS, sections_of
from claus.experiments.report.published import TEST_VIDEOS, check_real
from claus.flags.common import HelpFormatter
from claus.utils.machine import about_machine, in_words
from claus.utils.runtime import check_writable, run_script, write_text


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="RUN_OR_CSV",
        help="folder of a run, or table of experiments/run.py",
    )
    add("--output", help="file to write (default: report.html beside the first input)")
    add(
        "--title",
        default="Active learning for video action detection",
        help="heading of the page",
    )
    add("--data", help="folder with the videos (default: as the runs' commands say)")
    add(
        "--export",
        metavar="DIR",
        help="write the curves (SVG) and tables (Markdown) into this folder too, for a "
        "README or a paper",
    )
    add(
        "--published",
        choices=tuple(TEST_VIDEOS),
        help="draw the paper's numbers too: only for runs on its own data "
        "set and test split, which is checked",
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    first = Path(args.inputs[0])
    output = (
        Path(args.output)
        if args.output
        else (first.parent if first.is_file() else first) / "report.html"
    )
    rows = gather(args.inputs)
    if args.published:
        check_real(args.published, rows)
    check_writable(output.parent)
    words = shlex.join(["python", "report.py", *(sys.argv[1:] if argv is None else argv)])
    made_from = f"Made on {time.strftime('%Y-%m-%d')} from {', '.join(args.inputs)}."
    lead = html.paragraph(made_from) + html.paragraph(PROTOCOLS)
    sections = sections_of(rows, args.data, args.published)
    heading, content = sections[-1]
    made = html.paragraph(f"This page: {in_words(about_machine())}.") + html.code(words)
    write_text(output, html.page(args.title, lead, [*sections[:-1], (heading, content + made)]))
    print(f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB")
    if args.export:
        written = export(rows, args.export, words)
        print(f"wrote {', '.join(map(str, written))}")
    return 0


if __name__ == "__main__":
    run_script(main)
