"""What is to be labeled and what has been said of it: a request, the labels before it, and
the journals of all annotators, in memory.

A desk answers the page: what there is for an annotator (`view`), who may work on a frame
(`lease`), and a step that somebody took (`step`), which is in the journal before it counts.
Videos and frames have numbers here, their places in the request: nothing that a request of
the page says is ever a path.
"""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from claus.annotators import journal
from claus.annotators.actors import actor_problems, actors_in, answers_with, is_whole
from claus.annotators.journal import Journal, Work
from claus.annotators.polygons import polygon_mask, polygons_problem
from claus.artifacts.ledger import Prices, money
from claus.datasets.labels.annotations import Annotations
from claus.utils.runtime import UserError

LEASE = 600  # seconds for which a frame is somebody's
MOST_ACTORS = 200
REASONS = 300  # letters of a reason to skip
ORIGINS = ("drawn", "moved", "accepted", "label")
PACE = 30  # frames that the pace is measured over


@dataclass(frozen=True)
class Item:
    """A frame to label. video: place among the request's; frame: its number in the file."""

    video: int
    frame: int
    score: float | None
    why: str = ""
    given: tuple[dict, ...] = ()  # labels of a second look
    twice: bool = False


@dataclass
class Desk:
    """See the module's head. kind: "answers" or "correction". request: a form; labels: what
    was labeled before it. share: of the frames that two people label, 0 to 1. prices: None
    where no money is shown. proposals: {video: {frame: [...]}}, see artifacts/cycle.py.
    """

    kind: str
    request: Mapping
    labels: Annotations
    folder: Path
    share: float = 0.0
    prices: Prices | None = None
    spent: Fraction = Fraction(0)
    proposals: Mapping = field(default_factory=dict)
    given: Mapping = field(default_factory=dict)  # (video, frame) -> {"why", "actors"}

    def __post_init__(self):
        self.marks = answers_with(self.request)
        self.entries = self.request["videos"]
        self.videos = [self.labels.videos[entry["video"]] for entry in self.entries]
        self.classes = list(self.request["classes"])
        self.works, self.journals, self.leases = {}, {}, {}
        twice = self._twice()
        self.items = []
        for place, entry in enumerate(self.entries):
            for frame in entry["frames"]:
                key = entry["video"], frame["frame"]
                about = self.given.get(key, {})
                self.items.append(
                    Item(
                        place,
                        frame["frame"],
                        frame.get("score"),
                        about.get("why", ""),
                        tuple(about.get("actors", ())),
                        key in twice,
                    )
                )
        self._read()

    def _twice(self):
        """The (video, frame) that two people label: as many as the share says, by a digest
        of their names, so that they are the same whenever they are asked for.
        """
        keys = [
            (entry["video"], frame["frame"])
            for entry in self.entries
            for frame in entry["frames"]
        ]
        count = math.ceil(self.share * len(keys))

        def digest(key):
            return hashlib.sha256(f"{self.request['cycle']} {key}".encode()).digest()

        return set(sorted(keys, key=digest)[:count])

    def _read(self):
        """Take in all journals of the folder that are of this request."""
        for path in sorted(self.folder.glob("*.jsonl")):
            head, work = journal.read_journal(path)
            if head.get("kind", "answers") != self.kind:
                continue
            for key in ("run", "cycle"):
                if head.get(key) != self.request[key]:
                    raise UserError(
                        f"{path}: is of {key} {head.get(key)!r}, not of {self.request[key]!r}; "
                        "move it away"
                    )
            if work.who in self.works:
                raise UserError(
                    f"{path}: is another journal of {work.who}; move one of the two away"
                )
            self.works[work.who] = work

    # ------------------------------------------------------------------------ what there is

    def key(self, item: Item) -> tuple[str, int]:
        """(name of its video, number of its frame)."""
        return self.entries[item.video]["video"], item.frame

    @property
    def stamp(self) -> str:
        """What a step must say, so that none is taken for a frame of another request."""
        keys = [self.key(item) for item in self.items]
        digest = hashlib.sha256(f"{self.kind} {self.classes} {keys}".encode()).hexdigest()
        return f"{self.request['run']} {self.request['cycle']} {digest[:12]}"

    def others(self, who: str) -> list[Work]:
        return [work for name, work in self.works.items() if name != who]

    def needed(self, item: Item) -> int:
        """How many people have to label a frame."""
        if not item.twice:
            return 1
        done = self._done(item)
        works = self.works.values()
        third = len(done) > 1 and journal.disagree(works, done[0], done[1], self.marks)
        return 3 if third else 2

    def _done(self, item):
        lines = journal.opinions(self.works.values(), *self.key(item))
        return [line for line in lines if line["state"] == "done"]

    def row(self, number: int, who: str) -> dict:
        """What annotator `who` is told of item `number`."""
        item = self.items[number]
        key = self.key(item)
        own = self.works[who].frames.get(key) if who in self.works else None
        others = journal.opinions(self.others(who), *key)
        line, finished = own, own is not None and own["state"] != "open"
        blind = item.twice and not finished and 0 < len(others) < self.needed(item)
        if own is None and others and not blind:
            line = journal.taken(self.others(who), *key, self.marks)
        holder = self.holder(number)
        return {
            "state": line["state"] if line else "open",
            "actors": line["actors"] if line else list(item.given),
            "reason": line.get("reason", "") if line else "",
            "by": line.get("who", who) if line else "",
            "blind": blind,
            "leased": holder if holder != who else "",
        }

    def view(self, who: str) -> dict:
        """All that the page of annotator `who` begins with."""
        return {
            "kind": self.kind,
            "stamp": self.stamp,
            "run": self.request["run"],
            "cycle": self.request["cycle"],
            "marks": self.marks,
            "classes": self.classes,
            "who": who,
            "videos": [self._video(place, who) for place in range(len(self.videos))],
            "items": [
                {
                    "v": item.video,
                    "frame": item.frame,
                    "score": item.score,
                    "why": item.why,
                    "twice": item.twice,
                    "given": list(item.given),
                    "proposals": self._proposals(item),
                    **self.row(number, who),
                }
                for number, item in enumerate(self.items)
            ],
            **self.stats(who),
        }

    def _video(self, place, who):
        entry, video = self.entries[place], self.videos[place]
        return {
            "name": video.name,
            "height": video.height,
            "width": video.width,
            "first": video.first,
            "frames": video.frames,
            "of": video.file_frames,
            "reason": entry.get("reason", ""),
            "score": entry.get("score"),
            "cluster": entry.get("cluster"),
            "time": (entry.get("segment") or {}).get("time"),
            "fixed": entry.get("class") if self.kind == "answers" else None,
            "given": entry.get("class"),
            "before": self._before(entry, video),
            "segments": self._segments(video.source),
            **self._class(entry["video"], who),
        }

    def _before(self, entry, video):
        """Frames with earlier labels. A second look shows the other labels of the video."""
        if "labelled_before" in entry:
            return entry["labelled_before"]
        if self.kind == "answers" or not video.is_labeled:
            return []
        asked = {frame["frame"] for frame in entry["frames"]}
        found = actors_in(video, video.labeled_frames.tolist(), self.marks)
        return [
            {"frame": frame + video.first, "actors": actors}
            for frame, actors in found.items()
            if frame + video.first not in asked
        ]

    def _class(self, name, who):
        """What this annotator, and what the others say of a video."""
        own = self.works[who].classes.get(name) if who in self.works else None
        others = journal.class_of(self.others(who), name)
        return {
            "own": own and {"class": own["class"], "none": bool(own.get("none"))},
            "others": others and {"class": others["class"], "none": bool(others.get("none"))},
        }

    def _proposals(self, item):
        """Boxes or masks that the detector proposes in a frame, in a journal's form."""
        name, video = self.key(item)[0], self.videos[item.video]
        proposed = (self.proposals.get(name) or {}).get(str(item.frame)) or []
        found = []
        for one in proposed if self.kind == "answers" else ():
            actor = {"score": one.get("score"), "class": one.get("class")}
            if self.marks == "masks":
                actor["mask"] = one.get("rle")
            else:
                x0, y0, x1, y1 = map(round, one["box"])
                x0, y0 = max(x0, 0), max(y0, 0)
                x1, y1 = min(x1, video.width), min(y1, video.height)
                actor["box"] = [x0, y0, x1 - x0, y1 - y0]
            checked = {"track": 1, **{k: actor[k] for k in ("box", "mask") if k in actor}}
            if not actor_problems([checked], video, self.marks):
                found.append(actor)
        return found

    def stats(self, who: str) -> dict:
        """n of N, the pace of this annotator, and what it has cost so far."""
        works = list(self.works.values())
        answers = journal.fill_in(works, self.request) if self.kind == "answers" else None
        own = self.works[who].seconds[-PACE:] if who in self.works else []
        pace = sum(own) / len(own) if own else None
        told = {"seconds_a_frame": pace, "people": sorted(self.works)}
        if answers is not None:
            told["cost"] = self._cost(answers)
        if self.share:
            frames = [self.key(item) for item in self.items if item.twice]
            report = journal.agreement_report(works, frames, self.marks)
            del report["pairs"]
            told["agreement"] = report
        return told

    def _cost(self, answers):
        """{"cycle", "total"} as texts: what has been labeled, at the run's prices."""
        if self.prices is None:
            return None
        videos = frames = extra = 0
        for entry in answers["videos"]:
            done = [frame for frame in entry["frames"] if frame["actors"] is not None]
            videos += bool(done) and not entry.get("labelled_before")
            frames += len(done)
            extra += sum(max(len(frame["actors"]) - 1, 0) for frame in done)
        prices = self.prices
        cost = prices.video * videos + prices.frame * frames + prices.box * extra
        return {"cycle": money(cost), "total": money(self.spent + cost)}

    def poll(self, who: str) -> dict:
        """What may have changed by others since the page was opened."""
        return {
            "stamp": self.stamp,
            "rows": [
                {k: row[k] for k in ("state", "by", "leased", "actors", "blind", "reason")}
                for row in (self.row(number, who) for number in range(len(self.items)))
            ],
            "classes": [self._class(entry["video"], who) for entry in self.entries],
            **self.stats(who),
        }

    # ------------------------------------------------------------------------------- leases

    def holder(self, number: int) -> str:
        """Whose a frame is just now, "" where it is nobody's."""
        who, until = self.leases.get(number, ("", 0))
        return who if until > time.monotonic() else ""

    def lease(self, number: int, who: str) -> str:
        """Make a frame this annotator's for a while, and none other; whose it is then."""
        holder = self.holder(number)
        if holder and holder != who:
            return holder
        for other, (name, _) in list(self.leases.items()):
            if name == who:
                del self.leases[other]
        self.leases[number] = who, time.monotonic() + LEASE
        return who

    # -------------------------------------------------------------------------------- steps

    def step(self, who: str, entry: Mapping) -> None:
        """Check a step of an annotator and write it down. Raises UserError."""
        makers = {
            "frame": self._frame_line,
            "class": self._class_line,
            "segments": self._segments_line,
        }
        if entry.get("do") not in makers:
            raise UserError(f"there is no step {entry.get('do')!r}")
        line = makers[entry["do"]](entry, who)
        written = self._journal(who).append(line)
        self.works.setdefault(who, Work(who, self.kind)).take(written)

    def _journal(self, who):
        if who not in self.journals:
            head = {"kind": self.kind, "run": self.request["run"]}
            head |= {"cycle": self.request["cycle"], "who": who}
            self.journals[who] = Journal(self.folder, head)
        return self.journals[who]

    def _frame_line(self, entry, who):
        number = place_in(self.items, entry.get("item"))
        item = self.items[number]
        video, state = self.videos[item.video], entry.get("state")
        if state not in ("open", "done", "skipped"):
            raise UserError(f"state {state!r} is not open, done or skipped")
        actors = self._checked_actors(entry.get("actors"), video)
        holder = self.holder(number)
        if holder not in ("", who):
            raise UserError(f"{holder} is working on this frame")
        seconds = entry.get("seconds")
        name, frame = self.key(item)
        line = {
            "do": "frame",
            "video": name,
            "frame": frame,
            "size": [video.height, video.width],
            "state": state,
            "actors": actors,
        }
        if state == "skipped":
            line["reason"] = " ".join(str(entry.get("reason", "")).split())[:REASONS]
        if isinstance(seconds, int | float) and 0 <= seconds < 1e5:
            line["seconds"] = round(float(seconds), 1)
        if self.kind == "correction":
            line["changed"] = _bare(actors) != _bare(item.given)
        return line

    def _checked_actors(self, actors, video):
        """Actors as the journal has them; UserError where one is wrong."""
        if not isinstance(actors, list) or len(actors) > MOST_ACTORS:
            raise UserError(f"actors are not a list of at most {MOST_ACTORS}")
        kept, plain = [], []
        for actor in actors:
            if not isinstance(actor, dict) or actor.get("origin") not in ORIGINS:
                raise UserError("an actor has no origin")
            label = actor.get("class")
            if label is not None and label not in self.classes:
                raise UserError(f"there is no class {label!r}")
            shape = {k: actor[k] for k in ("box", "polygons", "mask") if k in actor}
            if len(shape) != 1:
                raise UserError("an actor has not one box, mask or list of polygons")
            checked = {"track": actor.get("track"), **shape}
            kept.append({**checked, "origin": actor["origin"]})
            if label is not None:
                kept[-1]["class"] = label
            if "polygons" in shape:
                problem = polygons_problem(shape["polygons"])
                if problem:
                    raise UserError(problem)
                if not polygon_mask(shape["polygons"], video.height, video.width).any():
                    raise UserError("a polygon has no pixel of the picture in it")
                box = {"box": [0, 0, 1, 1]}  # its track is still to be checked
                checked = {"track": actor.get("track"), **box}
                if self.marks != "masks":
                    raise UserError("this run asks for boxes")
            elif ("mask" in shape) != (self.marks == "masks"):
                raise UserError(f"this run asks for {self.marks}")
            plain.append(checked)
        for kind, name in (("boxes", "box"), ("masks", "mask")):
            some = [actor for actor in plain if name in actor]
            if problems := actor_problems(some, video, kind):
                raise UserError(problems[0])
        tracks = [actor["track"] for actor in plain]
        if len(set(tracks)) < len(tracks):
            raise UserError("two actors of a frame have the same track number")
        return kept

    def _class_line(self, entry, who):
        place = place_in(self.entries, entry.get("video"))
        label, none = entry.get("class"), entry.get("none") is True
        if label is not None and label not in self.classes:
            raise UserError(f"there is no class {label!r}")
        if self.kind == "answers" and self.entries[place].get("class") not in (None, label):
            raise UserError(
                f"this video was labeled {self.entries[place]['class']!r} before; the second "
                "look corrects it"
            )
        line = {"do": "class", "video": self.entries[place]["video"], "class": label}
        return {**line, "none": True} if none and label is None else line

    def _segments_line(self, entry, who):
        video = self.videos[place_in(self.entries, entry.get("video"))]
        parts, checked = entry.get("parts"), []
        if not isinstance(parts, list) or len(parts) > 10_000:
            raise UserError("parts are not a list")
        for part in parts:
            sides = [part.get("first"), part.get("end")] if isinstance(part, dict) else [None]
            if not all(map(is_whole, sides)) or not 0 <= sides[0] < sides[1]:
                raise UserError("a part of a video ends before it begins")
            if sides[1] > video.file_frames:
                raise UserError(f"{video.source} has {video.file_frames} frames")
            label = part.get("class")
            if label is not None and label not in self.classes:
                raise UserError(f"there is no class {label!r}")
            checked.append({"first": sides[0], "end": sides[1], "class": label})
        checked.sort(key=lambda part: part["first"])
        for one, following in zip(checked, checked[1:], strict=False):
            if following["first"] < one["end"]:
                raise UserError("two parts of a video overlap: end one before the other begins")
        return {"do": "segments", "video": video.source, "parts": checked}

    def _segments(self, source):
        """Parts of a whole video that anybody has marked; of several people the last word."""
        return self.all_segments().get(source, [])

    def all_segments(self) -> dict[str, list[dict]]:
        """{whole video: its parts}."""
        found = {}
        for work in self.works.values():
            found |= work.segments
        return {source: parts for source, parts in found.items() if parts}


def place_in(rows: list, number: object) -> int:
    """A number from the page, proved to be a place in `rows`; UserError otherwise."""
    if not is_whole(number) or not 0 <= number < len(rows):
        raise UserError(f"there is no number {number!r}")
    return number


def _bare(actors):
    """Actors without what does not make another label."""
    names = ("track", "box", "mask", "polygons", "class")
    bare = [{name: actor[name] for name in names if name in actor} for actor in actors]
    return sorted(bare, key=lambda actor: actor["track"])


def segments_text(parts_by_video: Mapping[str, list[dict]]) -> str:
    """The list that --segments reads, a comment before each row says the class."""
    lines = ["video,start,end"]
    for source, parts in sorted(parts_by_video.items()):
        for part in parts:
            if part["class"]:
                lines.append(f"# {part['class']}")
            lines.append(f"{_quoted(source)},{part['first']}f,{part['end']}f")
    return "\n".join(lines) + "\n"


def _quoted(name):
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name
