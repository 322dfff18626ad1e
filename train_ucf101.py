"""Step 1: annotation file -> detector weights and cluster centers.

    python train_ucf101.py --run my_run --cycle 0
    # four GPUs share every batch
    torchrun --nproc-per-node 4 -- train_ucf101.py --run my_run --cycle 0
    # any other data set of datasets/table.py
    python train_ucf101.py --run my_run --cycle 0 --dataset NAME

Reads   files/my_run/cycle0/annotations.pkl (written by claus_select.py), the labeled
        videos below --data, weights/rgb_charades.pt where it exists
Writes  files/my_run/cycle0/
          detector.pt    weights, cluster centers, and all that the later scripts need
          tensorboard/   every loss term, rates, validation scores, pictures of clips
          training.pt    the state to resume from after an interruption (--resume);
                         removed at the end
Expect  one line per epoch; with --model small a minute on two CPU cores. --model full needs
        a GPU (no cycle of it has been timed on one yet): a CPU takes about a second a clip.
        Videos that cannot be read are skipped and listed at the end.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import training as flags
from claus.steps import train
from claus.utils import distributed
from claus.utils.runtime import run_script


def parse_args(argv=None):
    return flags.parse(argv, about=__doc__)


def main(argv=None):
    return train.run(parse_args(argv))


if __name__ == "__main__":
    run_script(distributed.together(main), train.AGAIN)
