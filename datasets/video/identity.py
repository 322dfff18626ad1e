"""Which file a video is: what its header says and a digest of its bytes, cheap enough to be
compared whenever it is read, and what has changed where they differ.

The digest decides, of SAMPLES stretches of a long file (a short one whole) and the file's
size: no version of FFmpeg has a say in it. What the header says is there for the message,
but for how the picture is shown: a change of the rotation is a few bytes anywhere.
"""

import hashlib
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from claus.datasets.layouts import VIDEOS
from claus.datasets.video.display import display_of
from claus.datasets.video.images import has_images, numbered_images
from claus.datasets.video.reader import (
    VideoError,
    iter_frames,
    open_video,
    video_stream,
)
from claus.utils.pyav import av

SAMPLES, STRETCH = 16, 1 << 16  # stretches of a file, bytes of each
IMAGES, END = 256, 64  # images of a folder, bytes at the end of each: there is the checksum
DIGITS = 32  # of a digest


@dataclass(frozen=True)
class Identity:
    """Which file a video is. Only `file`, `digest` and how it is shown decide; the rest says
    what has changed.

    file: its name, such as "clip.avi", "clip/" for a folder of images. bytes: its size.
    frames: as the header says, 0 where it does not; decoded frames count everywhere else.
    height, width: as shown. display: what is done to a frame for it, in words. codec, rate:
    frames a second, a fraction, as text. first: digest of the first packet. digest: of all.
    """

    file: str
    bytes: int
    frames: int
    height: int
    width: int
    display: str
    codec: str
    rate: str
    first: str
    digest: str

    @property
    def shown(self) -> tuple[int, int, str]:
        """Height, width, and what is done to a frame."""
        return self.height, self.width, self.display


def state_of(path: Path) -> list[int] | None:
    """Numbers that a file keeps only as long as nobody replaces, writes or renames it; None
    for a folder, which does not say when an image in it is written.
    """
    stat = path.stat()
    if path.is_dir():
        return None
    inode = stat.st_ino % 2**63  # of some network disks it has 64 bits, of readers 63
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, inode]


def identity_of(path: Path) -> Identity:
    """Identity of a video file or a folder of numbered images. VideoError, OSError or an
    error of FFmpeg where it cannot be read.
    """
    return _of_images(path) if path.is_dir() else _of_file(path)


def _of_file(path):
    with open_video(path) as container:
        stream = video_stream(container)
        if stream is None:
            raise VideoError(f"{path} holds no video stream")
        first, frame = None, None
        for packet in container.demux(stream):
            if first is None and packet.size:
                first = _hex(hashlib.sha256(bytes(packet)))
            frame = next(iter(packet.decode()), None)
            if frame is not None:
                break
        if frame is None:
            raise VideoError(f"{path} holds no frame that can be decoded")
        display, rate = display_of(stream, frame), stream.average_rate
        height, width = display.size(frame)
        seconds = Fraction(container.duration or 0, av.time_base)
        return Identity(
            path.name,
            path.stat().st_size,
            stream.frames or round(seconds * (rate or 0)),
            height,
            width,
            str(display),
            stream.codec_context.name,
            str(rate or 0),
            first or "",
            _digest_of_file(path),
        )


def _digest_of_file(path):
    """Of the size and SAMPLES stretches, evenly spread from the first byte to the last; of
    all bytes where that is not more.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if size <= SAMPLES * STRETCH:
            digest.update(file.read())
            return _hex(digest)
        for number in range(SAMPLES):
            file.seek((size - STRETCH) * number // (SAMPLES - 1))
            digest.update(file.read(STRETCH))
    return _hex(digest)


def _of_images(folder):
    """Of the names and sizes of all images, and the ends of up to IMAGES of them."""
    files = numbered_images(folder)
    sizes = [file.stat().st_size for file in files]
    names = [(file.name, size) for file, size in zip(files, sizes, strict=True)]
    digest = hashlib.sha256(repr(names).encode())
    for number in sorted({k * (len(files) - 1) // (IMAGES - 1) for k in range(IMAGES)}):
        with open(files[number], "rb") as file:
            file.seek(max(sizes[number] - END, 0))
            digest.update(file.read())
    height, width = next(iter_frames(folder, {0})).size
    return Identity(
        f"{folder.name}/",
        sum(sizes),
        len(files),
        height,
        width,
        "",
        "png",
        "0",
        _hex(hashlib.sha256(files[0].read_bytes())),
        _hex(digest),
    )


def _hex(digest):
    return digest.hexdigest()[:DIGITS]


def copies_of(path: Path) -> list[Path]:
    """Other files beside a video that differ from it in their ending alone, and the folder
    of that name that holds images: converted copies.
    """
    stem = path if path.is_dir() else path.with_suffix("")
    endings = (*VIDEOS, *map(str.upper, VIDEOS))
    files = [stem.with_name(f"{stem.name}{ending}") for ending in endings]
    found = [file for file in files if file.is_file()]
    if has_images(stem):
        found.append(stem)
    return [file for file in found if not os.path.samefile(file, path)]


def changes(known: Identity, now: Identity) -> str:
    """What has become of a video, in words; empty where it is the same file."""
    if now.digest == known.digest and now.shown == known.shown:
        if now.file == known.file:
            return ""
        return f"renamed from {known.file}, with the same content"
    if now.file != known.file:
        return f"{known.file} was recorded and is gone, {now.file} is another file"
    facts = _facts(known, now)
    if facts:
        return facts
    size = _pair(known.bytes, now.bytes, "bytes")
    if now.first == known.first:
        return f"written again or changed behind its beginning: {size}"
    return f"another file of the same length and picture size, or re-encoded: {size}"


def _facts(known, now):
    """What the headers say of a change; empty where they say the same."""
    if now.first == known.first and now.shown != known.shown:
        return f"shown another way: {_pair(_shown(known), _shown(now))}"
    facts = []
    if now.codec != known.codec:
        facts.append(_pair(known.codec, now.codec))
    if now.rate != known.rate:
        facts.append(_pair(_rate(known), _rate(now), "frames/s"))
    if now.shown != known.shown:
        facts.append(_pair(_shown(known), _shown(now)))
    frames = _pair(known.frames, now.frames, "frames")
    if facts:
        more = [frames] if now.frames != known.frames else []
        return f"re-encoded, or another file: {', '.join([*facts, *more])}"
    if now.frames == known.frames:
        return ""
    if now.frames > known.frames:
        return f"another file, it is longer: {frames}"
    if now.first == known.first:
        return f"cut at its end: {frames}"
    return f"cut in front, or another file: {frames}"


def _pair(before, now, unit=""):
    known = f"{before} {unit}".strip()
    return known if before == now else f"{known} before, {now} now"


def _rate(identity):
    return f"{float(Fraction(identity.rate)):.5g}"


def _shown(identity):
    how = f" ({identity.display})" if identity.display else ""
    return f"{identity.width}x{identity.height}{how}"
