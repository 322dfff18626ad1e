"""Run an exported detector with onnxruntime alone: the boxes of every frame of a video.

    pip install onnxruntime av opencv-python-headless
    python examples/onnx_detect.py laptop.onnx my_video.mp4

Nothing of this project is imported. Reads the .onnx file of export.py and the .json beside
it. Prints frame, class, score and box (x0, y0, x1, y1) of each region. This short program
sees the center crop of each frame, resizes a little differently, and links no tubes;
detect.py does all that.
"""

import json
import sys

import av
import cv2
import numpy as np
import onnxruntime

CLIPS = 8  # that the network sees at once


def main(model: str, video: str) -> None:
    """Decode, cut clips of every second frame, run, and print."""
    with open(f"{model}.json", encoding="utf-8") as file:
        about = json.load(file)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    tile, first = [], 0
    span = about["frames"] * about["stride"]
    with av.open(video) as container:
        for frame in container.decode(video=0):
            tile.append(frame.to_ndarray(format="rgb24"))
            if len(tile) == span:
                detect(session, about, tile, first)
                tile, first = [], first + span
    if tile:
        detect(session, about, tile, first)


def detect(session, about: dict, tile: list, first: int) -> None:
    """The regions of up to 16 frames, from frame number `first` on."""
    stride, length = about["stride"], about["frames"]
    pictures = np.stack([cut(picture, about) for picture in tile])
    for phase in range(min(stride, len(tile))):
        places = phase + stride * np.arange(length)
        shown = np.minimum(places, len(tile) - 1)  # the last frame fills up the last clip
        probabilities, scores = session.run(None, {"clips": pictures[shown][None]})
        best = int(scores[0].argmax())
        for place, probs in zip(places[places < len(tile)], probabilities[0], strict=False):
            print_regions(probs, scores[0, best], best, about, tile[0].shape, first + place)


def cut(picture: np.ndarray, about: dict) -> np.ndarray:
    """A frame (H,W,3) -> what the network sees of it, (3,S,S)."""
    (height, width), (crop_h, crop_w) = about["resize_to"], about["center_crop"]
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    crop = picture[top : top + crop_h, left : left + crop_w]
    return cv2.resize(crop, (about["size"], about["size"])).transpose(2, 0, 1)


def print_regions(probs, score, best, about, shape, frame) -> None:
    """One line for each region of foreground of a map (S,S)."""
    found = cv2.connectedComponentsWithStats((probs >= 0.5).astype(np.uint8))
    (height, width), (crop_h, crop_w) = about["resize_to"], about["center_crop"]
    left, top = (width - crop_w) // 2, (height - crop_h) // 2
    for number, (x, y, w, h, area) in enumerate(found[2].tolist()):
        if number == 0 or area < 0.002 * probs.size:  # 0 is the background
            continue
        corners = np.array([[x, y], [x + w, y + h]]) * (crop_w, crop_h) / about["size"]
        box = (corners + (left, top)) * (shape[1] / width, shape[0] / height)
        mean = float(probs[found[1] == number].mean())
        print(frame, about["classes"][best], f"{mean * score:.3f}", *box.round(1).ravel())


if __name__ == "__main__":
    main(*sys.argv[1:])
