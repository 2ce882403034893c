"""The contract of a backbone: normalised pixels in, maps from fine to coarse out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from torso._tensors import WeightsError, misfit, read_state
from torso.plain_values import Checked
from torso.types import FeatureSpec


class Backbone(Checked, nn.Module):
    """[B, 3, H, W] normalised pixels -> list of [B, C_i, h_i, w_i], fine to coarse.

    out_specs: one FeatureSpec a map. multiple: H and W must be multiples of it (the batch is padded to it).
    mean, std: of the pixels it was trained on, RGB in 0..1. added: what the names of tensors begin with that no
    published backbone has.
    """

    out_specs: tuple[FeatureSpec, ...]
    multiple: int = 32
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    added: tuple[str, ...] = ()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def published_parameters(self) -> Iterator[nn.Parameter]:
        """Those that `load_pretrained` fills: all, but for what is `added` to a published backbone."""
        return (p for name, p in self.named_parameters() if not name.startswith(self.added))

    def load_pretrained(self, source: str) -> None:
        """Load weights; `source` is "hub", the publisher's (a backbone without any says so), or a local file.

        The file, .safetensors or a state dict that torch.save wrote, holds the tensors of state_dict(), alone or
        within a detector's, as torso saves it: then those under `backbone.` are taken. What was `added` may be wanting
        in whole and stays at its start. ValueError names what else differs; the weights are then unchanged.
        """
        if source == "hub":
            raise ValueError(
                f"{type(self).__name__} has no published weights to load from 'hub'; give a file of its own tensors, "
                "or train it from scratch"
            )
        self.load_own(source, own_tensors(read_state(Path(source))))

    def load_own(self, source: str, given: Mapping[str, Tensor]) -> None:
        """Load tensors of state_dict()'s names; source: where they come from, for the message of the ValueError."""
        own = self.state_dict()
        if not any(name.startswith(self.added) for name in given):
            given = {**{k: v for k, v in own.items() if k.startswith(self.added)}, **given}
        if differs := misfit(own, given):
            who = type(self).__name__
            raise WeightsError(
                f"{source} does not fit {who} as it is composed here ({differs}); {len(own)} tensors by the names of "
                "its state_dict() were wanted, or a detector's, with backbone. before them: compose the same backbone "
                "as the file's (its width, norm, block), or train it from scratch"
            )
        self.load_state_dict(given)


_PREFIX = "backbone."  # of a detector's tensors


def own_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors of a file: of a detector's those under `backbone.`, without it; else all."""
    of_detector = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    return of_detector or dict(state)


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
