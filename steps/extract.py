"""Step 2: weights and centers -> a latent and a cluster per video, and scores of every
frame.

Each video is appended to a log in cycle<k>/extract.parts/ as it is finished, what is done of
a long one is kept every minute, so that the work is resumable and may be shared out among
processes (torchrun) and machines (shards). The pickles are written from the logs at the end.
"""

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from claus.annotators.actors import KINDS, answers_with
from claus.annotators.form import read_form
from claus.artifacts import checkpoint, cycle_locks, identities, score_columns
from claus.artifacts.cycle import Cycle
from claus.artifacts.part_log import PartLog, Parts, wait_for
from claus.artifacts.parts import Unfinished, fingerprint, load_unfinished, parts_dir
from claus.artifacts.scores import (
    Features,
    Uncertainty,
    load_features,
    load_uncertainty,
    save_features,
    save_uncertainty,
)
from claus.datasets import table
from claus.datasets.clips.tiles import Unreadable, VideoTiles, in_lanes
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.video.feature_cache import FeatureCache, feature_cache
from claus.engine import (
    ScoreSettings,
    clips_done,
    one_thread,
    one_thread_each,
    score_video,
    scoring_forward,
)
from claus.flags.scoring import ScoringSettings
from claus.losses.cluster import vote
from claus.selection.uncertainty import SCORES
from claus.steps import extract_ray
from claus.steps.proposals import predict_frames, save_predictions
from claus.steps.second_look import write_review
from claus.utils import columns, distributed, lanes, progress
from claus.utils.precision import Precision
from claus.utils.runtime import UserError, check_alone, check_writable


def run(settings: ScoringSettings) -> int:
    """Score the videos of a cycle and write features.pkl and uncertainty.pkl -> exit
    status.

    With a shard, its part of the videos is scored and no pickle written.
    """
    cycle = Cycle.of(settings.run, settings.cycle, settings.files)
    if settings.propose:
        return propose(settings, cycle)
    if settings.ray:
        extract_ray.check_installed()
    device = "cpu" if settings.ray else distributed.own_device(settings.device)
    first = distributed.rank() == 0
    done = first and not settings.force and scored_already(cycle)
    if distributed.broadcast_from_rank0(done):
        if first:  # killed between the pickles and the end
            with cycle_locks.extracting(cycle, settings.shard):
                shutil.rmtree(cycle.extract_parts, ignore_errors=True)
        what = "both pickles" if cycle.features.exists() else "its columns"
        print(f"{cycle.folder} has {what} already; --force scores again")
        return 0
    with cycle_locks.extracting(cycle, settings.shard, distributed.rank()):
        return score(settings, cycle, device, first)


def score(settings: ScoringSettings, cycle: Cycle, device: str, first: bool) -> int:
    """The scoring itself, of a cycle that is this process's own."""
    trained, videos, parts = inputs(settings, cycle, device)
    part, of = settings.shard
    if first:
        check_writable(parts, clear=of == 1)  # other machines may be writing there
    left = distributed.broadcast_from_rank0(unscored(parts, range(part, len(videos), of)))
    announce(settings, len(left), len(range(part, len(videos), of)), device)
    if settings.ray:
        names = [videos[number].name for number in left]
        written = [*extract_ray.extract(settings, cycle, parts, left, names, scorer).items()]
    else:
        mine = left[distributed.rank() :: distributed.world_size()]
        find_video, cache, features = sources(trained, settings, cycle)
        worker = f"{part + 1}of{of}-{distributed.rank()}"
        written = extract(
            trained, videos, mine, find_video, parts, settings, cache, features, worker
        )
        written = distributed.gather(written)  # when all have ended

    if of > 1:
        print(
            f"shard {part + 1} of {of} is done; when all are, the same command without "
            f"--shard writes the pickles"
        )
    elif first:
        wait_for(dict(filter(None, written)), parts)
        merge(trained, videos, parts, described(settings), cycle, settings.pickles)
    return 0


def inputs(settings: ScoringSettings, cycle: Cycle, device: str):
    """(Trained on `device`, [Video of the pool], folder of the logs of what is made of both)
    of a cycle.
    """
    trained = checkpoint.load(cycle.detector, device)
    labels = annotation_file.load(cycle.annotations)
    table.check_same(settings.dataset, trained.dataset, cycle.detector)
    table.check_same(settings.dataset, labels.dataset, cycle.annotations)
    videos = labels.in_order()
    lengths = [(video.name, video.frames) for video in videos]
    made_from = [trained.source, shaping(settings), lengths, ["latents", *SCORES]]
    return trained, videos, parts_dir(cycle.extract_parts, made_from)


