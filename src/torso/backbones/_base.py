"""The contract of a backbone: normalised pixels in, maps from fine to coarse out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from torso.types import FeatureSpec


class Backbone(nn.Module):
    """[B, 3, H, W] normalised pixels -> list of [B, C_i, h_i, w_i], fine to coarse.

    out_specs: one FeatureSpec a map. multiple: H and W must be multiples of it (the batch is padded to it).
    mean, std: of the pixels it was trained on, RGB in 0..1.
    """

    out_specs: tuple[FeatureSpec, ...]
    multiple: int = 32
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def published_parameters(self) -> Iterator[nn.Parameter]:
        """Those that `load_pretrained` fills: all, unless a backbone adds something of its own to a published one."""
        return self.parameters()

    def load_pretrained(self, source: str) -> None:
        """Load published weights; `source` is "hub" or a local file. A backbone without any says so."""
        who = type(self).__name__
        raise ValueError(f"{who} has no published weights to load from {source!r}; train it from scratch")


class FrozenNorms:
    """Keeps chosen BatchNorms in eval mode whatever train() says.

    torchvision's FrozenBatchNorm2d returns float32 under autocast and costs 2.3x of a bf16 forward; BatchNorm in eval
    mode computes the same function and does not.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def apply(self) -> None:
        """To be called after every train()."""
        for norm in self.norms:
            norm.eval()


def parameters_behind(output: Tensor, module: nn.Module) -> list[nn.Parameter]:
    """The parameters that `output` depends on, found by autograd: "all layers up to this map", for any architecture."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    grads = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return [p for p, g in zip(parameters, grads, strict=True) if g is not None]
