"""A detector as a file that runs without this project: ONNX, or torch.export's .pt2.

    python export.py --onnx laptop.onnx
    python export.py --weights files/my_run --pt2 mine.pt2 --check my_video.mp4

Reads   weights; videos to compare on
Writes  the file, and <file>.json: classes, size of a clip, stride in time, crop
Expect  half a minute. The file is compared with torch on clips before it is kept, and
        refused where a probability differs by more than 1e-4. --onnx needs
        pip install onnx onnxscript onnxruntime. examples/onnx_detect.py runs the file with
        onnxruntime alone.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
from claus.flags import detection
from claus.steps import export
from claus.utils.runtime import run_script


def main(argv=None):
    return export.run(detection.parse_export(argv, __doc__))


if __name__ == "__main__":
    run_script(main, again="nothing was written")
