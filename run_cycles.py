"""Steps 1-4 in a loop: with people as far as their answers allow, with a simulated annotator
until the cycles, the budget or the target is reached.

    # people: the first call asks, every further one goes on (docs/cycles.md)
    python run_cycles.py --run mine --data my_videos --any-folder --classes "run,jump,throw"
    python run_cycles.py --run mine

    # a simulated annotator
    python run_cycles.py --run my_run --oracle pyannot.pkl --test-list testlist01.txt --cycles 6

    python run_cycles.py --run my_run --dataset jhmdb --oracle data/JHMDB --cycles 10

    python run_cycles.py --run other --start-from my_run --method random --oracle … \\
        --schedule 0.25/5,0.5/10,1/20,5/80

Reads   the ground truth (only through the simulated annotator and the final scoring), the
        videos below --data
        without --oracle: what people answered, in the cycle's folder or --answers
Writes  files/my_run/cycle0, cycle1, …: what claus_select.py, the training, evaluate.py and
        cluster_extract.py leave
        files/my_run/results.csv, curve.png: the table printed at the end, and its picture
        without --oracle also curve.json, next.json, next.log
Expect  a cycle to take a training and one scoring pass. If it is stopped, run
        the same command to resume.
Pass more flags to a step as one string, e.g. --train "--steps 3000 --lr 2e-4"; a single flag
needs an equals sign: --train=--strict.

--schedule gives the cycles and their budgets: "A/V,A/V,…" is what is to be labeled in all
after cycle 0, 1, …, in percent of all frames / percent of the videos; a cycle buys its pair
less the one before, rounded down to whole ones. A finished run continues where its command
is given again with more pairs at the end. --start-from takes cycle 0 from another run of the
same settings (data set, truth, seed, flags of training, extraction and evaluation, first
budget), so that rules are compared from the same labels and weights: its files are linked
into this run, their fingerprints kept in start.json and checked whenever the run is resumed.
Rules that look at no score (random, equidistant, inter, intra) do not wait for a scoring
pass after cycle 0. --semi METHOD trains every cycle with train_semi.py, on the labeled
videos and on all others without their labels.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import cycles as flags
from claus.steps import cycles
from claus.utils.runtime import run_script


def main(argv=None):
    return cycles.run(flags.parse(argv, __doc__))


if __name__ == "__main__":
    run_script(main)
