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


def write_frames(
    picks: Sequence[Mapping],
    folder: Path,
    find_video: Callable[[str], Path],
    videos: Mapping[str, Video],
) -> dict[str, str]:
    """Write <folder>/<video>/frame_<number>.png for every frame of picks (see
    form.request_form).

    Original size, as a player shows them, so that pixels are those of the boxes and masks to
    answer with. Existing pictures are kept. videos: by name, with the sizes that labels lie
    on. Returns {video: reason} of the videos that are missing, cannot be read or are shown
    at another size.
    """
    # here, so that runs with ground truth need no video library
    from claus.datasets.video.reader import read_frames

    failed = {}
    for pick in tqdm(picks, desc="pictures", unit="video", disable=None):
        paths = {
            number: folder / pick["video"] / f"frame_{number:05d}.png"
            for number in pick["frames"]
        }
        waiting = {number: path for number, path in paths.items() if not path.exists()}
        if not waiting:
            continue
        try:
            video = videos[pick["video"]]
            labeled = video.height, video.width
            path = find_video(video.name)
            pictures = read_frames(path, list(waiting), video.frames, labeled)
        except UserError as error:
            failed[pick["video"]] = str(error)
            continue
        for path, picture in zip(waiting.values(), pictures, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                Image.fromarray(picture).save(file, format="PNG")
    return failed
