"""Flags of how an image is looked at: tiles, scales, mirrored; their texts are checked without importing torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from torso.cli._bounds import check_texts
from torso.cli._flags import Parser, UsageError

if TYPE_CHECKING:
    from torso.inputs._base import Input
    from torso.inputs.tiles import Tiles
    from torso.parts import Part

_TILES = "look at tiles of so many px a side (or HEIGHT,WIDTH) of images that are larger"


def add_tile_arguments(parser: Parser) -> None:
    """--tiles and --overlap, of training as well."""
    tiles = parser.add_argument_group("large images")
    tiles.add_argument("--tiles", metavar="SIZE", help=f"{_TILES}; none: whole images")
    tiles.add_argument("--overlap", metavar="SHARE", help="of a tile with the next: 0 to 0.9 (0.2)")


def add_arguments(parser: Parser) -> None:
    """What prediction knows besides."""
    add_tile_arguments(parser)
    views = parser.add_argument_group("more looks at an image (not given: as in training)")
    views.add_argument(
        "--merge",
        choices=("union", "suppression"),
        help="how tiles come together: one box around what "
        "a seam has cut, or the model's suppression over all tiles (union)",
    )
    views.add_argument("--no-whole", action="store_true", help="tiles alone, without the shrunken whole image")
    views.add_argument("--scales", metavar="LIST", help="sizes at test time, as 0.5,1,2, suppressed together")
    views.add_argument("--flip", action="store_true", help="each also mirrored left to right")
    parser.elsewhere = {"--train-scales": "it is of train; several sizes at test time are --scales"}


def check(args: argparse.Namespace) -> None:
    """UsageError for texts that mean nothing."""
    read_tiles(args.tiles)
    read_overlap(args.overlap)
    read_scales(args.scales)
    if args.tiles == "none" and (args.overlap is not None or args.merge is not None or args.no_whole):
        raise UsageError("--tiles none looks at whole images; leave out --overlap, --merge and --no-whole")


def read_tiles(text: str | None) -> tuple[int, int] | None:
    """(height, width) of "640" or "480,640"; None for none and for no flag."""
    if text is None or text == "none":
        return None
    sides = text.split(",")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) > 0 for side in sides):
        raise UsageError(f"--tiles {text} came; a side in px above 0 was wanted, as 640, or HEIGHT,WIDTH as 480,640")
    return int(sides[0]), int(sides[-1])


def read_overlap(text: str | None) -> float | None:
    """As a number; UsageError outside the bound of Tiles."""
    if text is None:
        return None
    check_texts({"input.overlap": text}, {"input": "tiles"}, flags={"input.overlap": "--overlap"})
    return float(text)


def read_scales(text: str | None) -> tuple[float, ...] | None:
    """Factors above 0, each once."""
    if text is None:
        return None
    factors = [_number(word) for word in text.split(",")]
    found = tuple(f for f in factors if f is not None and 0 < f < float("inf"))
    if len(found) < len(factors) or len(set(found)) < len(found):
        raise UsageError(f"--scales {text!r} came; different factors above 0 were wanted, as 0.5,1,2")
    return found


def looked_at(own: Input, args: argparse.Namespace) -> Input:
    """The model's own policy with the tiles and scales of the flags; UsageError where they do not go together."""
    from torso.inputs._stack import stacked
    from torso.inputs.pyramid import Pyramid
    from torso.inputs.tiles import Tiles

    base = own.inner if isinstance(own, Tiles) and args.tiles == "none" else own
    scales, present = read_scales(args.scales), base.inner if isinstance(base, Tiles) else base
    pyramid = None
    if scales is not None or args.flip:
        had = present if isinstance(present, Pyramid) else Pyramid(scales=(1.0,))
        ranges = had.ranges if scales is None else None  # they are of the old scales
        pyramid = Pyramid(scales=scales or had.scales, flip=args.flip or had.flip, ranges=ranges)
    grid = _tiles(base if isinstance(base, Tiles) else None, args)
    return stacked(base, tiles=grid, pyramid=pyramid)


def tiled(own: Part[Input], args: argparse.Namespace) -> Part[Input]:
    """A recipe's input policy with the tiles of the flags over it; UsageError for an overlap of none."""
    from torso.inputs._stack import tiled_part
    from torso.inputs.tiles import Tiles

    size_hw, overlap = read_tiles(args.tiles), read_overlap(args.overlap)
    has_tiles = own.target is Tiles
    if overlap is not None and size_hw is None and (args.tiles == "none" or not has_tiles):
        raise UsageError("--overlap is of tiles, and this model has none; give --tiles SIZE")
    if args.tiles == "none" and has_tiles:
        inner: Part[Input] | None = own.get("inner")
        if inner is None:
            raise UsageError("--tiles none: these tiles name no policy of their own; give --input NAME in their place")
        return inner
    return own if size_hw is None and overlap is None else tiled_part(own, size_hw=size_hw, overlap=overlap)


def _tiles(own: Tiles | None, args: argparse.Namespace) -> Tiles | None:
    from torso.inputs.tiles import Tiles

    size_hw, overlap = read_tiles(args.tiles), read_overlap(args.overlap)
    if size_hw is None and overlap is None and args.merge is None and not args.no_whole:
        return own
    if size_hw is None and own is None:
        raise UsageError("--overlap, --merge and --no-whole are of tiles, and this model has none; give --tiles SIZE")
    default = own or Tiles()
    made = Tiles(
        size_hw=size_hw or default.size_hw,
        overlap=default.overlap if overlap is None else overlap,
        whole=default.whole and not args.no_whole,
        merge=args.merge or default.merging,
        min_visible=default.min_visible,
    )
    return made if own is None else made.around(own.inner)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
