"""Videos as cameras, screen recorders and editors write them: every picture is gray of a level
that says its number, so that a picture in another's place is seen.
"""

import contextlib
import io
import struct
from fractions import Fraction

import av
import numpy as np

COUNT = 10
LEVELS = 20  # gray levels between two pictures
NOTHING = []  # it shows no picture: it must be left out
RISING = "rising"  # which pictures there are is the file's own matter, but not their order
PATTERNS = {
    "even": lambda k: 40 * k,
    "late": lambda k: 5000 + 40 * k,
    "negative": lambda k: 40 * k - 200,
    "slow": lambda k: 1000 * k,
    "fast": lambda k: 4 * k,
    "growing": lambda k: 20 * k * (k + 1),
    "gap": lambda k: 40 * k + 60_000 * (k > 4),
    "pairs": lambda k: 80 * (k // 2) + 7 * (k % 2),
    "shrinking": lambda k: 1000 * k - 45 * k * k,
    "odd": lambda k: 40 * k + (k * 7919) % 31,
}
MATRICES = {  # of a track: a, b, c, d; turned, mirrored, scaled, skewed
    "0": (1, 0, 0, 1),
    "90": (0, 1, -1, 0),
    "180": (-1, 0, 0, -1),
    "270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transverse": (0, -1, -1, 0),
    "doubled": (2, 0, 0, 2),
    "skewed": (1, 0.5, -0.5, 1),
}
FORMATS = [
    ("ffv1", "mkv", "gray"),
    ("ffv1", "mkv", "yuv444p"),
    ("ffv1", "mkv", "yuv420p10le"),
    ("ffv1", "mkv", "bgr0"),
    ("ffv1", "mkv", "bgra"),
    ("ffv1", "mkv", "gbrp10le"),
    ("ffv1", "mkv", "yuv410p"),
    ("libx264", "mp4", "yuv444p"),
    ("libx264", "mp4", "yuv420p10le"),
    ("libx264", "mp4", "yuv422p"),
    ("libvpx-vp9", "webm", "yuv444p"),
    ("libvpx-vp9", "webm", "yuva420p"),
    ("mjpeg", "avi", "yuvj444p"),
    ("png", "mov", "rgb24"),
    ("png", "mov", "gray"),
    ("png", "mov", "rgba"),
    ("qtrle", "mov", "rgb24"),
    ("rawvideo", "avi", "bgr24"),
]
ENDINGS = {
    "m4v": "libx264",
    "ts": "mpeg2video",
    "mts": "libx264",
    "m2ts": "libx264",
    "3gp": "mpeg4",
    "wmv": "wmv2",
    "mpg": "mpeg1video",
    "mpeg": "mpeg2video",
    "flv": "flv",
    "gif": "gif",
}
CONTAINER = {"mts": "mpegts", "m2ts": "mpegts", "m4v": "mp4", "wmv": "asf", "mpeg": "mpeg"}


def write(path, codec="libx264", fmt="yuv420p", size=(32, 32), count=COUNT, **more):
    """A video of numbered pictures. ValueError where this FFmpeg cannot write it.

    ticks: k -> when picture k is shown, in ms. options: of the codec. sar: of its pixels.
    extra: "audio", "audio only", "two": further streams. first: number of its first.
    """
    ticks, first = more.get("ticks", lambda k: 40 * k), more.get("first", 0)
    form = more.get("container") or CONTAINER.get(path.suffix[1:])
    extra = more.get("extra", "")
    try:
        with av.open(str(path), "w", format=form, options=more.get("mux", {})) as file:
            kept = []
            for _ in range(0 if extra == "audio only" else 2 if extra == "two" else 1):
                stream = file.add_stream(codec, rate=25, options=more.get("options", {}))
                stream.height, stream.width, stream.pix_fmt = *size, fmt
                stream.codec_context.gop_size = 5
                if "ticks" in more:
                    stream.codec_context.time_base = Fraction(1, 1000)
                if "sar" in more:
                    stream.codec_context.sample_aspect_ratio = Fraction(*more["sar"])
                if "bf" in more:
                    stream.codec_context.max_b_frames = more["bf"]
                kept.append(stream)
            sound = (
                file.add_stream(more.get("audio", "aac"), rate=8000)
                if "audio" in extra
                else None
            )
            for k in range(count):
                for place, stream in enumerate(kept):
                    level = LEVELS * (first + k) if not place else 255 - 9 * k
                    picture = np.full((*size, 3), level, np.uint8)
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    if "ticks" in more:
                        frame.pts, frame.time_base = ticks(k), Fraction(1, 1000)
                    file.mux(
                        stream.encode(frame.reformat(format=fmt) if fmt != "gif" else frame)
                    )
            for stream in kept:
                file.mux(stream.encode())
            if sound:
                silence = np.zeros((1, 1024), np.float32)
                for k in range(4):
                    frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                    frame.sample_rate, frame.pts = 8000, 1024 * k
                    file.mux(sound.encode(frame))
                file.mux(sound.encode())
    except (av.error.FFmpegError, ValueError, TypeError, OverflowError, OSError) as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise ValueError(f"not written: {error}") from error


def picture(codec="png", size=(40, 40), level=250):
    """An image, as bytes."""
    image = io.BytesIO()
    with av.open(image, "w", format="image2pipe") as file:
        stream = file.add_stream(codec)
        stream.height, stream.width = size
        stream.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        pixels = np.full((*size, 3), level, np.uint8)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return image.getvalue()


def covered(path, first=False, image="png", alone=False, container=None, **more):
    """A video, or sound alone, with a cover picture: its first stream, or its last."""
    write(path, extra="audio only" if alone else "", container=container, **more)
    source, target = path.with_name(f".plain{path.suffix}"), path
    path.rename(source)
    attached = path.suffix == ".mkv"
    kind = "jpeg" if image == "mjpeg" else image
    try:
        with av.open(str(source)) as old, av.open(str(target), "w", format=container) as new:
            streams, packet = {}, av.Packet(picture(image))

            def cover():
                if attached:
                    new.add_attachment(f"cover.{kind}", f"image/{kind}", bytes(packet))
                    return None
                stream = new.add_stream(image)
                stream.width = stream.height = 40
                stream.pix_fmt = "rgb24" if image == "png" else "yuvj420p"
                stream.disposition = av.stream.Disposition.attached_pic
                return stream

            shown = cover() if first else None
            for stream in old.streams:
                streams[stream.index] = new.add_stream_from_template(stream)
            shown = shown if first else cover()
            if shown:
                packet.stream, packet.pts, packet.dts = shown, 0, 0
                new.mux(packet)
            for moved in old.demux():
                if moved.dts is not None:
                    moved.stream = streams[moved.stream.index]
                    new.mux(moved)
    except (av.error.FFmpegError, ValueError, TypeError, OSError) as error:
        target.unlink(missing_ok=True)
        raise ValueError(f"not written: {error}") from error
    finally:
        source.unlink()


def patched(path, name, at, data):
    """The first box `name` of an .mp4 changed at an offset behind its name."""
    content = bytearray(path.read_bytes())
    place = content.find(name)
    if place < 0:
        raise ValueError(f"no {name} in it")
    content[place + len(name) + at :][: len(data)] = data
    start = place + len(name) + at
    content[start : start + len(data)] = data
    path.write_bytes(content)


def turned(path, matrix, **more):
    """A video with a display matrix."""
    write(path, **more)
    a, b, c, d = (round(65536 * number) for number in matrix)
    patched(path, b"tkhd", 40, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))


