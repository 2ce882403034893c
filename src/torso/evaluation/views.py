"""Runs a detector that pending at an image more than once over a data set: tiles, scales, mirrored images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from torso.data.annotations import Annotations
from torso.data.dataset import DetectionDataset
from torso.inference.detections import Detections
from torso.inference.predictor import Predictor
from torso.inference.runtime import Precision
from torso.inference.views import SplitImage, split_image
from torso.inputs._base import Input
from torso.models.detector import Detector


class _Views(Dataset[SplitImage]):
    """Row i: image i taken apart by the policy."""

    def __init__(self, annotations: Annotations, policy: Input, multiple: int) -> None:
        self.dataset, self.policy, self.multiple = DetectionDataset(annotations, []), policy, multiple

    def __getitem__(self, index: int) -> SplitImage:
        image = self.dataset.load(index).image
        split = split_image(image, self.policy, self.multiple, self.dataset.annotations.path(index))
        return split._replace(shown=tuple(split.shown))


def detect_views(
    model: Detector,
    annotations: Annotations,
    indices: range,
    *,
    batch_size: int,
    workers: int,
    device: torch.device | str | None,
    precision: Precision,
    tick: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, Detections]]:
    """(row, detections) of these images, in order; batch_size views run together, whichever images they are of.

    tick: told (batches of images done, in all). The model is left as it is: a copy runs.
    """
    predictor = Predictor(copy.deepcopy(model), batch_size=batch_size, device=device, precision=precision)
    loader: DataLoader[SplitImage] = DataLoader(
        _Views(annotations, model.input, model.multiple),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # of its own: making an iterator must not advance torch's global one
    )
    batches = -(-len(indices) // batch_size)
    for done, (index, found) in enumerate(zip(indices, predictor.stream_split(loader), strict=True), start=1):
        yield index, found
        if tick is not None and (done % batch_size == 0 or done == len(indices)):
            tick(-(-done // batch_size), batches)


def _as_it_is(image: Any) -> Any:
    return image
