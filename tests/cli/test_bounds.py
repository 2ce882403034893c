"""Bounds in signatures: Part, the constructor called directly and the command line refuse a value just outside each."""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Interval
from cli.commands import Command

import torso
from torso.cli._bounds import check_texts, hint, shown
from torso.cli._flags import UsageError
from torso.cli._signature import read_signature
from torso.engine.run_folder import RunOptions
from torso.errors import PartError
from torso.inference.predictor import Predictor
from torso.parts import KINDS, find, names, part
from torso.plain_values import check_fields, checked
from torso.suppression._base import Limits


def bounds_of(annotation: Any) -> Iterator[tuple[type, Interval]]:
    """Every bounded number that an annotation holds."""
    if typing.get_origin(annotation) is Annotated and typing.get_args(annotation)[0] in (int, float):
        kind, *metadata = typing.get_args(annotation)
        yield from ((kind, bound) for bound in metadata if isinstance(bound, Interval))
    for inner in typing.get_args(annotation):
        yield from bounds_of(inner)


def simple(annotation: Any) -> Any:
    """The bounded number itself, if it is one or one or none; None for lists and the like."""
    options = [a for a in typing.get_args(annotation) if a is not type(None)]
    if typing.get_origin(annotation) is Annotated:
        options = [annotation]
    bounded = len(options) == 1 and typing.get_origin(options[0]) is Annotated
    return options[0] if bounded and typing.get_args(options[0])[0] in (int, float) else None


def arguments() -> Iterator[tuple[str, str, str, type, Interval]]:
    for kind in KINDS:
        for name in names(kind):
            target = find(name, kind)
            init = target.__init__ if inspect.isclass(target) else target  # type: ignore[misc]
            for argument, annotation in typing.get_type_hints(init, include_extras=True).items():
                number = simple(annotation)
                if number is not None:
                    yield from ((kind, name, argument, *found) for found in bounds_of(number))


def outside(kind: type, bound: Interval) -> list[Any]:
    """Values just outside."""
    step = 1 if kind is int else 1e-6
    ends = [b for b in (bound.gt, bound.lt) if b is not None]
    ends += [bound.ge - step] if bound.ge is not None else []
    ends += [bound.le + step] if bound.le is not None else []
    return ends + ([math.nan, math.inf, -math.inf] if kind is float else [])


def inside(bound: Interval) -> list[Any]:
    """The closed ends."""
    return [end for end in (bound.ge, bound.le) if end is not None]


CASES = list(arguments())


def test_the_walk_finds_them_in_every_kind_that_has_numbers() -> None:
    assert len(CASES) > 150
    found = {kind for kind, *_ in CASES}
    assert {"backbones", "blocks", "necks", "heads", "coders", "priors", "inputs", "suppression", "losses"} <= found
    assert {"samplers", "recipes", "transforms"} <= found


@pytest.mark.parametrize(("kind", "name", "argument", "of", "bound"), CASES, ids=lambda v: str(v)[:30])
def test_part_and_constructor_hold_a_bound(kind: str, name: str, argument: str, of: type, bound: Interval) -> None:
    target = find(name, kind)
    for value in outside(of, bound):
        with pytest.raises(PartError, match=rf"\.{argument}: expected .*, got ") as refused:
            part(target, **{argument: value})
        assert refused.value.argument == f"{target.__name__}.{argument}"
        with pytest.raises(PartError, match=rf"\.{argument}: expected .*, got "):
            target(**{argument: value})
    for value in inside(bound):
        assert part(target, **{argument: value}).get(argument) == value
        try:
            target(**{argument: value})
        except TypeError:  # its neighbours are missing; the value was looked at before
            pass
        except PartError as error:
            related = "=" in str(error.expected)  # to another argument: "at least short=800"
            if error.argument == f"{target.__name__}.{argument}" and not related:
                raise
        except ValueError:  # of its neighbours or of several arguments together
            pass


