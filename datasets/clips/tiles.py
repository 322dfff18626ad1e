"""A video as a stream of clips, decoded once: for scoring, clustering and evaluation.

Only frames that a clip shows are converted to RGB and resized: with one phase, every second.

A tile is T*stride = 16 frames. Phase p of a tile is the clip of its frames p, p + stride,
...; two phases cover every frame. The last tile of a video is filled up by its last frame
(scoring, as published) or by black (evaluation, as published); or it begins earlier, so that
it is complete and shows motion throughout (scoring, our own rules). What fills it is never
scored.

Clips come in chunks of CHUNK, so that the memory needed does not depend on the length of a
video:

    for video, chunks in TileLoader(VideoTiles(videos, find_video, geometry), workers):
        try:
            for chunk in chunks: ...
        except Unreadable as error: ...
"""

import copy
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from claus.datasets.clips.geometry import STRIDE, ClipGeometry, center_crop, transform
from claus.datasets.labels.annotations import Video
from claus.datasets.video.feature_cache import FeatureCache
from claus.datasets.video.frame_index import IndexedVideos
from claus.utils.runtime import UserError

FILLS = ("repeat", "black", "last", "shift")
PADDED = ("black", "last")  # frames after the end have the number -1
CHUNK = 8  # clips; the batch of engine.predict, whose batches then lie as in the whole video
AHEAD = 4  # chunks that a process decodes before they are wanted


class Unreadable(UserError):
    """A video that is missing or damaged; its chunks so far are to be dropped."""


