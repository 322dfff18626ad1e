"""Step 4: weights -> scores on the test videos, by the protocols `capsule` and `act`.

Each video is appended to a log in cycle<k>/evaluate.parts/ as it is finished, what is done
of a long one is kept every minute, so that the work is resumable.
"""

import shutil
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from claus import engine
from claus.artifacts import checkpoint, cycle_locks, identities
from claus.artifacts.cycle import Cycle
from claus.artifacts.evaluation_file import FIX, load_evaluation, save_evaluation
from claus.artifacts.part_log import PartLog, Parts
from claus.artifacts.parts import Unfinished, fingerprint, load_unfinished, parts_dir
from claus.datasets import table
from claus.datasets.clips.geometry import GEOMETRY, STRIDE, ClipGeometry
from claus.datasets.clips.region import region_of, to_region
from claus.datasets.clips.tiles import Unreadable, VideoTiles, in_lanes
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.truth import (
    check_classes,
    no_model_floor,
    read_labels,
    truth_masks,
    truth_of,
)
from claus.datasets.video.feature_cache import FeatureCache
from claus.flags.evaluation import EvaluationSettings
from claus.metrics import capsule, detections
from claus.metrics.boxes import Boxes
from claus.metrics.tables import act_table, capsule_table
from claus.models import BACKBONES
from claus.steps.extract import features_of
from claus.utils import lanes
from claus.utils.precision import Precision
from claus.utils.runtime import UserError, check_alone, check_writable

# arrays of a capsule.VideoOverlap
OVERLAP = ("intersection_F", "union_F", "gt_F", "clip_scores")
# arrays of the metrics.boxes.Boxes of detections.regions_of, which have no class
REGIONS = ("frame", "box", "score")
BLOCK = 16  # frames of a tile: two clips of eight


def run(settings: EvaluationSettings) -> int:
    """Score a cycle's weights, write evaluation.json and draw pictures -> exit status."""
    check_alone("evaluate.py")
    cycle = Cycle.of(settings.run, settings.cycle, settings.files)
    weights = Path(settings.weights or cycle.detector)
    if settings.labels and not Path(settings.labels).is_file():
        raise UserError(
            f"--labels {settings.labels}: no such file; claus_select.py writes it when "
            f"answers are taken in"
        )
    finished = not settings.force and evaluated_already(
        cycle.evaluation, weights, settings.labels
    )
    # where drawing was stopped, the parts are still there
    drawn = cycle.pictures.exists() and not cycle.evaluate_parts.exists()
    if finished and (settings.visualize is None or drawn):
        with cycle_locks.working(cycle, "evaluate"):  # it may have been killed after that file
            shutil.rmtree(cycle.evaluate_parts, ignore_errors=True)
        print_kept(cycle.evaluation)
        print(f"{cycle.evaluation} is there already; --force evaluates again")
        return 0
    if weights.is_file():
        check_writable(cycle.folder)
    with cycle_locks.working(cycle, "evaluate"):
        return evaluate(settings, cycle, weights, finished)


def evaluate(settings: EvaluationSettings, cycle: Cycle, weights: Path, finished: bool) -> int:
    """The evaluation itself, of a cycle that is this process's own. finished: there is an
    evaluation.json already, and only its pictures are missing.
    """
    precision = Precision.of(settings).take(settings.device)
    trained = checkpoint.load(weights, settings.device, precision.amp)
    table.check_same(settings.dataset, trained.dataset, weights)
    truth = read_truth(settings, cycle)
    given = settings.labels or settings.ground_truth
    check_classes(trained.classes, truth.classes, given)
    view = view_of(trained, settings.crop)
    switches = switches_of(settings, view.region)
    videos = evenly_spread(list(truth.videos.values()), settings.limit)

    parts = check_writable(
        parts_dir(
            cycle.evaluate_parts,
            [
                trained.source,
                fingerprint(given) if Path(given).is_file() else given,
                *view.to_list(),
                [(video.name, video.frames) for video in videos],
                shaping(settings),
            ],
        )
    )
    find_video = finder(settings, cycle)
    cache = settings.cache_dir or cycle.run.cache
    features = None
    if view.geometry == trained.geometry:
        features = features_of(trained, cache, settings.feature_gb)
    scored = score_videos(trained, videos, view, find_video, parts, settings, cache, features)
    report = score(scored, truth.classes, view, switches, settings, cycle)
    print_tables(report)
    if finished:  # only the pictures were missing; flags may differ this time
        print(f"{cycle.evaluation} stays as it was")
    else:
        report |= {
            "failed": scored.failed,
            "source": trained.source,
            "precision": precision.name(settings.device),
            "dataset": truth.dataset,
            "run": str(settings.run),
            "cycle": settings.cycle,
            "test_videos": len(videos),
            "labels": settings.labels and fingerprint(settings.labels),
            "labels_path": settings.labels,
        }
        save_evaluation(report, cycle.evaluation)
        print(f"wrote {cycle.evaluation}")
    if settings.visualize is not None:  # what is drawn can fail, and the scores are there
        from claus.steps.evaluation_pictures import draw_pictures  # matplotlib takes a second

        draw_pictures(trained, scored, report, view, switches, find_video, settings, cycle)
    shutil.rmtree(cycle.evaluate_parts)
    return 0


