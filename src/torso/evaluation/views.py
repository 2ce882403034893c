"""Runs a detector that looks at a picture more than once over a data set: tiles, scales, mirrored pictures."""

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
from torso.inference.views import Picture, take_apart
from torso.inputs._base import Input
from torso.models.detector import Detector


class _Views(Dataset[Picture]):
    """Row i: picture i taken apart by the policy."""

    def __init__(self, annotations: Annotations, policy: Input, multiple: int) -> None:
        self.pictures, self.policy, self.multiple = DetectionDataset(annotations, []), policy, multiple

    def __getitem__(self, index: int) -> Picture:
        image = self.pictures.load(index).image
        picture = take_apart(image, self.policy, self.multiple, self.pictures.annotations.path(index))
        return picture._replace(shown=tuple(picture.shown))


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
    """(row, detections) of these pictures, in order; batch_size views run together, whichever pictures they are of.

    tick: told (batches of pictures done, in all). The model is left as it is: a copy runs.
    """
    predictor = Predictor(copy.deepcopy(model), batch_size=batch_size, device=device, precision=precision)
    loader: DataLoader[Picture] = DataLoader(
        _Views(annotations, model.input, model.multiple),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # of its own: making an iterator must not advance torch's global one
    )
    batches = -(-len(indices) // batch_size)
    for done, (index, found) in enumerate(zip(indices, predictor.stream_pictures(loader), strict=True), start=1):
        yield index, found
        if tick is not None and (done % batch_size == 0 or done == len(indices)):
            tick(-(-done // batch_size), batches)


def _as_it_is(picture: Any) -> Any:
    return picture
