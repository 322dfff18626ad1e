"""Lists of names: a seeded campaign over kinds of lists and ways to write them. Each is read
right or ends in one line; none is read otherwise without a word.
"""

import contextlib
import io
import pickle
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from claus.datasets import jhmdb, own_videos, segments, ucf101
from claus.datasets.labels.name_list import Names, find_names
from claus.semi import lists
from claus.utils.runtime import UserError

CLASSES = ("run", "jump high", "café", "日本", "a.b", "throw")
STEMS = (
    *("a", "b", "clip_1", "clip_2", "take", "take 1", "take 2", "my clip (2)", "x, y", "v1.5"),
    *("cafe\u0301", "é", "#3", "don't", "日本", "📹 cam", "A"),
)
VIDEOS = [f"{folder}/{stem}" for folder in CLASSES for stem in STEMS]
OUTCOMES = ("right", "one line", "traceback", "silent")


# ----------------------------------------------------------------------------- ways to write


def same(name, ending, rng, root):
    return name


def with_ending(name, ending, rng, root):
    return name + ending


def capital_ending(name, ending, rng, root):
    return name + ending.upper()


def with_label(name, ending, rng, root):
    return f"{name}{ending} {rng.integers(1, 30)}"


def with_two_numbers(name, ending, rng, root):
    return f"{name}{ending}\t0,{rng.integers(1, 30)}"


def with_class(name, ending, rng, root):
    return f"{name}{ending},{name.partition('/')[0]}"


def index_in_front(name, ending, rng, root):
    return f"{rng.integers(1, 30)} {name}{ending}"


def blanks_around(name, ending, rng, root):
    return f"  {name}{ending} \t"


def backslash(name, ending, rng, root):
    return name.replace("/", "\\") + ending


def dot_slash(name, ending, rng, root):
    return f"./{name}{ending}"


def dot_backslash(name, ending, rng, root):
    return ".\\" + name.replace("/", "\\") + ending


def doubled_slash(name, ending, rng, root):
    return name.replace("/", "//") + ending


def absolute(name, ending, rng, root):
    return f"{root}/{name}{ending}"


def composed(name, ending, rng, root):
    return unicodedata.normalize("NFC", name) + ending


def decomposed(name, ending, rng, root):
    return unicodedata.normalize("NFD", name) + ending


def quoted(name, ending, rng, root):
    return f'"{name}{ending}",3'


WAYS = (
    *(same, with_ending, capital_ending, with_label, with_two_numbers, with_class),
    *(index_in_front, blanks_around, backslash, dot_slash, dot_backslash, doubled_slash),
    *(absolute, composed, decomposed, quoted),
)
ENDS = ("\n", "\r\n", "\r", "\n\n", "\n  \n")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be with a mark", "utf-32")


def encoded(text, encoding):
    if encoding == "utf-16-be with a mark":
        return b"\xfe\xff" + text.encode("utf-16-be")
    return text.encode(encoding)


# --------------------------------------------------------------------------- what is wrong


def typo(lines, rng):
    """A letter of a name is another."""
    at = int(rng.integers(len(lines)))
    place = int(rng.integers(len(lines[at])))
    lines[at] = f"{lines[at][:place]}Ж{lines[at][place + 1 :]}"


def foreign(lines, rng):
    lines.insert(int(rng.integers(len(lines) + 1)), "run/of_another_set.mp4 3")


def other_case(lines, rng):
    lines.append("RUN/CLIP_1.avi")


def without_folder(lines, rng):
    lines.append("clip_1")


def two_on_a_line(lines, rng):
    lines.append("run/a.mp4 run/b.mp4")


def heading(lines, rng):
    lines.insert(0, "video,label")


def above(lines, rng):
    lines.append("../run/a.mp4")


def elsewhere(lines, rng):
    lines.append("/nowhere/at/all/nothing.mp4")


def half(lines, rng):
    """Written half."""
    lines.append("run/my cli")


def nothing(lines, rng):
    lines.clear()


def remarks(lines, rng):
    lines[:] = ["# nothing to test"]


FAULTS = (
    *(typo, foreign, other_case, without_folder, two_on_a_line, heading, above),
    *(elsewhere, half, nothing, remarks),
)
DAMAGES = {
    "UTF-16 without a mark": lambda text: ("é" + text).encode("utf-16-le"),
    "Latin 1": lambda text: ("café/é\n" + text).encode("latin-1", "replace"),
    "Shift JIS": lambda text: ("日本/a\n" + text).encode("shift-jis", "replace"),
    "GB 18030": lambda text: ("日本/a\n" + text).encode("gb18030"),
    "cut UTF-16": lambda text: text.encode("utf-16") + b"a",
    "pickle": lambda text: pickle.dumps([text]),
    "spreadsheet": lambda text: b"PK\x03\x04" + text.encode(),
    "NUL": lambda text: text.encode() + b"\0",
    "UTF-8 that is damaged": lambda text: text.encode() + b"\xc3",
}


