"""Soft suppression on CUDA: one Triton program an image holds all its boxes and scores in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from torso.kernels.overlap_triton import on_device, overlap
from torso.kernels.rule import Decay, Rule

MAX_ROWS = 8192  # more would not fit the registers of one program


def pick_triton(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, rule: Rule, decay: Decay, max_picks: int
) -> tuple[Tensor, Tensor]:
    """The answer of pick_rows for CUDA tensors, float32 and contiguous, of 1 to MAX_ROWS rows."""
    batch, rows = scores.shape
    order = torch.full((batch, max_picks), rows, dtype=torch.int64, device=scores.device)
    picked = torch.zeros((batch, max_picks), dtype=torch.float32, device=scores.device)
    size = max(64, triton.next_power_of_2(rows))
    with on_device(boxes):
        _pick_image[(batch,)](
            boxes,
            scores,
            boxes if labels is None else labels.contiguous(),
            order,
            picked,
            rows,
            max_picks,
            rule.threshold,
            decay.sigma,
            decay.min_score,
            HAS_LABELS=labels is not None,
            INCLUSIVE=rule.inclusive,
            GAUSSIAN=decay.method == "gaussian",
            KIND=rule.overlap,
            BETA=rule.beta,
            SIZE=size,
            num_warps=max(2, min(16, size // 256)),
            enable_fp_fusion=False,
        )
    return order, picked


@triton.jit  # type: ignore[untyped-decorator]
def _pick_image(  # type: ignore[no-untyped-def]
    boxes_ptr,
    scores_ptr,
    labels_ptr,
    order_ptr,
    picked_ptr,
    total,
    max_picks,
    threshold,
    sigma,
    min_score,
    HAS_LABELS: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    GAUSSIAN: tl.constexpr,
    KIND: tl.constexpr,
    BETA: tl.constexpr,
    SIZE: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, SIZE)
    inside = rows < total
    box = boxes_ptr + (image * total + rows) * 4
    x1, y1 = tl.load(box, mask=inside, other=0.0), tl.load(box + 1, mask=inside, other=0.0)
    x2, y2 = tl.load(box + 2, mask=inside, other=0.0), tl.load(box + 3, mask=inside, other=0.0)
    scores = tl.load(scores_ptr + image * total + rows, mask=inside, other=0.0)
    if HAS_LABELS:
        labels = tl.load(labels_ptr + image * total + rows, mask=inside, other=-1)
    best = tl.max(scores, axis=0)
    step = tl.full((), 0, tl.int32)
    while (step < max_picks) & (best >= min_score) & (best > 0):
        row = tl.argmax(scores, axis=0)
        tl.store(order_ptr + image * max_picks + step, row.to(tl.int64))
        tl.store(picked_ptr + image * max_picks + step, best)
        chosen = boxes_ptr + (image * total + row) * 4
        a1, b1, a2, b2 = tl.load(chosen), tl.load(chosen + 1), tl.load(chosen + 2), tl.load(chosen + 3)
        measure = overlap(a1, b1, a2, b2, x1, y1, x2, y2, KIND, BETA)
        measure = tl.maximum(measure, 0.0)
        if GAUSSIAN:
            lowered = scores * tl.exp(tl.div_rn(-(measure * measure), sigma + tl.zeros_like(measure)))
        else:
            hit = measure >= threshold if INCLUSIVE else measure > threshold
            lowered = tl.where(hit, scores * (1.0 - measure), scores)
        if HAS_LABELS:
            lowered = tl.where(labels == tl.load(labels_ptr + image * total + row), lowered, scores)
        scores = tl.where(rows == row, 0.0, lowered)
        best = tl.max(scores, axis=0)
        step += 1
