"""ResNet from timm (He et al. 2015, arXiv 1512.03385)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.parts import Part, part


def resnet50() -> Part[Timm]:
    """ResNet-50 with the stride on the 3x3 convolutions, strides 2 to 32, 23.5 M parameters (arXiv 1512.03385)."""
    return part(Timm, name="resnet50")