def sources(trained, settings: ScoringSettings, cycle: Cycle):
    """(find_video, cache, features) of a run, see VideoTiles."""
    find_video = table.video_finder(settings.dataset, settings.data)
    find_video = identities.of_run(cycle.run, find_video)
    cache = settings.cache_dir or cycle.run.cache
    return find_video, cache, features_of(trained, cache, settings.feature_gb)


def scorer(
    settings: ScoringSettings, cycle: Cycle, parts: Path
) -> Callable[[PartLog, list[int]], None]:
    """A function (log, numbers) that scores videos of a cycle, in a process of its own.
    UserError where what is read here is not what `parts` are made from.
    """
    trained, videos, here = inputs(settings, cycle, settings.device)
    if here != parts:
        raise UserError(
            f"{cycle.detector} or {cycle.annotations.name} has changed; run the same command "
            "again"
        )
    return functools.partial(
        append_scores, trained, videos, settings, sources(trained, settings, cycle)
    )


def shaping(settings):
    """The settings that the scores depend on, the same on every machine."""
    names = ("passes", "threshold", "phases", "seed", "amp", "compile")
    how = {name: getattr(settings, name) for name in names}
    if settings.tail != "repeat":
        how["tail"] = settings.tail
    for name in ("tf32", "cudnn_benchmark", "cpu_bf16"):
        if getattr(settings, name):
            how[name] = True
    if settings.masks != "independent":
        how["masks"] = settings.masks
    return how


def described(settings):
    """shaping(), and the precision where it was not float32, as uncertainty.pkl keeps them."""
    used = precision_of(settings, settings.device)
    return shaping(settings) | ({} if used == "float32" else {"precision": used})


def precision_of(settings, device):
    """What the network is computed in, in words; device: "" for what a cluster has."""
    return Precision.of(settings).name(device or "cuda")


def scored_already(cycle: Cycle) -> bool:
    """Whether both pickles (of a large pool, the columns) are there, whole, and made from the
    cycle's detector.pt as it is now.
    """
    if not cycle.is_scored():
        return False
    try:
        found = score_columns.find(cycle.folder)
        if found is not None:
            sources = {found.source}
        else:
            both = load_features(cycle.features), load_uncertainty(cycle.uncertainty)
            sources = {one.source for one in both}
    except UserError as error:
        print(f"{error}: scoring again")
        return False
    if cycle.detector.exists() and sources != {fingerprint(cycle.detector)}:
        print(
            f"{cycle.features} and {cycle.uncertainty.name} are of other weights than "
            f"{cycle.detector.name} now: scoring again"
        )
        return False
    return True


def unscored(parts: Path, numbers) -> list[int]:
    """Those of the videos with these numbers that have no part yet, or a damaged one."""
    with Parts(parts, parts.name) as found:
        return np.setdiff1d(numbers, found.numbers()).tolist()


def announce(settings, left, share, device):
    """Say how many videos of this shard are left, and who scores them."""
    part, of = settings.shard
    processes = distributed.world_size()
    shard = f" in shard {part + 1} of {of}" if of > 1 else ""
    where = "a Ray cluster" if settings.ray else device
    together = f", by {processes} processes" if processes > 1 else ""
    print(
        f"{left} of {share} videos to score{shard}{together}, {settings.passes} passes, "
        f"on {where} in {precision_of(settings, device)}"
    )


def extract(
    trained,
    videos,
    mine,
    find_video,
    parts: Path,
    settings: ScoringSettings,
    cache: Path | None = None,
    features: FeatureCache | None = None,
    worker: str = "0",
) -> tuple[str, int] | None:
    """Score the videos with the numbers `mine` and append each, or why it failed, to a new
    log of this worker in `parts` -> the log's name and size, None without videos. cache,
    features: see VideoTiles.
    """
    if not mine:
        return None
    with PartLog(parts, worker, parts.name) as log:
        append_scores(trained, videos, settings, (find_video, cache, features), log, mine)
    return log.path.name, log.size()


