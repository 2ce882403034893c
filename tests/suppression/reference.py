"""Suppression as the papers print it: one image, a greedy loop, numpy. Slow, and independent of the code it tests."""

from __future__ import annotations

import math

import numpy as np
import torch

from torso.types import Candidates


def iou(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Two float32 boxes, each operation rounded to float32; 0 where a box has no extent."""
    zero = np.float32(0)
    width = max(min(a[2], b[2]) - max(a[0], b[0]), zero)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    intersection = width * height
    if intersection == 0:
        return zero
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def diou(a: np.ndarray, b: np.ndarray) -> np.float32:
    """IoU less the squared distance of the centres over the squared diagonal of the hull."""
    two = np.float32(2)
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / two, (a[1] + a[3] - b[1] - b[3]) / two
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return iou(a, b) - (dx * dx + dy * dy) / max(width * width + height * height, np.float32(1e-9))


def nms(boxes, scores, labels, *, threshold, per_class=True, inclusive=False, overlap=iou):
    """Kept rows, best first; equal scores in their old order."""
    left = sorted((i for i in range(len(scores)) if scores[i] > 0), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if not falls(boxes, labels, best, i, threshold, per_class, inclusive, overlap)]
    return kept


def falls(boxes, labels, best, other, threshold, per_class, inclusive, overlap):
    """Whether the picked row removes the other one."""
    if per_class and labels[best] != labels[other]:
        return False
    value, threshold = overlap(boxes[best], boxes[other]), np.float32(threshold)
    return value >= threshold if inclusive else value > threshold


def soft_nms(
    boxes, scores, labels, *, method, threshold=0.3, sigma=0.5, min_score=1e-3, per_class=True, inclusive=True, most=100
):
    """(row, score) in the order of picking; equal scores: the first row."""
    scores, picked = [np.float32(s) for s in scores], []
    left = [i for i in range(len(scores)) if scores[i] > 0]
    while left and len(picked) < most:
        best = max(left, key=lambda i: (scores[i], -i))
        if scores[best] < np.float32(min_score) or scores[best] <= 0:
            break
        picked.append((best, scores[best]))
        left.remove(best)
        for i in left:
            if per_class and labels[i] != labels[best]:
                continue
            value = iou(boxes[best], boxes[i])
            if method == "gaussian":
                scores[i] = np.float32(scores[i] * math.exp(-(float(value) ** 2) / sigma))
            elif falls(boxes, labels, best, i, threshold, per_class, inclusive, iou):
                scores[i] = scores[i] * (np.float32(1) - value)
    return picked


def random_candidates(seed: int, batch: int, rows: int, classes: int, *, size: float = 200.0) -> Candidates:
    """Crowded boxes with duplicates, tied scores, boxes without extent and empty rows in between."""
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, rows, 2, generator=rng) * size
    boxes = torch.cat([corner, corner + torch.rand(batch, rows, 2, generator=rng) * size / 2], -1)
    scores = torch.rand(batch, rows, generator=rng).mul(50).ceil().div(50)  # fifty values, so there are ties
    scores = scores.where(torch.rand(batch, rows, generator=rng) > 0.1, 0.0)
    if rows > 4:
        boxes[:, 3] = boxes[:, 1]
        boxes[:, rows // 2, 2:] = boxes[:, rows // 2, :2]
    labels = torch.randint(0, classes, (batch, rows), generator=rng)
    index = torch.arange(rows).expand(batch, rows) + 1000
    return Candidates(boxes, scores, labels, index, variance=torch.rand(batch, rows, 4, generator=rng))


def chain(links: int, *, step: float = 3.0) -> Candidates:
    """Boxes in a row, each overlapping the next by more than half (IoU 0.54) and the one after by less (0.25)."""
    x = torch.arange(links) * step
    boxes = torch.stack([x, torch.zeros(links), x + 10, torch.full((links,), 10.0)], -1).unsqueeze(0)
    scores = torch.linspace(0.99, 0.5, links).unsqueeze(0)
    rows = torch.arange(links).unsqueeze(0)
    return Candidates(boxes, scores, torch.zeros_like(rows), rows)
