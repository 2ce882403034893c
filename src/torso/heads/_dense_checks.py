"""What a dense head refuses when it is put together: arguments that no network, or none that learns, can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from torso.errors import PartError, Settings, mismatch
from torso.geometry.priors._base import PriorGenerator
from torso.layers.conv import Norm
from torso.parts import Part, produced
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
        raise mismatch(
            f"DenseHead.{name}",
            f"one number, or with shared=false one for each of its {levels} levels, fine to coarse",
            value,
            remedies=[{f"head.{name}": value[len(value) // 2]}] if value else [],
        )
    return value


def check_norms(who: str, norm: Norm, *, tower: int, level_norms: bool, shared: bool, levels: int) -> None:
    """Norms that would be trained on other statistics than they run with, or that have no place."""
    if level_norms and (norm == "none" or not shared):
        raise PartError(
            f"{who}: level_norms=true gives shared convolutions a norm a level; got norm={norm!r}, shared={shared}",
            remedies=[
                {"head.shared": True, "head.norm": "bn" if norm == "none" else norm},
                {"head.level_norms": False},
            ],
        )
    if shared and norm in ("bn", "bn_tf", "bn_yolo") and tower and levels > 1 and not level_norms:
        ways = {"head.level_norms": True}, {"head.norm": "gn"}, {"head.norm": "none"}, {"head.shared": False}
        raise PartError(
            f"{who}: one BatchNorm for {levels} levels sees each level's own statistics in training and their "
            "mixture afterwards, and detects nothing",
            remedies=ways,
        )


def check_depthwise(incoming: Sequence[int], widths: Sequence[int], separable: bool) -> None:
    """Depthwise towers cannot change the width of a map."""
    if separable or set(incoming) != set(widths):
        raise PartError(
            f"a dense head of depthwise=true keeps the width of its maps and is not separable; got maps of "
            f"{set(incoming)} channels, towers of {set(widths)} and separable={separable}: set channels to the neck's"
        )


def check_priors(who: str, per_location: Sequence[int], shared: bool) -> None:
    """Shared weights say the same number of things at every location."""
    if shared and len(set(per_location)) > 1:
        raise PartError(
            f"{who}: shared=true expects the same number of priors a location on every level, got "
            f"{tuple(per_location)}",
            remedies=[{"head.shared": False}],
        )


Written = Mapping[str, tuple[int, object]]
"""{argument: (for how many levels it is written out, a value of it that serves any number)}."""


def written_values(
    channels: int | tuple[int, ...],
    quality_prior: float | tuple[float, ...],
    priors: Part[PriorGenerator],
    shared: bool,
) -> Written:
    """Of a dense head's arguments those with a value a level; shared weights refuse different ones by themselves."""
    values = {} if shared else {"channels": channels, "quality_prior": quality_prior}
    written = {k: (len(v), v[len(v) // 2]) for k, v in values.items() if isinstance(v, tuple) and v}
    generator = produced(priors)
    assert issubclass(generator, PriorGenerator)
    of_priors = generator.levels_written(dict(priors.args))
    return {**written, **{f"priors.{name}": (count, None) for name, count in of_priors.items()}}


def check_level_counts(who: str, written: Written, in_specs: Sequence[FeatureSpec], finest: int, coarsest: int) -> None:
    """PartError where arguments of a head are written out for another number of levels than it would read.

    finest, coarsest: the head's. Each remedy holds all arguments that must change, so that one is enough.
    """
    strides = [min(s.stride_yx) for s in in_specs]
    first = finest if finest in strides else strides[0]
    read = [s for s in in_specs if first <= min(s.stride_yx) and max(s.stride_yx) <= max(coarsest, first)]
    wrong = {name: count for name, (count, _) in written.items() if count != len(read)}
    if not wrong:
        return
    start = {"head.finest": first} if first != finest else {}
    free = {**start, **_up_to(first, coarsest), **{f"head.{name}": written[name][1] for name in wrong}}
    counts = {count for count, _ in written.values()}
    wanted = " and ".join(
        f"for each of {n} levels ({', '.join(k for k in wrong if wrong[k] == n)})" for n in sorted(set(wrong.values()))
    )
    got = [s.stride_yx[0] if s.stride_yx[0] == s.stride_yx[1] else s.stride_yx for s in read]
    missing = f" (it expects to start at {finest})" if first != finest else ""
    raise PartError(
        f"{who} has values {wanted}, but here it reads {len(got)}, of strides {got}{missing}",
        remedies=[*([_levels_for(counts.pop(), in_specs, first, finest, coarsest)] if len(counts) == 1 else []), free],
    )


def _levels_for(count: int, in_specs: Sequence[FeatureSpec], first: int, finest: int, coarsest: int) -> Settings:
    """How the neck, or the head's choice of its levels, leaves as many as the head is written for."""
    squares = [s.stride for s in in_specs if s.stride_yx[0] == s.stride_yx[1] and s.stride_yx[0] >= first]
    if first != finest:
        last = finest * 2 ** (count - 1)
        return {"neck": "fpn", "neck.finest": finest, "neck.coarsest": last, **_up_to(last, coarsest)}
    band = {} if len(squares) == len(in_specs) else {"neck.band": 0}  # of a matrix, its diagonal alone
    if len(squares) < count:
        last = first * 2 ** (count - 1)
        return {**band, "neck.coarsest": last, **_up_to(last, coarsest)}
    narrower = len([s for s in squares if s <= coarsest]) != count
    return {**band, **({"head.coarsest": squares[count - 1]} if narrower else {})}


def _up_to(last: int, coarsest: int) -> Settings:
    return {"head.coarsest": last} if coarsest < last else {}
