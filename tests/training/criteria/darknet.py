"""What darknet's layers are transcribed with: boxes by centre and size, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from torso.data.targets import Targets


class Box(NamedTuple):
    """Centre and size, px; a target's class, -1 of other boxes."""

    x: float
    y: float
    w: float
    h: float
    label: int = -1


def iou(a: Box, b: Box) -> float:
    width = min(a.x + a.w / 2, b.x + b.w / 2) - max(a.x - a.w / 2, b.x - b.w / 2)
    height = min(a.y + a.h / 2, b.y + b.h / 2) - max(a.y - a.h / 2, b.y - b.h / 2)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a.w * a.h + b.w * b.h - shared)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def targets_of(images: Sequence[Sequence[Box]]) -> Targets:
    """Of images with as many targets each; all valid, no crowds."""
    boxes = [[[t.x - t.w / 2, t.y - t.h / 2, t.x + t.w / 2, t.y + t.h / 2] for t in instances] for instances in images]
    labels = torch.tensor([[t.label for t in instances] for instances in images])
    valid = torch.ones(labels.shape, dtype=torch.bool)
    return Targets(torch.tensor(boxes), labels, valid, torch.zeros_like(valid))