def read_truth(settings, cycle):
    """Annotations of the test videos: ground truth, or labels of one's own."""
    if settings.labels:
        return read_labels(settings.labels, settings.dataset, cycle.annotations)
    return read_part(settings, "test")


def finder(settings, cycle):
    """Function from the name of a video to its path, which must be the file that the run
    saw first; beside --labels also the one of the run they are from.
    """
    find_video = table.video_finder(settings.dataset, settings.data)
    if settings.labels:
        return identities.of_labels(cycle.run, find_video, settings.labels)
    return identities.of_run(cycle.run, find_video)


def read_part(settings, part):
    """Ground truth of one part of the data set, "train" or "test"."""
    return table.read_ground_truth(
        settings.dataset,
        settings.ground_truth,
        settings.test_list,
        settings.split,
        part,
    )


def training_videos(settings, cycle):
    """What the no-model floor is chosen on: ground truth of the training part; beside
    --labels the cycle's own labels, if any.
    """
    if not settings.labels:
        return read_part(settings, "train").videos.values()
    if not cycle.annotations.exists():
        return []
    return annotation_file.load(cycle.annotations).labeled()


@dataclass(frozen=True)
class View:
    """What the network sees of a frame, and where in it the capsule protocol scores."""

    geometry: ClipGeometry
    region: ClipGeometry

    def to_list(self):
        """Both for a fingerprint, once where they are the same."""
        both = [self.geometry.to_dict(), self.region.to_dict()]
        return both[:1] if self.geometry == self.region else both


def view_of(trained, crop: str | None) -> View:
    """The View of a detector. One trained on a crop is scored in it, or, with --crop, sees
    and is scored in another of the same size. One trained on the whole frame always sees
    it, and is scored in the published crop of its data set, or in the one that is named.
    """
    geometry = trained.geometry
    if crop and geometry.fit == "stretch":
        geometry = next(
            other
            for (_, name), other in GEOMETRY.items()
            if name == crop and other.size == geometry.size
        )
    return View(geometry, region_of(geometry, crop or table.default_crop(trained.dataset)))


def switches_of(settings, region) -> capsule.Switches:
    """The switches of the capsule protocol, with the crop in words."""
    how = settings.capsule
    return capsule.Switches(
        region.words,
        how.gt,
        how.absent_class,
        how.count_empty_frames,
        how.class_from,
    )


def evenly_spread(videos, limit):
    """`limit` of the videos, evenly spread; all of them where there is no limit."""
    if not limit:
        return videos
    places = np.linspace(0, len(videos) - 1, min(limit, len(videos))).astype(int)
    return [videos[place] for place in places]


def shaping(settings):
    """The settings that a video's arrays depend on."""
    act, precision = settings.act, Precision.of(settings).name(settings.device)
    return {
        **({} if precision == "float32" else {"precision": precision}),
        "arrays": [*OVERLAP, *REGIONS],
        "protocol": settings.protocol,
        "gt": settings.capsule.gt,
        "act_threshold": act.threshold,
        "min_area": act.min_area,
        "connectivity": act.connectivity,
    }


def score(scored, classes, view, switches, settings, cycle):
    """{"capsule", "act", "floor"}: the results by protocol, None where not asked for."""
    report = {"capsule": None, "act": None, "floor": None}
    if settings.protocol != "act":
        result = capsule.evaluate(scored.overlaps, classes, switches)
        report["capsule"] = result.to_dict()
        if settings.capsule.floor:
            training = training_videos(settings, cycle)
            report["floor"] = no_model_floor(
                training, scored.videos, classes, view.region, switches
            )
    if settings.protocol != "capsule":
        boxes = scored.boxes
        if settings.labels:  # of the other frames nobody knows what is there
            pairs = zip(scored.videos, boxes, strict=True)
            boxes = [regions.at(video.labeled_frames) for video, regions in pairs]
        report["act"] = detections.report(
            scored.videos,
            boxes,
            classes,
            view.geometry.words,
            settings.act,
            tubes_too=not settings.labels,
        )
    return report


def print_tables(report: dict) -> None:
    """The tables of an evaluation.json, each protocol's by itself."""
    if report.get("capsule"):
        print(capsule_table(report["capsule"], report.get("floor")))
    if report.get("act"):
        print(act_table(report["act"]["frame"], report["act"]["video"]))


