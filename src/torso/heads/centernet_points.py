"""CenterNet's head: an object is a peak of its class's heatmap (Zhou et al. 2019, Objects as Points, 1904.07850)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.bounds import BelowOne, Count, Odd, Share
from torso.geometry.boxes import clip_boxes
from torso.geometry.priors._base import gather_priors
from torso.geometry.priors.points import Points
from torso.heads._base import ClassRows, Head, choose_levels, emptied_scores
from torso.heads._branches import rows
from torso.layers.conv import Activation, ConvNormAct
from torso.types import Candidates, FeatureSpec, HeatmapPredictions, Images, RawPredictions


class CenterNetPointsHead(Head):
    """Three branches on one level, each a 3x3 convolution, an activation and a 1x1: heatmaps, sizes and offsets.

    Args:
        finest: stride of the level used, of those that come; the others are ignored.
        channels: width of the branches (64; the paper's DLA has 256).
        activation: of the branches.
        prior_probability: initial score of every location and class.
        peak_kernel: a location is a peak where no score within this window is higher; odd. Locations tied for the
            highest are all peaks, as in the authors' code.
        top: at most so many candidates an image.
        score_threshold: a candidate scores above it; the paper keeps all `top`.

    The location (x, y) stands for the pixel (x * stride, y * stride); its offset in 0..1 says where in the cell the
    centre lies. A size that the network predicts below 0 is decoded as 0.
    """

    predicts = HeatmapPredictions

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        num_classes: Count,
        finest: int = 4,
        channels: Count = 64,
        activation: Activation = "relu",
        prior_probability: Share = 0.1,
        peak_kernel: Odd = 3,
        top: Count = 100,
        score_threshold: BelowOne = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.peak_kernel = num_classes, peak_kernel
        self.top, self.score_threshold = top, score_threshold
        self._level = choose_levels(in_specs, finest, None, "CenterNet")[0]
        spec = in_specs[self._level]
        self.priors = Points([spec.stride_yx], offset=0.0)

        def make_branch(values: int) -> nn.Sequential:
            return nn.Sequential(
                ConvNormAct(spec.channels, channels, activation=activation), nn.Conv2d(channels, values, 1)
            )

        self.heat, self.size, self.offset = make_branch(num_classes), make_branch(2), make_branch(2)
        self._initialise(prior_probability)

    def forward(self, features: list[Tensor], images: Images) -> HeatmapPredictions:
        x = features[self._level]
        height, width = images.pixels.shape[-2:]
        priors = self.priors([(int(x.shape[-2]), int(x.shape[-1]))], (height, width))
        heat, offset, size = self.heat(x), self.offset(x), self.size(x)
        return HeatmapPredictions(rows(heat, self.num_classes), rows(offset, 2), rows(size, 2), priors)

    def class_rows(self, parameter: str) -> ClassRows | None:
        return ClassRows() if parameter in ("heat.1.weight", "heat.1.bias") else None

    def decode(self, raw: RawPredictions, images: Images) -> Candidates:
        assert isinstance(raw, HeatmapPredictions)
        scores, index, labels = self._best_peaks(raw)
        pairs = index[..., None].expand(-1, -1, 2)
        priors = gather_priors(raw.priors, index)
        center = priors.centers_xy + raw.offsets.gather(1, pairs).float() * priors.strides_xy
        half = raw.sizes.gather(1, pairs).float().clamp(min=0) * priors.strides_xy / 2
        boxes = clip_boxes(torch.cat([center - half, center + half], dim=-1), images.size_hw)
        scores = emptied_scores(scores, self.score_threshold)
        return Candidates(boxes, scores, labels, torch.where(scores > 0, index, -1))

    def _best_peaks(self, raw: HeatmapPredictions) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, rows and labels [B, T] of the highest peaks of all classes."""
        b, n, k = raw.logits.shape
        height, width, _ = raw.priors.levels[0]
        # float32 scores, not logits: locations whose scores round to one value tie there, as in the authors' code
        heat = raw.logits.float().sigmoid().transpose(1, 2).reshape(b, k, height, width)
        highest = F.max_pool2d(heat, self.peak_kernel, stride=1, padding=self.peak_kernel // 2)
        peaks = torch.where(heat == highest, heat, 0.0).flatten(1)
        scores, position = peaks.topk(min(self.top, k * n))
        return scores, position % n, position // n

    def _initialise(self, prior_probability: float) -> None:
        for branch in (self.size, self.offset):
            for m in branch.modules():
                if isinstance(m, nn.Conv2d):
                    nn.init.normal_(m.weight, std=0.001)
                    assert m.bias is not None
                    nn.init.zeros_(m.bias)
        last = self.heat[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, -math.log((1 - prior_probability) / prior_probability))
