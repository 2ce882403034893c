"""What several necks do to make levels fit each other: a width a level, sizes that rounding made unequal."""

from __future__ import annotations

from torch import Tensor, nn


def cut(x: Tensor, like: Tensor) -> Tensor:
    """A stride-2 convolution rounds up where a backbone may have rounded down (VGG): one row or column too many."""
    return x[..., : like.shape[-2], : like.shape[-1]]


def level_widths(channels: int | tuple[int, ...], levels: int, who: str) -> list[int]:
    """One width for all levels or one each, fine to coarse; ValueError at a wrong number of them or one below 1."""
    widths = [channels] * levels if isinstance(channels, int) else list(channels)
    if len(widths) != levels:
        raise ValueError(
            f"{who} has {levels} levels of the backbone but {len(widths)} channels {tuple(widths)}: give one number, "
            "or one for each level, fine to coarse"
        )
    if min(widths) < 1:
        raise ValueError(f"{who}.channels must be at least 1; {tuple(widths)} came")
    return widths


def initialise_linear(neck: nn.Module) -> None:
    """Kaiming-uniform weights for convolutions without an activation behind them (a = 1), biases 0."""
    for conv in neck.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
