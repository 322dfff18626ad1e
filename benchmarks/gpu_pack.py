"""J-HMDB as one file of at most 60 MiB, for a rented machine without data or network.

    python benchmarks/gpu_pack.py make --data data/JHMDB --out files/gpu_pack.zip
    python benchmarks/gpu_pack.py unpack files/gpu_pack.zip --out files/pack

Reads   make: the clips and masks of J-HMDB-21 in the official layout. unpack: the file made
Writes  make: the file. unpack: the same layout, the frames as JPEG
Expect  make: five minutes, unpack: one. An unpacked data set is for times and for a look at
        whether a network learns: every second frame stands for the one after it as well, in
        pictures and masks, at SIDE x SIDE pixels. Its scores are not those of J-HMDB.
"""

import argparse
import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from scipy.io import savemat  # noqa: E402
from tqdm import tqdm  # noqa: E402

from claus.datasets import table  # noqa: E402
from claus.datasets.video.reader import read_blocks  # noqa: E402
from claus.utils.runtime import UserError, atomic_write, run_script  # noqa: E402

SIDE = 224  # pixels; the crop of the full network
EVERY = 2  # frames; one of them is kept
MOST = 60  # MiB
QUALITIES = (90, 80, 70, 60, 50, 40, 30, 20)  # of the JPEGs; the first that fits
SAMPLE = 24  # clips, every so many of which are tried to choose the quality
MARGIN = 0.95  # of the limit, for the clips that were not tried
DIGEST = "digest.txt"  # SHA-256 of all other members' names and contents
LISTS = "trainlist_split1.txt", "testlist_split1.txt"
MASKS = "masks.npz"  # a clip's masks, as bits


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    making, unpacking = kinds.add_parser("make"), kinds.add_parser("unpack")
    making.add_argument("--data", default="data/JHMDB", help="folder of J-HMDB-21")
    making.add_argument("--out", default="files/gpu_pack.zip")
    making.add_argument("--megabytes", type=float, default=MOST, help="at most so many MiB")
    making.add_argument("--clips", type=int, help="so many clips, evenly spread (a trial)")
    unpacking.add_argument("pack")
    unpacking.add_argument("--out", default="files/pack", help="folder to make")
    args = parser.parse_args(argv)
    if args.kind == "make":
        make(Path(args.data), Path(args.out), args.megabytes, args.clips)
    else:
        unpack(Path(args.pack), Path(args.out))
    return 0


# ------------------------------------------------------------------------------------ make


