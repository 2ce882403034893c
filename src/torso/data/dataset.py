"""A data set that answers (epoch, index) with one transformed sample: the same answer whoever asks, whenever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from torso.data.annotations import Annotations
from torso.data.objects import Objects
from torso.data.sample import Sample, Transform
from torso.geometry.resize import SizeHW
from torso.images import image_to_tensor, read_image

Key = tuple[int, int] | tuple[int, int, float]
"""(epoch, index) of a sample, and the scale of the batch that it is for, where that is not 1."""


class Item(NamedTuple):
    """A sample ready for a batch: pixels uint8 [3, h, w]; the rest as in Sample."""

    pixels: Tensor
    objects: Objects
    index: int  # type: ignore[assignment]  # the field's name; tuple.index has no use here
    image_id: int
    to_original: tuple[float, float, float, float]
    canvas_hw: SizeHW | None


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one sample: a pure function of its three numbers, so that any sample can be replayed."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch << 32 | index], dtype=np.uint64)))


class DetectionDataset(Dataset[Item]):
    """Images and boxes of `annotations`, passed through `transforms` in order.

    seed: 0..2**64 - 1. Transforms that mix several images fetch the others as they lie on the disk. unmixed_from: the
    epoch (from 0) from which on they are left out; None keeps them to the end.
    """

    def __init__(
        self,
        annotations: Annotations,
        transforms: Sequence[Transform],
        seed: int = 0,
        *,
        unmixed_from: int | None = None,
    ) -> None:
        if not len(annotations):
            raise ValueError(f"{annotations.source}: no images came, at least one was wanted: check the folder")
        self.annotations = annotations
        self.transforms = tuple(transforms)
        self.seed, self.unmixed_from = seed, unmixed_from

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: Key) -> Item:
        return to_item(self.sample(*key))

    def sample(self, epoch: int, index: int, scale: float = 1.0) -> Sample:
        """The transformed image and boxes, before they become tensors: what to look at when replaying a sample.

        scale: of its batch, see Sample.scale.
        """
        rng = sample_rng(self.seed, epoch, index)
        sample = self.load(index)
        sample = sample if scale == 1 else replace(sample, scale=scale)
        unmixed = self.unmixed_from is not None and epoch >= self.unmixed_from
        for transform in self.transforms:
            if not (unmixed and transform.mixes):
                sample = transform(sample, rng, self._draw)
        return sample

    def load(self, index: int) -> Sample:
        """The image and its boxes as they lie on the disk; ValueError if its size is not the annotated one."""
        record = self.annotations.image(index)
        image = read_image(record.path)
        if (image.height, image.width) != record.size_hw:
            raise ValueError(
                f"{record.path}: the image is {image.width}x{image.height}, its annotation says "
                f"{record.size_hw[1]}x{record.size_hw[0]}; boxes cannot be trusted: annotate this very file"
            )
        return Sample(image=image, objects=record.objects, index=index, image_id=record.image_id)

    def _draw(self, rng: np.random.Generator) -> Sample:
        return self.load(int(rng.integers(len(self))))


def to_item(sample: Sample) -> Item:
    """The item of a sample; pixels stay uint8, because float and normalisation are cheaper on the device."""
    return Item(
        pixels=image_to_tensor(sample.image),
        objects=sample.objects,
        index=sample.index,
        image_id=sample.image_id,
        to_original=sample.to_original,
        canvas_hw=sample.canvas_hw,
    )
