"""The criterion of heatmap heads: centres by focal loss, sizes and offsets at the centres (CenterNet, 1904.07850)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.priors._base import PriorGenerator
from torso.models.detector import Detector
from torso.parts import Part, PartError, part
from torso.training.assigners.gaussian import GaussianAssigner
from torso.training.criteria._base import Criterion, Terms, TermSum
from torso.training.losses._base import BoxLoss, HeatmapLoss, UncertainBoxLoss
from torso.training.losses.gaussian_focal import GaussianFocalLoss
from torso.training.losses.l1 import L1Loss
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.types import HeatmapPredictions, Images

Normaliser = Literal["objects", "peaks"]
_PLAIN = ({"criterion.box_loss": "l1"}, {"criterion.box_loss": "smooth_l1"})


class HeatmapCriterion(Criterion):
    """loss = heat + size + offset, each divided by the number of objects of the effective batch.

    Args:
        assigner, cls_loss: parts: what the heatmap should be, and how far it is from that.
        box_loss: on sizes and offsets, in cells, the mean of the two values of each: a loss on codes.
        size_weight, offset_weight: factors of the terms.
        normaliser: "objects", or "peaks": places and classes whose heatmap is 1, so that two objects of one class in
            one cell count once (mmdetection).
    """

    reads = HeatmapPredictions
    slots = MappingProxyType({"assigner": "assigner", "cls_loss": "cls_loss", "box_loss": "box_loss"})
    wants = MappingProxyType(
        {
            "assigner": "the bump about each object's centre that a heatmap should be, not priors that learn a target",
            "cls_loss": "a loss of heatmaps",
            "box_loss": "a loss of numbers",
        }
    )
    fixed = MappingProxyType({"sampler": "every location of a heatmap counts, those about an object with less weight"})

    def __init__(
        self,
        *,
        assigner: Part[GaussianAssigner] = part(GaussianAssigner),
        cls_loss: Part[HeatmapLoss] = part(GaussianFocalLoss),
        box_loss: Part[BoxLoss] = part(L1Loss),
        size_weight: float = 0.1,
        offset_weight: float = 1.0,
        normaliser: Normaliser = "objects",
    ) -> None:
        super().__init__()
        self.assigner, self.cls_loss, self.box_loss = assigner.build(), cls_loss.build(), box_loss.build()
        if self.box_loss.space != "codes":
            raise PartError(
                f"{type(self.box_loss).__name__} compares whole boxes, but this criterion teaches sizes and offsets "
                "apart, with weights of their own",
                remedies=_PLAIN,
            )
        if isinstance(self.box_loss, YOLOBoxLoss | UncertainBoxLoss):
            raise PartError(
                f"{type(self.box_loss).__name__} is a loss of a coder's codes or of their variances, but sizes and "
                "offsets are plain numbers",
                remedies=_PLAIN,
            )
        self.size_weight, self.offset_weight, self.normaliser = size_weight, offset_weight, normaliser

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        return self.terms(model(images), targets)

    counts_need_sizes: ClassVar[bool] = True

    @property
    def counts_need_predictions(self) -> bool:
        return False

    @torch.no_grad()
    def counts(
        self, model: Detector, images: Images, targets: Targets, sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        height, width = images.pixels.shape[-2:]
        priors = cast(PriorGenerator, model.head.priors)(sizes_hw, (height, width))
        count = self._count(self.assigner(priors, targets, model.head.num_classes).heatmap, targets)
        return {"heat": count, "size": count, "offset": count}

    def terms(self, raw: HeatmapPredictions, targets: Targets) -> Terms:
        """The terms "heat", "size" and "offset" of one prediction."""
        with torch.no_grad():
            heatmap, pairs = self.assigner(raw.priors, targets, raw.logits.shape[-1])
            boxes = targets.boxes.gather(1, pairs.target[..., None].expand(-1, -1, 4))
            stride = raw.priors.strides_xy[pairs.prior]
            size = (boxes[..., 2:] - boxes[..., :2]) / stride
            offset = ((boxes[..., :2] + boxes[..., 2:]) / 2 - raw.priors.centers_xy[pairs.prior]) / stride
            count = self._count(heatmap, targets)
        return {
            "heat": TermSum(self.cls_loss(raw.logits, heatmap).sum(), count),
            "size": TermSum(self.size_weight * self._at(pairs.prior, pairs.weight, raw.sizes, size), count),
            "offset": TermSum(self.offset_weight * self._at(pairs.prior, pairs.weight, raw.offsets, offset), count),
        }

    def _count(self, heatmap: Tensor, targets: Targets) -> Tensor:
        objects = (targets.valid & ~targets.crowd) if self.normaliser == "objects" else heatmap == 1
        return objects.sum().to(heatmap)

    def _at(self, places: Tensor, weight: Tensor, predicted: Tensor, wanted: Tensor) -> Tensor:
        """The loss of values [B, N, 2] at places [B, P] against [B, P, 2], summed."""
        here = predicted.gather(1, places[..., None].expand(-1, -1, 2))
        wanted = torch.where(weight[..., None] > 0, wanted, 0.0)  # padding may hold anything, NaN too
        loss = self.box_loss(here, wanted) / 2  # losses on codes sum the values; the published codes take their mean
        return (loss * weight).sum()
