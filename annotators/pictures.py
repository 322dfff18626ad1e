"""Names of pictures that are unique without their folder, for tools that keep the last part
of a path alone: cam2/jump_b, frame 5 -> cam2__jump_b__frame_00005.png.

A name is never taken apart where it can be looked up: picture_names() makes the same table
again from the same frames.
"""

import hashlib
import re
from collections.abc import Iterable

from claus.datasets.layouts import VIDEOS

LONGEST = 180  # bytes of a name before its frame; file systems take 255
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def picture_name(video: str, frame: int) -> str:
    """Name of the picture of a frame, by the number in its file; two videos may share it
    (a/b__c and a__b/c), see picture_names.
    """
    flat = video.replace("/", "__").replace("\\", "_")
    if len(flat.encode()) > LONGEST:
        digest = hashlib.sha256(video.encode()).hexdigest()[:12]
        flat = f"{flat.encode()[-120:].decode(errors='ignore')}~{digest}"
    return f"{flat}__frame_{frame:05d}.png"


def picture_names(frames: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """{(video, frame): name}, all different; of two that would be the same, the second and
    later carry a digest of their video.
    """
    names, taken = {}, set()
    for video, frame in frames:
        name = picture_name(video, frame)
        if name.casefold() in taken:
            digest = hashlib.sha256(video.encode()).hexdigest()[:12]
            name = name.replace("__frame_", f"~{digest}__frame_")
        taken.add(name.casefold())
        names[video, frame] = name
    return names


class Pictures:
    """Finds (video, frame) by the name that a tool gives a picture back under."""

    def __init__(self, frames: Iterable[tuple[str, int]]):
        names = picture_names(frames)
        self.by_name = {_stem(name): key for key, name in names.items()}
        for key in names:  # as the frames lie in the cycle's folder
            self.by_name.setdefault(f"{key[0]}/frame_{key[1]:05d}".casefold(), key)

    def find(self, name: str) -> tuple[str, int] | None:
        """(video, frame) of a picture, None where it is none of these. Folders before the
        name, another ending and what Label Studio puts before an upload do not matter.
        """
        whole = _stem(name.replace("\\", "/"))
        last = whole.rpartition("/")[2]
        for candidate in (whole, last, re.sub(r"^[0-9a-f]{8}-", "", last)):
            if candidate in self.by_name:
                return self.by_name[candidate]
        parts = whole.split("/")
        for start in range(1, len(parts) - 1):  # <anything>/frames/<video>/frame_00005
            key = self.by_name.get("/".join(parts[start:]))
            if key is not None:
                return key
        return None


def _stem(name):
    """A name without its ending, for comparisons."""
    stem, dot, ending = name.rpartition(".")
    known = f".{ending.lower()}" in IMAGES
    return (stem if dot and known else name).casefold()


class VideoNames:
    """Finds videos of the pool by what another tool calls them, and frames by the names of
    their pictures.

    lengths: {name: frames of its file}. A video is known by its whole name, with / or with
    __ or _ in its place, or by its last part where only one video has it, with or without
    an ending.
    """

    def __init__(self, lengths: dict[str, int]):
        self.lengths, self.forms, self.last = lengths, {}, {}
        for name in lengths:
            for form in {name, name.replace("/", "__"), name.replace("/", "_")}:
                self.forms.setdefault(form.casefold(), set()).add(name)
            last = name.rpartition("/")[2].casefold()
            self.last.setdefault(last, set()).add(name)

    def find(self, given: str) -> str | None:
        """The name in the pool, None where there is none or several fit."""
        given = given.replace("\\", "/").casefold()
        for ending in VIDEOS:
            given = given.removesuffix(ending)
        parts = given.split("/")
        for start in range(len(parts)):
            found = self.forms.get("/".join(parts[start:]), set())
            if len(found) == 1:
                return next(iter(found))
        found = self.last.get(parts[-1], set())
        return next(iter(found)) if len(found) == 1 else None

    def find_picture(self, given: str, of: str | None = None) -> tuple[str, int] | None:
        """(video, number at the end of the name) of a picture; of: the video, where the
        tool says that. None where the name says neither.
        """
        stem = _stem(given.replace("\\", "/"))
        match = re.fullmatch(r"(.*?)(?:[/_\- ]*(?:frame|img|image))?[/_\- ]*(\d+)", stem)
        if match is None:
            return None
        video = self.find(match[1]) if match[1] else None
        if video is None and of is not None:
            video = self.find(of)
        return None if video is None else (video, int(match[2]))
