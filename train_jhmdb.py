"""Step 1 for J-HMDB-21: annotation file with masks -> detector weights and cluster centers.

    python train_jhmdb.py --run my_run --cycle 0

Reads   files/my_run/cycle0/annotations.pkl (written by claus_select.py --dataset jhmdb),
        the labeled videos below --data, weights/rgb_charades.pt where it exists
Writes  what train_ucf101.py writes, by the same training. What differs: labels are masks,
        those between two labels are made by --mask-interp, and a clip is 224x224 pixels of
        the frame resized to 256x256.
Expect  as train_ucf101.py: --model full needs a GPU, --model small runs on a CPU.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import training as flags
from claus.steps import train
from claus.utils import distributed
from claus.utils.runtime import run_script


def parse_args(argv=None):
    return flags.parse(argv, "jhmdb", __doc__)


def main(argv=None):
    return train.run(parse_args(argv))


if __name__ == "__main__":
    run_script(distributed.together(main), train.AGAIN)
