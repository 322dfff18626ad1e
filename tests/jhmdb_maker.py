"""A small data set in J-HMDB's official layout, for the tests."""

import cv2
import numpy as np
import scipy.io


def square_masks(frames, height=24, width=32, start=(4, 5), side=8):
    """A square that moves right one pixel a frame: bool (F,H,W)."""
    masks = np.zeros((frames, height, width), bool)
    for f in range(frames):
        masks[f, start[1] : start[1] + side, start[0] + f : start[0] + f + side] = True
    return masks


def write_mat(path, masks, key="part_mask", compressed=True, **others):
    """puppet_mask.mat as the data set has it: uint8 height x width x frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    variables = others | {key: np.asarray(masks, np.uint8).transpose(1, 2, 0)}
    scipy.io.savemat(path, variables, do_compression=compressed)


def write_pngs(folder, frames, name="{:05d}.png"):
    """uint8 RGB frames (F,H,W,3) as numbered images, from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(folder / name.format(number)), frame[..., ::-1])


def write_set(root, clips):
    """puppet_mask/ and the lists of split 1. clips: name -> (masks, "train" or "test")."""
    for name, (masks, _) in clips.items():
        write_mat(root / "puppet_mask" / name / "puppet_mask.mat", masks)
    for part in ("train", "test"):
        names = [name for name, (_, its) in clips.items() if its == part]
        (root / f"{part}list_split1.txt").write_text("".join(f"{name}\n" for name in names))
