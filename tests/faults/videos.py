"""Hostile videos and folders: each is read as it is, or named in one line and left out, while
those beside it are read.
"""

import contextlib
import io
import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import av
import numpy as np

from . import campaign, more_videos

GOOD = "A/good"
CODECS = [
    ("mpeg4", "avi"),
    ("mpeg4", "mp4"),
    ("mpeg4", "mov"),
    ("mpeg4", "mkv"),
    ("libvpx", "webm"),
    ("libvpx-vp9", "webm"),
    ("mjpeg", "avi"),
    ("ffv1", "mkv"),
    ("mpeg2video", "mkv"),
    ("libx264", "mp4"),
]
SIZES = [
    (161, 121),
    (64, 33),
    (1, 1),
    (2, 2),
    (17, 16),
    (16, 17),
    (3, 99),
    (640, 2),
    (255, 257),
    (33, 33),
    (48, 31),
]
NAMES = [
    "a\u202fb",
    "a\u00a0b",
    "a\u3000b",
    "🎬 clip",
    "👨\u200d👩",
    "e\u0301",
    "\u00e9",
    "日本",
    "العربية",
    "a b",
    " a",
    "a ",
    "a'b",
    'a"b',
    "a;b",
    "a$b",
    "a%20b",
    "a&b",
    "#a",
    "-a",
    "--help",
    "a:b",
    "http:a",
    "concat:a|b",
    "pipe:0",
    "file:a",
    "a?b",
    "a*b",
    "[a]",
    "{a}",
    "(a)",
    "a\\b",
    "~a",
    "...a",
    "a.b.c",
    "a\nb",
    "a\tb",
    "a\rb",
    "a\x1b[31mb",
    "a\u2028b",
    "a\u202eb",
    "a\u200bb",
    "x" * 240,
    "\x7fa",
    b"a\xffb",
    b"\xe9",
    b"a\xed\xa0\x80",
    "%d",
    "%05d",
    "a,b",
    "a=b",
    "$(x)",
    "`x`",
    "NUL",
    "con",
    "a|b",
]


def frames(count=4, height=32, width=32):
    return [np.full((height, width, 3), 20 * k, np.uint8) for k in range(count)]


def write(path, codec="mpeg4", width=32, height=32, count=4, fmt="yuv420p"):
    """A small video. ValueError where FFmpeg cannot write it."""
    if codec == "mjpeg":
        fmt = "yuvj420p"
    if codec == "libx264" and (width % 2 or height % 2):
        fmt = "yuv444p"
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, fmt
            for picture in frames(count, height, width):
                for packet in stream.encode(
                    av.VideoFrame.from_ndarray(picture, format="rgb24")
                ):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    except (av.error.FFmpegError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"not written: {error}") from error


