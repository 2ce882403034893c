"""Darknet-53 and the cross-stage-partial networks from timm (arXiv 1804.02767, 1911.11929, 2004.10934).

The activation is the detectors'. timm's ImageNet weights were trained with LeakyReLU of slope 0.01: set
activation=none (None in Python) to start from them as they are.
"""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.parts import Part, part


def darknet53() -> Part[Timm]:
    """Darknet-53 of YOLOv3, LeakyReLU of slope 0.1, strides 1 to 32, 40.6 M parameters (arXiv 1804.02767)."""
    return part(Timm, name="darknet53", activation="leaky_relu")


def cspdarknet53() -> Part[Timm]:
    """CSPDarknet-53 of YOLOv4 with Mish, strides 1 to 32, 26.6 M parameters (arXiv 2004.10934).

    activation="leaky_relu" (slope 0.1) is the form of YOLOv4's faster sizes.
    """
    return part(Timm, name="cspdarknet53", activation="mish")


def cspresnext50() -> Part[Timm]:
    """CSPResNeXt-50 (32x4d), strides 2 to 32, 18.5 M parameters (arXiv 1911.11929).

    In timm's form, whose first stage is as regular as the others and whose LeakyReLU has slope 0.01.
    """
    return part(Timm, name="cspresnext50")
