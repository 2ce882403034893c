"""Clusters of weighted box fusion (1910.13302): which row founded the cluster that each row joins.

The order of rows decides, so rows are taken one by one. CUDA: one Triton program an image. CPU: numpy. Anything else,
and torch.export: plain torch, all images at once.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from torso.geometry.overlaps import PairOverlap
from torso.kernels.fuse_cpu import cluster_cpu
from torso.kernels.keep import has_kernel
from torso.kernels.rule import Comparison, Rule
from torso.types import Candidates


def cluster_rows(ranked: Candidates, labels: Tensor | None, test: Comparison) -> Tensor:
    """[B, T] int64: the number of the row that founded each row's cluster, its own for founders, T for empty rows.

    ranked: best first. A row joins the cluster of its label whose fused box, the mean of its rows so far weighted by
    score, it overlaps most (of equal ones the first), if the comparison holds; else it founds one. No gradient.
    """
    if test.rule is None:
        return cluster_portable(ranked, labels, test)
    boxes, scores = ranked.boxes.detach().float().contiguous(), ranked.scores.detach().float().contiguous()
    if has_kernel(boxes.device.type):
        founders: Tensor = _cluster(boxes, scores, labels, *test.rule)
        return founders
    return cluster_portable(ranked, labels, test)


def cluster_portable(ranked: Candidates, labels: Tensor | None, test: Comparison) -> Tensor:
    """cluster_rows for every device, any overlap and for export."""
    batch, total = ranked.scores.shape
    numbers = torch.arange(total, device=ranked.scores.device)

    def unfinished(step: Tensor, sums: Tensor, weights: Tensor, founders: Tensor) -> Tensor:
        return step < total

    def join(step: Tensor, sums: Tensor, weights: Tensor, founders: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        at = step.reshape(1, 1).expand(batch, 1)
        row = ranked.map(lambda column: _row(column, at))
        fused = ranked.changed(boxes=sums / weights.clamp(min=_TINY).unsqueeze(-1), scores=weights)
        overlaps = test.overlap(fused, row)[..., 0]
        open_ = test.holds(overlaps) & (weights > 0)
        if labels is not None:
            open_ = open_ & (labels == labels.gather(1, at))
        best, home = overlaps.where(open_, -2.0).max(dim=1, keepdim=True)
        home = home.where(best > -2.0, at)
        here = numbers == home
        weights = torch.where(here, weights + row.scores, weights)
        sums = torch.where(here.unsqueeze(-1), sums + row.boxes * row.scores.unsqueeze(-1), sums)
        founders = torch.where(numbers == at, home.where(row.scores > 0, total), founders)
        return step + 1, sums, weights, founders

    state = (
        torch.zeros((), dtype=torch.int64, device=ranked.scores.device),
        torch.zeros_like(ranked.boxes),
        torch.zeros_like(ranked.scores),
        torch.full_like(ranked.index, total),
    )
    if torch.compiler.is_compiling():
        state = torch.while_loop(unfinished, join, state)  # type: ignore[no-untyped-call]
    else:
        for _ in range(total):
            state = join(*state)
    return state[3]


_TINY = torch.finfo(torch.float32).tiny


def _row(values: Tensor, at: Tensor) -> Tensor:
    return values.gather(1, at if values.dim() == 2 else at.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


@torch.library.custom_op("torso::suppression_cluster", mutates_args=(), device_types="cpu")
def _cluster(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, overlap: str, threshold: float, inclusive: bool, beta: float
) -> Tensor:
    return cluster_cpu(boxes, scores, labels, Rule(cast(PairOverlap, overlap), threshold, inclusive, beta))


@_cluster.register_fake
def _cluster_shape(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, overlap: str, threshold: float, inclusive: bool, beta: float
) -> Tensor:
    return torch.empty_like(scores, dtype=torch.int64)


@_cluster.register_kernel("cuda")
def _cluster_cuda(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, overlap: str, threshold: float, inclusive: bool, beta: float
) -> Tensor:
    from torso.kernels.fuse_triton import MAX_ROWS, cluster_triton

    rule = Rule(cast(PairOverlap, overlap), threshold, inclusive, beta)
    if 0 < scores.shape[1] <= MAX_ROWS:
        founders: Tensor = cluster_triton(boxes, scores, labels, rule)
        return founders
    # a row would be twenty small kernels here: the CPU is done sooner
    elsewhere: Tensor = _cluster(boxes.cpu(), scores.cpu(), None if labels is None else labels.cpu(), *rule)
    return elsewhere.to(boxes.device)
