"""Contact sheets: every labeled frame small, with its actors drawn in, for one look."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from claus.annotators.actors import answers_with, shape_of
from claus.utils.picture_text import draw_text
from claus.utils.runtime import atomic_write

WIDTH, HEIGHT, CAPTION = 300, 225, 34  # pixels of a picture on the sheet, and below it
COLUMNS, ROWS = 5, 5
PAGE = COLUMNS * ROWS  # frames of a sheet
MOST = 100  # sheets; of more frames as many evenly spaced ones are shown
COLORS = ("#ffd400", "#00d5ff", "#ff5fa2", "#7dff5f", "#ff9d3b", "#b48cff", "#ffffff")


def write_sheets(form: Mapping, frames: Path, folder: Path) -> list[Path]:
    """Write sheet_01.png, … below `folder`, of all answered frames of a form (of evenly spaced
    ones where they would fill more than MOST sheets) -> their paths; older sheets are
    removed. frames: the folder of the pictures; one that is missing is a gray card.
    """
    cards = [
        (entry, frame)
        for entry in form["videos"]
        for frame in entry["frames"]
        if frame["actors"] is not None
    ]
    for old in folder.glob("sheet_*.png"):
        old.unlink()
    cards, paths = cards[:: max(1, -(-len(cards) // (MOST * PAGE)))], []
    for start in range(0, len(cards), PAGE):
        sheet = _sheet(cards[start : start + PAGE], frames, answers_with(form))
        path = folder / f"sheet_{start // PAGE + 1:02d}.png"
        with atomic_write(path) as file:
            sheet.save(file, format="PNG")
        paths.append(path)
    return paths


def _sheet(cards, frames, kind):
    rows = -(-len(cards) // COLUMNS)
    size = COLUMNS * WIDTH, rows * (HEIGHT + CAPTION)
    sheet = Image.new("RGB", size, "#202428")
    for place, (entry, frame) in enumerate(cards):
        corner = place % COLUMNS * WIDTH, place // COLUMNS * (HEIGHT + CAPTION)
        sheet.paste(_card(entry, frame, frames, kind), corner)
    return sheet


def _card(entry, frame, frames, kind):
    """One labeled frame with its caption."""
    card = Image.new("RGB", (WIDTH, HEIGHT + CAPTION), "#202428")
    draw = ImageDraw.Draw(card)
    shapes = [(shape_of(actor, kind), actor) for actor in frame["actors"]]
    picture = _picture(frames / entry["video"] / f"frame_{frame['frame']:05d}.png", shapes)
    scale = min((WIDTH - 4) / picture.width, HEIGHT / picture.height)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    if kind == "masks":
        picture = _with_masks(picture, shapes)
    card.paste(picture.resize(size), (2, 0))
    for shape, actor in shapes:
        color = _color(actor)
        if kind == "masks":
            rows, columns = np.nonzero(shape)
            shape = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
        else:
            box = [
                2 + scale * shape[0],
                scale * shape[1],
                2 + scale * shape[2],
                scale * shape[3],
            ]
            draw.rectangle(box, outline=color, width=2)
        words = " ".join(str(word) for word in (actor["track"], actor.get("class", "")))
        draw_text(draw, (4 + scale * shape[0], scale * shape[1]), words, color, 13)
    label = entry["class"] or ""
    empty = "" if frame["actors"] else " · no action"
    draw_text(draw, (4, HEIGHT + 1), _short(entry["video"], 44), "#c8ccd0", 12)
    caption = f"frame {frame['frame']} · {label}{empty}"[:48]
    draw_text(draw, (4, HEIGHT + 16), caption, "#ffffff", 12)
    return card


def _picture(path, shapes):
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        right, bottom = 320, 240
        for shape, _ in shapes:
            if shape.dtype == bool:
                bottom, right = shape.shape
            else:
                right, bottom = max(right, int(shape[2])), max(bottom, int(shape[3]))
        return Image.new("RGB", (right, bottom), "#5a5f64")


def _with_masks(picture, shapes):
    pixels = np.asarray(picture).copy()
    for mask, actor in shapes:
        if mask.shape == pixels.shape[:2]:
            color = np.array(Image.new("RGB", (1, 1), _color(actor)))[0, 0]
            pixels[mask] = (pixels[mask] + color.astype(int)) // 2
    return Image.fromarray(pixels)


def _color(actor):
    return COLORS[(actor["track"] - 1) % len(COLORS)]


def _short(text, most):
    return text if len(text) <= most else f"…{text[1 - most :]}"
