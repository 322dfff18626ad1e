"""The silhouette benchmark: the 928 real J-HMDB masks rendered into videos, in the official
layout of J-HMDB-21.

    python experiments/silhouettes/make.py --source ../shared/data/jhmdb
    python train_jhmdb.py --run my_run --data data/silhouettes --model small ...

A textured actor in the real silhouette, over a textured ground, among things that move but
are not the actor: silhouettes of other clips of the same part of the split, frozen and
moved as a whole, and objects. Only the actor's limbs move. Looks are drawn without knowing
the class: class and place can be learned from shape and motion alone.

Reads   <source>/puppet_mask/<class>/<clip>/puppet_mask.mat, trainlist_split1.txt,
        testlist_split1.txt
Writes  below <output>, data/silhouettes if it is not given:
        videos/<class>/<clip>.avi   as many frames as the mask
        puppet_mask/<class>/<clip>/puppet_mask.mat   the mask as the camera sees it, less
                                    what hides it
        trainlist_split1.txt, testlist_split1.txt   as they are in <source>
        silhouettes.json            every knob, the seed, and each clip's domain
Expect  one to four minutes on two CPU cores, 120 MB. The same seed and knobs give the same
        files, whatever the order and the number of processes; what is there of an
        interrupted run with the same knobs is kept.
"""

import argparse
import functools
import json
import multiprocessing
import re
import sys
import zlib
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from claus.datasets import jhmdb  # noqa: E402
from claus.datasets.sprites import write_video  # noqa: E402
from claus.experiments.silhouettes.scenes import (  # noqa: E402
    LEVELS,
    Knobs,
    make_domains,
    render_scene,
)
from claus.flags.common import whole_number  # noqa: E402
from claus.utils.runtime import (  # noqa: E402
    UserError,
    atomic_write,
    check_writable,
    read_json,
    run_script,
    write_text,
)
from claus.utils.shape import share, whole  # noqa: E402

LISTS = ("trainlist_split1.txt", "testlist_split1.txt")
ABOUT = "silhouettes.json"
CLIP = {"domain": whole, "cover": share}  # what is known of a finished one


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--source",
        default="../shared/data/jhmdb",
        help="folder with puppet_mask/ and the lists of split 1",
    )
    add(
        "--output",
        default="data/silhouettes",
        help="folder to write (default: %(default)s)",
    )
    add(
        "--level",
        choices=LEVELS,
        default="hard",
        help="preset of the knobs (default: %(default)s)",
    )
    add(
        "--knob",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set one of the knobs of "
        "experiments/silhouettes/scenes.py differently; ranges as LOW,HIGH; may be repeated",
    )
    add(
        "--seed",
        type=whole_number,
        default=0,
        help="of everything that is drawn (default: %(default)s)",
    )
    add(
        "--processes",
        type=int,
        default=2,
        help="that render at the same time (default: %(default)s)",
    )
    add(
        "--limit",
        type=int,
        help="render only this many clips of each part, evenly spread (a quick look)",
    )
    args = parser.parse_args(argv)
    if args.processes < 1 or (args.limit is not None and args.limit < 1):
        parser.error("--processes and --limit must be at least 1")
    return args


def read_knobs(level, settings):
    """Knobs of a level with NAME=VALUE settings; UserError for a name or a value that is
    none.
    """
    values = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        default = getattr(LEVELS[level], name, None)
        if name not in {field.name for field in fields(Knobs)}:
            raise UserError(
                f"--knob {setting}: there is no knob {name!r}; give one of "
                f"{', '.join(field.name for field in fields(Knobs))}"
            )
        try:
            parts = [float(part) for part in text.split(",")]
            if len(parts) != (2 if isinstance(default, tuple) else 1):
                raise ValueError
        except ValueError:
            kind = "two numbers, LOW,HIGH" if isinstance(default, tuple) else "a number"
            raise UserError(f"--knob {setting}: give {kind}") from None
        values[name] = tuple(parts) if isinstance(default, tuple) else type(default)(parts[0])
    return replace(LEVELS[level], **values)


def source_of(name):
    """The video that a clip was cut from: what its name says before the class. Clips of
    one source look alike.
    """
    label, _, clip = name.partition("/")
    return re.split(rf"_{label}(?:_|$)", clip)[0]


def seed_of(*words):
    """A seed that depends on these words alone."""
    return zlib.crc32("|".join(map(str, words)).encode())


