"""Compositions at their smallest, and a small set of them in which every pair of parts meets (a covering array)."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from contract_cases import default, smallest
from torch import nn

from torso.backbones._base import Backbone
from torso.backbones.timm import Timm
from torso.compose import swap_model
from torso.heads._dense_checks import written_values
from torso.heads.dense import DenseHead
from torso.models.detector import Detector
from torso.parts import Part, arguments, find, names, part, produced
from torso.types import FeatureSpec

Specs = tuple[FeatureSpec, ...]

# of each family of timm's that has a name here, a small member; the rest of a family differs in numbers alone
TIMM = {
    "resnet": part(Timm, name="test_resnet"),
    "efficientnet": part(Timm, name="test_efficientnet"),
    "csp": part(Timm, name="cs3darknet_s"),
    "darknet": part(Timm, name="darknet17"),
    "swin": part(Timm, name="swin_tiny_patch4_window7_224", stage_norms=True),
    "vgg": part(Timm, name="vgg11"),
}
NARROW = {"width": 0.125, "depth": 0.1}  # of backbones whose size is a factor
NOTHING = "none"


class Row(NamedTuple):
    """One composition: a backbone's key, a block behind it, a neck, a head, by name."""

    backbone: str
    block: str
    neck: str
    head: str


@functools.cache
def backbones() -> Mapping[str, Part[Backbone]]:
    """One of every class at its smallest, and of timm's one of every family."""
    own = [n for n in names("backbones") if inspect.isclass(find(n, "backbones")) and n != "timm"]
    small = {f"small_{n}": _narrow(smallest(default("backbones", n))) for n in own}
    return {**{f"timm_{k}": p for k, p in TIMM.items()}, **small}


def _narrow(p: Part[Any]) -> Part[Any]:
    changes = {k: v for k, v in NARROW.items() if k in arguments(p.target) and isinstance(p.get(k), float)}
    return p.with_args(**changes)


@functools.cache
def factors() -> Row:
    """The levels of each factor, as a Row of tuples."""
    necks = [n for n in names("necks") if n != "at_levels"]  # stands behind every block's name
    return Row(tuple(backbones()), (NOTHING, *names("blocks")), (NOTHING, *necks), tuple(names("heads")))  # type: ignore[arg-type]


@functools.cache
def _zoo_by_head() -> Mapping[Any, Part[Detector]]:
    return {model.get("head").target: model for name in reversed(names("zoo")) if (model := find(name, "zoo")())}


@functools.cache
def _model_of(head: str, neck: str) -> Part[Detector]:
    """The zoo's model with that head, its neck swapped, turned down; a head without one stands in RetinaNet's."""
    own = _zoo_by_head().get(find(head, "heads"))
    model = swap_model(own or find("retinanet", "zoo")(), neck=neck, head=None if own else head)
    chain = model.get("neck")
    return smallest(model).with_args(neck=tuple(map(_small_neck, (chain,) if isinstance(chain, Part) else chain)))


def _small_neck(neck: Part[Any]) -> Part[Any]:
    """As many widths as it has, since they say how many levels it makes; None is left to what comes in."""
    if not neck.accepts("widths"):
        return smallest(neck)
    widths = neck.get("widths")
    return smallest(neck).with_args(widths=widths and (16,) * len(widths))


class Settings(NamedTuple):
    """What is set by hand beyond what the swap carries over.

    neck, head: levels. values: such as serve any number of levels, where the head has one for each of a fixed number.
    """

    neck: tuple[tuple[str, int], ...] = ()
    head: tuple[tuple[str, int], ...] = ()
    values: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        said = [("neck", self.neck), ("head", self.head), ("head", self.values)]
        return " ".join(f"--{k}.{n}={v}" for k, args in said for n, v in args)


AS_IT_IS = Settings()


def model_of(row: Row, settings: Settings) -> Part[Detector]:
    """The head's own model with the other parts swapped, as `torso show` does, all of it turned down."""
    chain = "+".join(n for n in (row.block, row.neck) if n != NOTHING) or NOTHING
    model = _model_of(row.head, chain)
    necks = model.get("neck")
    if row.neck != NOTHING:
        necks = (*necks[:-1], necks[-1].with_args(**dict(settings.neck)))
    head = model.get("head").with_args(**dict(settings.head))
    for name, text in settings.values:
        head = head.override(name, text)
    return model.with_args(backbone=backbone_of(row.backbone), neck=necks, head=head)


def backbone_of(key: str) -> Part[Backbone]:
    """A small one by its key here, or one by its name, of its full size."""
    return backbones().get(key) or default("backbones", key)


def build_behind(specs: Specs, model: Part[Detector]) -> tuple[nn.ModuleList, nn.Module]:
    """Necks and head of a model, behind a backbone that is there already."""
    necks = nn.ModuleList()
    for neck in model.get("neck"):
        built = neck.build(specs)
        necks.append(built)
        specs = built.out_specs
    return necks, model.get("head").build(specs)


@functools.cache
def specs_of(backbone: str) -> Specs:
    with torch.device("meta"):
        return tuple(backbone_of(backbone).build().out_specs)