class VideoTiles:
    """Videos as chunks of clips: {"name", "clips" uint8 (n,T,3,S,S), "frames" int64 (n,T),
    "tile", "phase" int64 (n,)}, n = chunk but for the last of a video.

    Clips come tile by tile, phase by phase. frames: the video frame under each clip
    frame, -1 under one that fills the last tile. fill: "repeat" the last frame, under its
    number; "black"; the "last" frame that is shown, under -1; or "shift" the last tile to
    end with the video (where that has a whole tile; a shorter one repeats its last
    frame). done: of a video by name, how many of its first clips are left out, whole
    chunks; a whole video is decoded from its beginning all the same. features: where
    given, "clips" are records of the frames, half (n,T,R), in place of their pictures.
    cache: folder for the indices of videos of which only a segment is shown.
    """

    def __init__(
        self,
        videos: Iterable[Video],
        find_video: Callable[[str], Path],
        geometry: ClipGeometry,
        phases: int = 1,
        fill: str = "repeat",
        length: int = 8,
        stride: int = STRIDE,
        chunk: int = CHUNK,
        features: FeatureCache | None = None,
        done: Mapping[str, int] | None = None,
        cache: str | Path | None = None,
    ):
        if fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, not {fill!r}")
        self.videos, self.find_video, self.geometry = list(videos), find_video, geometry
        self.phases, self.fill, self.length, self.stride = phases, fill, length, stride
        self.chunk, self.done, self.features = chunk, done or {}, features
        self.cache, self.indexed = cache, IndexedVideos(cache)

    def share(self, lane: int, lanes: int) -> "VideoTiles":
        """The tiles of every lanes-th video from number `lane` on, with files of its own."""
        own = copy.copy(self)
        own.videos = self.videos[lane::lanes]
        own.indexed = IndexedVideos(self.cache)
        own.features = copy.deepcopy(self.features)
        return own

    def __len__(self):
        return len(self.videos)

    def chunks(self, index: int) -> Iterator[dict]:
        """The chunks of a video, which is decoded as they are asked for. UserError where it
        is missing or damaged.
        """
        video = self.videos[index]
        following = functools.partial(self._chunk, video.name, self._clips(video))
        return iter(following, None)  # which holds no chunk that it has given

    def _chunk(self, name, clips):
        """The next chunk from an iterator over the clips of a video, None at its end."""
        some = list(itertools.islice(clips, self.chunk))
        if not some:
            return None
        pictures, *columns = zip(*some, strict=True)
        frames, tiles, phases = (np.stack(column) for column in columns)
        return {
            "name": name,
            "clips": torch.stack(pictures),
            "frames": frames,
            "tile": tiles,
            "phase": phases,
        }

    def _clips(self, video):
        """The clips of a video, (pictures uint8 (T,3,S,S), frame numbers (T,), tile, phase),
        from one pass over it.
        """
        plan, left_out = self.plan(video.frames), self.done.get(video.name, 0)
        # a shifted tile also shows frames of the tile before
        first = min(max(left_out // self.phases - 1, 0), len(plan) - 1)
        plan, left_out = plan[first:], left_out - first * self.phases
        wanted = np.unique([shown for tile in plan for shown, _, _ in tile])
        tile_of = wanted // (self.length * self.stride)
        starts = np.searchsorted(tile_of, first + np.arange(len(plan) + 1))
        runs = [wanted[start:end] for start, end in itertools.pairwise(starts)]
        blocks = self._blocks(video, runs)
        before = []
        for tile, run, block in zip(plan, runs, blocks, strict=True):
            now = [(run, block)]
            if self.fill == "black":
                black = self.features.black() if self.features else torch.zeros_like(block[:1])
                now.insert(0, (np.array([-1]), black))
            if self.fill == "last":
                now.insert(0, (np.array([-1]), block[-1:]))
            numbers = np.concatenate([numbers for numbers, _ in (*before, *now)])
            finished = torch.cat([frames for _, frames in (*before, *now)])
            for shown, number, phase in tile[left_out:]:
                yield finished[np.searchsorted(numbers, shown)], shown, number, phase
            left_out = max(left_out - len(tile), 0)
            before = now if self.fill == "shift" else []

    def _blocks(self, video, runs):
        """The frames of each run, as a clip has them: uint8 (n,3,S,S), or records (n,R)."""
        path = self.find_video(video.source)
        if self.features:
            yield from self.features.runs(path, video, runs)
            return
        corner = center_crop(self.geometry)
        for block in self.indexed.read_entry(path, video, runs):
            yield transform(block, self.geometry, corner)

    def plan(self, frames: int) -> list[list[tuple[np.ndarray, int, int]]]:
        """For each tile of a video of `frames` frames, its clips: (frame numbers (T,),
        tile, phase).
        """
        size, tiles = self.length * self.stride, []
        for number, start in enumerate(range(0, frames, size)):
            clips = []
            if self.fill == "shift":
                start = min(start, shifted_start(frames, size, self.stride, self.phases))
            for phase in range(self.phases):
                shown = start + phase + self.stride * np.arange(self.length)
                if self.fill not in PADDED:
                    clips.append((np.minimum(shown, frames - 1), number, phase))
                elif shown[0] < frames:
                    clips.append((np.where(shown < frames, shown, -1), number, phase))
            tiles.append(clips)
        return tiles


def shifted_start(frames: int, size: int, stride: int, phases: int) -> int:
    """First frame of a last tile that shows the last frame of the video last, in its last
    phase; at least 0.
    """
    return max(frames - size + stride - phases, 0)


class TileLoader:
    """Iterate over a VideoTiles in order: (video, its chunks) for each video.

    Decodes ahead in `workers` processes, each video in one of them, a few chunks of each
    process's next video. The chunks raise Unreadable where a video is missing or damaged;
    what is not taken of them is passed over.
    """

    def __init__(self, tiles: VideoTiles, workers: int):
        self.tiles, self.workers = tiles, min(workers, len(tiles))

    def __len__(self):
        return len(self.tiles)

    def __iter__(self) -> Iterator[tuple[Video, Iterator[dict]]]:
        """The processes begin here, not when the first video is asked for."""
        of = max(self.workers, 1)
        return self._streams([self._reader(part, of) for part in range(of)])

    def _streams(self, readers):
        for video, reader in zip(self.tiles.videos, itertools.cycle(readers), strict=False):
            chunks = _of_one_video(reader)
            yield video, chunks
            for _ in chunks:
                pass

    def _reader(self, part, of):
        loader = DataLoader(
            _Share(self.tiles, part, of),
            batch_size=None,
            num_workers=min(self.workers, 1),
            prefetch_factor=AHEAD if self.workers else None,
            collate_fn=_as_it_is,
            generator=torch.Generator(),
        )
        return iter(loader)


def in_lanes(tiles: VideoTiles, workers: int, lanes: int) -> list[Iterator]:
    """What a TileLoader of each lane gives (see utils.lanes): lane k has the videos k,
    k + lanes, ..., and its share of the processes, at least one where there are any.
    """
    if lanes == 1:
        return [iter(TileLoader(tiles, workers))]
    each = max(workers // lanes, 1) if workers else 0
    return [iter(TileLoader(tiles.share(lane, lanes), each)) for lane in range(lanes)]


class _Share(IterableDataset):
    """What one of `of` processes reads: the chunks of each of its videos, followed by None,
    or by the reason (text) why there are no more.
    """

    def __init__(self, tiles, part, of):
        self.tiles, self.part, self.of = tiles, part, of

    def __iter__(self):
        for index in range(self.part, len(self.tiles), self.of):
            try:
                yield from self.tiles.chunks(index)
            except UserError as error:
                yield str(error)
            else:
                yield None


def _of_one_video(reader):
    """The chunks of the video that a _Share is at."""
    for item in reader:
        if item is None:
            return
        if isinstance(item, str):
            raise Unreadable(item)
        yield item


def _as_it_is(item):
    return item