def make(data: Path, out: Path, megabytes: float, clips: int | None = None) -> None:
    """Write the pack. UserError where even the lowest quality does not fit."""
    parts = {
        name: table.read_ground_truth("jhmdb", data, None, 1, name).videos
        for name in ("train", "test")
    }
    videos = {**parts["train"], **parts["test"]}
    step = max(len(videos) // clips, 1) if clips else 1
    chosen = list(videos.values())[::step][:clips]
    find = table.video_finder("jhmdb", data)
    limit = megabytes * 2**20
    quality = quality_for(chosen, find, limit)
    members = {}
    for video in tqdm(chosen, desc="pack", unit="clip", disable=None):
        members |= clip_members(video, find(video.name), quality)
    kept = {video.name for video in chosen}
    for (part, of_part), name in zip(parts.items(), LISTS, strict=True):
        lines = [f"{video}\n" for video in of_part if video in kept]
        if not lines:
            raise UserError(f"none of the {len(kept)} clips is of the {part} part; take more")
        members[name] = "".join(lines).encode()
    members[DIGEST] = digest_of(members).encode()
    size = write(members, out)
    if size > limit:
        out.unlink()
        raise UserError(f"{out}: {size / 2**20:.1f} MiB is more than {megabytes}; give more")
    print(f"wrote {out}: {len(chosen)} clips, quality {quality}, {size / 2**20:.1f} MiB")


def quality_for(videos, find, limit):
    """The highest of QUALITIES at which the clips fit, by some of them."""
    some = videos[::SAMPLE]
    for quality in QUALITIES:
        size = 0
        for video in some:
            members = clip_members(video, find(video.name), quality)
            size += sum(len(content) + 120 + 2 * len(name) for name, content in members.items())
        if size * len(videos) / len(some) <= MARGIN * limit:
            return quality
    return QUALITIES[-1]


def clip_members(video, path, quality):
    """{name in the pack: content} of a clip: every second frame, and its masks."""
    (_, frames), *_ = read_blocks(path, video.frames, video.frames, (video.height, video.width))
    (tube,) = video.tubes
    masks, members = [], {}
    for k in range(0, video.frames, EVERY):
        picture = cv2.resize(frames[k], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        _, content = cv2.imencode(".jpg", picture[..., ::-1], settings)
        members[f"{video.name}/{k + 1:05d}.jpg"] = content.tobytes()
        masks.append(mask_at(tube, k))
    written = io.BytesIO()
    np.savez_compressed(written, bits=np.packbits(np.stack(masks)), frames=video.frames)
    members[f"{video.name}/{MASKS}"] = written.getvalue()
    return members


def mask_at(tube, frame):
    """An actor's mask at a frame as bool (SIDE,SIDE); where it is not visible, of the
    nearest frame at which it is.
    """
    nearest = int(np.abs(tube.frames - frame).argmin())
    mask = tube.masks[nearest].astype(np.uint8)
    small = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    return small > 0


def digest_of(members):
    """SHA-256 of all members but the digest itself, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(members.keys() - {DIGEST}):
        digest.update(f"{name}\n{len(members[name])}\n".encode() + members[name])
    return digest.hexdigest()


def write(members, out):
    """Write a zip file of the members -> its bytes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(out) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as pack,
    ):
        for name, content in members.items():
            pack.writestr(name, content)
    return out.stat().st_size


# ---------------------------------------------------------------------------------- unpack


def unpack(pack: Path, out: Path) -> None:
    """Make the folder `out` of a pack: videos/, puppet_mask/ and the lists. UserError for a
    pack that is damaged; the folder is made only where all of it is right.
    """
    members = read(pack)
    clips = sorted({name.rsplit("/", 1)[0] for name in members if name.endswith(MASKS)})
    for name in LISTS:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(members[name])
    for clip in tqdm(clips, desc="unpack", unit="clip", disable=None):
        unpack_clip(members, clip, out)
    print(f"{out}: {len(clips)} clips")


def read(pack):
    """{name: content} of a pack whose digest is right."""
    if not pack.is_file():
        raise UserError(f"no {pack}; make it with: python benchmarks/gpu_pack.py make")
    try:
        with zipfile.ZipFile(pack) as opened:
            members = {name: opened.read(name) for name in opened.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{pack} is damaged ({error}); copy it again") from error
    if members.get(DIGEST, b"").decode(errors="replace") != digest_of(members):
        raise UserError(f"{pack}: its content is not what its digest says; copy it again")
    return members


def unpack_clip(members, clip, out):
    """The frames of a clip, each for EVERY of the original, and its masks."""
    with np.load(io.BytesIO(members[f"{clip}/{MASKS}"])) as kept:
        frames, bits = int(kept["frames"]), kept["bits"]
    count = -(-frames // EVERY)
    masks = np.unpackbits(bits, count=count * SIDE * SIDE).reshape(count, SIDE, SIDE)
    folder = out / "videos" / clip
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(0, frames, EVERY):
        file = folder / f"{k + 1:05d}.jpg"
        file.write_bytes(members[f"{clip}/{k + 1:05d}.jpg"])
        for other in range(k + 1, min(k + EVERY, frames)):
            copy = folder / f"{other + 1:05d}.jpg"
            copy.unlink(missing_ok=True)
            os.link(file, copy)
    place = out / "puppet_mask" / clip
    place.mkdir(parents=True, exist_ok=True)
    masks_H_W_F = masks[np.arange(frames) // EVERY].transpose(1, 2, 0)
    savemat(place / "puppet_mask.mat", {"part_mask": masks_H_W_F}, do_compression=True)


if __name__ == "__main__":
    run_script(main)