def print_kept(path: Path) -> None:
    """The tables of an evaluation.json that is there already."""
    content = load_evaluation(path)
    try:
        print_tables(content)
    except (LookupError, ValueError, TypeError, AttributeError) as error:  # as others wrote it
        raise UserError(f"{path}: has not all of its tables ({error}); {FIX}") from error


def evaluated_already(path: Path, weights: Path, labels: str | None = None) -> bool:
    """Whether evaluation.json is there, whole, and of these weights (and --labels, if any)
    as they are now.
    """
    if not path.exists():
        return False
    try:
        content = load_evaluation(path)
    except UserError as error:
        print(f"{error}: evaluating again")
        return False
    if (labels and fingerprint(labels)) != content.get("labels"):
        print(
            f"{path} was scored on other labels than {labels or 'the ground truth'}: "
            f"evaluating again"
        )
        return False
    if weights.is_file() and content.get("source") != fingerprint(weights):
        print(f"{path} is of other weights than {weights} now: evaluating again")
        return False
    return True


# ------------------------------------------------------------------------------- one by one


@dataclass(eq=False)
class Scored:
    """The videos that could be read, with a capsule.VideoOverlap and (protocol act)
    detections.Regions for each; {name: reason} of the others.
    """

    videos: list = field(default_factory=list)
    overlaps: list = field(default_factory=list)
    boxes: list = field(default_factory=list)
    failed: dict = field(default_factory=dict)


def score_videos(
    trained,
    videos: list,
    view: View,
    find_video,
    parts: Path,
    settings: EvaluationSettings,
    cache: Path | None = None,
    features: FeatureCache | None = None,
) -> Scored:
    """Run the detector over the videos. Each is appended to a log in the folder `parts` as
    it is finished. cache, features: see VideoTiles. Lanes: as in steps.extract.
    """
    todo = unscored(len(videos), parts)
    kept = load_unfinished(parts)
    done = {videos[number].name: clips_done(arrays) for number, arrays in kept.items()}
    tiles = VideoTiles(
        [videos[number] for number in todo],
        find_video,
        view.geometry,
        phases=2,
        fill=fill_of(trained),
        done=done,
        features=features,
        cache=cache,
    )
    device = next(trained.detector.parameters()).device.type
    count = lanes.count(device, len(videos), torch.get_num_threads())
    shares = [todo[lane::count] for lane in range(count)]
    streams = map(zip, shares, in_lanes(tiles, settings.workers, count))

    def work(item):
        number, (video, chunks) = item
        done, keep = kept.pop(number, None), Unfinished(parts, number).keep
        try:
            return score_video(trained, video, chunks, view, settings, done, keep)
        except Unreadable as error:
            return error

    failed = {}
    shown = {"desc": "evaluate", "unit": "video", "leave": False, "disable": None}
    with (
        PartLog(parts, "0", parts.name) as log,
        engine.one_thread_each(count),
        closing(lanes.results([*streams], work, engine.one_thread)) as scored,
    ):
        for (number, (video, _)), result in tqdm(scored, total=len(todo), **shown):
            if not isinstance(result, Unreadable):
                Unfinished(parts, number).finish(log, result)
            elif settings.strict:
                raise result
            else:
                failed[video.name] = str(result)
    failed = {video.name: failed[video.name] for video in videos if video.name in failed}
    return gather_parts(videos, parts, failed, settings)


def unscored(count: int, parts: Path) -> list[int]:
    """Numbers of those of `count` videos that have no part yet, or one that is damaged."""
    with Parts(parts, parts.name) as found:
        return np.setdiff1d(np.arange(count), found.numbers()).tolist()


def fill_of(trained):
    """What fills the last clip of a video, see VideoTiles; it is not scored."""
    return BACKBONES[trained.detector.config.backbone].fill


def gather_parts(videos, parts, failed, settings):
    """Scored of the parts of the videos; but for --protocol capsule with their Regions."""
    scored = Scored(failed=failed)
    with Parts(parts, parts.name, check=False) as found:
        for number, video in enumerate(videos):
            if video.name in failed:
                continue
            part = found.arrays(number)
            counts = [part[name] for name in OVERLAP]
            overlap = capsule.VideoOverlap(video.name, video.label, *counts)
            scored.overlaps.append(overlap)
            if settings.protocol != "capsule":
                regions = [part[name] for name in REGIONS]
                how = settings.act.class_scores
                boxes = scored_regions(regions, overlap.clip_scores, how)
                scored.boxes.append(boxes)
            scored.videos.append(video)
    if not scored.videos:
        raise UserError(
            f"none of the {len(videos)} test videos can be read: "
            f"{next(iter(failed.values()), '')}"
        )
    if failed:
        print(
            f"{len(failed)} of {len(videos)} test videos were skipped and are not in the "
            f"numbers:"
        )
        for reason in failed.values():
            print(f"  {reason}")
    return scored


