"""Heads with a value a level: how many levels they can read, and the whole way out where another number comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torso.geometry.priors._base import PriorGenerator
from torso.parts import Part, produced
from torso.types import FeatureSpec

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


def check_level_counts(
    who: str, written: Written, in_specs: Sequence[FeatureSpec], finest: int, coarsest: int
) -> None:
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
