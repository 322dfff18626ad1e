"""Make the small files of tests/golden/selection/, in which the selected frames are pinned.

    python tests/golden/make_selection.py

24 videos of 3 classes (4 of them for testing), scores with peaks, stretches without
foreground and ties, one video that could not be read and one without any foreground. Run it
only when the rule itself is meant to change: it writes expected.json anew from what
claus_select.py chooses now.
"""

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent / "selection"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

BUDGET = ["--videos-count", "6", "--frames-count", "15"]
RULES = {
    "paper": [],
    "authors": ["--frame-score", "authors", "--damping", "authors"],
    "wide": ["--sigma", "6"],
    "undamped": ["--damping", "none"],
}


def ground_truth(generator, classes=("Jump", "Swing", "Wave"), groups=8, height=48, width=64):
    """A pyannot-shaped dict: one or two actors a video, stretches without action, boxes
    1-based and uint8.
    """
    truth = {}
    for label, name in enumerate(classes):
        for group in range(1, groups + 1):
            frames = int(generator.integers(9, 40))
            tubes = []
            for _ in range(1 + (group % 4 == 0)):
                start = int(generator.integers(0, frames // 3))
                end = int(generator.integers(start + frames // 3, frames + 1))
                corner = generator.integers(1, (width // 2, height // 2), (end - start, 2))
                size = generator.integers(4, (width // 2, height // 2), (end - start, 2))
                boxes = np.concatenate([corner, size], axis=1).astype(np.uint8)
                tubes.append({"sf": start, "ef": end, "label": label, "boxes": boxes})
            truth[f"{name}/v_{name}_g{group:02d}_c01"] = {
                "numf": frames,
                "label": label,
                "annotations": tubes,
                "height": height,
                "width": width,
            }
    return truth


def extraction(videos, generator, failed=(), blank=(), n_clusters=3, dims=8):
    """Made-up (Features, Uncertainty) for `videos`, {name: frames}: peaks of a few heights,
    zeros between them.
    """
    from claus.artifacts.scores import Features, Uncertainty

    names = [name for name in videos if name not in failed]
    centers = generator.normal(0, 3, (n_clusters, dims))
    clusters = generator.integers(0, n_clusters, len(names)).astype(np.int32)
    latents = centers[clusters] + generator.normal(0, 1, (len(names), dims))
    offsets = np.concatenate([[0], np.cumsum([videos[name] for name in names])]).astype(
        np.int64
    )
    paper = np.zeros(offsets[-1])
    for start, end, name in zip(offsets[:-1], offsets[1:], names, strict=True):
        for _ in range(0 if name in blank else 3):
            reach = np.abs(np.arange(end - start) - generator.integers(0, end - start))
            paper[start:end] += generator.choice([20, 50, 50, 90]) * np.maximum(
                0, 1 - reach / 4
            )
    authors = np.where(paper > 0, 0.2 + 0.001 * paper, -10)
    others = {
        name: generator.random(offsets[-1]).astype(np.float32)
        for name in ("entropy", "local_entropy")
    }
    features = Features(
        "made-up checkpoint",
        names,
        latents.astype(np.float32),
        clusters,
        centers.astype(np.float32),
        {name: "made up to be unreadable" for name in failed},
    )
    uncertainty = Uncertainty(
        "made-up checkpoint",
        {"passes": 10},
        names,
        offsets,
        paper.astype(np.float32),
        authors.astype(np.float32),
        (paper / 1000).astype(np.float32),
        **others,
    )
    return features, uncertainty


def picks(selection_json):
    """{video: its frames in the order of choice} from a selection.json."""
    videos = json.loads(Path(selection_json).read_text())["videos"]
    return {
        row["video"]: [
            frame["frame"]
            for frame in sorted(row["frames"], key=lambda frame: frame.get("choice", 0))
        ]
        for row in videos
    }


def make(folder):
    """Write pyannot.pkl, testlist.txt, and cycle0/ with annotations.pkl, features.pkl and
    uncertainty.pkl.
    """
    import claus_select
    from claus.artifacts.scores import save_features, save_uncertainty

    generator = np.random.default_rng(2023)
    truth = ground_truth(generator)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyannot.pkl").write_bytes(pickle.dumps(truth, protocol=4))
    (folder / "testlist.txt").write_text("".join(f"{name}\n" for name in sorted(truth)[::6]))
    claus_select.main([*command(folder, folder.parent / folder.name, 0), *BUDGET])
    for name in ("answers.json", "request.json", "selection.json"):
        (folder / "cycle0" / name).unlink()
    (folder / "ledger.csv").unlink()
    videos = {
        name: truth[name]["numf"] for name in sorted(truth) if name not in sorted(truth)[::6]
    }
    names = list(videos)
    features, uncertainty = extraction(videos, generator, failed=names[5:6], blank=names[11:12])
    save_features(features, folder / "cycle0" / "features.pkl")
    save_uncertainty(uncertainty, folder / "cycle0" / "uncertainty.pkl")


def command(golden, run, cycle):
    """Arguments of claus_select for a run in folder `run`, answered from the ground truth
    in `golden`.
    """
    return [
        "--run",
        f"{run}/",
        "--cycle",
        str(cycle),
        "--oracle",
        str(golden / "pyannot.pkl"),
        "--test-list",
        str(golden / "testlist.txt"),
    ]


def main():
    import claus_select

    shutil.rmtree(HERE, ignore_errors=True)
    make(HERE)
    expected = {}
    for rule, flags in RULES.items():
        claus_select.main([*command(HERE, HERE, 1), *BUDGET, *flags])
        expected[rule] = picks(HERE / "cycle1" / "selection.json")
        shutil.rmtree(HERE / "cycle1")
    (HERE / "ledger.csv").unlink()
    lines = ",\n".join(
        f' "{rule}": {{\n'
        + ",\n".join(f'  "{video}": {frames}' for video, frames in chosen.items())
        + "\n }"
        for rule, chosen in expected.items()
    )
    (HERE / "expected.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