def append_scores(
    trained, videos, settings: ScoringSettings, sources, log: PartLog, mine: list[int]
) -> None:
    """Score the videos with the numbers `mine` and append each, or why it failed, to a log;
    sources: (find_video, cache, features), see VideoTiles.

    On a CPU as many videos at a time as torch has threads, each in one thread: their number
    does not change a score.
    """
    find_video, cache, features = sources
    parts = log.path.parent
    device = next(trained.detector.parameters()).device
    Precision.of(settings).take(device)
    forward = scoring_forward(settings.compile, device)
    how = ScoreSettings(
        settings.seed,
        settings.passes,
        settings.threshold,
        settings.phases,
        settings.tail,
        settings.amp,
        settings.masks,
    )
    kept = load_unfinished(parts)
    tiles = VideoTiles(
        [videos[number] for number in mine],
        find_video,
        trained.geometry,
        settings.phases,
        fill=settings.tail,
        done={videos[number].name: clips_done(done) for number, done in kept.items()},
        features=features,
        cache=cache,
    )
    threads = 1 if settings.compile else torch.get_num_threads()  # compiled in one thread
    count = lanes.count(device.type, len(videos), threads)
    shares = [mine[lane::count] for lane in range(count)]
    streams = map(zip, shares, in_lanes(tiles, settings.workers, count))

    def forward_here(*arguments):
        lanes.check()
        return forward(*arguments)

    def work(item):
        number, (video, chunks) = item
        done, keep = kept.pop(number, None), Unfinished(parts, number).keep
        try:
            return score_video(trained, video, chunks, how, forward_here, done, keep)
        except Unreadable as error:
            return error

    with one_thread_each(count), closing(lanes.results([*streams], work, one_thread)) as scored:
        bar = tqdm(scored, desc="score", unit="video", total=len(mine), disable=None)
        for place, ((number, _), result) in enumerate(bar):
            progress.tell(place, len(mine))
            if not isinstance(result, Unreadable):
                Unfinished(parts, number).finish(log, result)
            elif settings.strict:
                raise result
            else:
                log.fail(number, str(result))


def features_of(trained, folder: Path, gigabytes: float) -> FeatureCache | None:
    """The FeatureCache of a trained detector's frozen encoder, None where it has none."""
    cache = feature_cache(
        trained.detector, trained.geometry, trained.pixel_range, folder, gigabytes
    )
    return cache and cache.take(trained.detector.conv1.trunk)


def pool_centers(clusters, videos, found: Parts) -> np.ndarray:
    """The centers (K,D) that videos are assigned to, from the finished videos that the
    detector was trained on; only their latents are in memory together.
    """
    tiles = {}
    for number, video in enumerate(videos):
        if video.name in clusters.assignment and number in found:
            tiles[video.name] = found.arrays(number)["latents"]
    return clusters.pool_centers(tiles)


def merge(trained, videos, parts: Path, how: dict, cycle: Cycle, pickles: bool = False) -> None:
    """Write both pickles from the finished videos, then remove the parts. Of a pool of
    score_columns.LARGE frames: the columns, and with `pickles` those too.
    """
    large = sum(video.frames for video in videos) >= score_columns.LARGE
    with Parts(parts, parts.name, check=False) as found:
        reasons = found.failures()
        failed = {videos[number].name: reason for number, reason in reasons.items()}
        if not len(found):
            reason = next(iter(failed.values()), "run the same command to resume")
            raise UserError(f"none of the {len(videos)} videos can be read: {reason}")
        centers = pool_centers(trained.clusters, videos, found)
        finished = finished_videos(videos, found, failed, centers)
        write = write_columns if large else write_pickles
        write(trained.source, how, finished, failed, centers, cycle)
    if large and pickles:
        from_columns(cycle)
    shutil.rmtree(cycle.extract_parts)
    report(cycle, len(videos))


def finished_videos(videos, found: Parts, failed: dict, centers) -> Iterator[tuple]:
    """(name, latent (D,), cluster, arrays of SCORES (F,)) of each video that was scored.
    UserError where one has neither been scored nor failed.
    """
    for number, video in enumerate(videos):
        if video.name in failed:
            continue
        if number not in found:
            raise UserError(
                f"{found.folder} has nothing of {video.name}: run the same command to resume"
            )
        part = found.arrays(number)
        latents_n_D = part.pop("latents")  # of its clips
        yield video.name, latents_n_D.mean(0), vote(latents_n_D, centers), part


