"""Renaming tensors by rules; every tensor must have a rule, so that none is lost in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Rules = Sequence[tuple[str, str]]

# torchvision's ResNet and pyramid; timm's ResNet has the same names behind another prefix
TORCHVISION_RESNET_FPN: Rules = (
    (r"backbone\.body\.(.+)", r"backbone.body.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.0\.(.+)", r"neck.0.lateral.\1.conv.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.0\.(.+)", r"neck.0.output.\1.conv.\2"),
    (r"backbone\.fpn\.extra_blocks\.p6\.(.+)", r"neck.0.extra.convs.0.\1"),
    (r"backbone\.fpn\.extra_blocks\.p7\.(.+)", r"neck.0.extra.convs.1.\1"),
)


def renamed(state: Mapping[str, Tensor], rules: Rules, what: str) -> dict[str, Tensor]:
    """The tensors under their new names. Raises ValueError, naming them, for tensors that no rule knows."""
    out, unknown = {}, []
    for name, tensor in state.items():
        for pattern, replacement in rules:
            if re.fullmatch(pattern, name):
                out[re.sub(pattern, replacement, name)] = tensor
                break
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"{len(unknown)} tensors are not of {what}: {', '.join(unknown[:3])}; "
            "give the state_dict() of that very model"
        )
    return out


def with_own_norms(state: dict[str, Tensor], norm_eps: float) -> dict[str, Tensor]:
    """Frozen norms as plain BatchNorms of eps 1e-5: a counter beside each, and the difference of eps in the variance.

    torchvision sets eps to 0 in the models of its RetinaNet and R-CNN COCO_V1 weights, after loading them.
    """
    out = dict(state)
    for name, tensor in state.items():
        if name.endswith("running_var"):
            out[name] = tensor + (norm_eps - 1e-5)
            out.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return out
