"""Parts of a batch: what each process has of it, and the pieces of that which a CPU computes
side by side.

Every loss is a mean over the clips, or over those that show action, so the parts' losses add
up to the whole batch's where each is weighted by its share of them.
"""

from typing import NamedTuple

import torch

from claus.losses.criterion import shows_action
from claus.utils import distributed

# clips of a piece at most, and never more than half of the batch: fewer cost more a clip (×1.25 at
# two, `--model laptop`), more leave cores idle
PIECE = 4


class Part(NamedTuple):
    """What a part of a batch is of the whole."""

    names: list  # of the videos of all clips of the batch, in order
    counts: list  # clips of each process
    first: int  # where its own begin
    clips: float  # its share of all clips
    actions: float  # its share of the clips that show action


def part_of_batch(batch):
    """Part of this process's batch of a loader, of the batches of all processes one after
    the other.
    """
    mine = int(shows_action(batch).sum()) if batch["name"] else 0
    parts = distributed.gather((batch["name"], mine))
    names = [name for part, _ in parts for name in part]
    counts = [len(part) for part, _ in parts]
    actions = sum(shown for _, shown in parts)
    rank = distributed.rank()
    return Part(
        names,
        counts,
        sum(counts[:rank]),
        counts[rank] / max(len(names), 1),
        mine / max(actions, 1),
    )


class Piece(NamedTuple):
    """A few clips of a part."""

    own: slice  # of the part's clips
    batch: dict
    part: Part


def pieces(batch, part):
    """A process's part of a batch -> its Pieces, of PIECE clips or a half of it, the last with
    what is left; the number of cores does not matter. batch: what a loss reads, on the CPU, and
    "name".
    """
    shown = shows_action(batch).tolist()
    actions, count = max(sum(shown), 1), len(shown)
    size = min(PIECE, max(count // 2, 1))
    found = []
    for start in range(0, count, size):
        own = slice(start, min(start + size, count))
        share = (own.stop - own.start) / count
        of_piece = part._replace(
            first=part.first + start,
            clips=part.clips * share,
            actions=part.actions * sum(shown[own]) / actions,
        )
        rows = {key: x[own] for key, x in batch.items() if isinstance(x, torch.Tensor)}
        found.append(Piece(own, {**rows, "name": batch["name"][own]}, of_piece))
    return found
