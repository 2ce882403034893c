"""Every part of a folder at its smallest: arguments that cost are turned down where a constructor has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.necks.ssd_extra import SSDExtra
from torso.parts import Part, PartError, arguments, named
from torso.types import FeatureSpec, Images

REQUIRED: dict[str, Any] = {"name": "test_resnet", "num_classes": 3}
SMALL: dict[str, Any] = {
    "channels": 16,
    "tower": 1,
    "tums": 2,
    "layers": 2,
    "repeats": 1,
    "filter_scale": 0.125,
    "widths": (16, 16, 16),
    "width": 0.125,
    "depth": 0.1,
    "hidden": 32,
    "roi_size": 3,
    "proposals": 20,
    "proposal_top": 40,
    "pre_nms_top": 60,
    "number": 24,
    "frozen_stride": 0,
    "frozen_norm": False,
    "name": "test_resnet",
}
SIZE_HW = (70, 90)  # multiples of nothing
BACKBONE_SPECS = tuple(FeatureSpec(c, (s, s)) for c, s in ((8, 4), (12, 8), (16, 16), (24, 32)))
NECK_SPECS = tuple(FeatureSpec(16, (s, s)) for s in (4, 8, 16, 32, 64, 128))


def smallest(p: Part[Any]) -> Part[Any]:
    """The part with every cost turned down, in the parts inside it too."""
    for name in arguments(p.target):
        value = p.get(name)
        if isinstance(value, Part):
            p = p.with_args(**{name: smallest(value)})
        elif isinstance(value, tuple) and value and all(isinstance(v, Part) for v in value):
            p = p.with_args(**{name: tuple(smallest(v) for v in value)})
        elif p.target is SSDExtra and name in ("strides", "paddings"):
            p = p.with_args(**{name: None})  # SSD300's unpadded convolutions leave nothing of small images
        elif name in SMALL:
            small = SMALL[name]
            if name == "widths" and isinstance(value, tuple):
                small = (16,) * len(value)
            try:
                p = p.with_args(**{name: small})
            except PartError:
                continue  # the same word for another kind of value
    return p


def default(kind: str, name: str) -> Part[Any]:
    """The part with its defaults, and what it cannot be made without."""
    bare = named(name, kind)
    required = {k: v for k, v in REQUIRED.items() if k in arguments(bare.target)}
    return bare.with_args(**{k: v for k, v in required.items() if bare.get(k) is None})


def maps(specs: Sequence[FeatureSpec], size_hw: tuple[int, int] = SIZE_HW, batch: int = 2) -> list[Tensor]:
    """Random maps of those levels; sizes rounded up, as strided convolutions leave them."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            batch,
            s.channels,
            *(-(-size // stride) for size, stride in zip(size_hw, s.stride_yx, strict=True)),
            generator=generator,
        )
        for s in specs
    ]


def images(size_hw: tuple[int, int] = SIZE_HW, batch: int = 2) -> Images:
    """Noise; the second image is smaller than the batch."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(batch, 3, *size_hw, generator=generator) * 255
    sizes = torch.tensor([size_hw, (size_hw[0] - 9, size_hw[1] - 20)][:batch], dtype=torch.float32)
    return Images(pixels, sizes, torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(batch, 4))


def targets(kind: str = "objects") -> Targets:
    """Of two images: "objects" of several sizes beside a crowd and padding, "none" at all, or only a "crowd"."""
    boxes = torch.tensor([[4.0, 6, 30, 40], [20, 10, 60, 58], [50, 40, 62, 50], [2, 2, 66, 60], [0, 0, 70, 64]])
    boxes = torch.stack([boxes, boxes.flip(0) * 0.8 + 3])
    labels = torch.tensor([[0, 1, 2, 1, 0]]).repeat(2, 1)
    crowd = torch.zeros(2, 5, dtype=torch.bool)
    crowd[:, 4] = True
    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[1, 2:4] = False
    if kind == "none":
        valid = torch.zeros_like(valid)
    if kind == "crowd":
        valid = crowd.clone()
    return Targets(boxes, labels, valid, crowd)


def check_gradients(module: torch.nn.Module) -> None:
    """Every parameter that learns has a gradient, and it is finite."""
    without = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    broken = [n for n, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    assert not without
    assert not broken
