"""Swin Transformers from timm, with a LayerNorm on every stage (Liu et al. 2021, arXiv 2103.14030).

Their detectors train with AdamW and drop_path 0.2 (Swin-T).
"""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.parts import Part, part


def swin_t() -> Part[Timm]:
    """Swin-T, windows of 7, strides 4 to 32, 27.5 M parameters (arXiv 2103.14030)."""
    return part(Timm, name="swin_tiny_patch4_window7_224", stage_norms=True)


def swin_s() -> Part[Timm]:
    """Swin-S, windows of 7, strides 4 to 32, 48.8 M parameters (arXiv 2103.14030)."""
    return part(Timm, name="swin_small_patch4_window7_224", stage_norms=True)


def swin_b() -> Part[Timm]:
    """Swin-B, windows of 7, strides 4 to 32, 86.7 M parameters (arXiv 2103.14030)."""
    return part(Timm, name="swin_base_patch4_window7_224", stage_norms=True)


def swin_l() -> Part[Timm]:
    """Swin-L, windows of 7, strides 4 to 32, 195.0 M parameters (arXiv 2103.14030)."""
    return part(Timm, name="swin_large_patch4_window7_224", stage_norms=True)
