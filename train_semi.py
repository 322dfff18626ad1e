"""Step 1 with the unlabeled videos as well: labeled and unlabeled list -> detector
weights and cluster centers.

    python train_semi.py --run my_run --cycle 0 --method stable-mean-teacher

    python train_semi.py --exp_id my_run --epochs 100 --bs 8 --loc_loss dice --lr 1e-4 \\
        --pkl_file_label labeled.pkl --pkl_file_unlabel unlabeled.pkl --wt_loc 1 \\
        --wt_cls 1 --wt_cons 0.1 --const_loss l2 --bv --n_frames 5 --thresh_epoch 11

The first form takes the labels of an active-learning cycle, and every video without labels
as unlabeled; the second the published lists. Flags may be written with dashes or
underscores.

Reads   files/my_run/cycle0/annotations.pkl, or the two lists (for jhmdb text, "class/clip"
        a line, and the puppet masks below --oracle); the videos below --data;
        weights/rgb_charades.pt where it exists
Writes  files/my_run/cycle0/   what train_ucf101.py writes: detector.pt, tensorboard/,
        training.pt while it runs; from lists also annotations.pkl, so that every later step
        finds what it looks for
Expect  one line per epoch. An epoch is one pass over the unlabeled videos, half of each
        batch being labeled clips.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import semi as flags
from claus.semi import run as semi
from claus.steps.train import AGAIN
from claus.utils.runtime import run_script


def parse_args(argv=None):
    return flags.parse(argv, __doc__)


def main(argv=None):
    return semi.run(parse_args(argv))


if __name__ == "__main__":
    run_script(main, AGAIN)
