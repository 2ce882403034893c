"""The YOLO family's CSPDarknet in its usual sizes (arXiv 1911.11929, 2207.02696).

YOLOX's form of any of them: repeats=3,9,9,3 stem=focus pooling=spp.
"""

from __future__ import annotations

from torso.backbones.csp import CSPDarknet
from torso.parts import Part, part


def csp_n() -> Part[CSPDarknet]:
    """CSPDarknet with C3 layers, nano: width 1/4, depth 1/3, strides 4 to 32 (arXiv 1911.11929)."""
    return part(CSPDarknet, width=0.25, depth=0.33)


def csp_s() -> Part[CSPDarknet]:
    """CSPDarknet with C3 layers, small: width 1/2, depth 1/3, strides 4 to 32 (arXiv 1911.11929)."""
    return part(CSPDarknet, width=0.5, depth=0.33)


def csp_m() -> Part[CSPDarknet]:
    """CSPDarknet with C3 layers, medium: width 3/4, depth 2/3, strides 4 to 32 (arXiv 1911.11929)."""
    return part(CSPDarknet, width=0.75, depth=0.67)


def csp_l() -> Part[CSPDarknet]:
    """CSPDarknet with C3 layers, large: width 1, depth 1, strides 4 to 32 (arXiv 1911.11929)."""
    return part(CSPDarknet)


def csp_x() -> Part[CSPDarknet]:
    """CSPDarknet with C3 layers, extra large: width 5/4, depth 4/3, strides 4 to 32 (arXiv 1911.11929)."""
    return part(CSPDarknet, width=1.25, depth=1.33)


def c2f_n() -> Part[CSPDarknet]:
    """CSPDarknet with ELAN-like C2f layers, nano: width 1/4, depth 1/3, strides 4 to 32 (arXiv 2207.02696)."""
    return part(CSPDarknet, width=0.25, depth=0.33, widest=1024, repeats=(3, 6, 6, 3), stem="conv3", layer="c2f")


def c2f_s() -> Part[CSPDarknet]:
    """CSPDarknet with ELAN-like C2f layers, small: width 1/2, depth 1/3, strides 4 to 32 (arXiv 2207.02696)."""
    return part(CSPDarknet, width=0.5, depth=0.33, widest=1024, repeats=(3, 6, 6, 3), stem="conv3", layer="c2f")


def c2f_m() -> Part[CSPDarknet]:
    """CSPDarknet with ELAN-like C2f layers, medium: width 3/4, depth 2/3, at most 576 channels (arXiv 2207.02696)."""
    return part(CSPDarknet, width=0.75, depth=0.67, widest=768, repeats=(3, 6, 6, 3), stem="conv3", layer="c2f")


def c2f_l() -> Part[CSPDarknet]:
    """CSPDarknet with ELAN-like C2f layers, large: width 1, depth 1, at most 512 channels (arXiv 2207.02696)."""
    return part(CSPDarknet, width=1.0, depth=1.0, widest=512, repeats=(3, 6, 6, 3), stem="conv3", layer="c2f")


def c2f_x() -> Part[CSPDarknet]:
    """CSPDarknet with ELAN-like C2f layers, extra large: width 5/4, at most 640 channels (arXiv 2207.02696)."""
    return part(CSPDarknet, width=1.25, depth=1.0, widest=512, repeats=(3, 6, 6, 3), stem="conv3", layer="c2f")