# ------------------------------------------------------------------------------- the lists


class World:
    """Videos, masks and ground truth with the names above, below a folder."""

    def __init__(self, folder):
        self.root, self.masks = Path(folder, "data"), Path(folder, "masks")
        self.list, self.truth = Path(folder, "list.txt"), Path(folder, "truth.pkl")
        self.endings = {}
        for number, name in enumerate(VIDEOS):
            ending = (".avi", ".mp4", ".MOV", ".m4v", ".gif")[number % 5]
            self.endings[name] = ending
            file = self.root / f"{name}{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
        self.names = Names(VIDEOS)


def of_test_list(world, listed):
    """The videos of one's own that stay out of the pool."""
    pool, failed = own_videos.read_pool(
        world.root, CLASSES, world.list, known=world.root.parent / "counts.jsonl"
    )
    assert not failed
    return set(VIDEOS) - set(pool.videos)


def of_flat_test_list(world, listed):
    pool, _ = own_videos.read_pool(
        world.root,
        ("x",),
        world.list,
        known=world.root.parent / "counts.jsonl",
        any_folder=True,
        dataset=jhmdb,
    )
    return set(VIDEOS) - set(pool.videos)


def of_truth(world, listed):
    """The test part of ground truth in the form of UCF-101-24."""
    return ucf101._read_list(world.list, dict.fromkeys(VIDEOS), world.truth)


def of_masks(world, listed):
    """The training part of ground truth in the form of J-HMDB, by a list of test clips."""
    return set(VIDEOS) - jhmdb._part(world.masks, VIDEOS, world.list, "train", 1)


def of_unlabeled(world, listed):
    known = lists.video_names(
        VIDEOS, lambda name: ucf101.find_video(world.root, name), world.root, ucf101.LAYOUTS
    )
    return set(lists.read_names(world.list, known, "unlabeled list"))


def of_clips(world, listed):
    return set(lists.read_names(world.list, world.names, "labeled list", world.masks))


def of_segments(world, listed):
    cut = segments.read_cut(None, world.list)
    return set(segments.rows_by_video(cut, VIDEOS))


def of_classes(world, listed):
    classes = own_videos.read_classes(str(world.list))
    own_videos.read_pool(world.root, classes, known=world.root.parent / "counts.jsonl")
    return set(map(unicodedata.normalize, ["NFC"] * len(classes), classes))


def of_class_string(world, listed):
    classes = own_videos.read_classes(", ".join(listed))
    pool, _ = own_videos.read_pool(
        world.root, classes, known=world.root.parent / "counts.jsonl"
    )
    return {name.partition("/")[0] for name in pool.videos}


KINDS = {
    "--test-list, videos of one's own": of_test_list,
    "--test-list, any folder": of_flat_test_list,
    "--test-list, pyannot.pkl": of_truth,
    "--test-list, J-HMDB": of_masks,
    "semi-supervised, unlabeled": of_unlabeled,
    "semi-supervised, J-HMDB": of_clips,
    "--segments": of_segments,
    "--classes, a file": of_classes,
    "--classes, a text": of_class_string,
}
# a name of --segments is one column of three, and may leave its folder out
COLUMN = (same, with_ending, capital_ending, backslash, dot_slash, composed, decomposed)
COLUMN_FAULTS = (typo, foreign, other_case, above, elsewhere, nothing, remarks)
CLASS_FAULTS = (typo, nothing)


def written(kind, world, rng):
    """Write a list -> (the names that it means, its lines, what it is; None: to be refused)."""
    about = []
    if "--classes" in kind:
        count = int(rng.integers(2, len(CLASSES) + 1))
        wanted = [str(name) for name in rng.permutation(CLASSES)[:count]]
        form = ("NFC", "NFD")[int(rng.integers(2))]
        lines = [unicodedata.normalize(form, name) for name in wanted]
        if kind == "--classes, a file" and rng.random() < 0.3:
            lines = [f"{number} {line}" for number, line in enumerate(lines, start=1)]
            about.append("numbered")
    else:
        wanted = rng.permutation(VIDEOS)[: int(rng.integers(1, 12))].tolist()
        column = kind == "--segments"
        ways = COLUMN if column else WAYS
        way = ways[int(rng.integers(len(ways)))]
        lines = []
        for name in wanted:
            way = ways[int(rng.integers(len(ways)))] if rng.random() < 0.3 else way
            if way is same and "/take " in name:  # without an ending it may be take, label 1
                way = with_ending
            line = way(name, world.endings[name], rng, world.root)
            lines.append(f'"{line}",0f,9f' if column else line)
            about.append(way.__name__)
    fault = None
    if rng.random() < 0.4:
        faults = FAULTS
        if kind == "--segments":
            faults = COLUMN_FAULTS
        if "--classes" in kind:
            faults = CLASS_FAULTS
        fault = faults[int(rng.integers(len(faults)))]
        fault(lines, rng)
        about.append(f"FAULT {fault.__name__}")
    end = ENDS[int(rng.integers(len(ENDS)))]
    encoding = ENCODINGS[int(rng.integers(len(ENCODINGS)))]
    last = end if rng.random() < 0.5 else ""
    content = encoded(end.join(lines) + last, encoding)
    if fault is None and kind != "--classes, a text" and rng.random() < 0.15:
        damage = list(DAMAGES)[int(rng.integers(len(DAMAGES)))]
        if damage == "pickle" and kind.startswith("semi"):  # which has these too
            damage = "spreadsheet"
        content, fault = DAMAGES[damage](end.join(lines)), damage
        about.append(f"FAULT {damage}")
    world.list.write_bytes(content)
    return set(wanted), lines, [*about, repr(end), encoding], fault


