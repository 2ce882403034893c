"""What a dense head refuses when it is put together: arguments that no network, or none that learns, can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from torso.geometry.priors._base import PriorGenerator
from torso.heads._branches import QualityTower
from torso.layers.conv import Activation, Norm
from torso.parts import Part, produced
from torso.plain_values import one_of
from torso.types import FeatureSpec

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


Written = Mapping[str, tuple[int, str]]
"""{argument: (for how many levels it is written out, a value of it that serves any number)}."""


def written_values(
    channels: int | tuple[int, ...],
    quality_prior: float | tuple[float, ...],
    priors: Part[PriorGenerator],
    shared: bool,
) -> Written:
    """Of a dense head's arguments those with a value a level; shared weights refuse different ones by themselves."""
    values = {} if shared else {"channels": channels, "quality_prior": quality_prior}
    written = {k: (len(v), str(v[len(v) // 2])) for k, v in values.items() if isinstance(v, tuple) and v}
    generator = produced(priors)
    assert issubclass(generator, PriorGenerator)
    of_priors = generator.levels_written(dict(priors.args))
    return {**written, **{f"priors.{name}": (count, "none") for name, count in of_priors.items()}}


def check_level_counts(who: str, written: Written, in_specs: Sequence[FeatureSpec], finest: int, coarsest: int) -> None:
    """ValueError where arguments of a head are written out for another number of levels than it would read.

    finest, coarsest: the head's. The message names all arguments that must change, as flags, so that one is enough.
    """
    strides = [min(s.stride_yx) for s in in_specs]
    first = finest if finest in strides else strides[0]
    read = [s for s in in_specs if first <= min(s.stride_yx) and max(s.stride_yx) <= max(coarsest, first)]
    wrong = {name: text for name, (count, text) in written.items() if count != len(read)}
    if not wrong:
        return
    counts = {count for count, _ in written.values()}
    start = [f"--head.finest={first}"] if first != finest else []
    start += [f"--head.coarsest={first}"] if coarsest < first else []
    free = " ".join([*start, *(f"--head.{name}={text}" for name, text in wrong.items())])
    ways = [_levels_for(counts.pop(), in_specs, first, finest, coarsest)] if len(counts) == 1 else []
    ways.append(f"give it values for any number of levels ({free})")
    wanted = " and ".join(
        f"for each of {n} levels ({', '.join(k for k in wrong if written[k][0] == n)})"
        for n in sorted({written[k][0] for k in wrong})
    )
    came = [s.stride_yx[0] if s.stride_yx[0] == s.stride_yx[1] else s.stride_yx for s in read]
    missing = f" (it wants to start at {finest})" if first != finest else ""
    raise ValueError(
        f"{who} has values {wanted}, but here it reads {len(came)}, of strides {came}{missing}: {', or '.join(ways)}"
    )


def _levels_for(wanted: int, in_specs: Sequence[FeatureSpec], first: int, finest: int, coarsest: int) -> str:
    """How the neck, or the head's choice of its levels, leaves as many as are wanted."""
    squares = [s.stride for s in in_specs if s.stride_yx[0] == s.stride_yx[1] and s.stride_yx[0] >= first]
    if first != finest:
        last = finest * 2 ** (wanted - 1)
        return (
            f"choose a neck that gives {wanted} levels from stride {finest} to {last} "
            f"({_flags('--neck fpn', f'--neck.finest={finest}', f'--neck.coarsest={last}', _up_to(last, coarsest))})"
        )
    band = "" if len(squares) == len(in_specs) else "--neck.band=0"
    diagonal = "take the matrix's diagonal alone, " if band else ""
    if len(squares) < wanted:
        last = first * 2 ** (wanted - 1)
        flags = _flags(band, f"--neck.coarsest={last}", _up_to(last, coarsest))
        return (
            f"{diagonal}end the neck at stride {last} ({flags}) if it is one that makes levels beyond the backbone's "
            "(fpn, pan, bifpn)"
        )
    last = squares[wanted - 1]
    narrower = f"--head.coarsest={last}" if len([s for s in squares if s <= coarsest]) != wanted else ""
    return f"{diagonal or 'choose fewer '}({_flags(band, narrower)})".replace(", (", " (")


def _up_to(last: int, coarsest: int) -> str:
    return f"--head.coarsest={last}" if coarsest < last else ""


def _flags(*flags: str) -> str:
    return " ".join(flag for flag in flags if flag)
