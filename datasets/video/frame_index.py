"""Any frame of a video file without decoding those before its group of pictures, and never
another frame than asked.

No header, timestamp or seek is trusted. An index is made once per file, by decoding it
twice: from the start to the end, which says what frame k is, and then group by group (a
group begins at each packet that is marked as a key frame), each with a new decoder that is
given the bytes of the group's packets alone, read straight from the file. Only if both give
the same pictures, all of them and in the same order, is the index used; then it says which
bytes of the file hold the packets of a group, and which frames come out. Else it says that
this file is to be decoded from its start (open groups of pictures, where B-frames lean on
the group before; containers whose packets are not whole in the file).
"""

import base64
import bisect
import hashlib
import itertools
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from claus.datasets.video.disk_cache import keep_sealed, read_sealed, signature
from claus.datasets.video.reader import VideoError, check_length, packet_of, pixels, read_frames
from claus.utils.runtime import UserError

VERSION = 1
# a container puts no more bytes than this between what it calls a packet's place and its
# content
HEADER = 64
IN_MEMORY = 2000  # indices a process keeps at hand, some kilobytes each
UNREADABLE = (av.error.FFmpegError, OSError, ValueError)


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames of one file are.

    frames: how many it decodes. groups: (number of the first packet, number of the first
    frame) of each group that can be decoded by itself; none where the file must be decoded
    from its start. packets: (first byte, bytes) of each. The rest is what a decoder needs
    beforehand; extradata is base64.
    """

    frames: int
    groups: tuple = ()
    packets: tuple = ()
    codec: str = ""
    tag: str = ""
    size: tuple = (0, 0)
    extradata: str = ""

    def decode(self, file, group):
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

    def read(self, path, wanted):
        """{frame number: uint8 RGB (H,W,3)} for some of this file's frames. OSError,
        FFmpegError or ValueError.
        """
        converter, firsts, found = VideoReformatter(), [first for _, first in self.groups], {}
        with open(path, "rb") as file:
            for group, members in itertools.groupby(
                sorted(wanted), lambda k: bisect.bisect_right(firsts, k) - 1
            ):
                members = list(members)
                for k, frame in enumerate(self.decode(file, group), start=firsts[group]):
                    if k in members:
                        found[k] = pixels(frame, converter)
                    if k == members[-1]:
                        break
        if len(found) < len(set(wanted)):
            raise ValueError("fewer frames than the index has")
        return found


def build(path):
    """The FrameIndex of a file, proved frame by frame. VideoError for one that cannot be
    decoded to its end.
    """
    try:
        with (
            av.open(str(path), metadata_errors="ignore") as container,
            open(path, "rb") as file,
        ):
            stream = container.streams.video[0]
            context = stream.codec_context
            context.thread_count = 1
            packets, keys, digests = [], [], []
            for packet in container.demux(stream):
                if packet.size:
                    if packet.is_keyframe or not packets:
                        keys.append(len(packets))
                    packets.append(_place(file, packet))
                digests += map(_digest, packet.decode())
            index = FrameIndex(
                len(digests),
                tuple((key, 0) for key in keys),
                tuple(packets),
                context.name,
                context.codec_tag,
                (context.width, context.height),
                base64.b64encode(context.extradata or b"").decode(),
            )
            if None in packets:
                return FrameIndex(len(digests))
            return _proved(index, file, digests)
    except (*UNREADABLE, IndexError) as error:
        raise VideoError(f"{path}: decoding fails; fetch this video again") from error


def _proved(index, file, digests):
    """The index with the frames of its groups counted, or one without groups where these
    give other pictures.
    """
    firsts, count = [], 0
    try:
        for group in range(len(index.groups)):
            firsts.append(count)
            for frame in index.decode(file, group):
                if count == len(digests) or _digest(frame) != digests[count]:
                    return FrameIndex(len(digests))
                count += 1
    except UNREADABLE:
        return FrameIndex(len(digests))
    if count < len(digests) or len(set(firsts)) < len(firsts):
        return FrameIndex(len(digests))
    groups = tuple(
        (packet, first) for (packet, _), first in zip(index.groups, firsts, strict=True)
    )
    return FrameIndex(**{**asdict(index), "groups": groups})


def _place(file, packet):
    """(first byte, bytes) of a packet's content in the file, or None where it is not there
    in one piece.
    """
    if packet.pos is None or packet.pos < 0:
        return None
    file.seek(packet.pos)
    skipped = file.read(packet.size + HEADER).find(bytes(packet))
    return None if skipped < 0 else (packet.pos + skipped, packet.size)


def _digest(frame):
    """What two frames have in common that are the same picture in every respect."""
    about = f"{frame.format.name} {frame.width} {frame.height} {frame.colorspace} {frame.color_range}"
    return hashlib.sha1(
        np.ascontiguousarray(frame.to_ndarray()), usedforsecurity=False
    ).digest(), about


class IndexedVideos:
    """Reads frames through the index of each file, which it makes where there is none.

    folder: where indices are kept for the next process, one small file each; None keeps
    them in memory alone. They are found by path, size and time of change; one that is
    damaged, or of another FFmpeg, is made anew.
    """

    def __init__(self, folder=None):
        self.folder = Path(folder) / "index" if folder else None
        self._known = OrderedDict()

    def read_frames(self, path, indices, frames):
        """As datasets.video.read_frames: the same frames, the same errors."""
        path = Path(path)
        index = self.index(path) if path.is_file() else None
        if index is None or not index.groups:
            return read_frames(path, indices, frames)
        final = index.frames - 1
        try:
            found = index.read(path, {min(int(k), final) for k in indices})
            if max(indices) > final:
                check_length(path, index.frames, frames)
            return np.stack([found[min(int(k), final)] for k in indices])
        except UNREADABLE:  # it has changed under our hands: what there is to say, this says
            return read_frames(path, indices, frames)

    def index(self, path):
        """The FrameIndex of a file, None where it cannot be decoded to its end."""
        sign = signature(path)
        key = hashlib.sha1(
            f"{VERSION} {sign} {av.library_versions}".encode(), usedforsecurity=False
        ).hexdigest()
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
                keep_sealed(file, json.dumps(asdict(index)).encode())
        self._known[key] = index
        if len(self._known) > IN_MEMORY:
            self._known.popitem(last=False)
        return index


def _load(file):
    """The index kept in this file, None where there is none or it is damaged."""
    try:
        stored = json.loads(read_sealed(file).tobytes())
        lists = ("groups", "packets")
        return FrameIndex(
            **{**stored, **{name: tuple(map(tuple, stored[name])) for name in lists}}
        )
    except (ValueError, TypeError, KeyError):
        return None
