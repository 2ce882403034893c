"""What detection needs on top of a classifier's body: other activations, and norms on the maps that come out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from timm.layers import activations
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from torso.layers.conv import Activation, make_activation

# Sigmoids and their like are not among them: they are gates, not activations.
_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.PReLU, nn.SiLU, nn.Mish, nn.GELU, nn.Hardswish,
    activations.Swish, activations.Mish, activations.HardSwish, activations.HardMish, activations.PReLU,
    activations.GELU, activations.GELUTanh, activations.QuickGELU,
)  # fmt: skip


def replace_activations(body: nn.Module, activation: Activation, name: str) -> tuple[str, ...]:
    """Put one activation in the place of every other; weights and their names stay. Returns where they stand.

    Raises ValueError where the body has none as modules.
    """
    found = [path for path, m in body.named_modules() if isinstance(m, _ACTIVATIONS)]
    if not found:
        raise ValueError(f"timm's {name} has no activation modules to replace; leave activation=none")
    for path in found:
        parent, _, child = path.rpartition(".")
        setattr(body.get_submodule(parent), child, make_activation(activation))
    return tuple(found)


def load_published(body: nn.Module, published: Mapping[str, Tensor], replaced: Sequence[str], name: str) -> None:
    """Load the body, strictly but for the activations at the paths `replaced`, which the published weights never met.

    Parameters of theirs that nobody published stay at their start, and published ones (PReLU's slopes) that have no
    place any more are left out; a warning names both. Any other difference is load_state_dict's RuntimeError.
    """
    own = body.state_dict()

    def of_replaced(key: str) -> bool:
        return key.rpartition(".")[0] in replaced

    fresh = [key for key in own if key not in published and of_replaced(key)]
    left = [key for key in published if key not in own and of_replaced(key)]
    kept = {key: value for key, value in published.items() if key not in left}
    body.load_state_dict({**kept, **{key: own[key] for key in fresh}})
    if fresh or left:
        stay = f"parameters that stay at their start: {', '.join(fresh) or 'none'}"
        warnings.warn(
            f"{name} has other activations than its pretrained weights: {stay}; pretrained ones left out: "
            f"{', '.join(left) or 'none'}",
            stacklevel=3,
        )


def patch_of(body: nn.Module) -> tuple[int, int]:
    """(height, width) of the patches that a transformer cuts its picture into; (1, 1) where there are none."""
    return next((m.patch_size for m in body.modules() if isinstance(m, PatchEmbed)), (1, 1))


def pad_to(pixels: Tensor, patch_hw: tuple[int, int]) -> Tensor:
    """Zeros at the bottom and right, up to whole patches: [B, C, H, W] -> [B, C, H', W']."""
    bottom, right = (-size % patch for size, patch in zip(pixels.shape[-2:], patch_hw, strict=True))
    return F.pad(pixels, (0, right, 0, bottom)) if bottom or right else pixels


class StageNorms(nn.Module):
    """A LayerNorm over the channels of every map: list of [B, C_i, h_i, w_i] -> the same shapes."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [n(m.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for n, m in zip(self.norms, maps, strict=True)]
