"""Pictures of an evaluation: test videos with truth and prediction drawn over them, and
charts of the classes.

A frame is shown whole; what lies outside the crop that the network sees is dimmed. Green
outline: ground truth. Orange tint: prediction. Below it, one column for each frame of the
video: its IoU, gray where there is no ground truth; the dotted line is IoU .5, the white
line the frame that is shown.

Letters: F frames of a video, H and W its pixels, S pixels of the network's square maps, V
videos, C classes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from claus.utils.picture_text import draw_text, fonts_for, label, lines, text_width
from claus.utils.pyav import av
from claus.utils.runtime import UserError, atomic_write

TRUTH, PREDICTION = (90, 235, 90), (255, 140, 30)
GOOD, BAD, PLAIN, FAINT = (120, 230, 120), (255, 120, 110), (240, 240, 240), (165, 165, 165)
GROUND = 24  # gray level of what is around the pictures
VIEW, CELL = 360, 192  # height of a frame in an overlay video, and in a contact sheet, pixels
COLUMNS, ROWS = 4, 3  # of a contact sheet
NAME = 32  # characters of a class name in a chart
SHOWN_CLASSES = 60  # a confusion matrix of more classes has no numbers in it


@dataclass(frozen=True, eq=False)
class Example:
    """One test video and what was made of it.

    name, truth, predicted: text. score: mean score of the predicted class. video_iou:
    number. iou_F: (F,), NaN where a frame is not counted. frame: (H, W) that videos are
    resized to. crop: (x0, y0, x1, y1) of the network's view in that frame. protocol: text
    that names what the IoUs are. first: number of its first frame, not 0 in a segment of a
    longer video.
    """

    name: str
    truth: str
    predicted: str
    score: float
    video_iou: float
    iou_F: np.ndarray
    frame: tuple
    crop: tuple
    protocol: str = "capsule protocol"
    first: int = 0


def pick_examples(iou_V, n):
    """The n best, n median and n worst videos by IoU: list of (tag such as "best1", index),
    no video twice.

    NaN (not scored) is passed over. With few videos the best come first, then the worst,
    then the median.
    """
    iou_V = np.asarray(iou_V, float)
    order = [int(i) for i in np.argsort(-iou_V, kind="stable") if not np.isnan(iou_V[i])]
    middle = sorted(
        order, key=lambda i: (abs(order.index(i) - (len(order) - 1) / 2), order.index(i))
    )
    picked = {"best": order[:n]}
    for tag, ranked in (("worst", order[::-1]), ("median", middle)):
        taken = {i for others in picked.values() for i in others}
        picked[tag] = [i for i in ranked if i not in taken][:n]
    return [
        (f"{tag}{place}", i)
        for tag in ("best", "median", "worst")
        for place, i in enumerate(picked[tag], 1)
    ]


# -------------------------------------------------------------------------------- one frame


def overlay(picture, truth, prob, frame, crop, height):
    """A picture uint8 (H,W,3) enlarged to `height`, with truth (H,W) {0,1} and probability
    (S,S) drawn over it. frame, crop: see Example.
    """
    size = _even(height * picture.shape[1] / picture.shape[0]), height
    grows = height > picture.shape[0]
    view = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    x0, y0, x1, y1 = crop_in_view(frame, crop, size)
    seen = view[y0:y1, x0:x1].astype(np.float32)
    view = (view * 0.45).astype(np.uint8)
    predicted = (
        cv2.resize(prob.astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        >= 0.5
    )
    seen[predicted] = 0.6 * seen[predicted] + 0.4 * np.array(PREDICTION, np.float32)
    view[y0:y1, x0:x1] = seen.astype(np.uint8)
    thick = height > 300  # a thin line loses its color in a coded video
    _outline(view[y0:y1, x0:x1], predicted, PREDICTION, 1 + thick)
    _outline(
        view,
        cv2.resize(np.asarray(truth, np.uint8), size, interpolation=cv2.INTER_NEAREST),
        TRUTH,
        2 + thick,
    )
    return view


def crop_in_view(frame, crop, size):
    """(x0, y0, x1, y1) of the crop of a frame (H, W) in a view of `size` (w, h)."""
    height, width = frame
    scaled = np.array(crop) * [*size, *size] / [width, height, width, height]
    return tuple(int(edge) for edge in np.rint(scaled))


def _outline(view, mask, color, width):
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    drawn = np.ascontiguousarray(view)
    cv2.drawContours(
        drawn, contours, -1, (0, 0, 0), width + 2, cv2.LINE_AA
    )  # seen on any ground
    cv2.drawContours(drawn, contours, -1, color, width, cv2.LINE_AA)
    view[:] = drawn


def iou_strip(iou_F, width, height, at=None):
    """uint8 (height,width,3): a column for each frame, as high and as green as its IoU;
    `at`: frame to mark.
    """
    strip = np.full((height, width, 3), 48, np.uint8)
    frame_X = np.minimum(np.arange(width) * len(iou_F) // width, len(iou_F) - 1)
    iou_X = np.asarray(iou_F, float)[frame_X]
    color_X = (colormaps["RdYlGn"](np.nan_to_num(iou_X))[:, :3] * 255).astype(np.uint8)
    level_Y = (height - np.arange(height) - 0.5) / height
    filled = level_Y[:, None] <= np.maximum(np.nan_to_num(iou_X), 1.5 / height)[None]
    strip[filled] = np.broadcast_to(color_X, strip.shape)[filled]
    strip[:, np.isnan(iou_X)] = 90
    strip[height // 2, np.arange(width) % 6 < 3] = 255
    if at is not None:
        places = np.flatnonzero(frame_X == at)
        x = int(places.mean()) if len(places) else at * width // len(iou_F)
        strip[:, max(x - 1, 0) : x + 1] = 255
    return strip


def text_bar(pieces, width, height, size=15):
    """uint8 (height,width,3) with colored texts [(text, color), ...] in a row, made
    smaller until they fit.
    """
    while size > 7 and sum(text_width(text, size) for text, _ in pieces) > width - 16:
        size -= 1
    bar = Image.new("RGB", (width, height), (GROUND,) * 3)
    draw, x = ImageDraw.Draw(bar), 8
    for text, color in pieces:
        x = draw_text(draw, (x, height // 2), text, color, size, "lm")
    return np.asarray(bar)


def _about(example):
    """The line that says which class it is and which was predicted."""
    right = example.truth == example.predicted
    return [
        ("true ", FAINT),
        (example.truth, PLAIN),
        ("   predicted ", FAINT),
        (f"{example.predicted} {example.score:.2f}", GOOD if right else BAD),
        (f"   video IoU {example.video_iou:.2f}", PLAIN),
    ]


def _place(example, f):
    """Which frame it is of how many; of a segment, of which."""
    if not example.first:
        return f"frame {f} of {len(example.iou_F)}"
    last = example.first + len(example.iou_F) - 1
    return f"frame {example.first + f} of {example.first} to {last}"


def _frame_iou(example, f):
    return "not counted" if np.isnan(example.iou_F[f]) else f"IoU {example.iou_F[f]:.2f}"


def _view(example, picture, truth, prob, height):
    """The overlay of a frame."""
    return overlay(picture, truth, prob, example.frame, example.crop, height)


# ---------------------------------------------------------------------------------- a video


def draw_example(stem, example, blocks):
    """Write `stem`.mp4, the overlay video, and `stem`.png, the contact sheet.

    blocks: iterable of (first frame number, frames uint8 (n,H,W,3), truth (n,H,W) {0,1},
    foreground probabilities (n,S,S) inside the crop) that covers the video.
    """
    stem, frames = Path(stem), len(example.iou_F)
    shown = np.unique(
        np.linspace(0, frames - 1, min(COLUMNS * ROWS, frames)).round().astype(int)
    )
    cells = {}

    def pictures():
        for start, *block in blocks:
            for f, (frame, truth, prob) in enumerate(zip(*block, strict=True), start):
                if f in shown:
                    view = _view(example, frame, truth, prob, CELL)
                    number = f"frame {example.first + f}"
                    label = [(number, PLAIN), (f"   {_frame_iou(example, f)}", FAINT)]
                    cells[f] = np.concatenate([view, text_bar(label, view.shape[1], 20, 12)])
                yield frame_picture(example, f, frame, truth, prob)

    write_mp4(f"{stem}.mp4", pictures())
    write_png(f"{stem}.png", contact_sheet(example, cells))


def frame_picture(example, f, frame, truth, prob):
    """uint8 picture of frame number `f`: text, the frame with its overlay, the IoU strip."""
    view = _view(example, frame, truth, prob, VIEW)
    width = view.shape[1]
    second = [
        (_place(example, f), PLAIN),
        (f"   {_frame_iou(example, f)}", PLAIN),
        (f"   {example.name}", FAINT),
    ]
    return np.concatenate(
        [
            text_bar(_about(example), width, 26),
            text_bar(second, width, 22, 12),
            view,
            np.full((4, width, 3), GROUND, np.uint8),
            iou_strip(example.iou_F, width, 48, f),
        ]
    )


def contact_sheet(example, cells):
    """Frames {number: picture} in a grid, under a headline and over the strip of the whole
    video.
    """
    gap, height, width = 6, *next(iter(cells.values())).shape[:2]
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * (height + gap), columns * (width + gap) + gap, 3), GROUND, np.uint8)
    for place, picture in enumerate(cells.values()):
        y, x = place // columns * (height + gap), place % columns * (width + gap) + gap
        sheet[y : y + height, x : x + width] = picture
    wide, side = sheet.shape[1], np.full((44, gap, 3), GROUND, np.uint8)
    legend = [
        ("ground truth", TRUTH),
        ("   prediction", PREDICTION),
        ("   dimmed: outside the crop", FAINT),
        (f"   IoU of each frame ({example.protocol})", FAINT),
    ]
    strip = iou_strip(example.iou_F, wide - 2 * gap, 44)
    return np.concatenate(
        [
            text_bar(_about(example), wide, 30, 17),
            text_bar([(example.name, FAINT)], wide, 22, 12),
            sheet,
            np.concatenate([side, strip, side], axis=1),
            text_bar(legend, wide, 24, 12),
        ]
    )


def write_mp4(path, pictures, rate=12):
    """Write uint8 (h,w,3) pictures of one size, sides even, as an MPEG-4 video; the file
    appears whole or not.
    """
    part = Path(path).with_suffix(".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(part), "w", format="mp4") as container:
            stream = None
            for picture in pictures:
                if stream is None:
                    stream = container.add_stream(
                        "mpeg4", rate=rate, options={"qscale": "3", "flags": "+qscale"}
                    )
                    stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
                    stream.codec_context.global_quality = 3 * 118
                container.mux(
                    stream.encode(
                        av.VideoFrame.from_ndarray(
                            np.ascontiguousarray(picture), format="rgb24"
                        )
                    )
                )
            container.mux(stream.encode())
        os.replace(part, path)
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(
            f"cannot write {path}: {(getattr(error, 'strerror', None) or str(error)).lower()}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def write_png(path, picture):
    """uint8 (h,w,3) RGB as a PNG."""
    with atomic_write(path) as file:
        Image.fromarray(picture).save(file, "PNG")


def _even(number):
    return 2 * round(number / 2)


# ----------------------------------------------------------------------------------- charts


def confusion_chart(truth_V, predicted_V, classes, title):
    """Picture uint8 (h,w,3): rows are true classes, columns predicted ones, color the
    share of the row.
    """
    with fonts_for([*classes, title]):
        return _confusion(
            truth_V, predicted_V, [label(name, NAME) for name in classes], lines(title)
        )


def _confusion(truth_V, predicted_V, classes, title):
    n = len(classes)
    count = np.zeros((n, n), int)
    np.add.at(count, (np.asarray(truth_V, int), np.asarray(predicted_V, int)), 1)
    share = count / np.maximum(count.sum(1, keepdims=True), 1)
    side = 2.6 + 0.3 * n
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(n), classes, rotation=90, fontsize=8)
    axes.set_yticks(
        range(n),
        [f"{name} ({total})" for name, total in zip(classes, count.sum(1), strict=True)],
        fontsize=8,
    )
    if n <= SHOWN_CLASSES:
        for row, column in zip(*count.nonzero(), strict=True):
            axes.text(
                column,
                row,
                count[row, column],
                ha="center",
                va="center",
                fontsize=7,
                color="white" if share[row, column] > 0.6 else "black",
            )
    axes.set(xlabel="predicted class", ylabel="true class (videos)")
    axes.set_title(title, fontsize=9, loc="left", wrap=True)
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the class's videos")
    return _picture(figure)


def class_chart(classes, series, title, marks=()):
    """Picture uint8 (h,w,3): a group of bars a class. series, marks: (name, C fractions or
    None); marks are lines.
    """
    with fonts_for([*classes, title]):
        return _bars([label(name, NAME) for name in classes], series, lines(title), marks)


def _bars(classes, series, title, marks):
    n, k = len(classes), len(series)
    figure = Figure(figsize=(max(8, 2 + 0.45 * n), 4.8), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(series):
        values = [np.nan if v is None else 100 * v for v in values]
        mean = "" if np.isnan(values).all() else f" (class mean {np.nanmean(values):.1f})"
        axes.bar(
            np.arange(n) + (i - (k - 1) / 2) * 0.8 / k,
            np.nan_to_num(values),
            0.8 / k,
            label=name + mean,
            color=f"C{i}",
            zorder=2,
        )
    for (name, values), color in zip(marks, ("black", "0.45"), strict=False):
        values = [np.nan if v is None else 100 * v for v in values]
        axes.hlines(
            values,
            np.arange(n) - 0.42,
            np.arange(n) + 0.42,
            color=color,
            lw=1.6,
            label=name,
            zorder=3,
        )
    axes.set_xticks(
        range(n), classes, rotation=60, ha="right", rotation_mode="anchor", fontsize=8
    )
    axes.set(ylabel="percent", ylim=(0, 100), xlim=(-0.6, n - 0.4))
    axes.grid(axis="y", alpha=0.3, zorder=0)
    axes.set_title(title, fontsize=9, loc="left", wrap=True)
    figure.legend(fontsize=8, ncols=3, loc="outside lower center")
    return _picture(figure)


def _picture(figure):
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(110)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
