"""The contract of a head: features in, raw predictions out, and one way from those to candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from torso.types import Candidates, FeatureSpec, Images, RawPredictions


class ClassRows(NamedTuple):
    """How classes lie in the first dimension of a parameter: places x (classes, then background) x values.

    places: anchors at a place, each with its own classes (1 where there are none). background: a further column stands
    after the classes. values: rows a class (4 for the boxes of a class-specific box output).
    """

    places: int = 1
    background: bool = False
    values: int = 1


class Head(nn.Module):
    """Built as Head(in_specs, num_classes=..., ...). A head knows no target, no assigner and no loss.

    forward: list of [B, C_i, h_i, w_i], fine to coarse, and the batch -> raw predictions of its family.
    decode: raw predictions -> Candidates in input pixels, clipped to each picture. Score fusion, the score threshold
    and the per-level top-k live here, because they need the levels; suppression does not.

    predicts: its family's raw predictions, a class of torso.types; a criterion reads those of one family.
    """

    num_classes: int
    predicts: ClassVar[type] = object

    @property
    def has_uncertainty(self) -> bool:
        """Whether it predicts how sure its boxes are, so that candidates have a variance."""
        return False

    def forward(self, features: list[Tensor], images: Images) -> RawPredictions:
        raise NotImplementedError

    def decode(self, raw: RawPredictions, images: Images) -> Candidates:
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
        raise ValueError(
            f"{who} reads levels of strides finest={finest} to coarsest={coarsest}, which are none: set the head's "
            f"coarsest to {finest} or more (--head.coarsest={max(finest, *strides)})"
        )
    if not chosen or strides[chosen[0]] != finest:
        too = f" --head.coarsest={strides[0]}" if coarsest is not None and coarsest < strides[0] else ""
        raise ValueError(
            f"{who} needs a level of stride {finest}; the levels here have strides {strides}: set the head's finest "
            f"to one of them (--head.finest={strides[0]}{too}), start the neck at stride {finest} if it and the "
            "backbone have one, or choose another head"
        )
    return chosen


def check_threshold(who: str, score_threshold: float) -> None:
    """ValueError where no score can be above it, or all are."""
    if not 0 <= score_threshold < 1:
        raise ValueError(
            f"{who}.score_threshold wants 0..1, of which 1 would leave no detection; {score_threshold} came: give 0 "
            "to keep every score"
        )


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
