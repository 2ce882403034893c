"""What travels at inference: images in, features, raw predictions, candidates out.

Letters: B images, N priors, T candidate rows, K classes, C channels, D code width, A priors a place.
Boxes are xyxy in input pixels (float), sizes are (height, width), points are (x, y), labels run 0..K-1.
Levels run fine to coarse and are chosen by stride, never by position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """A batch of images of one padded size.

    pixels: [B, 3, H, W] RGB in 0..255, uint8 or floating; content sits at the top left, the rest is padding.
    size_hw: [B, 2] float, the unpadded (height, width) of each image inside the batch.
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
    priors: N rows, each as large as the image, at its cell's middle.
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
    level: [B, T] int64, the level that predicts it, 0 the finest, where levels do not compete; None where all rows do.

    A further column, [B, T, ...] or None, is a further field here: what follows carries every column along. One that
    is measured in pixels is scaled in `moved` too; one whose empty value is not 0 is named in _EMPTY.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on candidates
    variance: Tensor | None = None
    level: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Candidates:
        """Every column changed; one that is absent stays so."""
        return _candidates([None if column is None else change(column) for column in self])

    def changed(self, **columns: Tensor | None) -> Candidates:
        """With other columns in the place of those named; as _replace, whose answer torch.compile cannot return."""
        return _candidates([columns.get(name, column) for name, column in zip(self._fields, self, strict=True)])

    def take(self, rows: Tensor) -> Candidates:
        """The rows of these numbers, [B, K] int64 in 0..T; T, one past the last, is the empty row."""
        named = zip(self._fields, self, strict=True)
        return _candidates([None if c is None else gather_rows(c, rows, _EMPTY.get(n, 0)) for n, c in named])

    def narrow(self, start: int, length: int) -> Candidates:
        """At most `length` rows of each image from `start` on: [B, <= length, ...], views."""
        return self.map(lambda column: column[:, start : start + length])

    def image(self, row: int) -> Candidates:
        """Those of one image, [1, T, ...], views."""
        return self.map(lambda column: column[row : row + 1])

    @staticmethod
    def concat(parts: Sequence[Candidates]) -> Candidates:
        """Rows [B, T_i] of one batch, part after part: [B, sum of T_i]; a column that one part lacks is absent."""
        columns = [list(column) for column in zip(*parts, strict=True)]
        return _candidates([None if any(c is None for c in column) else torch.cat(column, dim=1) for column in columns])

    def moved(self, scale_xy: Tensor, offset_xy: Tensor, *, mirrored: bool = False) -> Candidates:
        """In the pixels of another image, there = here * scale + offset, both [2]; float32, not clipped.

        mirrored: whether scale_x is negative, said by the caller so that nothing has to be read from the device.
        """
        boxes = self.boxes.float() * scale_xy.repeat(2) + offset_xy.repeat(2)
        variance = None if self.variance is None else self.variance.float() * scale_xy.repeat(2) ** 2
        if mirrored:
            corners = [2, 1, 0, 3]
            boxes, variance = boxes[..., corners], None if variance is None else variance[..., corners]
        return self.changed(boxes=boxes, variance=variance)

    def on_cpu(self) -> Candidates:
        """The same, bit for bit and each column of its own type, in host memory; what is there already is not copied.

        From CUDA every column is queued into pinned memory (which non_blocking copies from CUDA make) and the host
        waits once for all of them; a plain copy would wait for each.
        """
        device = self.scores.device
        copied = self.map(lambda column: column.to("cpu", non_blocking=column.is_cuda))
        if device.type == "cuda":
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(torch.cuda.current_stream(device))
            arrived.synchronize()
        return copied


_EMPTY = {"index": -1}
"""The value of a column in an empty row, where it is not 0."""


def _candidates(columns: Sequence[Tensor | None]) -> Candidates:
    return Candidates(*columns)  # type: ignore[arg-type]  # the first four are never None


def gather_rows(values: Tensor, rows: Tensor, empty: int) -> Tensor:
    """One column's rows of the given numbers, `empty` for the number one past the last: [B, T, ...] to [B, K, ...]."""
    padded = torch.cat([values, values.new_full((values.shape[0], 1, *values.shape[2:]), empty)], dim=1)
    wide = rows.reshape(*rows.shape, *(1 for _ in values.shape[2:]))
    return padded.gather(1, wide.expand(-1, -1, *values.shape[2:]))


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
