"""Soft suppression of a batch: take the best row, lower what overlaps it, repeat. One answer, two ways to it.

Picked scores never rise afterwards, so ending after the rows that are wanted is exact. CUDA: one Triton program an
image, no synchronisation. Anything else, and torch.export: plain torch, all images a step.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from torso.geometry.boxes import OverlapKind, aligned_overlap
from torso.suppression._batched import Rule
from torso.suppression._keep import has_kernel

DecayMethod = Literal["linear", "gaussian"]


class Decay(NamedTuple):
    """How an overlap lowers a score: times 1 - overlap where the rule holds (linear), exp(-overlap^2 / sigma)."""

    method: DecayMethod
    sigma: float
    min_score: float


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
    empty, rows = scores.shape[1], torch.arange(scores.shape[1] + 1, device=scores.device)
    boxes, scores = torch.cat([boxes, boxes.new_zeros(len(boxes), 1, 4)], 1), torch.nn.functional.pad(scores, (0, 1))
    labels = None if labels is None else torch.nn.functional.pad(labels, (0, 1), value=-1)
    order = torch.full((len(boxes), max_picks), empty, device=boxes.device)
    picked = scores.new_zeros(len(boxes), max_picks)
    for step in range(min(max_picks, empty)):
        best, row = scores.max(dim=1, keepdim=True)
        standing = (best >= decay.min_score) & (best > 0)
        if may_end_early and not standing.any():
            break
        order[:, step : step + 1] = row.where(standing, empty)
        picked[:, step : step + 1] = best.where(standing, 0.0)
        chosen = boxes.gather(1, row.unsqueeze(-1).expand(-1, -1, 4))
        lowered = scores * _weight(aligned_overlap(chosen, boxes, rule.overlap), rule, decay)
        if labels is not None:
            lowered = lowered.where(labels == labels.gather(1, row), scores)
        scores = lowered.where(rows != row, 0.0)
    return order, picked


def _weight(overlap: Tensor, rule: Rule, decay: Decay) -> Tensor:
    overlap = overlap.relu()  # giou and diou fall below 0 where boxes lie apart: nothing to lower there
    if decay.method == "gaussian":
        return (-(overlap**2) / decay.sigma).exp()
    hit = overlap >= rule.threshold if rule.inclusive else overlap > rule.threshold
    return (1 - overlap).where(hit, 1.0)


@torch.library.custom_op("torso::suppression_pick", mutates_args=(), device_types="cpu")
def _pick(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    overlap: str,
    threshold: float,
    inclusive: bool,
    method: str,
    sigma: float,
    min_score: float,
    max_picks: int,
) -> tuple[Tensor, Tensor]:
    rule = Rule(cast(OverlapKind, overlap), threshold, inclusive)
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
    method: str,
    sigma: float,
    min_score: float,
    max_picks: int,
) -> tuple[Tensor, Tensor]:
    from torso.suppression._triton_pick import MAX_ROWS, pick_triton

    rule = Rule(cast(OverlapKind, overlap), threshold, inclusive)
    decay = Decay(cast(DecayMethod, method), sigma, min_score)
    pick = pick_triton if 0 < scores.shape[1] <= MAX_ROWS else pick_portable
    picked: tuple[Tensor, Tensor] = pick(boxes, scores, labels, rule, decay, max_picks)
    return picked
