"""Make laptop_jhmdb.pt, the detector that detect.py uses without --weights: half precision,
without the frozen image network, which lies in lite2_imagenet.pt.

    python weights/make_laptop_jhmdb.py files/jhmdb/cycle0/detector.pt     # or the run, files/jhmdb

It was trained on all labels of the 660 training clips of J-HMDB-21's split 1:

    python claus_select.py --run jhmdb --dataset jhmdb --cycle 0 --oracle data/JHMDB \
        --videos 100% --frames 100%
    python train_jhmdb.py --run jhmdb --model laptop --steps 600 --epochs 4 --no-validation

Reads   a detector.pt of --model laptop whose image network is that of lite2_imagenet.pt
Writes  laptop_jhmdb.pt beside this file
Expect  the SHA-256 to put into artifacts/shipped.py. Scores on clips differ from those of
        the given detector by about 1e-3 at most.
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import claus  # noqa: E402, F401
from claus.artifacts import checkpoint, shipped  # noqa: E402
from claus.artifacts.cycle import last_detector  # noqa: E402
from claus.utils.runtime import UserError, run_script  # noqa: E402

TRUNK, PREFIX = "lite2_imagenet.pt", "conv1."
LICENSE = (
    "Trained on J-HMDB-21 (Jhuang et al., ICCV 2013), whose footage is for research use; so "
    "is this file, see weights/README.md"
)


def main(argv: list[str]) -> None:
    """Read the detector that is named and write laptop_jhmdb.pt."""
    if len(argv) != 1:
        raise UserError(f"give a detector.pt, or a run; {__doc__.splitlines()[2].strip()}")
    path = last_detector(argv[0])
    state = checkpoint.read(path, "detector checkpoint")
    trunk = shipped.WEIGHTS / TRUNK
    digest = shipped.sha256(trunk)
    entry = {"file": TRUNK, "sha256": digest, "prefix": PREFIX}
    borrowed = shipped.borrowed_tensors(entry, path)
    kept = dict(state["detector"])
    for name, tensor in borrowed.items():
        if not torch.equal(kept.pop(name), tensor.float()):
            raise UserError(f"{path}: {name} is not that of {TRUNK}; train with --model laptop")
    about = state["about"]
    target = shipped.WEIGHTS / shipped.DETECTOR
    small = {
        **state,
        "detector": {name: tensor.half() for name, tensor in kept.items()},
        "trunk": entry,
        "clusters": {**state["clusters"], "assignment": {}},  # names of training videos
        "about": {
            "steps": about["steps"],
            "claus": about["claus"],
            "arguments": {"train_encoder": False},
            "license": LICENSE,
        },
    }
    checkpoint.save(small, target)
    checkpoint.load(target)
    print(f"{target}: {target.stat().st_size} bytes, SHA-256 {shipped.sha256(target)}")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