def joined(path, parts, **more):
    """Streams of several videos, one behind the other: of other sizes, or formats."""
    pieces = []
    for number, (size, count) in enumerate(parts):
        piece = path.with_name(f".{number}{path.suffix}")
        write(piece, size=size, count=count, first=sum(c for _, c in parts[:number]), **more)
        pieces.append(piece.read_bytes())
        piece.unlink()
    path.write_bytes(b"".join(pieces))


def cases():
    """[(kind, name, function that makes A/x.* in the folder A, numbers that are shown: a list,
    RISING or None where a damaged file may show anything)].
    """
    found = []

    def add(kind, name, ending, make, numbers=None, **more):
        shown = list(range(COUNT)) if numbers is None else numbers
        shown = None if numbers == "any" else shown
        found.append((kind, name, lambda a: make(a / f"x.{ending}", **more), shown))

    for name, matrix in MATRICES.items():
        add("display matrix", name, "mp4", turned, matrix=matrix, size=(32, 48))
        add(
            "display matrix of MPEG-4 in .mov",
            name,
            "mov",
            turned,
            matrix=matrix,
            codec="mpeg4",
            size=(33, 47) if len(name) % 2 else (48, 32),
        )
    ratios = (
        (2, 1),
        (1, 2),
        (16, 15),
        (64, 45),
        (1, 255),
        (255, 1),
        (59, 54),
        (10, 11),
        (3, 2),
        (8, 9),
    )
    for sar in ratios:
        add("pixels that are not square", str(sar), "mp4", write, sar=sar, codec="mpeg4")
    for ending, codec in ENDINGS.items():
        fmt = "rgb8" if ending == "gif" else "yuv420p"
        add(
            "endings",
            f".{ending}",
            ending,
            write,
            "any" if ending == "gif" else None,
            codec=codec,
            fmt=fmt,
        )
    for name, ticks in PATTERNS.items():
        shown = RISING if name == "negative" else None  # an edit list leaves the first out
        add("varying frame rate", name, "mp4", write, shown, ticks=ticks)
        add(
            "varying frame rate in .mkv", name, "mkv", write, RISING, ticks=ticks, codec="mpeg4"
        )
    for bf in (1, 2, 3, 4, 8):
        add("B-frames", f"{bf} of H.264", "mp4", write, bf=bf)
        add("B-frames", f"{bf} of MPEG-4", "avi", write, bf=min(bf, 4), codec="mpeg4")
        add(
            "B-frames",
            f"{bf} of MPEG-2",
            "ts",
            write,
            RISING,
            bf=min(bf, 4),
            codec="mpeg2video",
        )
    for codec, ending, fmt in FORMATS:
        add("pixel formats", f"{codec} {fmt}", ending, write, codec=codec, fmt=fmt)
    for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11):
        add("few pictures", str(count), "mp4", write, list(range(count)), count=count)
    for ending in ("mp4", "mkv", "mov", "ts", "m4v"):
        codec = "libx264"
        add(
            "streams",
            f"sound and pictures .{ending}",
            ending,
            write,
            extra="audio",
            codec=codec,
        )
        add("streams", f"two of pictures .{ending}", ending, write, extra="two", codec=codec)
        add("streams", f"sound alone .{ending}", ending, write, "any", extra="audio only")

    for ending in ("mp4", "m4v", "mov", "mkv"):
        form = "mp4" if ending == "mov" else CONTAINER.get(ending)
        for first in (False, True):
            for image in ("png", "mjpeg"):
                name = f"{image} {'before' if first else 'behind'} the video .{ending}"
                more = {"first": first, "image": image, "codec": "mpeg4", "container": form}
                add("cover pictures", name, ending, covered, **more)
    sounds = (("mp4", "mp4"), ("mov", "mp4"), ("mkv", None), ("m4v", "mp4"), ("avi", "mp3"))
    for ending, form in sounds:
        for image in ("png", "mjpeg"):
            add(
                "cover pictures of sound alone",
                f"{image} .{ending}",
                ending,
                covered,
                NOTHING,
                image=image,
                alone=True,
                container=form,
                audio="libmp3lame" if form == "mp3" else "aac",
            )

    def cut(path, share, **more):
        write(path, **more)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    def flagged(path, data, at, box=b"tkhd", **more):
        write(path, **more)
        patched(path, box, at, data)

    for tenth in range(1, 11):
        share = tenth / 10 - 0.01
        add(
            "cut .mp4 with its index at the end", f"{share:.2f}", "mp4", cut, "any", share=share
        )
        fast = {"movflags": "faststart"}
        add(
            "cut .mp4 with its index in front",
            f"{share:.2f}",
            "mp4",
            cut,
            RISING,
            share=share,
            mux=fast,
        )
        add("cut .ts", f"{share:.2f}", "ts", cut, RISING, share=share, codec="mpeg2video")
        add("cut .webm", f"{share:.2f}", "webm", cut, RISING, share=share, codec="libvpx")
    huge = (2**16 - 1, 2**15, 30_000, 20_000, 1, 0, 7, 65_000, 4096, 33)
    for side in huge:
        add(
            "sizes in the header",
            f"{side} in avc1",
            "mp4",
            flagged,
            "any",
            box=b"avc1",
            at=24,
            data=struct.pack(">HH", side, side),
        )
        add(
            "sizes in the header",
            f"{side} in mp4v",
            "mp4",
            flagged,
            "any",
            box=b"mp4v",
            at=24,
            data=struct.pack(">HH", side, 32),
            codec="mpeg4",
        )
    for number in (0, 1, 2**31 - 1, 2**32 - 1, 512, 3, 1024, 10_000, 2**16, 77):
        word = struct.pack(">I", number)
        add(
            "edit lists",
            str(number),
            "mp4",
            flagged,
            RISING,
            box=b"elst",
            at=12,
            data=word,
            bf=2,
        )
        add(
            "times in the header",
            str(number),
            "mp4",
            flagged,
            "any",
            box=b"mdhd",
            at=12,
            data=word,
        )
    for number, second in enumerate(
        [
            (32, 32),
            (64, 64),
            (16, 16),
            (33, 31),
            (32, 64),
            (48, 16),
            (128, 8),
            (30, 30),
            (32, 34),
            (2, 2),
        ]
    ):
        parts = [((32, 32), 5), (second, 5)]
        add(
            "changed sizes",
            f"{second} in .ts",
            "ts",
            joined,
            "any",
            parts=parts,
            codec="mpeg2video",
        )
        ending = ("mpg", "flv", "mts", "m2ts")[number % 4]
        codec = ("mpeg1video", "flv", "libx264", "libx264")[number % 4]
        add(
            "changed sizes",
            f"{second} in .{ending}",
            ending,
            joined,
            "any",
            parts=parts,
            codec=codec,
        )
    laces = (
        {"flags": "+ilme+ildct"},
        {"flags": "+ildct"},
        {"flags": "+ilme"},
        {"top": "1", "flags": "+ildct+ilme"},
        {"top": "0", "flags": "+ildct+ilme"},
    )
    for number, options in enumerate(laces):
        for codec, ending in (("mpeg2video", "mkv"), ("mpeg4", "avi")):
            add("interlaced", f"{number} {codec}", ending, write, codec=codec, options=options)
    return found
