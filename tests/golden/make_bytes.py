"""Make tests/golden/selection/bytes.json: digests of what claus_select.py writes for many
flags.

    python tests/golden/make_bytes.py

Made at the commit before rooms were moved (November 2026). tests/test_selection_bytes.py holds
later code to it. Run it again only when a rule itself is meant to change, or for a new rule.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent / "selection"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

BUDGET = "--videos-count 6 --frames-count 15"
FLAGS = {
    1: [
        BUDGET,
        f"{BUDGET} --frame-score authors --damping authors",
        f"{BUDGET} --damping none",
        f"{BUDGET} --damping coverage",
        f"{BUDGET} --sigma 6",
        f"{BUDGET} --frame-score area",
        f"{BUDGET} --frame-score entropy",
        f"{BUDGET} --frame-score per-pixel",
        f"{BUDGET} --method claus-entropy",
        f"{BUDGET} --method claus-no-clusters",
        f"{BUDGET} --method uncertainty",
        f"{BUDGET} --method entropy",
        f"{BUDGET} --method entropy --drop-nearest 2",
        f"{BUDGET} --method equidistant",
        f"{BUDGET} --method random --seed 3",
        f"{BUDGET} --method core-set",
        f"{BUDGET} --method claus --frame-rule equidistant",
        f"{BUDGET} --video-rule random --frame-rule claus --seed 3",
        f"{BUDGET} --increment samples-and-frames",
        f"{BUDGET} --increment samples-and-frames --method random",
        f"{BUDGET} --increment samples-and-frames --method uncertainty",
        "--frames-count 15 --increment frames",
        "--frames-count 15 --increment frames --method equidistant",
        "--videos-count 4 --frames-per-video 3",
        "--videos-percent 20 --frames-percent 10",
        "--schedule 3/25,8/50",
        "--videos-count 10 --frames-count 40 --video-money 12 --video-cost 2.5 --frame-money 20"
        " --frame-cost 1.25 --box-cost 0.5",
        "--videos-count 30 --frames-count 90 --take-rest",
        "--strategy inter --frames-count 60",
        "--strategy intra --frames-count 30",
        "--strategy intra --method equidistant --frames-count 30 --seed 5",
    ],
    0: [
        BUDGET,
        f"{BUDGET} --seed 7",
        "--strategy inter --frames-count 60",
        "--strategy intra --frames-count 30",
        "--schedule 3/25,8/50",
    ],
}


def digests(cycle, flags, root):
    """Choose cycle `cycle` of a copy of the golden run below `root` -> {file: digest}.

    Of selection.json the chosen videos and frames count, with scores, ranks and reasons.
    """
    import claus_select

    run = Path(root) / "selection"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    if cycle > 0:
        shutil.copytree(HERE / "cycle0", run / "cycle0")
    place = ["--run", f"{run}/", "--cycle", str(cycle)]
    truth = ["--oracle", str(HERE / "pyannot.pkl"), "--test-list", str(HERE / "testlist.txt")]
    claus_select.main([*place, *truth, *flags.split()])
    folder = run / f"cycle{cycle}"
    videos = json.loads((folder / "selection.json").read_text())["videos"]
    contents = {
        "selection.json": json.dumps(videos, sort_keys=True).encode(),
        "annotations.pkl": (folder / "annotations.pkl").read_bytes(),
        "ledger.csv": (run / "ledger.csv").read_bytes(),
    }
    return {
        name: hashlib.sha256(content).hexdigest()[:16] for name, content in contents.items()
    }


def main():
    with tempfile.TemporaryDirectory() as root:
        made = {}
        for cycle, lines in FLAGS.items():
            for flags in lines:
                made[f"{cycle} {flags}"] = digests(cycle, flags, root)
    (HERE / "bytes.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
