"""From a proposer's raw output to a fixed number of boxes an image, and those boxes as priors of the next stage."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.geometry.boxes import clip_boxes
from torso.geometry.priors._base import gather_priors
from torso.heads.dense import DenseHead
from torso.kernels.keep import batched_keep, first_rows
from torso.types import Candidates, DensePredictions, Images, Priors


def best_proposals(
    raw: DensePredictions,
    proposer: DenseHead,
    images: Images,
    *,
    top: int,
    keep: int,
    iou_threshold: float,
    min_size: float,
) -> Candidates:
    """At most `keep` boxes an image, best first, [B, min(keep, rows), ...]; without gradient, all of label 0.

    Of each level the `top` best rows are decoded, clipped, dropped where a side is min_size (px) or less, and
    suppressed among themselves; then levels compete by score. index is the row of `raw`.
    """
    quality = None if raw.quality is None else raw.quality.detach()
    raw = raw._replace(logits=raw.logits.detach(), codes=raw.codes.detach(), quality=quality)
    rows, levels = _best_rows(_log_score(raw, proposer), raw.priors.level_sizes, top)
    wide = rows[..., None]
    codes = raw.codes.gather(1, wide.expand(-1, -1, raw.codes.shape[-1]))
    logits = raw.logits.gather(1, wide.expand(-1, -1, raw.logits.shape[-1]))
    quality = None if quality is None else quality.gather(1, rows)
    scores = proposer.class_scores(logits, quality)[..., 0]
    boxes = clip_boxes(proposer.coder.decode(codes, gather_priors(raw.priors, rows)), images.size_hw)
    sound = boxes.isfinite().all(-1) & ((boxes[..., 2:] - boxes[..., :2]) > min_size).all(-1)
    sound = sound & (scores > 0)
    boxes, scores = torch.where(sound[..., None], boxes, 0), torch.where(sound, scores, 0)
    kept = batched_keep(boxes, sound, levels, iou_threshold=iou_threshold, max_keep=keep)
    ranked = Candidates(boxes, scores, torch.zeros_like(rows), rows)
    return ranked.take(first_rows(kept, min(keep, rows.shape[1])))


def roi_priors(boxes: Tensor) -> Priors:
    """Boxes [B, R, 4] as priors of a second stage: one level, every row its own, the stride its own size."""
    centers, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    return Priors(centers, sizes, sizes, ((boxes.shape[-2], 1, 1),))


def _log_score(raw: DensePredictions, proposer: DenseHead) -> Tensor:
    """[B, N]: rises with the score and, unlike it, never saturates, so that the best rows are still in order."""
    odds = raw.logits[..., 0] - raw.logits[..., 1] if proposer.softmax else raw.logits[..., 0]
    odds = odds if odds.dtype == torch.float64 else odds.float()
    return odds if raw.quality is None else F.logsigmoid(odds) + F.logsigmoid(raw.quality.to(odds.dtype))


def _best_rows(order: Tensor, level_sizes: list[int], top: int) -> tuple[Tensor, Tensor]:
    """The `top` best rows of each level, all levels best first, and the level of each: [B, T] int64 both."""
    values, rows, levels, start = [], [], [], 0
    for i, size in enumerate(level_sizes):
        best = order[:, start : start + size].topk(min(top, size))
        values.append(best.values)
        rows.append(best.indices + start)
        levels.append(torch.full_like(best.indices, i))
        start += size
    rank = torch.cat(values, dim=1).argsort(dim=1, descending=True, stable=True)
    return torch.cat(rows, dim=1).gather(1, rank), torch.cat(levels, dim=1).gather(1, rank)


class SecondStage(NamedTuple):
    """logits [B, R, K + 1], background last; codes [B, R, K * 4 or 4]; log_variance like the codes, or None."""

    logits: Tensor
    codes: Tensor
    log_variance: Tensor | None = None