def png(width, height, content=b""):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(content or bytes(height * (1 + 3 * width)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def cases(folder):
    """[(kind, name, function that makes it in the folder A beside a good video)]."""
    found, whole = [], Path(folder) / "whole.avi"
    write(whole, count=12)
    content = whole.read_bytes()

    def add(kind, name, make):
        found.append((kind, name, make))

    for codec, ending in CODECS:
        for width, height in SIZES:
            add(
                f"{codec} in .{ending}",
                f"{width}x{height}",
                lambda a, c=codec, e=ending, w=width, h=height: write(a / f"x.{e}", c, w, h),
            )
    for name in NAMES:
        raw = name if isinstance(name, bytes) else name.encode()
        add(
            "names",
            ascii(raw),
            lambda a, raw=raw: (
                Path(os.fsdecode(os.fsencode(a) + b"/" + raw + b".avi"))
            ).write_bytes(content),
        )
    for share in range(10):
        add(
            "cut videos",
            f"{share}/10",
            lambda a, s=share: (a / "x.avi").write_bytes(content[: len(content) * s // 10]),
        )
    for seed in range(60):
        rng = np.random.default_rng(seed)
        damaged = bytearray(content)
        for _ in range(1 + seed % 30):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        add(
            "damaged videos",
            str(seed),
            lambda a, d=bytes(damaged): (a / "x.avi").write_bytes(d),
        )
    for ending in ("avi", "mp4", "mkv", "mov", "webm"):
        add(
            "other content",
            f"random .{ending}",
            lambda a, e=ending: (a / f"x.{e}").write_bytes(
                np.random.default_rng(1).bytes(5000)
            ),
        )
        add(
            "other content",
            f"text .{ending}",
            lambda a, e=ending: (a / f"x.{e}").write_text("hello\n" * 50),
        )
        add(
            "other content",
            f"zeros .{ending}",
            lambda a, e=ending: (a / f"x.{e}").write_bytes(bytes(5000)),
        )
        add(
            "playlists",
            f"m3u8 .{ending}",
            lambda a, e=ending: (a / f"x.{e}").write_text(
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
            ),
        )
        add(
            "playlists",
            f"concat .{ending}",
            lambda a, e=ending: (a / f"x.{e}").write_text(
                "ffconcat version 1.0\nfile /etc/passwd\nfile http://127.0.0.1:9/x\n"
            ),
        )
        add("no files", f"fifo .{ending}", lambda a, e=ending: os.mkfifo(a / f"x.{e}"))
        add(
            "no files",
            f"link to /dev/zero .{ending}",
            lambda a, e=ending: (a / f"x.{e}").symlink_to("/dev/zero"),
        )
        add(
            "no files",
            f"link to /dev/tty .{ending}",
            lambda a, e=ending: (a / f"x.{e}").symlink_to("/dev/tty"),
        )
        add(
            "no files",
            f"broken link .{ending}",
            lambda a, e=ending: (a / f"x.{e}").symlink_to("/nowhere"),
        )
        add(
            "no files",
            f"link to itself .{ending}",
            lambda a, e=ending: (a / f"x.{e}").symlink_to(f"x.{e}"),
        )
        add("no files", f"folder .{ending}", lambda a, e=ending: (a / f"x.{e}").mkdir())
    add("no files", "/proc/self/mem", lambda a: (a / "x.avi").symlink_to("/proc/self/mem"))

    def images(folder, **files):
        (folder / "x").mkdir()
        for name, data in files.items():
            (folder / "x" / f"{name}.png").write_bytes(data)

    good = png(8, 8)
    for kind, files in {
        "30,000 pixels": {"00001": png(30_000, 30_000, bytes(100))},
        "2**31 pixels": {"00001": png(2**31 - 1, 1, bytes(100))},
        "0 pixels": {"00001": png(0, 0, b"\0")},
        "9,000 x 9,000": {"00001": png(9_000, 9_000, bytes(100))},
        "bomb": {"00001": png(8, 8, bytes(50_000_000))},
        "empty": {"00001": b""},
        "text": {"00001": b"hello"},
        "gap": {"00001": good, "00003": good},
        "sizes": {"00001": good, "00002": png(9, 9)},
        "no number": {"a": good},
        "same number": {"a1": good, "b1": good},
        "number of 5,000 digits": {"9" * 200: good},
        "Arabic digits": {"a\u0661": good},
        "whole": {"00001": good, "00002": good},
    }.items():
        add("folders of images", kind, lambda a, f=files: images(a, **f))

    def special(a, make):
        images(a, **{"00001": good})
        make(a / "x" / "00002.png")

    for name, make in {
        "fifo": os.mkfifo,
        "link to /dev/zero": lambda p: p.symlink_to("/dev/zero"),
        "folder": lambda p: p.mkdir(),
        "broken link": lambda p: p.symlink_to("/nowhere"),
        "no permission": lambda p: (p.write_bytes(good), p.chmod(0)),
    }.items():
        add("folders of images", name, lambda a, m=make: special(a, m))
    add(
        "no files",
        "file without permission",
        lambda a: ((a / "x.avi").write_bytes(content), (a / "x.avi").chmod(0)),
    )
    add(
        "no files",
        "folder without permission",
        lambda a: (images(a, **{"00001": good}), (a / "x").chmod(0)),
    )

    def beside(a, name):
        place = a.parent / name
        place.mkdir()
        (place / "x.avi").write_bytes(content)

    for name in (
        "http:",
        "https:",
        "pipe:",
        "concat:",
        "file:",
        "B b",
        "B\u202fb",
        "-B",
        "ü",
        "a:b",
        "~",
    ):
        add("names of folders", name, lambda a, n=name: beside(a, n))

    def closed(a):
        beside(a, "B")
        (a.parent / "B").chmod(0)

    add("no files", "folder of a class without permission", closed)
    return found


class Pool:
    """A campaign.Kind: the videos below a folder become a pool, and are read in every way."""

    name, sealed = "videos and folders", False

    def __init__(self, numbers):
        self.numbers = numbers

    def shown(self, path, video):
        """What is wrong with the pictures' numbers: NaN, or None."""
        from claus.datasets.video.reader import read_frames

        if self.numbers is None:
            return None
        frames = read_frames(path, list(range(video.frames)), video.frames)
        levels = np.asarray(frames, float).reshape(len(frames), -1).mean(1)
        found = np.rint(levels / more_videos.LEVELS).astype(int).tolist()
        if self.numbers == more_videos.RISING:
            return None if found == sorted(set(found)) else float("nan")
        return None if found == self.numbers else float("nan")

    def read(self, root):
        from claus.datasets import jhmdb, own_videos, ucf101
        from claus.datasets.video.frame_index import IndexedVideos
        from claus.datasets.video.identity import identity_of
        from claus.datasets.video.reader import read_frames, unreadable
        from claus.datasets.video.times import read_times
        from claus.utils.runtime import UserError

        said = []
        os.chdir(root)  # --data .: a folder "http:" makes an address of its videos
        for dataset in (ucf101, jhmdb):
            with contextlib.redirect_stderr(io.StringIO()):
                pool, failed = own_videos.read_pool(
                    ".",
                    ("A",),
                    known=Path(root).parent / "counts.jsonl",
                    dataset=dataset,
                    any_folder=True,
                )
            (Path(root).parent / "counts.jsonl").unlink(missing_ok=True)
            assert GOOD in pool.videos, "the good video was left out"
            for name, video in pool.videos.items():
                path = dataset.find_video(".", name)
                try:
                    first = read_frames(path, [0, video.frames - 1], video.frames)
                    assert first.shape[1:3] == (video.height, video.width)
                    if path.is_file():
                        IndexedVideos().read_frames(path, [0], video.frames)
                        read_times(path)
                    identity_of(path)
                    if name == "A/x" and self.shown(path, video) is not None:
                        return float("nan")  # a wrong picture, without a word
                except UserError as error:
                    failed[name] = str(error)
                except unreadable() as error:
                    if "identity" not in repr(error.__traceback__):
                        raise
            said.append([sorted(failed.values()), sorted(pool.videos)])
        others = [name for _, names in said for name in names if name != GOOD]
        return said if others else "made again"  # left out by name


def outcomes(step=1):
    """(outcome, text) of every step-th case that can be made here."""
    av.logging.set_level(av.logging.PANIC)
    with tempfile.TemporaryDirectory() as folder:
        every = [*((*case, None) for case in cases(folder)), *more_videos.cases()]
        items, start = list(enumerate(every))[::step], 0

        def work(say):
            for place, (kind, name, make, numbers) in items[start:]:
                root = Path(folder) / f"data{place}"
                (root / "A").mkdir(parents=True)
                shutil.copyfile(Path(folder) / "whole.avi", root / "A" / "good.avi")
                try:
                    make(root / "A")
                except (ValueError, OSError):  # this FFmpeg, or this disk, has no such thing
                    say(["not made", ""])
                    continue
                outcome, text = campaign.tried(Pool(numbers), root, None)
                say([outcome, f"{kind}, {name}: {text}"])

        while start < len(items):
            done, status = campaign.items_of(work)
            yield from (item for item in done if item[0] != "not made")
            start += len(done)
            if status:
                yield "death", f"{items[start][1][:2]}"
                start += 1
