"""Items become one padded batch: pixels on a common canvas, targets in a few sizes so that graphs stay few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torso.data.dataset import Item
from torso.data.targets import Targets
from torso.geometry.resize import SizeHW, padded_size
from torso.images import stack_images
from torso.types import Images

_TARGET_ROWS = (32, 128, 512)


class Batch(NamedTuple):
    """What a training step takes: index [B] rows of the data set, image_ids [B] the data set's own numbers."""

    images: Images
    targets: Targets
    index: Tensor  # type: ignore[assignment]  # the field's name; tuple.index has no use here
    image_ids: Tensor


def target_rows(most: int) -> int:
    """Rows M for images of at most `most` boxes: 32, 128, 512, then multiples of 512. Nothing is ever left out."""
    return next((rows for rows in _TARGET_ROWS if most <= rows), -(-most // _TARGET_ROWS[-1]) * _TARGET_ROWS[-1])


def collate(items: Sequence[Item], divisor: int = 32) -> Batch:
    """One batch, as large as its largest canvas (or image, where no transform set one), rounded up to divisor."""
    pixels = [item.pixels for item in items]
    return Batch(
        images=stack_images(pixels, _canvas(items, divisor), [item.to_original for item in items]),
        targets=Targets.padded([item.objects for item in items], target_rows(max(i.objects.number for i in items))),
        index=torch.tensor([item.index for item in items]),
        image_ids=torch.tensor([item.image_id for item in items]),
    )


def _canvas(items: Sequence[Item], divisor: int) -> SizeHW:
    return padded_size([item.canvas_hw or (item.pixels.shape[1], item.pixels.shape[2]) for item in items], divisor)
