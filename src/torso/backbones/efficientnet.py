"""EfficientNet from timm (Tan and Le 2019, arXiv 1905.11946).

The tf_ ones are the authors' network: "same" padding (asymmetric at stride 2) and BatchNorm with eps 1e-3. The others
pad symmetrically; weights of one lose accuracy in the other.
"""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.parts import Part, part


def efficientnet_b0() -> Part[Timm]:
    """EfficientNet-B0, symmetric padding, strides 2 to 32, 3.6 M parameters (arXiv 1905.11946)."""
    return part(Timm, name="efficientnet_b0")


def efficientnet_b7() -> Part[Timm]:
    """EfficientNet-B7, symmetric padding, strides 2 to 32, 62.1 M parameters (arXiv 1905.11946).

    timm publishes no weights for it; tf_efficientnet_b7 has them.
    """
    return part(Timm, name="efficientnet_b7")


def tf_efficientnet_b0() -> Part[Timm]:
    """EfficientNet-B0 as its authors pad it, strides 2 to 32, 3.6 M parameters (arXiv 1905.11946)."""
    return part(Timm, name="tf_efficientnet_b0")


def tf_efficientnet_b7() -> Part[Timm]:
    """EfficientNet-B7 as its authors pad it, strides 2 to 32, 62.1 M parameters (arXiv 1905.11946)."""
    return part(Timm, name="tf_efficientnet_b7")
