"""PAA: two Gaussians over the losses of a target's candidates part positives from background (arXiv 2007.08103)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torso.bounds import Count, NotNegative, Positive, Probability
from torso.data.targets import Targets
from torso.geometry.boxes import aligned_overlap
from torso.training.assigners._base import CHUNK, Assigner, matchable, with_a_row
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assignment import BACKGROUND, Assignment
from torso.types import Priors


class PAAAssigner(Assigner):
    """A target's candidates are, of the priors that overlap it most and by at least `overlap`, the `candidates` of
    least loss on each level. Two Gaussians are fitted to these losses, and of the candidates that belong to the lower
    one those up to its most probable are positive, the rest is background. quality is the IoU of the predicted box.

    Args:
        overlap: below it a prior is background from the start; each target's best priors are candidates anyway.
        candidates: a level.
        alpha, gamma, box_weight: of the loss that is compared, focal + box_weight * (1 - GIoU).
        iterations: most steps of expectation and maximisation; each target stops by itself where the mean log
            likelihood rises by less than 0.001. All targets are fitted at once, so this is what the graph is unrolled
        to. point_scale: side, in strides, of the box that stands for a point (heads without anchors).
    """

    needs_predictions = True
    gives_quality = True
    needs_grid = True
    fused_scores = False

    def __init__(
        self,
        *,
        overlap: Probability = 0.1,
        candidates: Count = 9,
        alpha: Probability = 0.25,
        gamma: NotNegative = 2.0,
        box_weight: NotNegative = 1.3,
        iterations: Count = 30,
        point_scale: Positive = 8.0,
    ) -> None:
        self.first = MaxIoUAssigner(
            positive=overlap, negative=overlap, rescue=True, rescue_learns="rescued", point_scale=point_scale
        )
        self.candidates, self.iterations = candidates, iterations
        self.alpha, self.gamma, self.box_weight = alpha, gamma, box_weight

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        if boxes is None or scores is None:
            raise ValueError("PAA needs predictions; pass boxes [B, N, 4] and scores [B, N, K]")
        targets = with_a_row(targets)
        target = self.first(priors, targets).target
        matched = targets.boxes.gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 4))
        matched = torch.where(target[..., None] >= 0, matched, boxes)
        loss = self._loss(targets, target, matched, boxes, scores)
        rows, values = self._lowest(priors, target, loss, targets)  # [B, M, c], ascending, inf where there is none
        chosen = _lower_component(values, self.iterations) & matchable(targets)[..., None]
        kept = torch.zeros_like(target).scatter_reduce(1, rows.flatten(1), chosen.long().flatten(1), "amax") > 0
        fit = aligned_overlap(boxes, matched, "iou")
        return Assignment(torch.where(kept, target, BACKGROUND), torch.where(kept, fit, 0.0))

    def _loss(self, targets: Targets, target: Tensor, matched: Tensor, boxes: Tensor, scores: Tensor) -> Tensor:
        """[B, N]: what each prior would cost as a positive of its target."""
        p = scores.float()
        tiny = torch.finfo(p.dtype).tiny
        absent = -(1 - self.alpha) * p**self.gamma * (1 - p).clamp(min=tiny).log()
        labels = targets.labels.gather(1, target.clamp(min=0)).clamp(max=p.shape[-1] - 1)[..., None]
        own = p.gather(2, labels)[..., 0]
        present = -self.alpha * (1 - own) ** self.gamma * own.clamp(min=tiny).log()
        focal = absent.sum(-1) - absent.gather(2, labels)[..., 0] + present
        return focal + self.box_weight * (1 - aligned_overlap(boxes, matched, "giou"))

    def _lowest(self, priors: Priors, target: Tensor, loss: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Rows and losses [B, M, c] of each target's candidates, `candidates` a level, the lowest first."""
        rows, values = [], []
        for start in range(0, targets.boxes.shape[1], CHUNK):
            own = torch.arange(start, min(start + CHUNK, targets.boxes.shape[1]), device=target.device)
            of_level, first = [], 0
            for size in priors.level_sizes:
                part = slice(first, first + size)
                cost = torch.where(target[:, part, None] == own, loss[:, part, None], torch.inf)  # [B, n, m]
                best = cost.topk(min(self.candidates, size), dim=1, largest=False)
                of_level.append((best.values.mT, best.indices.mT + first))
                first += size
            cost, row = (torch.cat(x, dim=2) for x in zip(*of_level, strict=True))
            order = cost.sort(dim=2)
            values.append(order.values)
            rows.append(row.gather(2, order.indices))
        return torch.cat(rows, dim=1), torch.cat(values, dim=1)


def _lower_component(values: Tensor, iterations: int) -> Tensor:
    """[..., c] bool: of ascending values (inf where there is none) those of the lower of two Gaussians, up to the value
    that the mixture finds most probable. None where there are fewer than two values.

    Starts from the least and the highest value, unit variances and equal weights.
    """
    there = values.isfinite()
    x = torch.where(there, values, 0.0).double()  # the variances of equal losses are near 0
    count = there.sum(-1, keepdim=True).clamp(min=1)
    low = x[..., :1]
    high = torch.where(there, x, -torch.inf).amax(-1, keepdim=True).clamp(min=-1e30)
    mean = torch.cat([low, high], dim=-1)  # [..., 2]
    variance, weight = torch.ones_like(mean), torch.full_like(mean, 0.5)
    done = torch.zeros_like(count, dtype=torch.bool)
    before = torch.full_like(low, -torch.inf)
    for _ in range(iterations):
        joint = _log_joint(x, mean, variance, weight)  # [..., c, 2]
        density = joint.logsumexp(-1)
        now = torch.where(there, density, 0.0).sum(-1, keepdim=True) / count
        share = torch.where(there[..., None], (joint - density[..., None]).exp(), 0.0)
        mass = share.sum(-2) + 10 * torch.finfo(x.dtype).eps
        new_mean = (share * x[..., None]).sum(-2) / mass
        new_variance = (share * (x[..., None] - new_mean[..., None, :]).square()).sum(-2) / mass + 1e-6
        mean, variance = torch.where(done, mean, new_mean), torch.where(done, variance, new_variance)
        weight = torch.where(done, weight, mass / mass.sum(-1, keepdim=True))
        done = done | ((now - before).abs() < 1e-3)
        before = now
    joint = _log_joint(x, mean, variance, weight)
    lower = there & (joint[..., 0] >= joint[..., 1])
    density = torch.where(lower, joint.logsumexp(-1), -torch.inf)
    # places are counted among the lower component's alone
    rank = lower.cumsum(-1)
    last = rank.gather(-1, density.argmax(-1, keepdim=True))
    return lower & (rank <= last) & (there.sum(-1, keepdim=True) >= 2)


def _log_joint(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
    """[..., c, 2]: log of weight times density of each value under each component."""
    squared = (x[..., None] - mean[..., None, :]).square() / variance[..., None, :]
    constant = weight.log() - 0.5 * (variance.log() + math.log(2 * math.pi))
    return constant[..., None, :] - 0.5 * squared
