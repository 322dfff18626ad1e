"""Pictures of the frames that an annotator is asked to label."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from claus.datasets.labels.annotations import Video
from claus.utils.runtime import UserError, atomic_write

FRAMES = "frames"  # folder beside request.json


def clear_frames(folder: Path) -> None:
    """Remove the pictures of write_frames, and nothing else: annotators keep files of their
    tools beside them.
    """
    for path in folder.rglob("frame_*.png"):
        if re.fullmatch(r"frame_\d{5,}", path.stem):
            path.unlink()
    for place in sorted(folder.rglob("*/"), reverse=True):  # the deepest first
        if not any(place.iterdir()):
            place.rmdir()


def picture_of(folder: Path, video: str, number: int) -> Path:
    """The picture of a frame, by its number in the file."""
    return folder / video / f"frame_{number:05d}.png"


def write_frames(
    picks: Sequence[Mapping],
    folder: Path,
    find_video: Callable[[str], Path],
    videos: Mapping[str, Video],
    cache: Path | None = None,
) -> dict[str, str]:
    """Write <folder>/<video>/frame_<number>.png for every frame of picks (see
    form.request_form), by its number in the file.

    Original size, as a player shows them, so that pixels are those of the boxes and masks to
    answer with. Existing pictures are kept. videos: by name, with the sizes that labels lie
    on. cache: folder for the indices of long videos. Returns {video: reason} of the videos
    that are missing, cannot be read or are shown at another size.
    """
    # here, so that runs with ground truth need no video library
    from claus.datasets.video.frame_index import IndexedVideos
    from claus.datasets.video.reader import read_frames

    def place(pick):
        video = videos[pick["video"]]
        return video.source, video.first

    failed, indexed = {}, IndexedVideos(cache)
    # segments of one file in its order: where it has no index it is decoded once
    for pick in tqdm(sorted(picks, key=place), desc="pictures", unit="video", disable=None):
        paths = {number: picture_of(folder, pick["video"], number) for number in pick["frames"]}
        waiting = {number: path for number, path in paths.items() if not path.exists()}
        if not waiting:
            continue
        try:
            video = videos[pick["video"]]
            labeled, wanted = (video.height, video.width), sorted(waiting)
            path = find_video(video.source)
            if video.segment is None:
                pictures = read_frames(path, wanted, video.frames, labeled)
            else:
                runs = indexed.read_runs(path, video.file_frames, [wanted], labeled)
                pictures = next(runs)
        except UserError as error:
            failed[pick["video"]] = str(error)
            continue
        for number, picture in zip(wanted, pictures, strict=True):
            path = waiting[number]
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                Image.fromarray(picture).save(file, format="PNG")
    return failed
