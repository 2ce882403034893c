"""What a dense head refuses when it is put together: arguments that no network, or none that learns, can have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from torso.heads._branches import QualityTower
from torso.layers.conv import Activation, Norm
from torso.plain_values import one_of

T = TypeVar("T")
Kernel = Literal[1, 3]
Scores = Literal["sigmoid", "softmax"]
Fusion = Literal["product", "sqrt"]


def a_level(value: T | tuple[T, ...], levels: int, name: str, shared: bool) -> tuple[T, ...]:
    """One value for all levels, or one each, which weights shared by the levels cannot have."""
    if not isinstance(value, tuple):
        return (value,) * levels
    if len(value) != levels or (shared and len(set(value)) > 1):
        raise ValueError(
            f"a dense head of {levels} levels, shared={shared}, cannot have {name}={value}: give one number, or with "
            "shared=false one a level, fine to coarse; finest and coarsest choose the levels"
        )
    return value


def check_numbers(
    num_classes: int, channels: Sequence[int], tower: int, pre_nms_top: int, probabilities: Sequence[float]
) -> None:
    """Counts that leave nothing, and probabilities that are none."""
    if num_classes < 1:
        raise ValueError(f"a head needs at least one class; num_classes={num_classes} came")
    if min(channels) < 1 or tower < 0 or pre_nms_top < 1 or not all(0 < p < 1 for p in probabilities):
        raise ValueError(
            "a dense head wants channels >= 1, tower >= 0, pre_nms_top >= 1 and 0 < prior_probability < 1, as of "
            f"quality_prior; {tuple(channels)}, {tower}, {pre_nms_top} and {tuple(probabilities)} came"
        )


def check_norms(who: str, norm: Norm, *, tower: int, level_norms: bool, shared: bool, levels: int) -> None:
    """Norms that would be trained on other statistics than they run with, or that have no place."""
    if level_norms and (norm == "none" or not shared):
        raise ValueError(
            f"{who}: level_norms=true gives shared convolutions a norm a level; norm={norm}, shared={shared} "
            "came: choose a norm and shared=true, or level_norms=false"
        )
    if shared and norm in ("bn", "bn_tf", "bn_yolo") and tower and levels > 1 and not level_norms:
        raise ValueError(
            f"{who}: one BatchNorm for {levels} levels sees each level's own statistics in training and their "
            "mixture afterwards, and detects nothing; set level_norms=true, norm=gn or none, or shared=false"
        )


def check_depthwise(incoming: Sequence[int], widths: Sequence[int], separable: bool) -> None:
    """Depthwise towers cannot change the width of a map."""
    if separable or set(incoming) != set(widths):
        raise ValueError(
            f"a dense head of depthwise=true keeps the width of its maps and is not separable; maps of {set(incoming)} "
            f"channels, towers of {set(widths)} and separable={separable} came: set channels to the neck's"
        )


def check_priors(who: str, per_place: Sequence[int], shared: bool) -> None:
    """Shared weights say the same number of things at every place."""
    if shared and len(set(per_place)) > 1:
        raise ValueError(
            f"{who}: shared=true wants the same priors a place on every level; {tuple(per_place)} came; "
            "set shared=false"
        )


def check_shares(who: str, tower_kernel: int, quality_share: float | None) -> None:
    """Kernels that have a middle, and a share that leaves both scores a say."""
    if tower_kernel % 2 != 1 or not 0 < (0.5 if quality_share is None else quality_share) < 1:
        raise ValueError(
            f"{who} wants an odd tower_kernel and 0 < quality_share < 1; {tower_kernel} and {quality_share} came"
        )


def check_words(
    who: str,
    *,
    scores: Scores,
    quality: QualityTower,
    fusion: Fusion,
    norm: Norm,
    activation: Activation,
    out_kernel: Kernel,
) -> None:
    """Words that are none of the known ones would quietly stand for the last of them."""
    one_of(f"{who}.scores", scores, Scores)
    one_of(f"{who}.quality", quality, QualityTower)
    one_of(f"{who}.fusion", fusion, Fusion)
    one_of(f"{who}.norm", norm, Norm)
    one_of(f"{who}.activation", activation, Activation)
    one_of(f"{who}.out_kernel", out_kernel, Kernel)
