"""Where the files of a run lie. Every other module asks a Run or a Cycle for its paths.

files/<run>/            ledger.csv  pool.pkl  frame_counts.jsonl          claus_select.py
                        identities.jsonl                                  whoever reads a video
                        test_identities.jsonl                             evaluate.py
                        label.json  label.lock  segments.csv              label.py
                        changes.jsonl                                     claus_select.py
                        run.json  start.json  results.csv  curve.png      run_cycles.py
                        curve.json  next.json  next.log  next.lock        run_cycles.py
                        cache/                                            training scripts
files/<run>/cycle<k>/   annotations.pkl  request.json  answers.json
                        selection.json  clusters.png  frames/             claus_select.py
                        from_page.json                                    label.py
                        intake.json  answers_problems.txt  sheets/        claus_select.py
                        detector.pt  training.pt  tensorboard/            training scripts
                        features.pkl  uncertainty.pkl  extract.parts/     cluster_extract.py
                        pool.columns/                  of a large pool
                        evaluation.json  pictures/  evaluate.parts/       evaluate.py
                        seconds.json                                      run_cycles.py
                        journal/                                          label.py
                        proposals.json  review.json                       cluster_extract.py
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from claus.utils.runtime import UserError

POOL_COLUMNS = "pool.columns"


@dataclass(frozen=True)
class Run:
    """A run: the folder of its cycles and of what they share. Nothing is created."""

    folder: Path

    @classmethod
    def of(cls, name: str | os.PathLike, files: str | os.PathLike = "files") -> "Run":
        """`files`/<name> for a name, the path itself where `name` has a separator in it.

        Raises UserError for "", "." and "..".
        """
        name = str(name)
        if name in ("", ".", ".."):
            raise UserError(
                f"--run {name!r} is not a run name: give a name, or a path with a / in it"
            )
        separators = [separator for separator in (os.sep, os.altsep) if separator]
        is_path = any(separator in name for separator in separators)
        return cls(Path(name) if is_path else Path(files) / name)

    @property
    def name(self) -> str:
        """The folder's own name, whatever path led to it."""
        return self.folder.resolve().name

    def cycle(self, number: int) -> "Cycle":
        """Cycle `number` = 0, 1, ... of this run; UserError below 0."""
        if number < 0:
            raise UserError(f"--cycle must be 0 or more, not {number}")
        return Cycle(self, number)

    def numbers(self) -> list[int]:
        """Numbers of the cycles that have an annotation file, rising."""
        names = [path.parent.name for path in self.folder.glob("cycle*/annotations.pkl")]
        found = [re.fullmatch(r"cycle(0|[1-9]\d*)", name) for name in names]
        return sorted(int(match[1]) for match in found if match)

    def cycles(self) -> list["Cycle"]:
        """The cycles that have an annotation file, by rising number."""
        return [Cycle(self, number) for number in self.numbers()]

    @property
    def ledger(self) -> Path:
        """What every cycle labeled and what it cost, counted in the annotation files."""
        return self.folder / "ledger.csv"

    @property
    def pool(self) -> Path:
        """The videos without labels that a run on one's own videos began with."""
        return self.folder / "pool.pkl"

    @property
    def changes(self) -> Path:
        """What happened beside the cycles, one JSON line each, see changes.py."""
        return self.folder / "changes.jsonl"

    @property
    def frame_counts(self) -> Path:
        """Lengths of videos that have been counted already, one JSON line each."""
        return self.folder / "frame_counts.jsonl"

    @property
    def identities(self) -> Path:
        """Which file each video is, one JSON line each, see identities.py."""
        return self.folder / "identities.jsonl"

    @property
    def test_identities(self) -> Path:
        """The same of the videos of evaluate.py --labels, which may have the same names."""
        return self.folder / "test_identities.jsonl"

    @property
    def label_page(self) -> Path:
        """Where label.py serves its page, and where the videos lie; readable by its owner."""
        return self.folder / "label.json"

    @property
    def segments(self) -> Path:
        """Where actions begin and end in long videos, as people marked it: for --segments."""
        return self.folder / "segments.csv"

    @property
    def settings(self) -> Path:
        """The flags that run_cycles.py began this run with."""
        return self.folder / "run.json"

    @property
    def start(self) -> Path:
        """Fingerprints of a first cycle that was taken from another run."""
        return self.folder / "start.json"

    @property
    def results(self) -> Path:
        """The table of run_cycles.py."""
        return self.folder / "results.csv"

    @property
    def curve(self) -> Path:
        """The picture of that table."""
        return self.folder / "curve.png"

    @property
    def learning_curve(self) -> Path:
        """Scores over labeled frames, and what the next labels may bring."""
        return self.folder / "curve.json"

    @property
    def next(self) -> Path:
        """What the run does now, or waits for."""
        return self.folder / "next.json"

    @property
    def next_log(self) -> Path:
        """What the machine's part printed."""
        return self.folder / "next.log"

    @property
    def lock(self) -> Path:
        """Held by the one run_cycles.py that works on the run."""
        return self.folder / "next.lock"

    @property
    def cache(self) -> Path:
        """Decoded clips and frame indices; may be removed at any time."""
        return self.folder / "cache"


