"""The generic dense head: towers over levels, priors at every location, a coder; a paper is a composition of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torso.bounds import BelowOne, Count, Odd, Share, Whole
from torso.geometry.boxes import clip_boxes
from torso.geometry.coders._base import Coder
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors._base import PriorGenerator, gather_priors, level_of_rows
from torso.geometry.priors.anchors import Anchors
from torso.heads._base import ClassRows, Head, best_pairs, choose_levels, emptied_scores
from torso.heads._branches import Branches, LevelOutput, QualityTower, TowerLayer, last_convolution
from torso.heads._dense_checks import (
    Fusion,
    Kernel,
    Scores,
    a_level,
    check_depthwise,
    check_level_counts,
    check_norms,
    check_priors,
    written_values,
)
from torso.layers.conv import Activation, Norm
from torso.layers.pyramid import join_levels
from torso.parts import Part, part, preset
from torso.types import Candidates, DensePredictions, FeatureSpec, Images, RawPredictions

_CLASS_PARAMETERS = ("cls_out.weight", "cls_out.bias", "cls_out.pointwise.weight", "cls_out.pointwise.bias")


class DenseHead(Head):
    """Classification and box regression at every location of every level.

    Args:
        finest, coarsest: strides of the levels used, of those that come.
        tower: 3x3 convolutions before the outputs (0: none), `channels` wide: one number, or with shared=false one a
            level (YOLOv3: 256, 512, 1024).
        box_channels: of the box tower, where it is to be narrower or wider; None is `channels`.
        joint_tower: one tower for both outputs (RPN) in place of one each.
        shared: the same weights on all levels; levels of unequal width are first brought to `channels` by a 1x1.
        out_kernel: 3 or 1.
        norm, activation, tower_bias: of the towers; the bias is there without a norm unless set otherwise.
        level_norms: with shared weights, a norm of its own on every level: what BatchNorm needs (EfficientDet).
        separable: depthwise 3x3 and pointwise 1x1 in place of every 3x3, outputs too.
        depthwise: towers of depthwise convolutions alone, as wide as the maps that come (FastestDet).
        tower_kernel: of the towers' convolutions, odd.
        scores: "sigmoid" per class, or "softmax" over them.
        background: a softmax has a column for it, the last; false leaves it to an objectness branch (YOLOv2).
        quality: tower that carries a quality branch (centerness, IoU, objectness): "box", "cls", one of its "own", or
            "none".
        fusion: of class score c and quality q: "product" c*q, or "sqrt" of it.
        quality_share: s of the score c^(1-s) * q^s, in place of fusion.
        level_scale: a learnable factor a level on the codes, from 1 (FCOS).
        uncertainty: a branch that predicts log variances of the codes (KL loss, softer NMS).
        prior_probability: initial score of every class (focal loss's pi), of sigmoids.
        quality_prior: initial quality everywhere, one number or one a level; objectness wants it as low as objects are
            rare.
        score_threshold, pre_nms_top: a candidate scores above the first; at most so many a level go on.
        levels_apart: in suppression boxes compete within their level alone, as mmdetection's RPN has it; an object that
            two levels find comes out twice.

    A paper's head is a subclass that states its own defaults: `class FCOS(Dense, norm="gn", quality="cls", ...)`.
    """

    predicts = DensePredictions

    def __init_subclass__(cls, **defaults: Any) -> None:
        super().__init_subclass__()
        cls.__init__ = preset(cls.__init__, defaults)  # type: ignore[method-assign]

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        num_classes: Count,
        finest: int = 8,
        coarsest: int = 128,
        channels: Count | tuple[Count, ...] = 256,
        box_channels: Count | None = None,
        tower: Whole = 4,
        joint_tower: bool = False,
        shared: bool = True,
        out_kernel: Kernel = 3,
        norm: Norm = "none",
        tower_bias: bool | None = None,
        activation: Activation = "relu",
        level_norms: bool = False,
        separable: bool = False,
        depthwise: bool = False,
        tower_kernel: Odd = 3,
        priors: Part[PriorGenerator] = part(Anchors),
        coder: Part[Coder] = part(DeltaCoder),
        scores: Scores = "sigmoid",
        background: bool = True,
        quality: QualityTower = "none",
        fusion: Fusion = "product",
        quality_share: Share | None = None,
        level_scale: bool = False,
        uncertainty: bool = False,
        prior_probability: Share = 0.01,
        quality_prior: Share | tuple[Share, ...] = 0.5,
        score_threshold: BelowOne = 0.05,
        pre_nms_top: Count = 1000,
        levels_apart: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes, self.softmax, self.fusion = num_classes, scores == "softmax", fusion
        self.score_threshold, self.pre_nms_top, self.shared = score_threshold, pre_nms_top, shared
        self.quality_share, self.levels_apart = quality_share, levels_apart
        who = type(self).__name__
        check_level_counts(who, written_values(channels, quality_prior, priors, shared), in_specs, finest, coarsest)
        self._levels = choose_levels(in_specs, finest, coarsest, who)
        specs = [in_specs[i] for i in self._levels]
        widths = a_level(channels, len(specs), "channels", shared)
        starts = a_level(quality_prior, len(specs), "quality_prior", shared)
        box_widths = widths if box_channels is None else (box_channels,) * len(widths)
        check_norms(who, norm, tower=tower, level_norms=level_norms, shared=shared, levels=len(specs))
        self.priors = priors.build([s.stride_yx for s in specs])
        self.coder = coder.build()
        check_priors(who, self.priors.per_location, shared)
        self.background = self.softmax and background
        self.columns = num_classes + self.background
        incoming = self._bring([s.channels for s in specs], widths[0])
        if depthwise:
            check_depthwise(incoming, (*widths, *box_widths), separable)
        copies = list(zip(incoming, widths, box_widths, self.priors.per_location, strict=True))[: 1 if shared else None]
        self.branches = nn.ModuleList(
            Branches(
                width_in,
                per_location,
                channels=width,
                box_channels=box_width,
                tower=tower,
                joint=joint_tower,
                kernel=out_kernel,
                norm=norm,
                activation=activation,
                bias=tower_bias,
                columns=self.columns,
                width=self.coder.width,
                quality=quality,
                uncertainty=uncertainty,
                separable=separable,
                norm_levels=len(specs) if level_norms else None,
                depthwise=depthwise,
                tower_kernel=tower_kernel,
            )
            for width_in, width, box_width, per_location in copies
        )
        self.scale = nn.Parameter(torch.ones(len(specs))) if level_scale else None
        self._initialise(prior_probability, starts, separable)
        if norm == "none" and not separable and all(s.normed for s in specs):
            self._keep_scale()

    def _bring(self, incoming: list[int], width: int) -> list[int]:
        """The levels' widths as the towers see them; shared towers see one, which 1x1 convolutions make."""
        self.bring = nn.ModuleList()
        if not self.shared or len(set(incoming)) == 1:
            return incoming
        self.bring.extend(nn.Conv2d(c, width, 1) for c in incoming)
        return [width] * len(incoming)

    @property
    def has_quality(self) -> bool:
        """Whether a quality branch (centerness, IoU, objectness) is there to be trained."""
        return self.branches[0].quality_out is not None

    @property
    def has_uncertainty(self) -> bool:
        return self.branches[0].variance_out is not None

    def class_rows(self, parameter: str) -> ClassRows | None:
        branch, _, name = parameter.removeprefix("branches.").partition(".")
        if not parameter.startswith("branches.") or name not in _CLASS_PARAMETERS:
            return None
        return ClassRows(anchors=self.priors.per_location[int(branch)], background=self.background)

    def forward(self, features: list[Tensor], images: Images) -> DensePredictions:
        return self.join(self.levels(features), images)

    def levels(self, features: list[Tensor]) -> list[LevelOutput]:
        """What every level says, before it is joined; a loss that sums over all priors needs no more."""
        maps = [features[i] for i in self._levels]
        if len(self.bring):
            maps = [conv(m) for conv, m in zip(self.bring, maps, strict=True)]
        outputs: list[LevelOutput] = [self.branches[0 if self.shared else i](m, i) for i, m in enumerate(maps)]
        if self.scale is not None:
            outputs = [o._replace(codes=o.codes * self.scale[i]) for i, o in enumerate(outputs)]
        return outputs

    def join(self, levels: list[LevelOutput], images: Images) -> DensePredictions:
        """The levels as one prediction, with its priors."""
        height, width = images.pixels.shape[-2:]
        quality = _joined([o.quality for o in levels])
        return DensePredictions(
            join_levels([o.logits for o in levels]),
            join_levels([o.codes for o in levels]),
            self.priors([o.size_hw for o in levels], (height, width)),
            None if quality is None else quality[..., 0],
            _joined([o.log_variance for o in levels]),
        )

    def decode(self, raw: RawPredictions, images: Images) -> Candidates:
        assert isinstance(raw, DensePredictions)
        rows, levels = self._best_rows(raw)
        logits = raw.logits.gather(1, rows[..., None].expand(-1, -1, raw.logits.shape[-1]))
        quality = raw.quality.gather(1, rows) if raw.quality is not None else None
        scores = self.class_scores(logits, quality)  # [B, R, K]
        scores, picked, labels = best_pairs(scores, levels, self.pre_nms_top)
        index = rows.gather(1, picked)
        priors = gather_priors(raw.priors, index)
        codes = raw.codes.gather(1, index[..., None].expand(-1, -1, raw.codes.shape[-1]))
        boxes = clip_boxes(self.coder.decode(codes, priors), images.size_hw)
        scores = emptied_scores(scores, self.score_threshold)
        variance = None
        if raw.log_variance is not None:
            spread = raw.log_variance.gather(1, index[..., None].expand(-1, -1, self.coder.width)).float().exp()
            variance = self.coder.decode_variance(spread, codes, priors)
        level = level_of_rows(raw.priors)[index] if self.levels_apart else None
        return Candidates(boxes, scores, labels, torch.where(scores > 0, index, -1), variance, level)

    def class_scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        """Scores [..., K] in 0..1, float32, of logits [..., columns] and quality logits [...]."""
        logits = logits.float()
        scores = logits.softmax(-1)[..., : self.num_classes] if self.softmax else logits.sigmoid()
        if quality is None:
            return scores
        return self._fused(scores, quality.float().sigmoid()[..., None])

    def _fused(self, scores: Tensor, quality: Tensor) -> Tensor:
        """Of class scores and quality that broadcast, both in 0..1; it rises with either."""
        if self.quality_share is not None:
            return scores ** (1 - self.quality_share) * quality**self.quality_share
        return (scores * quality).sqrt() if self.fusion == "sqrt" else scores * quality

    def _best_rows(self, raw: DensePredictions) -> tuple[Tensor, list[int]]:
        """Rows [B, R] among which each level's best (row, class) pairs lie, and how many of them a level has.

        The k best pairs lie in the k rows whose best pairs are best, so only a maximum over classes is taken of all
        the priors, never a sort of priors x classes.
        """
        best = raw.logits[..., : self.num_classes].amax(-1).float()
        best = (best - raw.logits.float().logsumexp(-1)).exp() if self.softmax else best.sigmoid()
        if raw.quality is not None:
            best = self._fused(best, raw.quality.float().sigmoid())
        rows, levels, start = [], [], 0
        for size in raw.priors.level_sizes:
            k = min(self.pre_nms_top, size)
            rows.append(best[:, start : start + size].topk(k).indices + start)
            levels.append(k)
            start += size
        return torch.cat(rows, dim=1), levels

    def _initialise(self, prior_probability: float, quality_priors: Sequence[float], separable: bool) -> None:
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                if separable:  # EfficientDet's variance scaling: 0.01 through two factors would leave nothing
                    nn.init.kaiming_normal_(m.weight, nonlinearity="linear")
                else:
                    nn.init.normal_(m.weight, std=0.01)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        for branch, quality_prior in zip(self.branches, quality_priors, strict=False):  # shared: one for all levels
            assert isinstance(branch, Branches)
            if not self.softmax:
                nn.init.constant_(branch.cls_bias, _logit(prior_probability))
            if branch.quality_out is not None:
                nn.init.constant_(branch.quality_bias, _logit(quality_prior))
            if branch.variance_out is not None:  # sigma starts at 1, where the KL loss is smooth L1 (1809.08545)
                nn.init.normal_(last_convolution(branch.variance_out).weight, std=1e-4)

    def _keep_scale(self) -> None:
        """Towers without norms behind a neck with them: weights that keep a scale of 1 (He et al. 2015, 1502.01852).

        The papers' deviation of 0.01 lets a third of the scale through a convolution of 256 channels, a quarter of 128.
        RetinaNet's FPN has no norm and gives maps of a scale of 10; behind one that gives 1 the towers say nothing for
        hundreds of steps (on bccd, 150 steps: AP 17 in place of 36).
        """
        for convolution in self.bring:
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")
        for layer in self.modules():
            if isinstance(layer, TowerLayer):
                assert isinstance(layer.conv, nn.Conv2d)
                nn.init.kaiming_normal_(layer.conv.weight, nonlinearity="relu")


def _logit(probability: float) -> float:
    return -math.log((1 - probability) / probability)


def _joined(levels: list[Tensor | None]) -> Tensor | None:
    present = [x for x in levels if x is not None]
    return join_levels(present) if present else None
