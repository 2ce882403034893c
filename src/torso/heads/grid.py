"""YOLOv1's head: two fully connected layers say all cells at once (Redmon et al. 2015, arXiv 1506.02640)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.bounds import BelowOne, Count, Size
from torso.geometry.boxes import clip_boxes
from torso.geometry.coders._base import Coder
from torso.geometry.coders.grid import GridCoder
from torso.geometry.priors._base import gather_priors, grid_priors
from torso.heads._base import ClassRows, Head, choose_levels, emptied_scores
from torso.layers.conv import Activation, ConvNormAct, Norm, make_activation
from torso.parts import Part, part
from torso.types import Candidates, FeatureSpec, GridPredictions, Images, Priors, RawPredictions


class GridHead(Head):
    """Four 3x3 convolutions (the second of stride 2), a hidden layer, and outputs: classes a cell, boxes a cell.

    Args:
        finest: stride of the level used, of those that come; the others are ignored.
        grid_hw: (rows, columns) of cells; the paper's 7 x 7 on 448 x 448 pixels. A map of another size is averaged to
            it first, as classifiers do, so that any image size runs; the cells then divide that image.
        boxes: boxes a cell.
        channels, hidden: widths of the convolutions and of the hidden layer.
        dropout: of the hidden layer.
        norm: of the convolutions: "bn" as in darknet's released files; the paper's own network had none ("none").
        activation: of convolutions and hidden layer.
        coder: of the boxes.
        score_threshold, top: a candidate's score is above the first; at most so many an image.

    The score of a class is its share in the cell times the box's confidence, both cut to 0..1.
    """

    predicts = GridPredictions

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        num_classes: Count,
        finest: int = 32,
        grid_hw: Size = (7, 7),
        boxes: Count = 2,
        channels: Count = 1024,
        hidden: Count = 4096,
        dropout: BelowOne = 0.5,
        norm: Norm = "bn",
        activation: Activation = "leaky_relu",
        coder: Part[Coder] = part(GridCoder),
        score_threshold: BelowOne = 0.005,
        top: Count = 1000,
    ) -> None:
        super().__init__()
        self.num_classes, self.boxes, self.grid_hw = num_classes, boxes, grid_hw
        self.score_threshold, self.top = score_threshold, top
        self.coder = coder.build()
        self._level = choose_levels(in_specs, finest, None, type(self).__name__)[0]
        incoming, cells = in_specs[self._level].channels, grid_hw[0] * grid_hw[1]

        def conv(a: int, stride: int = 1) -> ConvNormAct:
            return ConvNormAct(a, channels, stride=stride, norm=norm, activation=activation)

        self.convs = nn.Sequential(conv(incoming), conv(channels, 2), conv(channels), conv(channels))
        self.hidden = nn.Sequential(
            nn.Linear(channels * cells, hidden), make_activation(activation), nn.Dropout(dropout)
        )
        self.cls_out = nn.Linear(hidden, cells * num_classes)
        self.box_out = nn.Linear(hidden, cells * boxes * (1 + self.coder.width))
        self._initialise()

    def forward(self, features: list[Tensor], images: Images) -> GridPredictions:
        x = self.convs(features[self._level])
        if tuple(x.shape[-2:]) != self.grid_hw:
            x = F.adaptive_avg_pool2d(x, self.grid_hw)
        x = self.hidden(x.flatten(1))
        height, width = images.pixels.shape[-2:]
        scores = self.cls_out(x).unflatten(1, (-1, self.num_classes))
        boxes = self.box_out(x).unflatten(1, (-1, 1 + self.coder.width))
        return GridPredictions(scores, boxes[..., 0], boxes[..., 1:], self.priors((height, width), x.device))

    def priors(self, image_hw: tuple[int, int], device: torch.device) -> Priors:
        """One row for each box of each cell, cells row by row, in an image of (height, width)."""
        (height, width), (rows, columns) = image_hw, self.grid_hw
        sides = [torch.full((self.boxes,), float(side), device=device) for side in (width, height)]
        grid = grid_priors(torch.stack(sides, dim=-1), self.grid_hw, (height / rows, width / columns), 0.5)
        return Priors(*grid, ((rows, columns, self.boxes),))

    def class_rows(self, parameter: str) -> ClassRows | None:
        cells = self.grid_hw[0] * self.grid_hw[1]
        return ClassRows(anchors=cells) if parameter in ("cls_out.weight", "cls_out.bias") else None

    def decode(self, raw: RawPredictions, images: Images) -> Candidates:
        assert isinstance(raw, GridPredictions)
        classes = raw.scores.float().clamp(0, 1).repeat_interleave(self.boxes, dim=1)
        scores = classes * raw.confidences.float().clamp(0, 1)[..., None]  # [B, N, K]
        best = scores.flatten(1).topk(min(self.top, scores.shape[1] * self.num_classes))
        index, labels = best.indices // self.num_classes, best.indices % self.num_classes
        codes = raw.codes.gather(1, index[..., None].expand(-1, -1, self.coder.width))
        boxes = clip_boxes(self.coder.decode(codes, gather_priors(raw.priors, index)), images.size_hw)
        kept = emptied_scores(best.values, self.score_threshold)
        return Candidates(boxes, kept, labels, torch.where(kept > 0, index, -1))

    def _initialise(self) -> None:
        for m in self.convs.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, a=0.1, nonlinearity="leaky_relu")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=0.01)
                nn.init.zeros_(m.bias)
        with torch.no_grad():  # boxes start in the middle of their cells, half as wide and high as the image
            codes = self.box_out.bias.view(-1, 1 + self.coder.width)[:, 1:]
            codes[:, :2], codes[:, 2:] = 0.5, 0.5**0.5
