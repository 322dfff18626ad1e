"""Detect the tubes of videos: which files are meant, one after the other, what is written of
each, and what could not be read.
"""

import glob
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from claus.datasets.layouts import VIDEOS
from claus.datasets.video.images import has_images
from claus.detection import files
from claus.detection.detector import Detection, Detector
from claus.detection.formats import FORMATS
from claus.flags.detection import DetectSettings
from claus.utils.runtime import UserError, check_alone, check_writable

SHORT = 16  # frames that many files claim without having them


def run(settings: DetectSettings) -> int:
    """Detect in all videos -> exit status, 1 where one could not be read."""
    check_alone("detect.py")
    videos = videos_of(settings.videos)
    out = check_writable(settings.out)
    precision = settings.precision.take(settings.device)
    detector = Detector.open(settings.weights, settings.device, precision.amp)
    say_view(detector, settings)
    failed, tubes, began, frames = {}, 0, time.perf_counter(), 0
    for name, path in videos.items():
        try:
            found = detect_one(detector, name, path, out, settings)
        except UserError as error:
            if settings.strict:
                raise
            failed[name] = str(error)
            tqdm.write(f"  skipped: {error}")
            continue
        tubes += found["tubes"]
        frames += found["new_frames"]
    if frames:
        seconds = time.perf_counter() - began
        print(f"{frames} frames in {seconds:.0f} s, {frames / seconds:.0f} a second")
    print(f"{tubes} tubes of {len(videos) - len(failed)} videos in {out}")
    if failed:
        print(f"{len(failed)} of {len(videos)} videos were skipped, see above")
    return 1 if failed else 0


def say_view(detector, settings):
    """Say what of a frame the network sees."""
    geometry = detector.trained.geometry
    if not settings.tubes.whole and geometry.fit != "stretch":
        print("note: this detector sees the whole frame, also with --crop")


def detect_one(
    detector: Detector, name: str, path: Path, out: Path, settings: DetectSettings
) -> dict:
    """Write all that is asked for of one video -> {"tubes", "new_frames"}."""
    place = out / f"{name}.json"
    wanted = asdict(settings.tubes)
    frames = 0
    found = None
    made_from = None
    if path.exists():
        made_from = files.about(path, detector.source, wanted)
    if settings.force or made_from is None or not files.is_finished(place, made_from):
        found = detector.detect(path, settings.tubes)
        with progress(found, name) as each:
            files.write(place, name, each, made_from)
        frames = found.progress.frames
        say_short(name, frames, found.header.frames)
    content = files.read(place)
    for kind in settings.formats:
        target = place.with_name(place.stem + FORMATS[kind].suffix)
        if found is not None or not target.exists():
            FORMATS[kind].write(content, target)
    overlay = place.with_name(f"{place.stem}.overlay.mp4")
    if settings.overlay and (found is not None or not overlay.exists()):
        from claus.detection.overlay import write_overlay  # matplotlib takes a second

        write_overlay(content, path, overlay)
    say(name, content, found is None)
    return {"tubes": len(content["tubes"]), "new_frames": frames}


def say_short(name, frames, claimed):
    """A note on a file that holds far fewer frames than it says: it may end in the middle."""
    if claimed and claimed - frames > SHORT and frames < 0.75 * claimed:
        tqdm.write(
            f"  note: {name} ends after {frames} frames where its header says {claimed}; "
            "is the file cut short?"
        )


def say(name, content, was_there):
    """One line on a video: how many tubes of which classes."""
    classes = Counter(tube["class"] for tube in content["tubes"]).most_common()
    words = ", ".join(f"{count} {kind}" for kind, count in classes) or "nothing found"
    note = " (was there already)" if was_there else ""
    tqdm.write(f"  {name}: {content['frames']} frames, {words}{note}")


def progress(found: Detection, name: str) -> "Watched":
    """The same Detection with a progress bar: frames, frames a second, time left."""
    bar = tqdm(total=found.header.frames, desc=name, unit=" frames", leave=False, disable=None)
    return Watched(found, bar)


class Watched:
    """A Detection beside a progress bar, which moves with its frames. A context: leaving it
    ends both.
    """

    def __init__(self, found, bar):
        self._found, self._bar = found, bar
        found.on_progress = self._moved

    def __getattr__(self, name):
        return getattr(self._found, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._found.close()
        self._bar.close()

    def __iter__(self):
        return iter(self._found)

    def _moved(self, progress):
        self._bar.total = max(self._bar.total or 0, progress.frames) or None
        self._bar.update(progress.frames - self._bar.n)


# ---------------------------------------------------------------------------- which videos


def videos_of(given: tuple[str, ...]) -> dict[str, Path]:
    """{name: path} of files, folders of videos (looked through at all depths) and patterns,
    in their order, none twice. A name is that of the file without its ending, below a
    folder with its way there; where two are the same both keep their endings. UserError
    where nothing is there.
    """
    found = {}
    for text in given:
        for name, path in _expanded(text):
            found.setdefault(path.resolve(), (name, path))
    count = Counter(Path(name).with_suffix("").as_posix() for name, _ in found.values())
    videos = {}
    for name, path in found.values():
        short = name if path.is_dir() else Path(name).with_suffix("").as_posix()
        name = short if count[short] == 1 else name
        number = 2
        while name in videos:
            name, number = f"{short}_{number}", number + 1
        videos[name] = path
    return videos


def _expanded(text):
    """[(name, path)] that one argument stands for."""
    path = Path(text)
    if path.is_dir():
        inside = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in VIDEOS and not file.name.startswith(".")
        ]
        if inside:
            return [(file.relative_to(path).as_posix(), file) for file in inside]
        if has_images(path):
            return [(path.resolve().name, path)]
        raise UserError(f"{text}: no video in this folder ({', '.join(VIDEOS)})")
    matches = sorted(glob.glob(text, recursive=True))
    if not path.exists() and glob.has_magic(text):
        if not matches:
            raise UserError(f"{text}: no file has such a name")
        return [pair for match in matches for pair in _expanded(glob.escape(match))]
    return [(path.name, path)]
