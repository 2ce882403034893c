"""The contract of a head: features in, raw predictions out, and one way from those to candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from torso.errors import PartError, mismatch
from torso.plain_values import Checked
from torso.types import Candidates, FeatureSpec, Images, RawPredictions


class ClassRows(NamedTuple):
    """How classes lie in the first dimension of a parameter: anchors x (classes, then background) x values.

    anchors: their number at a location, each with its own classes (1 where there are none). background: a further
    column stands after the classes. values: rows a class (4 for the boxes of a class-specific box output).
    """

    anchors: int = 1
    background: bool = False
    values: int = 1


class Head(Checked, nn.Module):
    """Built as Head(in_specs, num_classes=..., ...). A head knows no target, no assigner and no loss.

    forward: list of [B, C_i, h_i, w_i], fine to coarse, and the batch -> raw predictions of its family.
    decode: raw predictions -> Candidates in input pixels, clipped to each image. Score fusion, the score threshold
    and the per-level top-k live here, because they need the levels; suppression does not.
    refine: a third stage on the boxes that suppression kept (masks, keypoints), where has_third_stage is true.
    predicts: its family's raw predictions, a class of torso.types; a criterion reads those of one family.
    """

    num_classes: int
    predicts: ClassVar[type] = object
    has_third_stage: ClassVar[bool] = False
    objects_only: ClassVar[bool] = False
    """Whether it finds one class, "object", whatever the data's classes are: a proposer, evaluated by its recall."""

    @property
    def has_uncertainty(self) -> bool:
        """Whether it predicts how sure its boxes are, so that candidates have a variance."""
        return False

    def forward(self, features: list[Tensor], images: Images) -> RawPredictions:
        raise NotImplementedError

    def decode(self, raw: RawPredictions, images: Images) -> Candidates:
        raise NotImplementedError

    def refine(self, features: list[Tensor], kept: Candidates, images: Images) -> Candidates:
        """The kept rows, [B, T] best first, with what the third stage says of them; called where has_third_stage.

        features: the maps of the same forward pass that `kept` comes from. Empty rows (score 0) come too and stay
        empty; rows keep their number and order.
        """
        raise NotImplementedError

    def class_rows(self, parameter: str) -> ClassRows | None:
        """How the classes lie in the parameter of this name (as in named_parameters), None where it has none.

        With it, weights move to another class list row by row; a head whose outputs are per class overrides it.
        """
        return None


def choose_levels(in_specs: Sequence[FeatureSpec], finest: int, coarsest: int | None, who: str) -> list[int]:
    """Positions of the incoming levels whose strides lie in [finest, coarsest]; None: of the level `finest` alone.

    Raises ValueError where the head's finest level is missing: a head tuned for small objects would lose them.
    """
    strides = [min(s.stride_yx) for s in in_specs]
    last = finest if coarsest is None else coarsest
    chosen = [i for i, s in enumerate(strides) if finest <= s and max(in_specs[i].stride_yx) <= last]
    if coarsest is not None and coarsest < finest:
        raise mismatch(
            f"{who}.coarsest",
            f"a stride of at least finest={finest}",
            coarsest,
            remedies=[{"head.coarsest": max(finest, *strides)}],
        )
    if not chosen or strides[chosen[0]] != finest:
        too = {"head.coarsest": strides[0]} if coarsest is not None and coarsest < strides[0] else {}
        raise PartError(
            f"{who} needs a level of stride {finest}; the levels here have strides {strides}",
            remedies=[
                {"head.finest": strides[0], **too},
                f"start the neck at stride {finest} if it and the backbone have one",
                "choose another head",
            ],
        )
    return chosen


def emptied_scores(scores: Tensor, threshold: float) -> Tensor:
    """Scores below or at the threshold, and NaN, become 0: the mark of an empty row."""
    return torch.where(scores > threshold, scores, torch.zeros_like(scores))


def best_pairs(scores: Tensor, levels: list[int], top: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best (row, class) pairs of every level: scores, row positions and labels, each [B, T]."""
    classes = scores.shape[-1]
    found, positions, start = [], [], 0
    for size in levels:
        flat = scores[:, start : start + size].flatten(1)
        best = flat.topk(min(top, flat.shape[1]))
        found.append(best.values)
        positions.append(best.indices + start * classes)
        start += size
    pairs = torch.cat(positions, dim=1)
    return torch.cat(found, dim=1), pairs // classes, pairs % classes
