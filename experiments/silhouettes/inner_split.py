"""A split of the training clips alone, to choose on: the test clips stay unseen until what
was chosen is confirmed.

    python experiments/silhouettes/inner_split.py \\
        --source data/silhouettes --output data/silhouettes_inner

Reads   a data set in the layout of J-HMDB (experiments/silhouettes/make.py makes one); split 1's
        training part counts
Writes  <--output>   the same layout by links, its split 1 the new one: of the silhouettes'
        660 training clips 512 to train on and 148 to score. Clips of one source video stay
        together; of no class more than a quarter goes to scoring
Expect  a second; the same split for the same clips.
"""

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from claus.experiments.silhouettes.make import source_of  # noqa: E402
from claus.utils.runtime import UserError, check_writable, run_script, write_text  # noqa: E402

SHARE, SEED = 0.24, 5
LISTS = ("trainlist_split1.txt", "testlist_split1.txt")


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    if not (args.source / LISTS[0]).is_file():
        raise UserError(
            f"there is no {args.source / LISTS[0]}; give the folder that "
            "experiments/silhouettes/make.py wrote"
        )
    if args.output.resolve() == args.source.resolve():
        raise UserError(
            f"--output {args.output} is --source itself, whose split would be lost; give "
            "another folder"
        )
    clips = (args.source / LISTS[0]).read_text(encoding="utf-8").split()
    scored = held_out(clips)
    lists = dict(
        zip(
            LISTS, ([clip for clip in clips if clip not in scored], sorted(scored)), strict=True
        )
    )
    lists = {args.output / name: "\n".join(part) + "\n" for name, part in lists.items()}
    for path, text in lists.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{path} holds another split, which would be lost; give another --output"
            )
    check_writable(args.output)
    for clip in clips:
        for room, ending in (("videos", ".avi"), ("puppet_mask", "")):
            link = args.output / room / f"{clip}{ending}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to((args.source / room / f"{clip}{ending}").resolve())
    for path, text in lists.items():
        write_text(path, text)
    print(
        f"{len(clips) - len(scored)} clips to train on, {len(scored)} to score: {args.output}"
    )
    return 0


def held_out(clips, share=SHARE, seed=SEED):
    """Set of the clips (class/name) to score: whole source videos in random order, while none of
    their classes has too many.
    """
    of_source, sizes, taken = defaultdict(list), Counter(map(class_of, clips)), Counter()
    for clip in clips:
        of_source[source_of(clip)].append(clip)
    sources, chosen = sorted(of_source), set()
    for place in np.random.default_rng(seed).permutation(len(sources)):
        source = Counter(map(class_of, of_source[sources[place]]))
        if all(
            taken[name] + count <= max(share * sizes[name], 1) for name, count in source.items()
        ):
            chosen.update(of_source[sources[place]])
            taken += source
    return chosen


def class_of(clip):
    return clip.partition("/")[0]


if __name__ == "__main__":
    run_script(main)
