"""Choose what the annotator labels next.

    # a simulated annotator; J-HMDB: masks, official split 1
    python claus_select.py --run demo --cycle 0 --oracle pyannot.pkl --test-list testlist01.txt
    python claus_select.py --run demo --cycle 1 --oracle pyannot.pkl --test-list testlist01.txt
    python claus_select.py --run demo --cycle 0 --dataset jhmdb --oracle data/JHMDB

    # people: the first writes request.json and stops, the second takes their answers in
    python claus_select.py --run mine --cycle 1
    python claus_select.py --run mine --cycle 1 --answers request_filled_in.json

    # with another tool, and labels that were found wrong later: docs/exchange.md
    python claus_select.py --run mine --cycle 1 --export cvat
    python claus_select.py --run mine --cycle 1 --correct corrected.zip

    # hours of one's own video: every ten seconds become a pool entry
    python claus_select.py --run mine --cycle 0 --data videos --any-folder --segment 10s

Reads   cycle 0: the videos of the ground truth's training part, with all labels hidden, or
        without --oracle those found under --data. Cycle k, from files/<run>/cycle<k-1>/:
        annotations.pkl (what is labeled), features.pkl and uncertainty.pkl (what
        cluster_extract.py left; each only where the rule looks at it)
Writes  into files/<run>/cycle<k>/:
    selection.json    every chosen video and frame, with its score and the reason in words
    request.json      the same as a form to fill in; answers.json is the form as it came back
    frames/           without --oracle: a picture of every frame that is asked for
    annotations.pkl   all labels so far: what the next training reads
    sheets/           of people's answers: all that was labeled, to look at; and
    answers_problems.txt  what was not taken in, or looks wrong, by video
    clusters.png      the videos in their clusters, what was labeled and what is picked now
    ../changes.jsonl  what joined, left or was corrected beside the cycles
    ../ledger.csv     videos, frames, boxes and cost of every cycle, counted in the
                      annotation files
Expect  seconds for 2,284 videos, a minute and 5 GiB for a million; no GPU and, after cycle
        0, no video. The same files and flags give the same bytes. Run again it changes
        nothing that is finished: --force chooses again.

Cycle 0 is random. --method, --video-rule, --frame-rule, --strategy and --increment say how
later cycles choose; the paper's baselines are among the methods, on the same files, budgets
and ledger. docs/selection.md has every rule, and how to add one.
"""

import claus.utils.startup  # noqa: F401  first, so that Ctrl-C while libraries load is one line

# isort: split
from claus.flags.selection import parse as parse_args
from claus.steps import select
from claus.utils.runtime import check_alone, run_script


def main(argv=None):
    settings = parse_args(argv, __doc__)
    check_alone("claus_select.py")
    return select.run(settings)


if __name__ == "__main__":
    run_script(main)
