"""A block at chosen levels, one of its own for each: how SPP, CBAM and their like enter a chain (2004.10934)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torso.blocks._base import Block, places
from torso.blocks.spp import SPP
from torso.necks._base import Neck, holds_norms
from torso.parts import Part, part
from torso.types import FeatureSpec


class AtLevels(Neck):
    """The incoming levels, some of them behind a block. The neck "spp+pan" is at_levels with block=spp, then pan.

    Args:
        block: is built once for each of its levels; no weights are shared.
        strides: of the levels that get one. None given: the block's own place (the coarsest level for spp, aspp, rfb,
            non_local and attention, the finest for rfb_s, all for the gates) among those from stride `finest` on.
        finest: see strides. In a model it is by default the finest level of the neck that was swapped.

    Raises ValueError for a stride that does not come in.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        block: Part[Block] = part(SPP),
        strides: tuple[int, ...] = (),
        finest: int = 8,
    ) -> None:
        super().__init__()
        chosen = places(in_specs, block, strides, finest=finest, who=type(self).__name__, argument="strides")
        self._keys = [_key(s) if i in chosen else "" for i, s in enumerate(in_specs)]
        made = {_key(in_specs[i]): block.build(in_specs[i].channels) for i in chosen}
        self.blocks = nn.ModuleDict(made)
        widths = {key: module.out_channels for key, module in made.items()}
        self.out_specs = tuple(FeatureSpec(widths.get(_key(s), s.channels), s.stride_yx) for s in in_specs)
        self._came_normed = [s.normed for s in in_specs]

    @property
    def published(self) -> tuple[FeatureSpec, ...]:
        """Levels without a block leave as they came."""
        marks = [
            came or bool(key and holds_norms(self.blocks[key]))
            for key, came in zip(self._keys, self._came_normed, strict=True)
        ]
        return tuple(s._replace(normed=mark) for s, mark in zip(self.out_specs, marks, strict=True))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [self.blocks[key](x) if key else x for key, x in zip(self._keys, features, strict=True)]


def _key(spec: FeatureSpec) -> str:
    """Names a level in the weights: "32", "16x8" (height x width) where strides differ."""
    y, x = spec.stride_yx
    return str(y) if y == x else f"{y}x{x}"
