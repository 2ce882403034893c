"""Clusters of weighted box fusion on CUDA: one Triton program an image holds all its clusters in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from torso.kernels.overlap_triton import on_device, overlap
from torso.kernels.rule import Rule

MAX_ROWS = 8192  # more would not fit the registers of one program


def cluster_triton(boxes: Tensor, scores: Tensor, labels: Tensor | None, rule: Rule) -> Tensor:
    """The answer of cluster_rows for CUDA tensors, float32 and contiguous, of 1 to MAX_ROWS rows."""
    batch, rows = scores.shape
    founders = torch.full((batch, rows), rows, dtype=torch.int64, device=scores.device)
    size = max(64, triton.next_power_of_2(rows))
    with on_device(boxes):
        _cluster_image[(batch,)](
            boxes,
            scores,
            boxes if labels is None else labels.contiguous(),
            founders,
            rows,
            rule.threshold,
            HAS_LABELS=labels is not None,
            INCLUSIVE=rule.inclusive,
            KIND=rule.overlap,
            BETA=rule.beta,
            SIZE=size,
            num_warps=max(2, min(16, size // 256)),
            enable_fp_fusion=False,
        )
    return founders


@triton.jit  # type: ignore[untyped-decorator]
def _cluster_image(  # type: ignore[no-untyped-def]
    boxes_ptr,
    scores_ptr,
    labels_ptr,
    founders_ptr,
    total,
    threshold,
    HAS_LABELS: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    KIND: tl.constexpr,
    BETA: tl.constexpr,
    SIZE: tl.constexpr,
):
    """A cluster lives in the lane of the row that founded it: its sums of score times side, and of scores."""
    image = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, SIZE)
    x1, y1 = tl.zeros((SIZE,), tl.float32), tl.zeros((SIZE,), tl.float32)
    x2, y2 = tl.zeros((SIZE,), tl.float32), tl.zeros((SIZE,), tl.float32)
    weights = tl.zeros((SIZE,), tl.float32)
    if HAS_LABELS:
        labels = tl.load(labels_ptr + image * total + rows, mask=rows < total, other=-1)
    step = tl.full((), 0, tl.int32)
    score = tl.load(scores_ptr + image * total)
    while (step < total) & (score > 0):  # best first: after the first empty row come only empty ones
        box = boxes_ptr + (image * total + step) * 4
        a1, b1, a2, b2 = tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)
        mass = tl.maximum(weights, 1.1754943508222875e-38)
        left, top = tl.div_rn(x1, mass), tl.div_rn(y1, mass)
        right, bottom = tl.div_rn(x2, mass), tl.div_rn(y2, mass)
        one = tl.zeros((SIZE,), tl.float32)
        measure = overlap(left, top, right, bottom, a1 + one, b1 + one, a2 + one, b2 + one, KIND, BETA)
        joins = measure >= threshold if INCLUSIVE else measure > threshold
        joins = joins & (weights > 0)
        if HAS_LABELS:
            joins = joins & (labels == tl.load(labels_ptr + image * total + step))
        measure = tl.where(joins, measure, -2.0)
        home = tl.where(tl.max(measure, axis=0) > -2.0, tl.argmax(measure, axis=0), step)
        here = rows == home
        x1, y1 = tl.where(here, x1 + a1 * score, x1), tl.where(here, y1 + b1 * score, y1)
        x2, y2 = tl.where(here, x2 + a2 * score, x2), tl.where(here, y2 + b2 * score, y2)
        weights = tl.where(here, weights + score, weights)
        tl.store(founders_ptr + image * total + step, home.to(tl.int64))
        step += 1
        score = tl.load(scores_ptr + image * total + step, mask=step < total, other=0.0)
