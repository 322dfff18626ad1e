"""Pictures of an evaluation: charts of the classes, and the best, median and worst videos
with truth and prediction drawn over them.
"""

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from claus.datasets.clips.geometry import center_crop
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.labels.pseudo_labels import pseudo_masks
from claus.datasets.video.frame_index import IndexedVideos
from claus.datasets.video.reader import read_runs
from claus.steps.evaluate import BLOCK, fill_of, predict
from claus.utils import overlays
from claus.utils.runtime import check_writable


def draw_pictures(trained, scored, report, view, switches, find_video, settings, cycle):
    """Write the charts, and --visualize N of the best, median and worst videos, into the
    cycle's pictures/.
    """
    folder = check_writable(cycle.pictures)
    kept = [overlap for overlap in scored.overlaps if overlap.gt_F.any()]
    charts = charts_of(kept, report, trained.classes, switches)
    with SummaryWriter(cycle.tensorboard) as writer:
        for name, picture in charts.items():
            overlays.write_png(folder / f"{name}.png", picture)
            writer.add_image(f"evaluation/{name}", picture, settings.cycle, dataformats="HWC")
    iou_V = [video_iou(overlap, switches) for overlap in scored.overlaps]
    for tag, index in overlays.pick_examples(iou_V, settings.visualize):
        video, overlap = scored.videos[index], scored.overlaps[index]
        example = example_of(
            video, overlap, iou_V[index], trained.classes, view.geometry, switches
        )
        cache, seen = cycle.run.cache, view.geometry
        how = {"phases": 2, "fill": fill_of(trained), "cache": cache}
        tiles = VideoTiles([video], find_video, seen, **how)
        maps = shown_maps(trained, tiles.chunks(0), video, seen)
        indexed = IndexedVideos(cache) if video.segment else None
        blocks = blocks_of(video, find_video(video.source), maps, indexed)
        stem = folder / f"{tag}_{video.name.replace('/', '_')}"
        overlays.draw_example(stem, example, blocks)
    print(f"drew {folder}")


def video_iou(overlap, switches):
    """IoU of a video over its counted frames; NaN without ground truth."""
    if not overlap.gt_F.any():
        return np.nan
    counted_F = overlap.counted_frames(switches)
    union = overlap.union_F[counted_F].sum()
    return overlap.intersection_F[counted_F].sum() / max(union, 1)


def shown_maps(trained, chunks, video, geometry):
    """tile_maps without bars, (BLOCK,h,w)."""
    rows, columns = geometry.shown(video.height, video.width)
    for probs in tile_maps(trained, chunks, geometry.size):
        yield probs[:, rows, columns]


def tile_maps(trained, chunks, size):
    """Foreground probabilities float16 (BLOCK,S,S) of each tile of a video."""
    for chunk in chunks:
        prediction = predict(trained, chunk)
        for tile in np.unique(chunk["tile"]):
            probs = np.zeros((BLOCK, size, size), np.float16)
            for clip in np.flatnonzero(chunk["tile"] == tile):
                frames_T = prediction.frames_N_T[clip]
                real_T = frames_T >= 0
                logits = prediction.logits_N_T_S_S[clip][real_T]
                probs[frames_T[real_T] % BLOCK] = torch.sigmoid(logits).numpy()
            yield probs


def blocks_of(video, path, maps, indexed=None):
    """(first frame, frames uint8 (n,H,W,3), truth (n,H,W), probabilities (n,S,S)) until the
    video is over. maps: of shown_maps. indexed: IndexedVideos, to read a segment through.
    """
    every, labeled = np.arange(video.frames), (video.height, video.width)
    runs = np.split(every, every[BLOCK::BLOCK])
    read = indexed.read_runs if indexed else read_runs
    in_file = [(run + video.first).tolist() for run in runs]
    blocks = read(path, video.file_frames, in_file, labeled)
    for numbers, frames, probs in zip(runs, blocks, maps, strict=True):
        yield int(numbers[0]), frames, pseudo_masks(video, numbers), probs[: len(frames)]


def charts_of(overlaps, report, classes, switches):
    """name -> picture: confusion matrix, and bars of every class, a chart for each
    protocol.
    """
    where = f"crop {switches.crop}, class from {switches.class_from}"
    charts = {
        "confusion": overlays.confusion_chart(
            [overlap.label for overlap in overlaps],
            [overlap.predicted_class(switches) for overlap in overlaps],
            classes,
            f"predicted classes of {len(overlaps)} test videos\n{where}",
        )
    }
    if report["capsule"]:
        charts["classes_capsule"] = capsule_chart(report["capsule"], report["floor"], classes)
    if report["act"]:
        charts["classes_act"] = act_chart(report["act"], classes)
    return charts


def capsule_chart(result, floor, classes):
    """Bars of the capsule protocol, with lines for the no-model floor."""
    settings = ", ".join(f"{name} {value}" for name, value in result["switches"].items())
    accuracy = [
        row["correct"] / row["videos"] if row["videos"] else None for row in result["per_class"]
    ]
    series = [
        ("f-AP@.5", rates(result, "f_ap", 0.5)),
        ("v-AP@.5", rates(result, "v_ap", 0.5)),
        ("accuracy", accuracy),
    ]
    marks = []
    if floor is not None:
        marks = [
            ("no-model floor f@.5", rates(floor, "f_ap", 0.5)),
            ("no-model floor v@.5", rates(floor, "v_ap", 0.5)),
        ]
    title = f"capsule protocol, class-agnostic masks\n{settings}"
    return overlays.class_chart(classes, series, title, marks)


def act_chart(result, classes):
    """Bars of the act protocol."""
    switches = (result["video"] or result["frame"])["switches"]
    made_by = switches["made_by"]
    chosen = {**switches, **made_by}
    if result["video"]:
        chosen["link"] = made_by["link"]["rule"]
    del chosen["made_by"]
    settings = ", ".join(f"{name} {value}" for name, value in chosen.items())
    series = [("frame-AP@.5", rates(result["frame"], "ap", 0.5))]
    if result["video"]:  # single frames that are labeled have none
        series += [
            ("video-AP@.2", rates(result["video"], "ap", 0.2)),
            ("video-AP@.5", rates(result["video"], "ap", 0.5)),
        ]
    return overlays.class_chart(classes, series, f"act protocol, boxes and tubes\n{settings}")


def rates(result, key, threshold):
    """A rate of each class at a threshold; None where it is undefined."""
    at = result["thresholds"].index(threshold)
    return [None if row[key] is None else row[key][at] for row in result["per_class"]]


def example_of(video, overlap, iou, classes, geometry, switches):
    """overlays.Example of a scored video."""
    counted_F = overlap.counted_frames(switches)
    iou_F = overlap.intersection_F / np.maximum(overlap.union_F, 1)
    predicted = overlap.predicted_class(switches)
    frame, crop = seen_of(video, geometry)
    return overlays.Example(
        name=video.name,
        truth=classes[video.label],
        predicted=classes[predicted],
        score=float(np.nanmean(overlap.clip_scores[:, predicted])),
        video_iou=iou,
        iou_F=np.where(counted_F, iou_F, np.nan),
        frame=frame,
        crop=crop,
        first=video.first,
    )


def seen_of(video, geometry):
    """(frame (h, w), crop (x0, y0, x1, y1)) of overlays.Example: what the network sees."""
    if geometry.fit != "stretch":
        return (video.height, video.width), (0, 0, video.width, video.height)
    (top, left), (height, width) = center_crop(geometry), geometry.crop
    return geometry.frame, (left, top, left + width, top + height)
