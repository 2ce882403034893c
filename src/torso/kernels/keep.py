"""Greedy suppression of a batch: which rows of sorted boxes survive. One answer, three ways to it.

CPU: blocks of rows against what is kept so far, ended once enough is kept. CUDA: two Triton kernels, no
synchronisation. Anything else, and torch.export: the same rule as a fixed point in plain torch.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor

from torso.geometry.boxes import overlap_matrix
from torso.geometry.overlaps import PairOverlap, check_overlap
from torso.kernels.keep_cpu import keep_cpu
from torso.kernels.rule import Comparison, Rule, check_count
from torso.layers.compiling import is_exporting
from torso.types import Candidates

_TRITON = find_spec("triton") is not None


def batched_keep(
    boxes: Tensor,
    valid: Tensor,
    labels: Tensor | None = None,
    *,
    iou_threshold: float,
    inclusive: bool = False,
    max_keep: int | None = None,
    overlap: PairOverlap = "iou",
) -> Tensor:
    """Which rows greedy suppression keeps, at most max_keep an image: [B, T] bool.

    boxes: [B, T, 4] xyxy px, finite, best first; valid: [B, T] bool, other rows neither are kept nor suppress;
    labels: [B, T] integers or None, a row suppresses only rows of its own label (class, or feature level);
    a row falls when a kept row before it overlaps it by more than iou_threshold (inclusive: by as much or more).
    No gradient. Raises ValueError for an unknown overlap, a threshold outside its range, max_keep under 1.
    """
    check_overlap(overlap, iou_threshold)
    check_count("max_keep", max_keep)
    limit = boxes.shape[1] if max_keep is None else max_keep
    return _keep_boxes(boxes, valid, labels, Rule(overlap, iou_threshold, inclusive), limit)


def keep_rows(ranked: Candidates, labels: Tensor | None, test: Comparison, max_keep: int | None) -> Tensor:
    """batched_keep of candidates that are best first, by any overlap; rows of score 0 are empty. [B, T] bool."""
    limit = ranked.scores.shape[1] if max_keep is None else max_keep
    if test.rule is not None:
        return _keep_boxes(ranked.boxes, ranked.scores > 0, labels, test.rule, limit)
    return keep_greedily(test.holds(test.overlap(ranked, ranked)), ranked.scores > 0, labels, limit)


def first_rows(keep: Tensor, count: int) -> Tensor:
    """Numbers of the first `count` kept rows of each image: [B, T] bool to [B, count] int64, T where none is left."""
    batch, rows = keep.shape
    place = keep.long().cumsum(dim=1) - 1
    place = place.where(keep & (place < count), count)  # all others meet in one column more, cut off below
    numbers = torch.arange(rows, device=keep.device).expand(batch, rows)
    order = torch.full((batch, count + 1), rows, dtype=torch.int64, device=keep.device)
    return order.scatter(1, place, numbers)[:, :count]


def _keep_boxes(boxes: Tensor, valid: Tensor, labels: Tensor | None, rule: Rule, max_keep: int) -> Tensor:
    boxes = boxes.detach().float()
    if has_kernel(boxes.device.type):
        keep: Tensor = _keep(boxes, valid, labels, *rule, max_keep)
        return keep
    return keep_portable(boxes, valid, labels, rule, max_keep)


def keep_portable(boxes: Tensor, valid: Tensor, labels: Tensor | None, rule: Rule, max_keep: int) -> Tensor:
    """batched_keep for every device and for export, over a [B, T, T] matrix: keep T to a few thousand."""
    overlaps = overlap_matrix(boxes, boxes, rule.overlap, beta=rule.beta)
    return keep_greedily(
        overlaps >= rule.threshold if rule.inclusive else overlaps > rule.threshold, valid, labels, max_keep
    )


def keep_greedily(suppresses: Tensor, valid: Tensor, labels: Tensor | None, max_keep: int) -> Tensor:
    """The greedy answer from which row suppresses which, [B, T, T] bool (what suppresses a row before it is left out).

    Iterates keep = valid and not suppressed by a kept row. Each round decides at least the next link of every chain
    of overlapping boxes, so it ends after as many rounds as the longest chain, and its end is the greedy answer.
    """
    suppresses = suppresses.triu(diagonal=1)
    if labels is not None:
        suppresses = suppresses & (labels.unsqueeze(2) == labels.unsqueeze(1))

    def undecided(keep: Tensor, decided: Tensor) -> Tensor:
        return ~decided

    def refine(keep: Tensor, decided: Tensor) -> tuple[Tensor, Tensor]:
        refined = valid & ~(suppresses & keep.unsqueeze(2)).any(dim=1)
        return refined, (refined == keep).all()

    state = (valid.clone(), ~valid.any())
    if torch.compiler.is_compiling():
        state = torch.while_loop(undecided, refine, state)  # type: ignore[no-untyped-call]
    else:
        while undecided(*state):
            state = refine(*state)
    keep = state[0]
    return keep & (keep.long().cumsum(dim=1) <= max_keep)


def has_kernel(device: str) -> bool:
    """Whether a device has its own implementation; an exported program must run anywhere, so it has none."""
    return not is_exporting() and (device in ("cpu", "meta") or (device == "cuda" and _TRITON))


@torch.library.custom_op("torso::suppression_keep", mutates_args=(), device_types="cpu")
def _keep(
    boxes: Tensor,
    valid: Tensor,
    labels: Tensor | None,
    overlap: str,
    threshold: float,
    inclusive: bool,
    beta: float,
    max_keep: int,
) -> Tensor:
    return keep_cpu(boxes, valid, labels, Rule(cast(PairOverlap, overlap), threshold, inclusive, beta), max_keep)


@_keep.register_fake
def _keep_shape(
    boxes: Tensor,
    valid: Tensor,
    labels: Tensor | None,
    overlap: str,
    threshold: float,
    inclusive: bool,
    beta: float,
    max_keep: int,
) -> Tensor:
    return torch.empty_like(valid)


@_keep.register_kernel("cuda")
def _keep_cuda(
    boxes: Tensor,
    valid: Tensor,
    labels: Tensor | None,
    overlap: str,
    threshold: float,
    inclusive: bool,
    beta: float,
    max_keep: int,
) -> Tensor:
    from torso.kernels.keep_triton import keep_triton  # Triton is neither needed nor always there without CUDA

    return keep_triton(boxes, valid, labels, Rule(cast(PairOverlap, overlap), threshold, inclusive, beta), max_keep)
