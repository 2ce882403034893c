"""VGG from timm (Simonyan and Zisserman 2014, arXiv 1409.1556)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.parts import Part, part


def vgg16() -> Part[Timm]:
    """VGG-16 without its classifier, strides 1 to 32, 14.7 M parameters (arXiv 1409.1556).

    Sizes are rounded down at every pooling; for SSD's form see ssd_vgg.
    """
    return part(Timm, name="vgg16")
