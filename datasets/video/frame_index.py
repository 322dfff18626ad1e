"""Random access to the frames of a video file, exact to the frame: only the group of
pictures that holds a frame is decoded.

No header, timestamp or seek is trusted. An index is made once per file, by decoding it
twice: from start to end, which defines frame k, and then group by group (a group begins at
each packet marked as a key frame), each with a new decoder that gets only the bytes of the
group's packets, read directly from the file. The index is used only if both give the same
pictures, all of them and in the same order; it then holds which bytes of the file are the
packets of a group, and which frames these decode to. Otherwise it says that the file must
be decoded from its start (open groups of pictures, whose B-frames refer to the group
before; containers that do not store packets in one piece).
"""

import base64
import bisect
import hashlib
import itertools
import json
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from claus.datasets.labels.annotations import Video
from claus.datasets.video.disk_cache import read_checked, signature, write_checked
from claus.datasets.video.display import Display, display_of
from claus.datasets.video.reader import (
    Frame,
    InOrder,
    VideoError,
    check_length,
    check_size,
    open_video,
    packet_of,
    pixels,
    read_frames,
    read_runs,
    unreadable,
    video_stream,
)
from claus.utils.pyav import av, decoder_versions
from claus.utils.runtime import UserError

if TYPE_CHECKING:
    from av import VideoFrame