def tried(kind, world, rng):
    """(outcome, text) of one list."""
    wanted, lines, about, fault = written(kind, world, rng)
    wrong = fault is not None
    text = f"{about} {lines[:4]}"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = KINDS[kind](world, lines)
    except UserError as error:
        one = str(error).isprintable() and 0 < len(str(error)) < 2000
        return ("one line" if one else "traceback"), f"{text}: {error}", wrong
    except Exception as error:
        return "traceback", f"{text}: {error!r}", wrong
    # a letter may also be wrong in what stands beside a name
    if (wrong and fault is not typo) or found != wanted:
        return "silent", f"{text}: {sorted(found ^ wanted)[:4]}", wrong
    return "right", text, wrong


def outcomes(kind, count, seed=0):
    """(outcome, text, whether it had a fault) of `count` lists of a kind."""
    counted = own_videos.count_frames
    own_videos.count_frames = lambda names, *_: ({name: (9, 24, 32) for name in names}, {})
    try:
        with tempfile.TemporaryDirectory() as folder:
            world = World(folder)
            for number in range(count):
                rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
                yield tried(kind, world, rng)
    finally:
        own_videos.count_frames = counted


def campaign(count, seed=0):
    """{kind: {outcome: how many}} of about `count` lists in all."""
    each = -(-count // len(KINDS))
    table = {}
    for kind in KINDS:
        found = Counter(outcome for outcome, _, _ in outcomes(kind, each, seed))
        table[kind] = {outcome: found[outcome] for outcome in OUTCOMES}
    return table


def rows(count, seed=0):
    """(name, [(outcome, text)]) of every kind, for the table of tests/faults."""
    words = {"right": "read as it says", "silent": "wrong"}
    for kind in KINDS:
        found = outcomes(kind, -(-count // len(KINDS)), seed)
        yield (
            f"names: {kind}",
            ((words.get(outcome, outcome), text) for outcome, text, _ in found),
        )


# ----------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_read_right_or_refused_in_one_line(kind):
    found = list(outcomes(kind, 60, seed=1))
    bad = [(outcome, text) for outcome, text, _ in found if outcome in OUTCOMES[2:]]
    assert bad == []
    refused = [text for outcome, text, wrong in found if outcome == "one line" and not wrong]
    assert refused == [], "a list without a fault is read"
    assert sum(outcome == "right" for outcome, _, _ in found) > 20


def test_the_campaign_sees_a_careless_reader(monkeypatch):
    """The reader of before: it takes what it knows and drops the rest."""

    def careless(world, listed):
        text = world.list.read_bytes().decode("utf-8", "replace")
        names = {line.split()[0].removesuffix(".avi") for line in text.splitlines() if line}
        return names & set(VIDEOS)

    monkeypatch.setitem(KINDS, "--test-list, pyannot.pkl", careless)
    found = Counter(o for o, _, _ in outcomes("--test-list, pyannot.pkl", 60))
    assert found["silent"] > 20


def test_two_meanings_are_refused(tmp_path):
    (tmp_path / "list.txt").write_text("run/take 1\n")
    names = Names(["run/take", "run/take 1"])
    with pytest.raises(
        UserError, match="line 1, 'run/take 1', can be 'run/take 1' or 'run/take'"
    ):
        find_names(tmp_path / "list.txt", names, what="list", where="here", fix="fix")
    assert names.find("run/take 1.mp4") == ["run/take 1"]
    assert names.find("run/take.mp4 1") == ["run/take"]


def test_the_campaign_has_a_table():
    table = campaign(18)
    assert set(table) == set(KINDS)
    assert all(sum(row.values()) == 2 and tuple(row) == OUTCOMES for row in table.values())
    table = {name: [outcome for outcome, _ in found] for name, found in rows(18)}
    assert len(table) == len(KINDS)
    assert {o for found in table.values() for o in found} <= {"read as it says", "one line"}
