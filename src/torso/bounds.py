"""Types of bounded numbers for signatures: checked by Part, by direct calls (`plain_values`) and by the command line.

A bound that only one argument has is written in its own signature: `Annotated[float, Interval(ge=0, le=0.9)]`.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MultipleOf, Predicate


def odd(value: int) -> bool:
    """Whether a kernel has a middle."""
    return value % 2 == 1


Count = Annotated[int, Interval(ge=1)]
Whole = Annotated[int, Interval(ge=0)]
Odd = Annotated[int, Interval(ge=1), Predicate(odd)]
Even = Annotated[int, Interval(ge=2), MultipleOf(2)]
Positive = Annotated[float, Interval(gt=0)]
NotNegative = Annotated[float, Interval(ge=0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
AtLeastOne = Annotated[float, Interval(ge=1)]
BelowOne = Annotated[float, Interval(ge=0, lt=1)]
Fraction = Annotated[float, Interval(gt=0, le=1)]
Share = Annotated[float, Interval(gt=0, lt=1)]
Exponent = Annotated[float, Interval(gt=0, le=32)]  # of sizes said by exp: two of them are a finite area in float32
Size = tuple[Count, Count]
