"""Tiles and pyramids laid over whatever policy a model has; the pyramid always lies inside the tiles."""

from __future__ import annotations

from torso.inputs._base import Input
from torso.inputs.pyramid import Pyramid
from torso.inputs.tiles import Tiles
from torso.parts import Part, part


def stacked(
    own: Input, *, tiles: Tiles | int | None = None, pyramid: Pyramid | tuple[float, ...] | None = None
) -> Input:
    """The policy `own` with these tiles and this pyramid over it, in the place of those that it has already.

    tiles: a number is the side of a square tile, px of the image. pyramid: a tuple is its scales.
    """
    grid = own if isinstance(own, Tiles) else None
    base = own.inner if isinstance(own, Tiles) else own
    if tiles is not None:
        grid = tiles if isinstance(tiles, Tiles) else Tiles(size_hw=(tiles, tiles))
    if pyramid is not None:
        base = base.inner if isinstance(base, Pyramid) else base
        base = (pyramid if isinstance(pyramid, Pyramid) else Pyramid(scales=pyramid)).around(base)
    return base if grid is None else grid.around(base)


def tiled_part(own: Part[Input], *, size_hw: tuple[int, int] | None, overlap: float | None) -> Part[Input]:
    """The same of parts, for recipes: tiles over the policy; what is None keeps the present tiles' or the default."""
    asked = {"size_hw": size_hw, "overlap": overlap}
    given = {name: value for name, value in asked.items() if value is not None}
    base: Part[Input] = own if own.target is Tiles else part(Tiles, inner=own)
    return base.with_args(**given)
