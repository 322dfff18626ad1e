"""Training clips of the labeled videos: one random clip around a random labeled frame,
with its pseudo-labels.

Every choice is seeded by (seed, epoch, position), so neither the number of workers nor an
interruption changes a clip.
"""

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from claus.datasets.clips.geometry import (
    LENGTH,
    POSITION,
    ClipGeometry,
    center_crop,
    clip_indices,
    cut,
    random_crop,
    resize,
    sources,
)
from claus.datasets.labels.annotations import Annotations, Video
from claus.datasets.labels.masks import PackedMasks
from claus.datasets.labels.pseudo_labels import INTERPOLATION, clip_labels, pseudo_masks
from claus.datasets.video.feature_cache import FeatureCache
from claus.datasets.video.frame_cache import FrameCache
from claus.datasets.video.frame_index import IndexedVideos
from claus.datasets.video.reader import read_frames
from claus.models.lite import flipped
from claus.utils import lanes
from claus.utils.runtime import UserError

# which frame of its clip the labeled one is: that of index 4, as published, or any
PLACES = ("middle", "any")
IN_MEMORY = 32e6  # bytes of compressed masks a process keeps: all of J-HMDB's


class ClipSampler(Sampler):
    """Yields (epoch, position, video name): every labeled video `per_epoch` times,
    shuffled, cut at `length` clips.

    stream: seeds the shuffling beside `seed`; two samplers of the same seed need different
    ones. `epoch` is set by the training loop.
    """

    def __init__(
        self,
        names: Iterable[str],
        seed: int,
        length: int | None = None,
        per_epoch: int = 2,
        stream: tuple[int, ...] = (1,),
    ):
        self.names, self.seed, self.epoch, self.stream = list(names), seed, 0, stream
        self.length = length or per_epoch * len(self.names)

    def __len__(self):
        return self.length

    def __iter__(self):
        rng = np.random.default_rng([self.seed, *self.stream, self.epoch])
        rounds = -(-self.length // len(self.names))
        order = np.concatenate([rng.permutation(len(self.names)) for _ in range(rounds)])
        for position, index in enumerate(order[: self.length]):
            yield self.epoch, position, self.names[index]


def clip_class(
    video: Video, indices: np.ndarray, anchor: int, rng: np.random.Generator | None
) -> int:
    """The class that a clip of frames `indices` (T,) is trained on: that of its labeled
    actors; of several, those at the `anchor` count, and one is drawn where they differ.

    Nothing is drawn where all actors of a video have its class. rng None: the video's own
    class where it is among them, else the lowest.
    """
    if all(tube.label == video.label for tube in video.tubes):
        return video.label
    for frames in ([anchor], indices):
        shown = {tube.label for tube in video.tubes if np.isin(frames, tube.frames).any()}
        if shown:
            break
    else:
        return video.label
    if len(shown) == 1 or rng is not None:
        return int(rng.choice(sorted(shown))) if len(shown) > 1 else min(shown)
    return video.label if video.label in shown else min(shown)


class TrainingClips(Dataset):
    """(epoch, position, name) -> one clip as a dict of tensors.

    frames uint8 (T,3,S,S), target uint8 {0,1} (T,S,S), weight φ float32 (T,S,S), label int,
    name str, on_label bool (T,), anchor int: index of the labeled frame the clip was made
    around. A video that is missing or cannot be read gives {"name", "failed": reason}
    instead. loss, weighting: see pseudo_labels.clip_labels. interpolation: of masks, one of
    mask_interp.INTERPOLATIONS. folder: for indices of the videos, and up to `cache_gb` of
    decoded clips (1e9 bytes). features: where given, frames are records, half (T,R), in
    place of pictures, and nothing is decoded that it has. place: one of PLACES.
    """

    def __init__(
        self,
        annotations: Annotations,
        find_video: Callable[[str], Path],
        geometry: ClipGeometry,
        seed: int,
        loss: str = "stew",
        weighting: str = "paper",
        interpolation: str = INTERPOLATION,
        folder: str | Path | None = None,
        cache_gb: float = 0,
        features: FeatureCache | None = None,
        place: str = PLACES[0],
    ):
        self.annotations, self.find_video, self.geometry = annotations, find_video, geometry
        self.seed, self.loss, self.weighting = seed, loss, weighting
        self.interpolation = interpolation
        self.videos = IndexedVideos(folder)
        self.cache = FrameCache(folder, cache_gb) if folder and cache_gb else None
        self.features, self.place = features, place
        self._dense = OrderedDict()  # video name -> its pseudo-labels, where these are masks

    def __getitem__(self, key):
        epoch, position, name = key
        video = self.annotations.videos[name]
        rng = np.random.default_rng([self.seed, 2, epoch, position])
        return self.clip(video, int(rng.choice(video.labeled_frames)), rng)

    def clip(self, video: Video, anchor: int, rng: np.random.Generator | None = None) -> dict:
        """The clip of `video` around frame `anchor`; center crop without flip where rng is
        None.
        """
        position = POSITION
        if rng is not None and self.place == "any":
            position = int(rng.integers(LENGTH))
        indices = clip_indices(video.frames, anchor, LENGTH, position=position)
        corner, flip = center_crop(self.geometry), False
        if rng is not None:
            corner = random_crop(self.geometry, rng)
            flip = bool(rng.random() < 0.5)
        try:
            frames = self.network_frames(video, indices, corner, flip)
            masks = self.pseudo_masks(video, indices)
        except UserError as error:
            return {"name": video.name, "failed": str(error)}
        rows, columns = sources((video.height, video.width), self.geometry, corner, flip)
        target, weight = clip_labels(
            video, indices, rows, columns, self.loss, self.weighting, masks
        )
        return {
            "frames": frames,
            "target": torch.from_numpy(target),
            "weight": torch.from_numpy(weight),
            "label": clip_class(video, indices, anchor, rng),
            "name": video.name,
            "anchor": int(np.flatnonzero(indices == anchor)[0]),
            "on_label": torch.from_numpy(np.isin(indices, video.labeled_frames)),
        }

    def network_frames(self, video, indices, corner, flip):
        """What the network sees of these frames: uint8 (T,3,S,S), or records (T,R)."""
        path = self.find_video(video.source)
        if self.features is None:
            return cut(self.frames(path, indices, video), self.geometry, corner, flip)
        records = self.features.records(path, video, indices)
        return flipped(records) if flip else records

    def frames(self, path: Path, indices: np.ndarray, video: Video) -> np.ndarray:
        """Frames of a video by its own numbers, resized to geometry.picture(...): uint8
        (T,h,w,3). path: of the file that holds them.
        """
        indices = indices + video.first
        labeled = video.height, video.width
        size, place, clip = self.geometry.picture(*labeled), None, None
        with contextlib.suppress(OSError):  # reading the video says what is wrong
            place = self.cache and self.cache.path_of(path, indices, size, labeled)
        if place is not None:
            clip = self.cache.load(place, (len(indices), *size, 3))
        if clip is None:
            whole = self.videos.read_frames(path, indices, video.file_frames, labeled)
            clip = resize(whole, size)
            if place is not None:
                self.cache.store(place, clip)
        return clip

    def pseudo_masks(self, video: Video, frames: np.ndarray) -> np.ndarray | None:
        """Pseudo-labels uint8 {0,1} (T,H,W) at `frames` (T,), None where all labels are
        boxes.

        Masks are made for a whole video at once; up to IN_MEMORY bytes of them stay in
        memory, compressed.
        """
        if all(tube.masks is None for tube in video.tubes):
            return None
        if video.name not in self._dense:
            every = pseudo_masks(
                video,
                np.arange(video.frames),
                self.interpolation,
                lambda: self._pictures(video),
            )
            self._dense[video.name] = PackedMasks.pack(every.view(bool))
            while len(self._dense) > 1 and self._dense_bytes() > IN_MEMORY:
                self._dense.popitem(last=False)
        self._dense.move_to_end(video.name)
        return self._dense[video.name][frames].view(np.uint8)

    def _dense_bytes(self):
        return sum(masks.nbytes for masks in self._dense.values())

    def _pictures(self, video):
        path = self.find_video(video.source)
        read = read_frames if video.segment is None else self.videos.read_frames
        labeled = video.height, video.width
        numbers = range(video.first, video.first + video.frames)
        return read(path, numbers, video.file_frames, labeled)


class LabeledFrames(TrainingClips):
    """Validation: one center-cropped clip for every labeled frame of the videos; index
    (name, frame).
    """

    def __getitem__(self, key):
        name, frame = key
        return self.clip(self.annotations.videos[name], frame)


def collate(items: list[dict]) -> dict:
    """Stack the clips of a batch; `failed` is a list of (name, reason) of the videos that
    could not be read.
    """
    good = [item for item in items if "failed" not in item]
    batch = {
        "failed": [(item["name"], item["failed"]) for item in items if "failed" in item],
        "name": [item["name"] for item in good],
    }
    if good:
        for key in ("label", "anchor"):
            batch[key] = torch.tensor([item[key] for item in good])
        for key in ("frames", "target", "weight", "on_label"):
            batch[key] = torch.stack([item[key] for item in good])
    return batch


def in_batches(keys: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` keys that follow one another, the last one shorter."""
    keys = iter(keys)
    return iter(lambda: list(itertools.islice(keys, size)), [])


class Clips:
    """Batches of clips of several data sets by one loader, whose processes are started once
    and kept: starting them anew costs seconds an epoch.

    sets: name -> (Dataset, function that makes a batch of a list of its items). Draws nothing
    from the global random state.

    ahead: without processes, whether a thread reads the next batch while the last one is used;
    begin: called first in it.
    """

    def __init__(
        self,
        sets: dict[str, tuple[Dataset, Callable]],
        workers: int,
        ahead: bool = False,
        begin: Callable[[], None] = lambda: None,
    ):
        self._plan = _Plan()
        self._ahead, self._begin, self._last = ahead and not workers, begin, None
        self._loader = DataLoader(
            _Union(sets),
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=_Collate(sets),
            generator=torch.Generator(),
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def batches(self, name: str, keys: Iterable[list]) -> Iterator[dict]:
        """Batches of the data set of this name, from a list of keys for each. Those of the
        last call end with the next one.
        """
        self.close()
        self._plan.batches = ([(name, key) for key in some] for some in keys)
        return self._read_ahead() if self._ahead else iter(self._loader)

    def _read_ahead(self):
        """The thread begins when the first batch is asked for."""
        self._last = lanes.Ahead(iter(self._loader), 1, self._begin)
        yield from self._last

    def close(self) -> None:
        """Read no further batch."""
        if self._last is not None:
            self._last.close()


class _Plan(Sampler):
    """The batches of keys that come next."""

    def __init__(self):
        self.batches = iter(())

    def __iter__(self):
        return iter(self.batches)


class _Union(Dataset):
    """(name, key) -> (name, item) of the data set of this name."""

    def __init__(self, sets):
        self.sets = sets

    def __getitem__(self, key):
        name, own = key
        return name, self.sets[name][0][own]


class _Collate:
    """A batch of items of one data set, by its own function."""

    def __init__(self, sets):
        self.sets = sets

    def __call__(self, items):
        name = items[0][0]
        return self.sets[name][1]([item for _, item in items])


def loader(dataset: Dataset, sampler: Iterable, batch_size: int, workers: int) -> Iterator:
    """Batches of the clips of one data set, by Clips."""
    clips = Clips({"": (dataset, collate)}, workers)
    return _Again(clips, sampler, batch_size)


class _Again:
    """Iterates over a sampler's batches each time anew."""

    def __init__(self, clips, sampler, size):
        self.clips, self.sampler, self.size = clips, sampler, size

    def __iter__(self):
        return self.clips.batches("", in_batches(self.sampler, self.size))
