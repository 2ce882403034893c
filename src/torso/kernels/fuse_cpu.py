"""Clusters of weighted box fusion on the CPU: image by image in numpy, each row against the clusters so far."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from torso.geometry.boxes import overlap_matrix
from torso.kernels.keep_cpu import Floats, Ints, iou_in_place
from torso.kernels.rule import Rule

_NONE = np.float32(-2)  # below every overlap


def cluster_cpu(boxes: Tensor, scores: Tensor, labels: Tensor | None, rule: Rule) -> Tensor:
    """The answer of cluster_rows for tensors on the CPU, float32."""
    founders = np.full(tuple(scores.shape), scores.shape[1], dtype=np.int64)
    for image in range(len(founders)):
        rows = np.flatnonzero(scores[image].numpy() > 0)
        kinds = np.zeros(len(rows), np.int64) if labels is None else labels[image].numpy()[rows]
        homes = _clusters(boxes[image].numpy()[rows], scores[image].numpy()[rows], kinds, rule)
        founders[image, rows] = rows[homes]
    return torch.from_numpy(founders)


def _clusters(boxes: Floats, scores: Floats, kinds: Ints, rule: Rule) -> Ints:
    """The position of each row's founder; a cluster is a column of sums and fused sides, in order of founding."""
    total, count = len(scores), 0
    sums, mass = np.zeros((4, total), np.float32), np.zeros(total, np.float32)
    sides, areas = np.zeros((4, total), np.float32), np.zeros(total, np.float32)
    scratch = np.empty((3, total), np.float32)
    founder, homes = np.zeros(total, np.int64), np.zeros(total, np.int64)
    own = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(0)).prod(axis=1)
    threshold = np.float32(rule.threshold)
    for row in range(total):
        if rule.overlap == "iou":
            box = boxes[row, :, None]
            measure = iou_in_place(sides[:, :count], areas[:count], box, own[row : row + 1], scratch)[:, 0]
        else:
            fused, other = torch.from_numpy(sides[:, :count].T), torch.from_numpy(boxes[row : row + 1])
            measure = overlap_matrix(fused, other, rule.overlap, beta=rule.beta)[:, 0].numpy()
        joins = measure >= threshold if rule.inclusive else measure > threshold
        measure = np.where(joins & (kinds[founder[:count]] == kinds[row]), measure, _NONE)
        at = int(measure.argmax()) if count and measure.max() > _NONE else count
        if at == count:
            founder[at], count = row, count + 1
        sums[:, at] += boxes[row] * scores[row]
        mass[at] += scores[row]
        sides[:, at] = sums[:, at] / mass[at]
        width, height = np.maximum(sides[2:, at] - sides[:2, at], np.float32(0))
        areas[at] = width * height
        homes[row] = founder[at]
    return homes
