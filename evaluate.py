"""Step 4: weights -> scores on the test split by the protocols `capsule`, with the no-model
floor beside it, and `act`.

    python evaluate.py --run my_run --cycle 0 --ground-truth pyannot.pkl --test-list testlist01.txt
    python evaluate.py --run my_run --dataset jhmdb --ground-truth data/JHMDB --visualize 3
    python evaluate.py --run mine --data my_test_videos --labels test_set/cycle0/annotations.pkl

The last form takes test videos of your own, of which people have labeled some frames
(claus_select.py --cycle 0 asks for random ones): the capsule protocol on these frames
alone, or, with --protocol act, frame-mAP.

Reads   files/my_run/cycle0/detector.pt, the ground truth, the test videos below --data
Writes  files/my_run/cycle0/evaluation.json: every number with its protocol and switches
        files/my_run/cycle0/pictures/         with --visualize: overlay videos, contact
                                              sheets, charts of the classes
Expect  a table on screen for each protocol; numbers of one are not comparable with those of
        the other. In `capsule` the mask decides a hit, not the class: so accuracy and
        class-aware scores are given too. Each video is kept as it is finished
        (cycle0/evaluate.parts/): an interrupted run is resumable.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import evaluation
from claus.steps import evaluate
from claus.utils.runtime import run_script


def main(argv=None):
    return evaluate.run(evaluation.parse(argv, __doc__))


if __name__ == "__main__":
    run_script(main)
