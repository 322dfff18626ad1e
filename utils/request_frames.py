"""Pictures of the frames that an annotator is asked to label."""

from PIL import Image
from tqdm import tqdm

from utils.runtime import UserError, atomic_write

FRAMES = "frames"       # folder beside request.json


def write_frames(request, folder, find_video):
    """Write <folder>/<video>/frame_<number>.png for every frame of a request (see datasets/oracle.py).

    Original size, so that pixels are those of the boxes and masks to answer with. Pictures that are there already are
    not made again. Returns {video: reason} of the videos that are missing or cannot be read.
    """
    from datasets.video import read_frames  # here, so that runs with ground truth need no video library

    failed = {}
    for entry in tqdm(request["videos"], desc="pictures", unit="video", disable=None):
        paths = {frame["frame"]: folder / entry["video"] / f"frame_{frame['frame']:05d}.png"
                 for frame in entry["frames"]}
        waiting = {number: path for number, path in paths.items() if not path.exists()}
        if not waiting:
            continue
        try:
            pictures = read_frames(find_video(entry["video"]), list(waiting), max(waiting) + 1)
        except UserError as error:
            failed[entry["video"]] = str(error)
            continue
        for path, picture in zip(waiting.values(), pictures, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                Image.fromarray(picture).save(file, format="PNG")
    return failed
