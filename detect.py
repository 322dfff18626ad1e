"""Find actions in videos: tubes with class, scores and boxes, in the forms of other tools.

    python detect.py my_video.mp4 --overlay
    python detect.py my_videos --weights files/my_run --out found --format csv,coco --masks
    python detect.py "cameras/*.mp4" --format mot,cvat

Without --weights it uses the detector that comes with the program: --model laptop, trained
on J-HMDB's 21 everyday actions (run, sit, throw, wave, ...), people filling much of the
picture.

Reads   video files, folders of them, or folders of numbered images; weights
Writes  <out>/<video>.json              tubes: class, scores, frames, times, boxes, (masks)
        <out>/<video>.csv, ...          see --format
        <out>/<video>.overlay.mp4       with --overlay
Expect  about twice real time on two CPU cores. A score is (foreground probability) x (class
        score of the clip); all people of a clip share its class scores. The whole frame is
        seen. Finished videos are kept: an interrupted run is resumable. Exit status 1 where
        a video could not be read; the others are finished. See docs/detecting.md.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import detection
from claus.steps import detect
from claus.utils.runtime import run_script


def main(argv=None):
    return detect.run(detection.parse(argv, __doc__))


if __name__ == "__main__":
    run_script(main, again="finished videos are kept; run the same command to resume")