@functools.cache
def _neck_specs(specs: Specs, neck: Part[Any]) -> Specs | str:
    """What a neck publishes, or what it refuses with. Other errors than ValueError are not caught."""
    try:
        with torch.device("meta"):
            return tuple(neck.build(specs).out_specs)
    except ValueError as error:
        return str(error)


@functools.cache
def _head_refusal(specs: Specs, head: Part[Any]) -> str | None:
    try:
        with torch.device("meta"):
            head.build(specs)
    except ValueError as error:
        return str(error)
    return None


@functools.cache
def refusal(row: Row, settings: Settings = AS_IT_IS) -> str | None:
    """What a composition is refused with, None where it is built."""
    model = model_of(row, settings)
    specs: Specs | str = specs_of(row.backbone)
    for one in model.get("neck"):
        assert not isinstance(specs, str)
        specs = _neck_specs(specs, one)
    return specs if isinstance(specs, str) else _head_refusal(specs, model.get("head"))


def settings_of(row: Row) -> Settings | None:
    """Settings with which its parts go together: as they are if they do, else the first that do of the ways that the
    refusals name, the head's own values for its levels given up last; None where none does.
    """
    # a block only changes widths, which every neck brings to its own: one answer for all of them
    return _first_settings(row if row.neck == NOTHING else row._replace(block=NOTHING))


@functools.cache
def _first_settings(row: Row) -> Settings | None:
    return next((s for s in _settings(row) if refusal(row, s) is None), None)


def _settings(row: Row) -> Iterator[Settings]:
    yield AS_IT_IS
    yield from _levels(row)
    if values := _for_any_number(row.head):
        yield Settings(values=values)
        yield from (levels._replace(values=values) for levels in _levels(row))


@functools.cache
def _for_any_number(head: str) -> tuple[tuple[str, str], ...]:
    """Of the arguments of a model's head that are written out a level: a value of each that serves any number."""
    own = _model_of(head, NOTHING).get("head")
    if not issubclass(produced(own), DenseHead):
        return ()
    written = written_values(*(own.get(n) for n in ("channels", "quality_prior", "priors", "shared")))
    return tuple((name, text) for name, (_, text) in written.items())


def _levels(row: Row) -> Iterator[Settings]:
    specs = specs_of(row.backbone)
    necks: list[dict[str, int]] = [{}]
    if row.neck != NOTHING:
        own = default("necks", row.neck)
        levels = {n: own.get(n) for n in ("finest", "coarsest") if own.accepts(n)}
        starts = [s.stride for s in specs if "finest" in levels and s.stride >= 4]
        necks += [levels, *(levels | {"finest": s} for s in starts)]
        if "coarsest" in levels:  # five levels, or those of the backbone alone
            necks += [{"finest": s, "coarsest": c} for s in starts for c in (16 * s, specs[-1].stride) if c >= s]
    for changes in necks:
        out: Specs | str = specs
        for one in model_of(row, Settings(tuple(changes.items()))).get("neck"):
            out = out if isinstance(out, str) else _neck_specs(out, one)
        if not isinstance(out, str):
            for levels in _head_levels(row.head, out):
                yield Settings(tuple(changes.items()), tuple(levels.items()))


def _head_levels(head: str, specs: Specs) -> Iterator[dict[str, int]]:
    """Its own, then from each level that comes on."""
    own = default("heads", head)
    known = {n: own.get(n) for n in ("finest", "coarsest") if own.accepts(n)}
    yield {}
    yield known
    strides = [max(s.stride_yx) for s in specs]
    for start in strides:
        if start >= 4:
            yield {n: v for n, v in (("finest", start), ("coarsest", max(strides))) if n in known}


Pair = tuple[tuple[int, str], tuple[int, str]]


def pairs_of(row: Row) -> Iterator[Pair]:
    """Every two of its parts, with the factor that each belongs to."""
    return itertools.combinations(enumerate(row), 2)


@functools.cache
def covering_array() -> tuple[tuple[Row, ...], frozenset[Pair]]:
    """Rows that can be built, in which every two parts meet that can; and the pairs that no row can hold.

    Greedy and deterministic: the first pair that is left is completed so that most other pairs are met too.
    """
    levels = factors()
    left = dict.fromkeys(
        p for a, b in itertools.combinations(range(4), 2)
        for p in itertools.product([(a, x) for x in levels[a]], [(b, x) for x in levels[b]])
    )  # fmt: skip
    rows, never = [], []
    while left:
        pair = next(iter(left))
        fixed = dict(pair)
        options = (Row(*o) for o in itertools.product(*([fixed[i]] if i in fixed else levels[i] for i in range(4))))
        ranked = sorted(options, key=lambda row: -sum(p in left for p in pairs_of(row)))
        row = next((r for r in ranked if settings_of(r) is not None), None)
        if row is None:
            never.append(pair)
            del left[pair]
            continue
        rows.append(row)
        for p in pairs_of(row):
            left.pop(p, None)
    return tuple(rows), frozenset(never)