def scored_regions(regions, scores_n_C, class_scores):
    """detections.Regions of a video from its REGIONS and the class scores of its clips; of
    each region those of its "clip" or the mean over the "video".
    """
    frame, box, score = regions
    none = np.zeros(len(frame), np.int64)
    boxes = Boxes(none, frame, none, box, score)
    if class_scores == "video":
        # a clip of padding alone is not scored
        mean_C = scores_n_C[np.isfinite(scores_n_C).all(axis=1)].mean(axis=0)
        return detections.Regions(boxes, mean_C[None], none)
    tile, phase = frame // BLOCK, frame % STRIDE
    return detections.Regions(boxes, scores_n_C, STRIDE * tile + phase)


def score_video(trained, video, chunks, view, settings, done=None, keep=engine.no_one_keeps):
    """What the protocols need of one video, as arrays: see OVERLAP and, but for --protocol
    capsule, REGIONS. chunks: of its clips, see VideoTiles.

    keep: called after each chunk with a function that gives what is done so far, as arrays.
    done: such arrays of a work that was stopped; the chunks are those that follow.
    """
    truth = truth_of(video, view.region, settings.capsule.gt)
    n_classes = len(trained.classes)
    overlap = capsule.VideoOverlap.empty(video.name, video.label, video.frames, n_classes)
    columns, count = {name: engine.Rows() for name in REGIONS}, clips_done(done)
    if done is not None:
        for name in OVERLAP:
            getattr(overlap, name)[:] = done[name]
        add_rows(columns, {name: done[name] for name in REGIONS if name in done})

    def so_far():
        return {**arrays_of(overlap, columns, settings), "clips": np.array(count)}

    for chunk in chunks:
        lanes.check()
        prediction = predict(trained, chunk)
        finite = prediction.logits_N_T_S_S.isfinite().all()
        if not (finite and np.isfinite(prediction.scores_N_C).all()):
            raise UserError(
                f"{settings.weights or 'detector.pt'} gives numbers that are not finite for "
                f"{video.name}; its training diverged, train again with a lower --lr"
            )
        add_overlap(overlap, chunk, prediction, truth, view, video)
        if settings.protocol != "capsule":
            probs = (torch.sigmoid(logits).numpy() for logits in prediction.logits_N_T_S_S)
            numbers = prediction.frames_N_T
            regions = detections.regions_of(video, numbers, probs, view.geometry, settings.act)
            add_rows(columns, {name: getattr(regions, name) for name in REGIONS})
        count += len(prediction.frames_N_T)
        keep(so_far)
    return arrays_of(overlap, columns, settings)


def add_rows(columns, arrays):
    """Append rows to columns of the same names, if there are any."""
    for name, rows in arrays.items():
        if len(rows):
            columns[name].add(torch.from_numpy(rows))


def arrays_of(overlap, columns, settings):
    """OVERLAP and, but for --protocol capsule, REGIONS of a video."""
    arrays = {name: getattr(overlap, name) for name in OVERLAP}
    if settings.protocol == "capsule":
        return arrays
    none = Boxes.from_rows([], scored=True)
    for name, rows in columns.items():
        arrays[name] = rows.taken().numpy() if rows.count else getattr(none, name)
    return arrays


def clips_done(done):
    """Clips that are in the arrays of an unfinished score_video; 0 for None."""
    return 0 if done is None else int(done["clips"])


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the detector says of N clips of a video: frames (N,T), -1 = black; logits
    (N,T,S,S); scores (N,C).
    """

    frames_N_T: np.ndarray
    logits_N_T_S_S: torch.Tensor
    scores_N_C: np.ndarray


def predict(trained, chunk) -> Prediction:
    """Prediction for a chunk of the clips of a video (see VideoTiles)."""
    logits, scores = engine.predict(
        trained.detector, chunk["clips"], trained.pixel_range, amp=trained.amp
    )
    return Prediction(chunk["frames"], logits, scores.numpy())


def add_overlap(overlap, chunk, prediction, truth, view, video):
    """Take the clips of a chunk into a capsule.VideoOverlap: pixel counts and class
    scores.
    """
    size = video.height, video.width
    for clip, frames_T in enumerate(prediction.frames_N_T):
        logits_T_S_S = prediction.logits_N_T_S_S[clip]
        overlap.add_clip(
            2 * chunk["tile"][clip] + chunk["phase"][clip],
            frames_T,
            capsule.foreground(to_region(logits_T_S_S, view.geometry, view.region, *size)),
            truth_masks(truth, frames_T),
            prediction.scores_N_C[clip],
        )
