"""Where a protocol scores: a part of the frame and its pixels, whatever a network sees.

A network that sees a crop is scored in that crop, at its own size. Of one that sees the
whole frame the published crop is cut out of its maps: the same pixels of the same ground
truth as of the published network, so that numbers are comparable.

Letters: T maps, S x S pixels of the network's maps, R x R pixels of the region.
"""

import functools

import numpy as np
import torch

from claus.datasets.clips.geometry import GEOMETRY, WHOLE, ClipGeometry

# by the name of the crop; the whole frame at the resolution of the published crops
REGIONS = {name: geometry for (key, name), geometry in GEOMETRY.items() if key == "full"}
REGIONS |= dict.fromkeys(WHOLE, ClipGeometry((224, 224), (224, 224), 224, "whole"))


def region_of(geometry: ClipGeometry, crop: str) -> ClipGeometry:
    """Where a network of this geometry is scored. crop: of REGIONS, for one that sees the
    whole frame.
    """
    return geometry if geometry.fit == "stretch" else REGIONS[crop]


def to_region(
    maps_T_S_S: torch.Tensor,
    geometry: ClipGeometry,
    region: ClipGeometry,
    height: int,
    width: int,
) -> torch.Tensor:
    """A network's maps of a video of height x width -> (T,R,R) in the pixels of a region,
    interpolated bilinearly; the same tensor where the region is what the network sees.

    Bars are not looked at: beside one, the nearest pixel that shows the video is repeated.
    What the network does not see is -inf.
    """
    if geometry == region:
        return maps_T_S_S
    places_of, seen_R_R = _places(geometry, region, height, width)
    maps = _interpolated(maps_T_S_S, places_of[0])
    # whole rows are copied, so columns become rows and back
    maps = _interpolated(maps.transpose(1, 2).contiguous(), places_of[1]).transpose(1, 2)
    return maps.masked_fill_(~seen_R_R, -torch.inf)


def _interpolated(maps_T_S_X, places_R):
    """Maps at these places of their rows, (T,R,X)."""
    low = places_R.long()
    high = (low + 1).clamp(max=int(places_R.max().ceil()))
    share = (places_R - low).to(maps_T_S_X.dtype)[:, None]
    return torch.lerp(maps_T_S_X.index_select(1, low), maps_T_S_X.index_select(1, high), share)


@functools.lru_cache(maxsize=64)
def _places(geometry, region, height, width):
    """((rows (R,), columns (R,)) float64, seen (R,R) bool): where in the network's maps the
    centers of the region's pixels lie, pixel 0 at 0, and whether inside.
    """
    centers = np.arange(region.size) + 0.5
    points = region.to_video(np.stack([centers, centers], axis=1), height, width)
    columns_R, rows_R = geometry.to_map(points, height, width).T - 0.5
    places, seen = [], []
    for places_R, shown in zip((rows_R, columns_R), geometry.shown(height, width), strict=True):
        inside = np.clip(places_R, shown.start, shown.stop - 1)
        places.append(torch.from_numpy(inside))
        seen.append((places_R >= -0.5) & (places_R <= geometry.size - 0.5))
    return places, torch.from_numpy(seen[0][:, None] & seen[1])
