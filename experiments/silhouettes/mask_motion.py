"""How well a mask still fits some frames later: what a pseudo-label held from one labeled
frame is worth.

    python experiments/silhouettes/mask_motion.py data/JHMDB data/silhouettes

Reads   puppet_mask/ below each folder, every fourth clip (--every)
Writes  experiments/results/mask_motion.md: mean IoU of a mask with that of the same clip 1
        to 8 frames before or after, beside the trust tau that STeW gives a label held so
        far (paper Eq. 4)
Expect  half a minute for J-HMDB. No network, no pictures: masks alone.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from claus.datasets.jhmdb import read_masks  # noqa: E402
from claus.losses.stew import REACH, temporal_weight  # noqa: E402
from claus.utils.markdown import table  # noqa: E402
from claus.utils.runtime import UserError, run_script, write_text  # noqa: E402

RESULTS = ROOT / "experiments" / "results" / "mask_motion.md"


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="data sets in the layout of J-HMDB",
    )
    parser.add_argument(
        "--every", type=int, default=4, help="use only every N-th clip (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error(f"--every must be at least 1, not {args.every}")
    distances = np.arange(1, REACH + 1)
    lines = [
        [
            "tau, what STeW trusts a held label",
            *(f"{tau:.2f}" for tau in temporal_weight(distances)),
        ]
    ]
    for source in args.sources:
        clips = sorted((source / "puppet_mask").rglob("puppet_mask.mat"))[:: args.every]
        if not clips:
            raise UserError(
                f"there is no mask below {source / 'puppet_mask'}; give a folder in "
                "J-HMDB's layout"
            )
        sums = sum(overlaps(np.asarray(read_masks(clip)[:], bool)) for clip in clips)
        lines.append(
            [
                f"{source.resolve().name}, {len(clips)} clips",
                *("-" if not n else f"{total / n:.2f}" for total, n in zip(*sums, strict=True)),
            ]
        )
    text = table(["frames from the label", *map(str, distances)], lines)
    sources = " ".join(map(str, args.sources))
    command = f"python experiments/silhouettes/mask_motion.py {sources} --every {args.every}"
    write_text(
        args.output,
        f"# Mean IoU of a mask with the mask some frames before or "
        f"after\n\n`{command}`\n\n{text}\n",
    )
    print(text)
    print(f"wrote {args.output}")
    return 0


def overlaps(masks_F_H_W):
    """(2, REACH): sums over a clip of the IoU of masks d = 1 … REACH frames apart, and how
    many pairs. bool masks.

    Pairs in which neither mask has a pixel are left out.
    """
    flat = masks_F_H_W.reshape(len(masks_F_H_W), -1).astype(np.float32)
    common = flat @ flat.T  # (F,F) pixels that both have
    area = np.diag(common)
    either = area[:, None] + area - common
    found = np.zeros((2, REACH))
    for d in range(1, min(REACH, len(flat) - 1) + 1):
        union = np.diag(either, d)
        found[:, d - 1] = (
            (np.diag(common, d)[union > 0] / union[union > 0]).sum(),
            (union > 0).sum(),
        )
    return found


if __name__ == "__main__":
    run_script(main)
