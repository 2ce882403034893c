"""The contract of a neck: maps in, maps out; it reads the specs of what comes and publishes those of what leaves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from torso.errors import PartError, mismatch
from torso.plain_values import Checked
from torso.types import FeatureSpec


class Neck(Checked, nn.Module):
    """list of [B, C_i, h_i, w_i] -> list of [B, C_j, h_j, w_j], both fine to coarse; built as Neck(in_specs, ...)."""

    out_specs: tuple[FeatureSpec, ...]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError

    @property
    def published(self) -> tuple[FeatureSpec, ...]:
        """out_specs as the next part is told of them: what comes out of a neck with norms has a scale near 1."""
        return tuple(s._replace(normed=holds_norms(self)) for s in self.out_specs)


def holds_norms(module: nn.Module) -> bool:
    """Whether a BatchNorm or GroupNorm is among its layers."""
    return any(isinstance(m, nn.modules.batchnorm._NormBase | nn.GroupNorm) for m in module.modules())


def levels_between(in_specs: Sequence[FeatureSpec], finest: int, coarsest: int, who: str) -> list[int]:
    """Positions of the incoming levels with finest <= stride <= coarsest, which must start at `finest`.

    Raises ValueError, naming what the backbone offers and the remedy, where `finest` is not among them.
    """
    strides = [s.stride for s in in_specs]
    if coarsest < finest and finest in strides:
        raise mismatch(
            f"{who}.coarsest", f"a stride of at least finest={finest}", coarsest,
            remedies=[{"neck.coarsest": strides[-1]}],
        )  # fmt: skip
    positions = [i for i, s in enumerate(strides) if finest <= s <= coarsest]
    if not positions or strides[positions[0]] != finest:
        nearest = _nearest([s for s in strides if s <= coarsest] or strides, finest)
        raise PartError(
            f"{who} starts at stride {finest}, but the incoming levels have strides {strides}",
            remedies=[
                {"neck.finest": nearest, "head.finest": nearest},
                f"choose a backbone with a level of stride {finest}",
            ],
        )
    return positions


def _nearest(strides: Sequence[int], finest: int) -> int:
    """The stride nearest to the one that is missing, the finer of two."""
    return min(strides, key=lambda s: (max(s, finest) / min(s, max(finest, 1)), s))


def check_doubling(specs: Sequence[FeatureSpec], who: str) -> None:
    """ValueError, with the remedy, where a level's stride is not twice that of the one before."""
    strides = [s.stride for s in specs]
    if any(2 * a != b for a, b in itertools.pairwise(strides)):
        raise ValueError(
            f"{who} halves its maps from level to level, but the incoming levels have strides {strides}; "
            "change finest or coarsest so that they double, or choose a neck that takes any (fpn, bifpn, fc_fpn)"
        )


def cut(x: Tensor, like: Tensor) -> Tensor:
    """A stride-2 convolution rounds up where a backbone may have rounded down (VGG): one row or column too many."""
    return x[..., : like.shape[-2], : like.shape[-1]]


def level_widths(channels: int | tuple[int, ...], levels: int, who: str) -> list[int]:
    """One width for all levels or one each, fine to coarse; ValueError at a wrong number of them."""
    widths = [channels] * levels if isinstance(channels, int) else list(channels)
    if len(widths) != levels:
        raise ValueError(
            f"{who} has {levels} levels of the backbone but {len(widths)} channels {tuple(widths)}: give one number, "
            "or one for each level, fine to coarse"
        )
    return widths


def initialise_linear(neck: nn.Module) -> None:
    """Kaiming-uniform weights for convolutions without an activation behind them (a = 1), biases 0."""
    for conv in neck.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