# 2: holds how frames are shown, and chooses the stream that is shown
VERSION = 2
# most bytes that a container puts between a packet's stated position and its content
HEADER = 64
IN_MEMORY = 2000  # indices a process keeps in memory, some kilobytes each of short clips
PACKETS = 2_000_000  # and as many packets of them: 260 MB, 22 hours at 25 frames a second


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames of one file are.

    frames: how many it decodes to. groups: (number of the first packet, number of the first
    frame) of each group that can be decoded by itself; none where the file must be decoded
    from its start. packets: (first byte, bytes) of each. display: how frames are shown. The
    rest initializes a decoder: size is (width, height) as coded, extradata base64.
    """

    frames: int
    groups: tuple[tuple[int, int], ...] = ()
    packets: tuple[tuple[int, int], ...] = ()
    codec: str = ""
    tag: str = ""
    size: tuple[int, int] = (0, 0)
    extradata: str = ""
    display: Display = Display()

    def decode(self, file: BinaryIO, group: int) -> "Iterator[VideoFrame]":
        """Yield the frames of a group, from an open file."""
        context = av.CodecContext.create(self.codec, "r")
        context.thread_count = 1
        context.width, context.height = self.size
        context.codec_tag = self.tag
        if self.extradata:
            context.extradata = base64.b64decode(self.extradata)
        end = self.groups[group + 1][0] if group + 1 < len(self.groups) else len(self.packets)
        for start, size in self.packets[self.groups[group][0] : end]:
            file.seek(start)
            yield from context.decode(packet_of(file.read(size)))
        yield from context.decode(None)

    def group_of(self, k: int) -> int:
        """Number of the group that holds frame `k`, or that a missing one would follow."""
        return bisect.bisect_right(self.groups, k, key=_first_frame) - 1

    def read(self, path: str | Path, wanted: Collection[int]) -> dict[int, np.ndarray]:
        """{frame number: uint8 RGB (H,W,3)} for some of this file's frames. Raises OSError,
        FFmpegError or ValueError where the file no longer fits the index.
        """
        converter, found = av.video.reformatter.VideoReformatter(), {}
        with open(path, "rb") as file:
            for group, members in itertools.groupby(sorted(wanted), self.group_of):
                members = list(members)
                first = self.groups[group][1]
                for k, frame in enumerate(self.decode(file, group), start=first):
                    if k in members:
                        found[k] = pixels(Frame(frame, self.display), converter)
                    if k == members[-1]:
                        break
        if len(found) < len(set(wanted)):
            raise ValueError("fewer frames than the index has")
        return found


def build(path: str | Path) -> FrameIndex:
    """The FrameIndex of a file, verified frame by frame. VideoError for a file that cannot
    be decoded to its end.
    """
    try:
        with (
            open_video(path) as container,
            open(path, "rb") as file,
        ):
            stream, display = video_stream(container), None
            if stream is None:
                raise VideoError(f"{path} holds no video stream; download this video again")
            context = stream.codec_context
            packets, keys, digests = [], [], []
            for packet in container.demux(stream):
                if packet.size:
                    if packet.is_keyframe or not packets:
                        keys.append(len(packets))
                    packets.append(_place(file, packet))
                for frame in packet.decode():
                    display = display or display_of(stream, frame)
                    digests.append(_digest(frame))
            index = FrameIndex(
                len(digests),
                tuple((key, 0) for key in keys),
                tuple(packets),
                context.name,
                context.codec_tag,
                (context.width, context.height),
                base64.b64encode(context.extradata or b"").decode(),
                display or Display(),
            )
            if None in packets:
                return FrameIndex(len(digests))
            return _verified(index, file, digests)
    except unreadable() as error:
        raise VideoError(f"{path}: decoding fails; download this video again") from error


def _first_frame(group):
    return group[1]


def _verified(index, file, digests):
    """The index with the first frame of each group, or one without groups where these
    decode to other pictures.
    """
    firsts, count = [], 0
    try:
        for group in range(len(index.groups)):
            firsts.append(count)
            for frame in index.decode(file, group):
                if count == len(digests) or _digest(frame) != digests[count]:
                    return FrameIndex(len(digests))
                count += 1
    except unreadable():
        return FrameIndex(len(digests))
    if count < len(digests) or len(set(firsts)) < len(firsts):
        return FrameIndex(len(digests))
    groups = tuple(
        (packet, first) for (packet, _), first in zip(index.groups, firsts, strict=True)
    )
    return replace(index, groups=groups)


def _place(file, packet):
    """(first byte, bytes) of a packet's content in the file, None where it is not stored
    in one piece.
    """
    if packet.pos is None or packet.pos < 0:
        return None
    file.seek(packet.pos)
    skipped = file.read(packet.size + HEADER).find(bytes(packet))
    return None if skipped < 0 else (packet.pos + skipped, packet.size)


def _digest(frame):
    """Equal for two frames that are the same picture in every respect."""
    size = f"{frame.width} {frame.height}"
    about = f"{frame.format.name} {size} {frame.colorspace} {frame.color_range}"
    try:
        planes = np.ascontiguousarray(frame.to_ndarray())
    except (AssertionError, ValueError):  # PyAV has no array for it: odd widths, rare formats
        planes = pixels(Frame(frame, Display()))
    return hashlib.sha1(planes, usedforsecurity=False).digest(), about


class ByGroups:
    """The frames of a file from any group of pictures on: reader.InOrder for a file whose
    index has groups, without decoding what lies before the group of a frame.
    """

    def __init__(self, path: str | Path, index: FrameIndex):
        self.path, self.index, self.file = path, index, None
        self._enter(0)

    def __iter__(self):
        return self

    def __next__(self) -> Frame:
        try:
            decoded = next(self._frames, None)
            while decoded is None:
                following = self.group + 1
                if following == len(self.index.groups):
                    self._check_count(self.index.frames)
                    raise StopIteration
                self._check_count(self.index.groups[following][1])
                self._enter(following)
                decoded = next(self._frames, None)
        except unreadable() as error:
            raise VideoError(f"{self.path}: decoding fails near frame {self.count}") from error
        self.count, self.last = self.count + 1, Frame(decoded, self.index.display)
        return self.last

    def skip_to(self, k: int) -> None:
        """Make frame number `k` the last one, or one that is still to come of the same
        group; of a frame that is missing at the end, the last one there is.
        """
        k = min(k, self.index.frames - 1)
        group = self.index.group_of(k)
        if group != self.group or k < self.count - 1:
            self._enter(group)

    def _enter(self, group):
        """Be before the first frame of a group. The file is opened with the first frame, so
        that errors come where frames are asked for.
        """
        self.group, self.count, self.last = group, self.index.groups[group][1], None
        self._frames = self._of_group(group)

    def _of_group(self, group):
        if self.file is None:
            self.file = open(self.path, "rb")  # noqa: SIM115  as long as the decoder
        yield from self.index.decode(self.file, group)

    def _check_count(self, expected):
        """VideoError where a group did not give as many frames as the index has."""
        if self.count != expected:
            raise VideoError(
                f"{self.path}: has changed while it was read; run the same command again"
            )


class IndexedVideos:
    """Reads frames through the index of each file, which it makes where there is none.

    folder: where indices are stored for the next process, one small file each; None keeps
    them in memory only. They are found by path, size and modification time; one that is
    damaged, or of another version of FFmpeg, is made again.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = Path(folder) / "index" if folder else None
        self._known = OrderedDict()
        self._open = None, None  # the file read last, and where its decoder is

    def read_runs(
        self,
        path: str | Path,
        frames: int,
        runs: Sequence[Sequence[int]],
        size: tuple[int, int] | None = None,
    ) -> Iterator[np.ndarray]:
        """The same frames and errors as reader.read_runs, besides VideoError for a file that
        is too long. Only groups of pictures in which a frame is wanted are decoded, each up
        to the last one. Where a file has none that can be decoded by itself, and is read in
        the order of its frames, it is decoded once for all calls.
        """
        path = Path(path)
        try:
            if path.is_dir() or not path.is_file():
                yield from read_runs(path, frames, runs, size)
                return
            yield from read_runs(path, frames, runs, size, self._decoder(path, frames))
        except BaseException:  # the decoder may be anywhere
            self._open = None, None
            raise

    def read_entry(
        self, path: str | Path, video: Video, runs: Sequence[Sequence[int]]
    ) -> Iterator[np.ndarray]:
        """Frames of a pool entry in runs of its own rising numbers, as read_runs gives them.

        path: of the file that holds it. A whole video is read from its beginning, a segment
        through the index.
        """
        in_file = [(np.asarray(run) + video.first).tolist() for run in runs]
        read = read_runs if video.segment is None else self.read_runs
        return read(path, video.file_frames, in_file, (video.height, video.width))

    def _decoder(self, path, frames):
        """The decoder of this file, as the last call left it if that was of this file."""
        state = signature(path)
        if self._open[0] != state:
            index = self.index(path)
            seekable = index is not None and index.groups
            self._open = state, ByGroups(path, index) if seekable else InOrder(path)
        decoder = self._open[1]
        if isinstance(decoder, ByGroups) and decoder.index.frames > frames:
            check_length(path, decoder.index.frames, frames)
        return decoder

    def read_frames(
        self,
        path: str | Path,
        indices: Sequence[int],
        frames: int,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """The same frames and errors as reader.read_frames, uint8 (len(indices),H,W,3);
        besides, VideoError for any frame of a file that is too long, see check_length.
        """
        path = Path(path)
        index = self.index(path) if path.is_file() else None
        if index is not None and index.frames > frames:
            check_length(path, index.frames, frames)
        if index is None or not index.groups:
            return read_frames(path, indices, frames, size)
        final = index.frames - 1
        try:
            found = index.read(path, {min(int(k), final) for k in indices})
        except unreadable():  # the file has changed since; this reads it, or says what is wrong
            return read_frames(path, indices, frames, size)
        if max(indices) > final:
            check_length(path, index.frames, frames)
        pictures = np.stack([found[min(int(k), final)] for k in indices])
        check_size(path, pictures.shape[1:3], size, index.display)
        return pictures

    def index(self, path: Path) -> FrameIndex | None:
        """The FrameIndex of a file, None where it cannot be decoded to its end."""
        about = f"{VERSION} {signature(path)} {decoder_versions()}"
        key = hashlib.sha1(about.encode(), usedforsecurity=False).hexdigest()
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        file = self.folder / key[:2] / f"{key}.json" if self.folder else None
        index = _load(file) if file else None
        if index is None:
            try:
                index = build(path)
            except UserError:
                index = None
            if file and index is not None:
                write_checked(file, json.dumps(asdict(index)).encode())
        self._known[key] = index
        while len(self._known) > 1 and (
            len(self._known) > IN_MEMORY or self._packets() > PACKETS
        ):
            self._known.popitem(last=False)
        return index

    def _packets(self):
        return sum(len(index.packets) for index in self._known.values() if index is not None)


def _load(file):
    """The index stored in this file, None where it is missing or damaged."""
    try:
        stored = json.loads(read_checked(file).tobytes())
        for name in ("groups", "packets"):
            stored[name] = tuple(map(tuple, stored[name]))
        stored["display"] = Display(**stored["display"])
        return FrameIndex(**stored)
    except (ValueError, TypeError, KeyError):
        return None
