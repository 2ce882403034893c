"""VGG-16 as SSD reads it: dilated fc6 and fc7, normalised conv4_3 (Liu et al. 2016, arXiv 1512.02325)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso._tensors import WeightsError, read_state
from torso.backbones._base import own_tensors
from torso.backbones._stages import Staged
from torso.backbones.timm import Timm
from torso.blocks._base import Block
from torso.parts import Part
from torso.types import FeatureSpec

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_CAFFE_MEAN = (0.48235, 0.45882, 0.40784)  # RGB (123, 117, 104) of 255


class SSDVGG(Staged):
    """conv4_3 (512 channels, stride 8) and fc7 (1024 channels, stride 16); SSD's further levels are the neck ssd_extra.

    Args:
        l2_scale: initial factor of conv4_3's channels after each place is divided by its length (its values are some
            twenty times those of fc7); None leaves the map as it is.
        pixels: "imagenet" mean and deviation, or 0..255 less the mean, as the weights that were made with Caffe want
            them: "caffe" (the paper's, and torchvision's SSD300).
        block: stands behind conv4_3 (before it is normalised), fc7 or both, one of its own for each; the next layer
            sees what it gives.
        block_strides: of those maps; none given means the block's own place.

    A level has ceil(size / stride) places: SSD300's 38 and 19. torchvision rounds up at the third pooling alone, which
    is the same for images of even quarters, 300 and 512 among them.
    """

    multiple = 1

    def __init__(
        self,
        *,
        l2_scale: float | None = 20.0,
        pixels: Literal["imagenet", "caffe"] = "imagenet",
        block: Part[Block] | None = None,
        block_strides: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.pixels = pixels
        if pixels == "caffe":
            self.mean, self.std = _CAFFE_MEAN, (1 / 255,) * 3
        self.blocks = nn.ModuleList()
        channels = 3  # at stride 1, for which StemConv2d, made of blocks of 2x2 pixels, has no quicker form
        for widths in _WIDTHS:
            pairs = itertools.pairwise((channels, *widths))
            layers = [m for a, b in pairs for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True))]
            self.blocks.append(nn.Sequential(*layers))
            channels = widths[-1]
        self.fc6 = nn.Conv2d(channels, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.relu7 = nn.ReLU()
        self.l2_norm = None if l2_scale is None else _L2Norm(512, l2_scale)
        self.out_specs = (FeatureSpec(512, (8, 8)), FeatureSpec(1024, (16, 16)))
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # they all have one
        for conv in (self.fc6, self.fc7):
            nn.init.xavier_uniform_(conv.weight)
        self.insert(block, block_strides, (self.blocks[3], self.relu7))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.blocks[0](pixels)
        for block in self.blocks[1:4]:
            x = block(F.max_pool2d(x, 2, stride=2, ceil_mode=True))
        conv4_3 = x
        x = self.blocks[4](F.max_pool2d(x, 2, stride=2, ceil_mode=True))
        x = F.relu(self.fc6(F.max_pool2d(x, 3, stride=1, padding=1)))
        fc7 = self.relu7(self.fc7(x))
        return [conv4_3 if self.l2_norm is None else self.l2_norm(conv4_3), fc7]

    def published_parameters(self) -> Iterator[nn.Parameter]:
        return self.blocks.parameters()

    def load_pretrained(self, source: str) -> None:
        """VGG-16's ImageNet weights for its thirteen convolutions, as timm names them; fc6 and fc7 start afresh.

        A file may hold all of its own tensors instead, by their own names. ValueError for the publisher's ("hub") with
        Caffe's pixels, which they have never seen.
        """
        if source == "hub" and self.pixels == "caffe":
            raise ValueError("timm's VGG-16 was trained on pixels='imagenet', not 'caffe'; set pixels='imagenet'")
        given: dict[str, Tensor] = {}
        if source != "hub":
            with contextlib.suppress(WeightsError):  # timm reads more kinds of files, and says what it cannot read
                given = own_tensors(read_state(Path(source)))
        if not given.keys().isdisjoint(self.state_dict()):
            self.load_own(source, given)
            return
        donor = Timm(name="vgg16")
        donor.load_pretrained(source)
        convs = [m for m in donor.body.modules() if isinstance(m, nn.Conv2d)]
        own = [m for m in self.blocks.modules() if isinstance(m, nn.Conv2d)]
        for to, conv in zip(own, convs, strict=True):
            to.load_state_dict(conv.state_dict())


class _L2Norm(nn.Module):
    """Every place's channels divided by their Euclidean length, times a learnt factor a channel: [B, C, h, w] kept."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        # in float32 at least: squares of conv4_3 leave the range of half precision
        wide = x if x.dtype == torch.float64 else x.float()
        return (F.normalize(wide) * self.weight.to(wide.dtype).view(1, -1, 1, 1)).to(x.dtype)