@pytest.mark.parametrize(("kind", "name", "argument", "of", "bound"), CASES[::7], ids=lambda v: str(v)[:30])
def test_the_command_line_reads_the_same_bound(kind: str, name: str, argument: str, of: type, bound: Interval) -> None:
    written = next(a.annotation for a in read_signature(kind, name).arguments if a.name == argument)
    assert [found for _, found in bounds_of(hint(written))][:1] == [bound]
    assert "Annotated" not in shown(written)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("show retinanet --neck.channels=0", "--neck.channels: expected a whole number of at least 1"),
        ("show retinanet --suppression.score_threshold=1", "of at least 0 and below 1, got '1'"),
        ("show retinanet --head.priors.base_scale=0", "--head.priors.base_scale: expected a number above 0, got '0'"),
        (
            "show retinanet --suppression soft_nms --suppression.sigma=nan",
            "--suppression.sigma: expected a number above 0",
        ),
        ("show retinanet --lr=0", "--lr: expected a number above 0, got '0'"),
        ("show retinanet --close-mosaic=1.1", "--close-mosaic: expected a number from 0 to 1, got '1.1'"),
        ("show retinanet --tiles 640 --overlap 0.95", "--overlap: expected a number from 0 to 0.9, got '0.95'"),
        ("train retinanet --data . --eval-every 0", "--eval-every: expected a whole number of at least 1"),
        ("train retinanet --data . --holdout 1", "--holdout: expected a number above 0 and below 1, got 1.0"),
    ],
)
def test_a_flag_out_of_bounds_is_refused(torso: Command, flags: str, said: str) -> None:
    refused = torso(*flags.split())
    assert refused.code == 2
    assert said in refused.sentence


def test_a_value_that_one_of_the_parts_could_take_is_left_to_the_one_that_is_chosen() -> None:
    check_texts({"neck.channels": "64"}, {})
    check_texts({"head.channels": "1,2,3"}, {})
    with pytest.raises(UsageError, match=r"--suppression\.method"):
        check_texts({"suppression.method": "hard"}, {"suppression": "soft_nms"})
    check_texts({"suppression.method": "hard"}, {})  # softer_nms has it


def test_help_and_parts_show_the_bound(torso: Command) -> None:
    assert "number above 0" in torso("train", "--help").out
    assert re.search(r"overlap +float from 0 to 0\.9 +=", torso("parts", "inputs.tiles").out)


def test_functions_and_records_that_are_no_parts() -> None:
    @checked
    def halved(value: Annotated[float, Interval(ge=0, le=1)], *, way: typing.Literal["up", "down"] = "up") -> float:
        return value / 2

    assert halved(1) == 0.5
    with pytest.raises(PartError, match=r"halved\.value: expected a number from 0 to 1, got 1\.5"):
        halved(1.5)
    with pytest.raises(PartError, match=r"halved\.way: expected one of 'up', 'down', got 'left'"):
        halved(0, way="left")  # type: ignore[arg-type]
    with pytest.raises(PartError, match=r"Predictor\.batch_size: expected a whole number of at least 1, got 0"):
        Predictor(None, batch_size=0)  # type: ignore[arg-type]
    with pytest.raises(PartError, match=r"RunOptions\.eval_every: expected a whole number of at least 1, got 0"):
        RunOptions(eval_every=0)
    with pytest.raises(PartError, match=r"Limits\.max_detections"):
        check_fields(Limits(max_detections=0))


NAMES_FLAGS = (
    "training/criteria",
    "training/assigners",
    "training/combinations",
    "training/compose_recipe",
    "engine/train",
)
"""Still to be rid of them."""


def test_the_library_names_no_flags() -> None:
    root = Path(torso.__file__).parent
    naming = {
        str(file.relative_to(root)): line.strip()
        for file in sorted(root.rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"(?<![\w-])--[a-z]", line)
    }
    allowed = ("cli/", "report/page.py", *NAMES_FLAGS)
    assert not {file: line for file, line in naming.items() if not file.startswith(allowed)}
