"""Export a detector: which files, and how far each is from torch."""

from pathlib import Path

from claus.detection import export
from claus.detection.detector import Detector
from claus.flags.detection import ExportSettings
from claus.utils.runtime import check_alone

WRITERS = {"onnx": export.write_onnx, "pt2": export.write_pt2}


def run(settings: ExportSettings) -> int:
    """Write the files that are asked for -> exit status."""
    check_alone("export.py")
    trained = Detector.open(settings.weights).trained
    clips = export.clips_to_check(trained, settings.videos)
    kind = "clips of the videos" if settings.videos else "made clips"
    for name, write in WRITERS.items():
        target = getattr(settings, name)
        if target:
            path = Path(target)
            worst = write(trained, path, clips)
            size = path.stat().st_size / 1e6
            print(
                f"wrote {path} ({size:.1f} MB) and {path.name}.json; at most {worst:.1e} from "
                f"torch on {len(clips)} {kind}"
            )
    return 0