def write_pickles(source, how: dict, finished, failed: dict, centers, cycle: Cycle) -> None:
    """features.pkl and uncertainty.pkl of finished_videos, all in memory."""
    names, latents, clusters, parts = zip(*finished, strict=True)
    clusters_N = np.array(clusters, np.int32)
    lengths = [len(part[SCORES[0]]) for part in parts]
    features = Features(source, list(names), np.stack(latents), clusters_N, centers, failed)
    uncertainty = Uncertainty(
        source,
        how,
        list(names),
        np.cumsum([0, *lengths], dtype=np.int64),
        **{name: np.concatenate([part[name] for part in parts]) for name in SCORES},
    )
    columns.remove(cycle.pool_columns)
    save_features(features, cycle.features)
    save_uncertainty(uncertainty, cycle.uncertainty)


def write_columns(source, how: dict, finished, failed: dict, centers, cycle: Cycle) -> None:
    """The columns of finished_videos, of which one is in memory at a time."""
    for path in (cycle.features, cycle.uncertainty):
        path.unlink(missing_ok=True)
    with score_columns.PoolWriter(cycle.folder, centers.shape[1]) as writer:
        for video in finished:
            writer.add(*video)
        about = {"source": source, "settings": how, "failed": failed}
        writer.close(about, centers)


def from_columns(cycle: Cycle) -> None:
    """Write both pickles from the columns, all in memory."""
    found = score_columns.find(cycle.folder)
    save_features(found.features(), cycle.features)
    save_uncertainty(found.uncertainty(), cycle.uncertainty)
    found.keep_pickles()


def report(cycle, total):
    """Print what was scored and what could not be read."""
    found = score_columns.find(cycle.folder)
    features = found or load_features(cycle.features)
    frames = (found or load_uncertainty(cycle.uncertainty)).offsets[-1]
    if features.failed:
        print(f"{len(features.failed)} of {total} videos were skipped and cannot be selected:")
        for name, reason in features.failed.items():
            print(f"  {name}: {reason}")
    sizes = np.bincount(features.clusters, minlength=len(features.centers))
    print(
        f"{len(features.videos)} videos, {frames} frames scored; videos per cluster: "
        f"{', '.join(map(str, sizes))}"
    )
    if found is not None:
        print(f"wrote {cycle.pool_columns}/")
    if cycle.features.exists():
        print(f"wrote {cycle.features} and {cycle.uncertainty.name}")


# --------------------------------------------------------- what it sees in single frames


def propose(settings: ScoringSettings, cycle: Cycle) -> int:
    """Write proposals.json of the frames that the next cycle's request asks for, and
    review.json of the labels of this one -> exit status.
    """
    check_alone("cluster_extract.py --propose")
    precision = Precision.of(settings).take(settings.device)
    trained = checkpoint.load(cycle.detector, settings.device, precision.amp)
    labels = annotation_file.load(cycle.annotations)
    table.check_same(settings.dataset, trained.dataset, cycle.detector)
    find_video = table.video_finder(settings.dataset, settings.data)
    find_video = identities.of_run(cycle.run, find_video)
    cache = settings.cache_dir or cycle.run.cache
    features = features_of(trained, cache, settings.feature_gb)

    def look(videos, wanted, kind):
        found, failed = predict_frames(
            trained, videos, wanted, find_video, kind, cache, features, settings.workers
        )
        for name, reason in failed.items():
            print(f"note: {name}: {reason}")
        return found

    following = cycle.run.cycle(cycle.number + 1)
    if following.request.exists():
        request = read_form(following.request)
        asked = {}
        for entry in request["videos"]:
            asked[entry["video"]] = [frame["frame"] for frame in entry["frames"]]
        found = look(labels.videos.values(), asked, answers_with(request))
        found = {name: found.get(name, {}) for name in asked}
        save_predictions(found, cycle.proposals)
        print(f"wrote {cycle.proposals}: {count_actors(found)}")
    done = {}
    for video in labels.labeled():
        done[video.name] = (video.labeled_frames + video.first).tolist()
    masks = any(tube.boxes is None for video in labels.labeled() for tube in video.tubes)
    rows = write_review(cycle, labels, look(labels.labeled(), done, KINDS[masks]))
    print(f"wrote {cycle.review}: {len(rows)} labels for a second look")
    return 0


def count_actors(found) -> str:
    """How much predict_frames gave, in words."""
    frames = [actors for video in found.values() for actors in video.values()]
    return f"{sum(map(len, frames))} actors in {len(frames)} frames"
