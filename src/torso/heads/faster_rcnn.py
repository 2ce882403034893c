"""Faster R-CNN on a pyramid: proposals, then a class and a finer box for each (arXiv 1506.01497, FPN 1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.bounds import AtLeastOne, BelowOne, Count, NotNegative, Probability, Whole
from torso.geometry.boxes import clip_boxes
from torso.geometry.coders._base import Coder
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors._base import gather_priors
from torso.heads._base import ClassRows, Head, choose_levels, emptied_scores
from torso.heads._roi_proposals import SecondStage, best_proposals, roi_priors
from torso.heads.dense import DenseHead
from torso.heads.rpn import RPNHead
from torso.kernels.roi import multi_level_roi_align, roi_levels
from torso.parts import Part, part
from torso.types import Candidates, DensePredictions, FeatureSpec, Images, RawPredictions, RoIPredictions


class FasterRCNNHead(Head):
    """A dense head proposes boxes of "object"; each is pooled from the level of its size and evaluated by two layers.

    Args:
        finest, coarsest: strides of the levels that boxes are pooled from; they must have one width.
        proposer: any dense head. It has one class, and starts at `finest` unless it says otherwise; its score threshold
            plays no part, the best are taken.
        proposal_top, proposals: rows a level that enter suppression, boxes an image that leave it, at inference;
            training says its own. proposal_iou: of that suppression, within levels.
        proposal_min_size: proposals with a side of so many pixels or less are dropped.
        roi_size, sampling, aligned: see layers.roi. Four points a bin are enough (Mask R-CNN, arXiv 1703.06870, section
            3) and cost the same for every box; sampling=0 takes as many as a bin has cells (mmdetection, detectron2).
            aligned=False is torchvision's.
        canonical_side, canonical_stride: a box of that side is pooled from the level of that stride.
        channels: of the two fully connected layers.
        class_agnostic: one box a proposal in place of one a class.
        coder: of the second stage.
        uncertainty: a layer that predicts log variances of the second stage's codes (KL loss, softer NMS).
        score_threshold, pre_nms_top: a (box, class) pair scores above the first; at most so many an image go on.
        min_size: detections with a side of so many pixels or less are dropped.

    Training samples proposals between the two stages, so the stages are public: propose, classify.
    """

    predicts = RoIPredictions

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        num_classes: Count,
        finest: int = 4,
        coarsest: int = 32,
        proposer: Part[DenseHead] = part(RPNHead),
        proposal_top: Count = 1000,
        proposals: Count = 1000,
        proposal_iou: Probability = 0.7,
        proposal_min_size: NotNegative = 0.0,
        roi_size: Count = 7,
        sampling: Whole = 2,
        aligned: bool = True,
        canonical_side: AtLeastOne = 224.0,
        canonical_stride: Count = 16,
        channels: Count = 1024,
        class_agnostic: bool = False,
        coder: Part[Coder] = part(DeltaCoder, weights=(10.0, 10.0, 5.0, 5.0)),
        uncertainty: bool = False,
        score_threshold: BelowOne = 0.05,
        pre_nms_top: Count = 2000,
        min_size: NotNegative = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.class_agnostic = num_classes, class_agnostic
        self.proposal_top, self.proposals = proposal_top, proposals
        self.proposal_iou, self.proposal_min_size = proposal_iou, proposal_min_size
        self.roi_size, self.sampling, self.aligned = roi_size, sampling, aligned
        self.canonical_side, self.canonical_stride = canonical_side, canonical_stride
        self.score_threshold, self.pre_nms_top, self.min_size = score_threshold, pre_nms_top, min_size
        self._levels = choose_levels(in_specs, finest, coarsest, type(self).__name__)
        specs = [in_specs[i] for i in self._levels]
        self.strides = tuple(s.stride for s in specs)
        width = _one_width(specs)
        given = {"finest": finest, **dict(proposer.args), "num_classes": 1}
        self.proposer = proposer.with_args(**given).build(in_specs)
        self.coder = coder.build()
        self.fc1 = nn.Linear(width * roi_size**2, channels)
        self.fc2 = nn.Linear(channels, channels)
        self.cls_out = nn.Linear(channels, num_classes + 1)
        boxes = self.coder.width * (1 if class_agnostic else num_classes)
        self.box_out = nn.Linear(channels, boxes)
        self.variance_out = nn.Linear(channels, boxes) if uncertainty else None
        self._initialise()

    def forward(self, features: list[Tensor], images: Images) -> RoIPredictions:
        first, proposals = self.propose(features, images)
        second = self.classify(features, proposals.boxes)
        return RoIPredictions(second.logits, second.codes, proposals, first, second.log_variance)

    @property
    def has_uncertainty(self) -> bool:
        return self.variance_out is not None

    def propose(
        self, features: list[Tensor], images: Images, *, top: int | None = None, keep: int | None = None
    ) -> tuple[DensePredictions, Candidates]:
        """The first stage: its raw output, with gradient, and `keep` proposals an image, without; best first.

        top, keep: in place of proposal_top and proposals.
        """
        raw = self.proposer(features, images)
        proposals = best_proposals(
            raw,
            self.proposer,
            images,
            top=self.proposal_top if top is None else top,
            keep=self.proposals if keep is None else keep,
            iou_threshold=self.proposal_iou,
            min_size=self.proposal_min_size,
        )
        return raw, proposals

    def classify(self, features: list[Tensor], boxes: Tensor) -> SecondStage:
        """The second stage on boxes [B, R, 4]."""
        levels = roi_levels(boxes, self.strides, side=self.canonical_side, stride=self.canonical_stride)
        pooled = multi_level_roi_align(
            [features[i] for i in self._levels],
            self.strides,
            boxes,
            levels,
            size=self.roi_size,
            sampling=self.sampling,
            aligned=self.aligned,
        )
        x = F.relu(self.fc1(pooled.flatten(2)))
        x = F.relu(self.fc2(x))
        variance = None if self.variance_out is None else self.variance_out(x)
        return SecondStage(self.cls_out(x), self.box_out(x), variance)

    def decode(self, raw: RawPredictions, images: Images) -> Candidates:
        assert isinstance(raw, RoIPredictions)
        scores = raw.logits.float().softmax(-1)[..., :-1]
        scores = torch.where((raw.proposals.scores > 0)[..., None], scores, 0.0).flatten(1)
        best = scores.topk(min(self.pre_nms_top, scores.shape[1]))
        rows, labels = best.indices // self.num_classes, best.indices % self.num_classes
        # boxes of the best pairs only: all R x K of them would be 80,000 an image
        codes = self.codes_of(raw.codes, rows, labels)
        priors = gather_priors(roi_priors(raw.proposals.boxes), rows)
        boxes = clip_boxes(self.coder.decode(codes, priors), images.size_hw)
        variance = None
        if raw.log_variance is not None:
            spread = self.codes_of(raw.log_variance, rows, labels).float().exp()
            variance = self.coder.decode_variance(spread, codes, priors)
        large = ((boxes[..., 2:] - boxes[..., :2]) > self.min_size).all(-1)
        scores = emptied_scores(torch.where(large, best.values, 0.0), self.score_threshold)
        boxes = torch.where(large[..., None], boxes, 0.0)  # not NaN, which is no larger than anything
        return Candidates(boxes, scores, labels, torch.where(scores > 0, rows, -1), variance)

    def codes_of(self, codes: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        """The code, or its log variance, of each (proposal, class) pair.

        codes [B, R, K * 4 or 4], rows and labels [B, T] to [B, T, 4].
        """
        each = codes.reshape(codes.shape[0], -1, self.coder.width)
        pair = rows if self.class_agnostic else rows * self.num_classes + labels
        return each.gather(1, pair[..., None].expand(-1, -1, self.coder.width))

    def class_rows(self, parameter: str) -> ClassRows | None:
        if parameter.startswith("cls_out."):
            return ClassRows(background=True)
        per_class = parameter.startswith(("box_out.", "variance_out.")) and not self.class_agnostic
        return ClassRows(values=self.coder.width) if per_class else None

    def _initialise(self) -> None:
        for fc in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(fc.weight, a=1)
        nn.init.normal_(self.cls_out.weight, std=0.01)
        nn.init.normal_(self.box_out.weight, std=0.001)
        for layer in (self.fc1, self.fc2, self.cls_out, self.box_out):
            nn.init.zeros_(layer.bias)
        if self.variance_out is not None:  # sigma starts at 1, where the KL loss is smooth L1 (1809.08545)
            nn.init.normal_(self.variance_out.weight, std=1e-4)
            nn.init.zeros_(self.variance_out.bias)


def _one_width(specs: Sequence[FeatureSpec]) -> int:
    widths = [s.channels for s in specs]
    if len(set(widths)) > 1:
        raise ValueError(
            f"FasterRCNN pools boxes from levels of one width; those of strides {[s.stride for s in specs]} have "
            f"{widths} channels: put a neck before it (fpn), or take one level (finest = coarsest = its stride)"
        )
    return widths[0]
