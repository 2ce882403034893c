"""The published sizes of SpineNet (Du et al. 2020, arXiv 1912.05027), parameters of body and endpoints."""

from __future__ import annotations

from torso.backbones.spinenet import SpineNet
from torso.parts import Part, part


def spinenet_49s() -> Part[SpineNet]:
    """SpineNet-49S, 9.09 M parameters (arXiv 1912.05027).

    That is what the published numbers of this size give: widths x 0.65 truncated, 128 channels. The published total of
    its RetinaNet (11.9 M) is 0.64 M more than they explain, under any rounding of the widths; the other sizes agree.
    """
    return part(SpineNet, filter_scale=0.65, channels=128)


def spinenet_49() -> Part[SpineNet]:
    """SpineNet-49, 21.8 M parameters (arXiv 1912.05027)."""
    return part(SpineNet)


def spinenet_96() -> Part[SpineNet]:
    """SpineNet-96: two blocks a node, 36.3 M parameters (arXiv 1912.05027)."""
    return part(SpineNet, repeats=2)


def spinenet_143() -> Part[SpineNet]:
    """SpineNet-143: three blocks a node, 60.2 M parameters (arXiv 1912.05027)."""
    return part(SpineNet, repeats=3, alpha=1.0)


def spinenet_190() -> Part[SpineNet]:
    """SpineNet-190: four blocks a node, widths x 1.3, 126.6 M parameters (arXiv 1912.05027)."""
    return part(SpineNet, filter_scale=1.3, alpha=1.0, repeats=4, channels=512)
