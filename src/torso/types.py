"""What travels at inference: images in, features, raw predictions, candidates out.

Letters: B images, N priors, T candidate rows, K classes, C channels, D code width, A priors a place.
Boxes are xyxy in input pixels (float), sizes are (height, width), points are (x, y), labels run 0..K-1.
Levels run fine to coarse and are chosen by stride, never by position.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Images(NamedTuple):
    """A batch of pictures of one padded size.

    pixels: [B, 3, H, W] RGB in 0..255, uint8 or floating; content sits at the top left, the rest is padding.
    size_hw: [B, 2] float, the unpadded (height, width) of each picture inside the batch.
    to_original: [B, 4] float (scale_x, scale_y, offset_x, offset_y); original = input * scale + offset, in pixels.
    """

    pixels: Tensor
    size_hw: Tensor
    to_original: Tensor


class FeatureSpec(NamedTuple):
    """What a part publishes of one feature map: its channels and its (y, x) stride in input pixels.

    normed: norms of the part that made it hold its scale near 1, whatever went in (see Neck.published).
    """

    channels: int
    stride_yx: tuple[int, int]
    normed: bool = False

    @property
    def stride(self) -> int:
        """The stride of a level whose two strides are equal; ValueError where they differ."""
        if self.stride_yx[0] != self.stride_yx[1]:
            raise ValueError(
                f"this level has unequal strides (y, x) = {self.stride_yx}; what reads it needs equal ones, but "
                "dense heads (retinanet, fcos, atss) take both: put the matrix neck last, or set its band=0"
            )
        return self.stride_yx[0]


class Priors(NamedTuple):
    """Where predictions start from: anchors or points. A point is written as a box whose sides are its strides.

    centers_xy, sizes_wh, strides_xy: [N, 2], or [B, N, 2] where every image has its own (RoIs), in input pixels.
    levels: (h, w, A) a level, so that row = offset of the level + (y * w + x) * A + a.
    points: whether all are points; an anchor too may have its stride's sides, so the numbers do not say it.
    """

    centers_xy: Tensor
    sizes_wh: Tensor
    strides_xy: Tensor
    levels: tuple[tuple[int, int, int], ...]
    points: bool = False

    @property
    def boxes(self) -> Tensor:
        """[..., N, 4] xyxy, input pixels."""
        import torch

        half = self.sizes_wh / 2
        return torch.cat([self.centers_xy - half, self.centers_xy + half], dim=-1)

    @property
    def level_sizes(self) -> list[int]:
        """Rows of each level; they sum to N."""
        return [h * w * a for h, w, a in self.levels]


class DensePredictions(NamedTuple):
    """Raw output of the dense family (RPN, RetinaNet, FCOS, SSD, YOLO, ...).

    logits: [B, N, K] (K + 1 with a softmax head, background last); codes: [B, N, D] in the coder's units;
    quality: [B, N] logits of a centerness / IoU / objectness branch, or None;
    log_variance: [B, N, 4] of the box codes, or None.
    """

    logits: Tensor
    codes: Tensor
    priors: Priors
    quality: Tensor | None = None
    log_variance: Tensor | None = None


class GridPredictions(NamedTuple):
    """Raw output of YOLOv1: a class vector a cell, shared by the A boxes of it; G cells row by row, N = G * A.

    scores: [B, G, K] and confidences: [B, N], meant to be in 0..1 but linear; codes: [B, N, 4] in the coder's units.
    priors: N rows, each as large as the picture, at its cell's middle.
    """

    scores: Tensor
    confidences: Tensor
    codes: Tensor
    priors: Priors


class HeatmapPredictions(NamedTuple):
    """Raw output of the keypoint family, flattened over places like the dense family.

    logits: [B, N, K] of "an object's centre lies here"; offsets: [B, N, 2] (x, y) and sizes: [B, N, 2] (w, h),
    both in units of the place's stride.
    """

    logits: Tensor
    offsets: Tensor
    sizes: Tensor
    priors: Priors


class Candidates(NamedTuple):
    """Where all heads meet: scored boxes of a batch, before and after suppression.

    boxes: [B, T, 4] xyxy input pixels; scores: [B, T] float32 in 0..1, 0 marks an empty row; labels: [B, T] int64;
    index: [B, T] int64, the row of the raw prediction (-1 in empty rows); variance: [B, T, 4] px^2 or None.
    level: [B, T] int64, the level that said it, 0 the finest, where levels do not compete; None where all rows do.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on candidates
    variance: Tensor | None = None
    level: Tensor | None = None


class RoIPredictions(NamedTuple):
    """Raw output of the two-stage family.

    logits: [B, R, K + 1], background last; codes: [B, R, K * 4] or [B, R, 4] (class-agnostic);
    proposals: the RoIs, rows with score 0 are empty; first: the proposer's raw output;
    log_variance: of the codes, as they lie, or None.
    """

    logits: Tensor
    codes: Tensor
    proposals: Candidates
    first: DensePredictions
    log_variance: Tensor | None = None


RawPredictions = DensePredictions | GridPredictions | HeatmapPredictions | RoIPredictions
