"""A package of somebody else's, written into a folder: parts of several kinds, a model, and what can go wrong."""

from __future__ import annotations

from pathlib import Path

_PARTS = '''"""Parts of a package outside torso."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from torso.blocks._base import Block, Place
from torso.data.sample import Draw, Sample, Transform
from torso.geometry.coders.ltrb import LTRBCoder
from torso.inputs.letterbox import Letterbox
from torso.necks._base import Neck
from torso.parts import part
from torso.suppression.nms import NMS
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.losses.iou import IoULoss
from torso.types import FeatureSpec


class Squeeze(Neck):
    """Every level in one width, by a 1x1 convolution.

    Args:
        channels: width of every level; strides stay.
    """

    def __init__(self, in_specs: Sequence[FeatureSpec], *, channels: int = 16) -> None:
        super().__init__()
        specs = [spec for spec in in_specs if spec.stride >= 8]
        self.skip = len(in_specs) - len(specs)
        self.convs = nn.ModuleList(nn.Conv2d(spec.channels, channels, 1) for spec in specs)
        self.out_specs = tuple(FeatureSpec(channels, spec.stride_yx) for spec in specs)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [conv(f) for conv, f in zip(self.convs, features[self.skip :], strict=True)]


class Tint(Block):
    """x plus one learned number a channel."""

    place: ClassVar[Place] = "all"

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.tint = nn.Parameter(torch.zeros(in_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.tint


class Same(Transform):
    """The image as it is."""

    def __init__(self) -> None:
        pass

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        return sample


class MyAssigner(FCOSAssigner):
    """FCOS's."""


class MyLoss(IoULoss):
    """The IoU loss."""


class MyCoder(LTRBCoder):
    """Distances to the four sides."""


class MyNMS(NMS):
    """Hard suppression."""


class MyInput(Letterbox):
    """Letterbox."""


def small(*, num_classes: int = 80):
    """A small FCOS."""
    from torso.backbones.timm import Timm
    from torso.models.detector import Detector
    from torso.parts import find

    return part(
        Detector,
        backbone=part(Timm, name="test_resnet"),
        neck=part(Squeeze),
        head=part(find("heads.fcos"), num_classes=num_classes, finest=8, coarsest=32, channels=16, tower=1),
        input=part(Letterbox, size_hw=(64, 96)),
    )


def wrong(*, num_classes: int = 80):
    """Gives no part."""
    return 3
'''

ENTRY_POINTS = """[torso.parts]
necks.squeeze = mypkg.parts:Squeeze
necks.fpn = mypkg.parts:Squeeze
zoo.small = mypkg.parts:small
losses.gone = mypkg.gone:Gone
nonsense = mypkg.parts:Nothing
"""


def write_package(root: Path, *, installed: bool = False) -> Path:
    """root/mypkg with parts.py; installed: with the metadata that an installation leaves beside it."""
    package = root / "mypkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""A package."""\n')
    (package / "parts.py").write_text(_PARTS)
    (package / "broken.py").write_text("raise RuntimeError('no such\\nluck')\n")
    (package / "needy.py").write_text("import a_library_that_is_not_there\n")
    if installed:
        info = root / "mypkg-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return root