def render_clip(name, part, names, source, output, knobs, seed):
    """Render one clip into `output`; returns (name, its domain, share of the picture that
    its masks cover).
    """
    cv2.setNumThreads(1)
    read = functools.partial(mask_of, source)
    own = np.random.default_rng([seed, 1, seed_of(name)])
    masks = read(name)
    donors = []
    for other in own.permutation([other for other in names if other != name]):
        if len(donors) == knobs.most_things:
            break
        frozen = read(str(other))
        frozen = frozen[own.integers(len(frozen))]
        if not (
            frozen[0].any() or frozen[:, 0].any() or frozen[:, -1].any()
        ):  # whole, but for the feet
            donors.append(frozen)
    shared = own.random() < knobs.twins
    looks = [seed, 2, seed_of(part, source_of(name)) if shared else seed_of(name)]
    if own.random() < 0.5:
        masks = masks[:, :, ::-1]
    domains, odds = make_domains(knobs, seed)
    frames, seen, domain = render_scene(
        np.ascontiguousarray(masks),
        donors,
        knobs,
        domains,
        odds,
        looks,
        [seed, 3, seed_of(name)],
    )
    video = output / "videos" / f"{name}.avi"
    video.parent.mkdir(parents=True, exist_ok=True)
    mat = output / "puppet_mask" / name / "puppet_mask.mat"
    mat.parent.mkdir(parents=True, exist_ok=True)
    partial = video.with_name(f".{video.name}")
    write_video(partial, frames)
    partial.rename(video)
    with atomic_write(mat) as file:  # last: where it is, the clip is finished
        scipy.io.savemat(
            file, {jhmdb.KEY: seen.transpose(1, 2, 0).astype(np.uint8)}, do_compression=True
        )
    return name, domain, float(seen.mean())


@functools.lru_cache(maxsize=64)
def mask_of(source, name):
    return jhmdb.read_masks(Path(source) / "puppet_mask" / name / "puppet_mask.mat")


def one_clip(job):
    return render_clip(*job)


def main(argv=None):
    args = parse_args(argv)
    knobs, output = read_knobs(args.level, args.knob), Path(args.output)
    parts = {
        part: list(jhmdb.read_ground_truth(args.source, part=part).videos)
        for part in ("train", "test")
    }
    if args.limit:
        for part, names in parts.items():
            places = np.unique(np.linspace(0, len(names) - 1, args.limit).astype(int))
            parts[part] = [names[place] for place in places]
    about = {
        "level": args.level,
        "seed": args.seed,
        "knobs": knobs.to_dict(),
        "limit": args.limit,
    }
    finished = read_finished(check_writable(output) / ABOUT, about)
    jobs = [
        (name, part, names, args.source, output, knobs, args.seed)
        for part, names in parts.items()
        for name in names
        if not (name in finished and complete(output, name))
    ]
    write_about(output / ABOUT, about, finished)
    for count, (name, domain, cover) in enumerate(
        tqdm(
            in_processes(one_clip, jobs, args.processes),
            total=len(jobs),
            desc="render",
            unit="clip",
            disable=None,
        ),
        start=1,
    ):
        finished[name] = {"domain": domain, "cover": round(cover, 4)}
        if count % 50 == 0:
            write_about(output / ABOUT, about, finished)
    for name, part in zip(LISTS, ("train", "test"), strict=True):
        write_text(output / name, "".join(f"{clip}\n" for clip in parts[part]))
    write_about(output / ABOUT, about, finished)
    print(
        f"{len(jobs)} clips rendered, {sum(map(len, parts.values())) - len(jobs)} were "
        f"there: {output}"
    )
    return 0


def in_processes(function, jobs, processes):
    """Yield function(job) of every job, in any order. New processes, for OpenCV's threads
    do not survive a fork.
    """
    if processes == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(processes, len(jobs))) as pool:
        yield from pool.imap_unordered(function, jobs)


def complete(output, name):
    return (output / "videos" / f"{name}.avi").is_file() and (
        output / "puppet_mask" / name / "puppet_mask.mat"
    ).is_file()


def read_finished(path, about):
    """{name: what is known of it} of the clips that an earlier run with the same knobs
    finished.
    """
    if not path.exists():
        return {}
    try:
        there = read_json(path, "render again", {"clips": {str: CLIP}})
        clips = there.pop("clips")
    except UserError as error:
        raise UserError(f"{path} is damaged; remove {path.parent} and render again") from error
    if there != json.loads(json.dumps(about)):
        raise UserError(
            f"{path} says that {path.parent} was rendered with other knobs; give another "
            "--output, or remove it"
        )
    return clips


def write_about(path, about, clips):
    write_text(
        path, json.dumps(about | {"clips": dict(sorted(clips.items()))}, indent=1) + "\n"
    )


if __name__ == "__main__":
    run_script(main)
