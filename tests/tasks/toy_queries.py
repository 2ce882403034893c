"""DETR in miniature (Carion et al. 2020, arXiv 2005.12872): queries that look at one map, matched by the Hungarian
algorithm. A head and a criterion in the ordinary Detector; nothing of it has priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from torso.data.targets import Targets
from torso.heads._base import Head, choose_levels, emptied_scores
from torso.models.detector import Detector
from torso.training.criteria._base import Criterion, Terms, TermSum
from torso.types import Candidates, FeatureSpec, Images


class QueryPredictions(NamedTuple):
    """logits: [B, Q, K]; boxes: [B, Q, 4] cxcywh, shares of the canvas."""

    logits: Tensor
    boxes: Tensor


class QueryHead(Head):
    """Each query is one cross-attention over one level."""

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        num_classes: int = 3,
        finest: int = 16,
        queries: int = 6,
        channels: int = 16,
        score_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        (self.level,) = choose_levels(in_specs, finest, None, type(self).__name__)
        self.num_classes, self.score_threshold = num_classes, score_threshold
        self.queries = nn.Embedding(queries, channels)
        self.project = nn.Conv2d(in_specs[self.level].channels, channels, 1)
        self.attend = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.cls_out, self.box_out = nn.Linear(channels, num_classes), nn.Linear(channels, 4)

    def forward(self, features: list[Tensor], images: Images) -> QueryPredictions:
        seen = self.project(features[self.level]).flatten(2).transpose(1, 2)
        asked = self.queries.weight.to(seen.dtype)[None].expand(len(seen), -1, -1)
        found = asked + self.attend(asked, seen, seen, need_weights=False)[0]
        return QueryPredictions(self.cls_out(found), self.box_out(found).sigmoid())

    def decode(self, raw: QueryPredictions, images: Images) -> Candidates:
        scores, labels = raw.logits.float().sigmoid().max(-1)
        height, width = images.pixels.shape[-2:]
        boxes = xyxy(raw.boxes.float()) * torch.tensor([width, height, width, height], device=scores.device)
        limit = images.size_hw.flip(1).repeat(1, 2)[:, None]
        index = torch.arange(scores.shape[1], device=scores.device).expand_as(labels)
        clipped = torch.minimum(boxes.clamp(min=0), limit)
        return Candidates(clipped, emptied_scores(scores, self.score_threshold), labels, index)


class HungarianCriterion(Criterion):
    """One query an object, by class probability and L1; the loss is binary cross-entropy and L1, an object each."""

    can_compile: ClassVar[bool] = False  # the assignment is solved on the host

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        raw = model(images)
        counts = self.counts(model, images, targets, ())
        logits, boxes = at_least_single(raw.logits), at_least_single(raw.boxes)
        height, width = images.pixels.shape[-2:]
        truth = cxcywh(targets.boxes) / targets.boxes.new_tensor([width, height, width, height])
        pairs = [self._matched(*one) for one in zip(logits, boxes, truth, targets.labels, real(targets), strict=True)]
        image = torch.cat([torch.full_like(query, b) for b, (query, _) in enumerate(pairs)])
        query, row = (torch.cat(column) for column in zip(*pairs, strict=True))
        wanted = torch.zeros_like(logits)
        wanted[image, query, targets.labels[image, row]] = 1.0
        cls = binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        box = (boxes[image, query] - truth[image, row]).abs().sum()
        return {"cls": TermSum(cls, counts["cls"]), "box": TermSum(5 * box, counts["box"])}

    @property
    def counts_need_predictions(self) -> bool:
        return False

    def counts(self, model: Any, images: Images, targets: Targets, sizes_hw: Sequence[Any]) -> dict[str, Tensor]:
        return dict.fromkeys(("cls", "box"), real(targets).sum().to(targets.boxes.dtype))

    @torch.no_grad()
    def _matched(
        self, logits: Tensor, boxes: Tensor, truth: Tensor, labels: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        (there,) = rows.nonzero(as_tuple=True)
        cost = 5 * torch.cdist(boxes, truth[there], p=1) - logits.sigmoid()[:, labels[there]]
        query, row = (torch.as_tensor(x, device=logits.device) for x in linear_sum_assignment(cost.cpu().numpy()))
        return query, there[row]


def at_least_single(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def real(targets: Targets) -> Tensor:
    return targets.valid & ~targets.crowd


def cxcywh(boxes: Tensor) -> Tensor:
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def xyxy(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
