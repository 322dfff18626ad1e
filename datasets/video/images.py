"""A video as a folder of numbered images, one a frame: 00001.png, 00002.png, ... or .jpg.

Where there are PNGs the JPEGs beside them are no frames: a poster, or previews.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from claus.utils.runtime import UserError

MOST_PIXELS = 1 << 26  # of a picture: 16 frames of one are a gigabyte; 8K video has 33 million
IMAGES = (".png", ".jpg", ".jpeg")


class VideoError(UserError):
    """A video that is missing, empty, damaged, or not the one its annotation was made for."""


@dataclass(frozen=True)
class Picture:
    """A decoded image: rgb uint8 (H,W,3)."""

    rgb: np.ndarray

    @property
    def height(self) -> int:
        return self.rgb.shape[0]

    @property
    def width(self) -> int:
        return self.rgb.shape[1]


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is a frame of such a folder."""
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")


def has_images(folder: Path) -> bool:
    """Whether a path is a folder that holds images."""
    try:
        return folder.is_dir() and any(map(is_image, folder.iterdir()))
    except (OSError, ValueError):  # no permission, a name too long
        return False


def numbered_images(folder: Path) -> list[Path]:
    """The images of a folder in the order of their numbers. VideoError where there is none,
    one is missing between others, or the order is unclear.
    """
    numbers = images_by_number(folder)
    for before, number in itertools.pairwise(numbers):
        if number > before + 1:
            raise VideoError(
                f"{folder}: image number {before + 1} is missing, after {numbers[before].name}; "
                "download this video again"
            )
    return list(numbers.values())


def images_by_number(folder: Path) -> dict[int, Path]:
    """{number: file} of the images of a folder, sorted. VideoError as numbered_images."""
    numbers = {}
    try:
        files = sorted(filter(is_image, folder.iterdir()))
        files = [file for file in files if file.suffix.lower() == ".png"] or files
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise VideoError(f"{folder}: cannot be listed ({reason})") from error
    for file in files:
        digits = re.search(r"\d{1,18}$", file.stem, re.ASCII)
        if digits is None:
            raise VideoError(
                f"{file}: has no frame number at the end of its name; rename it, or "
                "move it elsewhere"
            )
        number = int(digits[0])
        if number in numbers:
            raise VideoError(
                f"{file}: has the same frame number as {numbers[number].name}; keep one of them"
            )
        numbers[number] = file
    if not numbers:
        raise VideoError(
            f"no video at {folder}: the folder holds no PNG or JPEG; download this video again"
        )
    return dict(sorted(numbers.items()))


def decode(file: Path) -> Picture:
    """An image as a Picture, eight bits a color; transparency is dropped. VideoError for a
    file that is damaged or holds no image.
    """
    from PIL import Image, ImageOps  # half a tenth of a second

    try:
        if not file.is_file():  # a pipe or a device would be waited for
            raise ValueError("it is no file")
        with Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"{image.width}x{image.height} pixels, more than {MOST_PIXELS}"
                )
            if image.mode.startswith("I"):  # 16 bits of gray, which PIL would cut off at 255
                gray = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255)
                return Picture(np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2))
            image = ImageOps.exif_transpose(image)  # as it is shown
            return Picture(np.array(image.convert("RGB")))  # its own memory, writable
    except PermissionError as error:
        raise VideoError(f"{file}: may not be read; allow it (chmod u+r)") from error
    except (Exception, Image.DecompressionBombWarning) as error:  # damaged ones raise anything
        reason = " ".join(str(error).split()) or "it holds no image"
        raise VideoError(
            f"{file}: decoding fails ({reason}); download this video again"
        ) from error
