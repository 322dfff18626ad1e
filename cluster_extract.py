"""Step 2: weights and centers -> a latent and a cluster per video, and the uncertainty of
every frame.

    python cluster_extract.py --run my_run --cycle 0
    torchrun --nproc-per-node 4 -- cluster_extract.py --run my_run --cycle 0
    python cluster_extract.py --run my_run --cycle 0 --shard 2/3
    python cluster_extract.py --run my_run --cycle 0 --ray auto      # pip install '.[ray]'
    python cluster_extract.py --run my_run --cycle 0 --propose   # after the next choice

torchrun shares the videos out among processes, with the same result; --shard 2/3 is for the
second of three machines that share files/; --ray auto for all machines of a Ray cluster that
see files/ and the videos, see docs/scale.md.

Reads   files/my_run/cycle0/detector.pt and annotations.pkl (only names and lengths), all
        training videos below --data
Writes  files/my_run/cycle0/features.pkl     latent and cluster of every video
        files/my_run/cycle0/uncertainty.pkl  of every frame: both frame scores, foreground
                                             area, entropies
        with --propose, instead: proposals.json, review.json, see docs/cycles.md
Expect  one pass over the videos: each decoded once, its encoder run once per clip, then R
        dropout passes of the head. Each video is kept as it is finished
        (cycle0/extract.parts/): an interrupted run is resumable, whatever the number of
        processes, shards or actors. When all shards have ended, the first command, without
        --shard, scores what a machine that failed has left undone, and writes the pickles.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import scoring
from claus.steps import extract
from claus.utils import distributed
from claus.utils.runtime import run_script


def main(argv=None):
    return extract.run(scoring.parse(argv, __doc__))


if __name__ == "__main__":
    run_script(distributed.together(main))