@dataclass(frozen=True)
class Cycle:
    """One active-learning cycle of a run, and the paths of its files. Nothing is created."""

    run: Run
    number: int

    @classmethod
    def of(
        cls, run: str | os.PathLike, number: int, files: str | os.PathLike = "files"
    ) -> "Cycle":
        """Cycle `number` of the run that `--run` and `--files` name, see Run.of."""
        return Run.of(run, files).cycle(number)

    @property
    def folder(self) -> Path:
        return self.run.folder / f"cycle{self.number}"

    def before(self) -> "Cycle":
        """The cycle before this one; UserError for cycle 0."""
        return self.run.cycle(self.number - 1)

    @property
    def annotations(self) -> Path:
        """All labels so far: what this cycle trains on."""
        return self.folder / "annotations.pkl"

    @property
    def selection(self) -> Path:
        """What was chosen and why."""
        return self.folder / "selection.json"

    @property
    def request(self) -> Path:
        """The form to fill in."""
        return self.folder / "request.json"

    def kept_labels(self, number: int) -> Path:
        """The labels before they were corrected for the `number`-th time, from 1."""
        return self.folder / f"annotations.before{number}.pkl"

    @property
    def answers(self) -> Path:
        """The form as it came back."""
        return self.folder / "answers.json"

    @property
    def intake(self) -> Path:
        """How much of the request was answered, in which time, and how."""
        return self.folder / "intake.json"

    @property
    def problems(self) -> Path:
        """Everything that the last answers were not taken for, or are doubtful for."""
        return self.folder / "answers_problems.txt"

    @property
    def sheets(self) -> Path:
        """Contact sheets of all that was labeled."""
        return self.folder / "sheets"

    @property
    def page_answers(self) -> Path:
        """The form as the journals of label.py fill it in."""
        return self.folder / "from_page.json"

    @property
    def frames(self) -> Path:
        """Pictures of the frames to label."""
        return self.folder / "frames"

    @property
    def clusters_picture(self) -> Path:
        """The videos in their clusters, what was labeled and what was picked."""
        return self.folder / "clusters.png"

    @property
    def detector(self) -> Path:
        """Weights, cluster centers, and all that later scripts need to know."""
        return self.folder / "detector.pt"

    @property
    def training(self) -> Path:
        """The state to resume an interrupted training from; removed at its end."""
        return self.folder / "training.pt"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def features(self) -> Path:
        """Latent and cluster of every video."""
        return self.folder / "features.pkl"

    @property
    def uncertainty(self) -> Path:
        """Scores of every frame of every video."""
        return self.folder / "uncertainty.pkl"

    @property
    def pool_columns(self) -> Path:
        """The same as these two of a large pool, see score_columns.py."""
        return self.folder / POOL_COLUMNS

    def is_scored(self) -> bool:
        """Whether the pool has been scored: both pickles are there, or the columns."""
        pickles = self.features.exists() and self.uncertainty.exists()
        return pickles or (self.pool_columns / "head.json").exists()

    @property
    def extract_parts(self) -> Path:
        """Videos that an unfinished extraction has scored."""
        return self.folder / "extract.parts"

    @property
    def evaluation(self) -> Path:
        """Every number of the test set, by the name of its protocol."""
        return self.folder / "evaluation.json"

    @property
    def pictures(self) -> Path:
        """Overlays and charts of the evaluation."""
        return self.folder / "pictures"

    @property
    def evaluate_parts(self) -> Path:
        """Videos that an unfinished evaluation has scored."""
        return self.folder / "evaluate.parts"

    @property
    def seconds(self) -> Path:
        """Seconds that each step of run_cycles.py took."""
        return self.folder / "seconds.json"

    @property
    def journal(self) -> Path:
        """What annotators did in the labeling page, one file each, see annotators/journal.py."""
        return self.folder / "journal"

    @property
    def proposals(self) -> Path:
        """What this cycle's detector sees in the frames that the next cycle asks for."""
        return self.folder / "proposals.json"

    @property
    def review(self) -> Path:
        """Labels that the detector disagrees with most, for a second look."""
        return self.folder / "review.json"


def last_detector(path: str | os.PathLike) -> Path:
    """A detector.pt as it is named; of a run's folder, that of its last trained cycle.
    UserError where there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(
            f"--weights {path}: no such file or folder; give a detector.pt or a run"
        )
    trained = [cycle.detector for cycle in Run(path).cycles() if cycle.detector.is_file()]
    if not trained and (path / "detector.pt").is_file():  # a cycle's folder
        return path / "detector.pt"
    if not trained:
        raise UserError(
            f"--weights {path}: no cycle of this folder has a detector.pt; train one first, "
            "or name the file"
        )
    return trained[-1]
