"""Soft suppression of a batch: take the best row, lower what overlaps it, repeat. One answer, two ways to it.

Picked scores never rise afterwards, so ending after the rows that are wanted is exact. CUDA: one Triton program an
image, no synchronisation. Anything else, and torch.export: plain torch, all images a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from torso.geometry.boxes import aligned_overlap
from torso.geometry.overlaps import PairOverlap
from torso.kernels.keep import has_kernel
from torso.kernels.rule import Decay, DecayMethod, Rule


def pick_rows(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, *, rule: Rule, decay: Decay, max_picks: int
) -> tuple[Tensor, Tensor]:
    """Rows in the order of their picking and the scores they then had: [B, max_picks] int64 and float32.

    boxes: [B, T, 4] xyxy px, finite; scores: [B, T], any order, 0 for rows that do not count; labels: [B, T] integers
    or None, a pick lowers only rows of its own label. Rows below decay.min_score are never picked, of equal scores the
    first is. Where nothing is left the row is T and the score 0. No gradient.
    """
    boxes, scores = boxes.detach().float().contiguous(), scores.detach().float().contiguous()
    if has_kernel(boxes.device.type):
        picked: tuple[Tensor, Tensor] = _pick(boxes, scores, labels, *rule, *decay, max_picks)
        return picked
    return pick_portable(boxes, scores, labels, rule, decay, max_picks)


def pick_portable(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    rule: Rule,
    decay: Decay,
    max_picks: int,
    *,
    may_end_early: bool = False,
) -> tuple[Tensor, Tensor]:
    """pick_rows for every device and for export; to end early the host must look at the scores."""
    padded = torch.cat([boxes, boxes.new_zeros(boxes.shape[0], 1, 4)], 1)

    def measure(row: Tensor) -> Tensor:
        chosen = padded.gather(1, row.unsqueeze(-1).expand(-1, -1, 4))
        return aligned_overlap(chosen, boxes, rule.overlap, beta=rule.beta)

    def holds(overlap: Tensor) -> Tensor:
        return overlap >= rule.threshold if rule.inclusive else overlap > rule.threshold

    return pick_by(measure, scores, labels, holds, decay, max_picks, may_end_early=may_end_early)


def pick_by(
    measure: Callable[[Tensor], Tensor],
    scores: Tensor,
    labels: Tensor | None,
    holds: Callable[[Tensor], Tensor],
    decay: Decay,
    max_picks: int,
    *,
    may_end_early: bool = False,
) -> tuple[Tensor, Tensor]:
    """measure: the overlap of one row an image, its number [B, 1], with all, [B, T]."""
    empty, rows = scores.shape[1], torch.arange(scores.shape[1] + 1, device=scores.device)
    scores = torch.nn.functional.pad(scores, (0, 1))
    labels = None if labels is None else torch.nn.functional.pad(labels, (0, 1), value=-1)
    order = torch.full((scores.shape[0], max_picks), empty, device=scores.device)
    picked = scores.new_zeros(scores.shape[0], max_picks)
    for step in range(min(max_picks, empty)):
        best, row = scores.max(dim=1, keepdim=True)
        standing = (best >= decay.min_score) & (best > 0)
        if may_end_early and not standing.any():
            break
        order[:, step : step + 1] = row.where(standing, empty)
        picked[:, step : step + 1] = best.where(standing, 0.0)
        overlap = torch.nn.functional.pad(measure(row), (0, 1))
        lowered = scores * _weight(overlap, holds, decay)
        if labels is not None:
            lowered = lowered.where(labels == labels.gather(1, row), scores)
        scores = lowered.where(rows != row, 0.0)
    return order, picked


def _weight(overlap: Tensor, holds: Callable[[Tensor], Tensor], decay: Decay) -> Tensor:
    overlap = overlap.relu()  # giou and diou fall below 0 where boxes lie apart: nothing to lower there
    if decay.method == "gaussian":
        return (-(overlap**2) / decay.sigma).exp()
    return (1 - overlap).where(holds(overlap), 1.0)


@torch.library.custom_op("torso::suppression_pick", mutates_args=(), device_types="cpu")
def _pick(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    overlap: str,
    threshold: float,
    inclusive: bool,
    beta: float,
    method: str,
    sigma: float,
    min_score: float,
    max_picks: int,
) -> tuple[Tensor, Tensor]:
    rule = Rule(cast(PairOverlap, overlap), threshold, inclusive, beta)
    decay = Decay(cast(DecayMethod, method), sigma, min_score)
    return pick_portable(boxes, scores, labels, rule, decay, max_picks, may_end_early=True)


@_pick.register_fake
def _pick_shape(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    overlap: str,
    threshold: float,
    inclusive: bool,
    beta: float,
    method: str,
    sigma: float,
    min_score: float,
    max_picks: int,
) -> tuple[Tensor, Tensor]:
    shape = (scores.shape[0], max_picks)
    return scores.new_empty(shape, dtype=torch.int64), scores.new_empty(shape)


@_pick.register_kernel("cuda")
def _pick_cuda(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    overlap: str,
    threshold: float,
    inclusive: bool,
    beta: float,
    method: str,
    sigma: float,
    min_score: float,
    max_picks: int,
) -> tuple[Tensor, Tensor]:
    from torso.kernels.pick_triton import MAX_ROWS, pick_triton

    rule = Rule(cast(PairOverlap, overlap), threshold, inclusive, beta)
    decay = Decay(cast(DecayMethod, method), sigma, min_score)
    pick = pick_triton if 0 < scores.shape[1] <= MAX_ROWS else pick_portable
    picked: tuple[Tensor, Tensor] = pick(boxes, scores, labels, rule, decay, max_picks)
    return picked
