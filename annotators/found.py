"""Labels that were there before a run, as one of the formats has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from claus.annotators.pictures import VideoNames


@dataclass
class Found:
    """Labels of frames, by (name of a whole video, number in its file).

    actors: lists of {"track" or None, "box" [x, y, w, h] or "mask", "class"}, empty where
    somebody has looked and nothing is there · sizes: (height, width) of their pictures, where
    the format says that · classes: in the order of the format's own list · problems,
    warnings: (video or picture, text).
    """

    names: VideoNames
    numbered_from: int = 0
    actors: dict[tuple[str, int], list[dict]] = field(default_factory=dict)
    sizes: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    video_classes: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def picture(self, name: str, of: str | None = None) -> tuple[str, int] | None:
        """(video, frame) of a picture by its name; None and a problem where it is of no
        video of the pool, or not in it.
        """
        place = self.names.find_picture(name, of)
        if place is None:
            self.problems.append((name[:100], "no video of the pool has this picture"))
            return None
        place = place[0], place[1] - self.numbered_from
        if not 0 <= place[1] < self.names.lengths[place[0]]:
            hint = (
                ""
                if self.numbered_from
                else "; are pictures numbered from 1? --numbered-from 1"
            )
            self.problems.append((name[:100], f"{place[0]} has no such frame{hint}"))
            return None
        return place

    def add(self, place: tuple[str, int], actor: Mapping | None = None) -> None:
        """A further actor of a frame; without one the frame was looked at."""
        actors = self.actors.setdefault(place, [])
        if actor is not None:
            actors.append(dict(actor))
            self.name_class(actor.get("class"))

    def name_class(self, label: str | None) -> None:
        """A class that the labels have."""
        if label is not None and label not in self.classes:
            self.classes.append(label)
