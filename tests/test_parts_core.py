"""Parts: bound and checked at once, frozen, comparable, overridden by text, named only inside the house."""

from __future__ import annotations

import pickle
from typing import Any, Literal

import pytest

from torso.necks.fpn import FPN
from torso.parts import (
    Part,
    PartError,
    describe,
    find,
    names,
    nearest,
    part,
    preset,
    qualified_name,
)
from torso.training.losses.focal import FocalLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.zoo.retinanet import retinanet


class Engine:
    def __init__(self, *, power: int, fuel: Literal["wind", "sun"] = "wind", ratio: float | None = None) -> None:
        self.power, self.fuel, self.ratio = power, fuel, ratio


class Turbine(Engine):
    pass


class Car:
    def __init__(
        self,
        wheels: int,
        *,
        engine: Part[Engine] = part(Engine, power=1),
        spares: tuple[Part[Engine], ...] | Part[Engine] | None = None,
        size_hw: tuple[int, int] = (1, 2),
        gears: tuple[float, ...] = (),
        open: bool = False,
        name: str = "car",
    ) -> None:
        self.wheels, self.engine, self.gears = wheels, engine.build(), gears


def test_building_passes_the_neighbours_first() -> None:
    car = part(Car, engine=part(Engine, power=3)).build(4)
    assert (car.wheels, car.engine.power) == (4, 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"enginee": 1}, "Car has no argument 'enginee'; did you mean 'engine'"),
        ({"wheels": 4}, "Car has no argument 'wheels'"),  # the neighbour's to say
        ({"open": 1}, "open: expected true or false, got 1"),
        ({"name": 3}, "name: expected text, got 3"),
        ({"size_hw": (1, 2, 3)}, r"size_hw: expected 2 values \(a whole number, a whole number\)"),
        ({"size_hw": (1, 2.5)}, r"size_hw: expected 2 values \(a whole number, a whole number\)"),
        ({"engine": 3}, "engine: expected a Engine part, got 3"),
        ({"engine": part(FocalLoss)}, r"engine: expected a Engine part, got part\(FocalLoss\)"),
        ({"engine": Engine(power=1)}, r"engine: expected a Engine part, got <test_parts_core\.Eng"),
        (
            {"spares": [part(Engine, power=1), 3]},
            r"spares: expected a list of a Engine part or a Engine part or none, got \(part\(Engine, power=1\), 3\)",
        ),
    ],
)
def test_mistakes_fail_on_their_own_line(args: dict[str, Any], message: str) -> None:
    with pytest.raises(PartError, match=message):
        part(Car, **args)


def test_whole_numbers_are_numbers_and_lists_are_frozen() -> None:
    p = part(Car, gears=[1, 2.5], spares=[part(Engine, power=1)])
    assert p.get("gears") == (1, 2.5)
    assert isinstance(p.get("spares"), tuple)
    assert part(Engine, power=1, ratio=2).get("ratio") == 2


def test_a_subclass_fits() -> None:
    assert isinstance(part(Car, engine=part(Turbine, power=2)).build(3).engine, Turbine)


def test_frozen_hashable_comparable() -> None:
    a, b = part(Engine, power=1, fuel="sun"), part(Engine, fuel="sun", power=1)
    assert a == b
    assert hash(a) == hash(b)
    assert a != part(Engine, power=1)
    assert len({a, b}) == 1
    assert pickle.loads(pickle.dumps(a)) == a
    with pytest.raises(AttributeError, match=r"use \.with_args\(power=\.\.\.\)"):
        a.power = 3  # type: ignore[attr-defined]
    assert a.with_args(power=2) == part(Engine, power=2, fuel="sun")
    assert a.get("power") == 1


def test_get_gives_the_default() -> None:
    assert part(Engine, power=1).get("fuel") == "wind"
    assert part(Car).get("engine") == part(Engine, power=1)
    with pytest.raises(PartError, match="has no argument 'full'; did you mean 'fuel'"):
        part(Engine, power=1).get("full")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("engine.power", "7", 7),
        ("engine.fuel", "sun", "sun"),
        ("engine.ratio", "none", None),
        ("engine.ratio", "0.5", 0.5),
        ("engine.ratio", "1e-3", 1e-3),
        ("size_hw", "3,4", (3, 4)),
        ("size_hw", "[3, 4]", (3, 4)),
        ("gears", "1,2,3", (1, 2, 3)),
        ("gears", "0.5", (0.5,)),
        ("gears", "fast", None),
        ("open", "true", True),
        ("open", "False", False),
        ("name", "5", "5"),
        ("name", "none", "none"),
        ("name", "a,b", "a,b"),
    ],
)
def test_text_is_read_by_the_arguments_type(path: str, text: str, value: object) -> None:
    p: Part[Any] = part(Car)
    if path == "gears" and value is None:
        with pytest.raises(PartError, match=r"expected a list of a number, got 'fast'"):
            p.override(path, text)
        return
    got: Any = p.override(path, text)
    for name in path.split("."):
        got = got.get(name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("engin.power", "1", "did you mean 'engine'"),
        ("engine.powr", "1", "did you mean 'power'"),
        ("engine.power", "strong", "power: expected a whole number, got 'strong'"),
        ("engine.fuel", "coal", "fuel: expected one of 'wind', 'sun', got 'coal'"),
        ("name.x", "1", "name is 'car', which has no argument 'x'"),
        ("spares.0.power", "1", "which has no argument"),
        ("open", "maybe", "open: expected true or false, got 'maybe'"),
    ],
)
def test_wrong_overrides_say_what_was_expected(path: str, text: str, message: str) -> None:
    with pytest.raises(PartError, match=message):
        part(Car).override(path, text)


def test_overrides_reach_into_lists() -> None:
    two = part(Car, spares=(part(Engine, power=1), part(Engine, power=2)))
    assert two.override("spares.1.power", "9").get("spares")[1].get("power") == 9
    with pytest.raises(PartError, match="holds 2 parts from 0 on"):
        two.override("spares.2.power", "9")
    one = part(Car, spares=(part(Engine, power=1),))
    assert one.override("spares.power", "9").get("spares")[0].get("power") == 9


def test_a_part_is_overridden_by_name() -> None:
    model = retinanet(num_classes=2)
    assert model.override("suppression", "none").get("suppression").name == "suppression.none"
    assert model.override("neck", "pan").get("neck").name == "necks.pan"
    assert model.override("neck", "none").get("neck") == ()
    with pytest.raises(PartError, match=r"neck: expected a Neck part .* got 'panther'"):
        model.override("neck", "panther")


def test_swapped_keeps_what_both_know() -> None:
    old = part(FPN, channels=128, finest=4, extra="pool")
    new = old.swapped(part("necks.pan", channels=64))
    assert dict(new.args) == {"channels": 64, "finest": 4, "extra": "pool"}
    assert dict(part(FocalLoss, alpha=0.3).swapped(part(SmoothL1Loss)).args) == {}


def test_swapped_leaves_behind_what_the_other_cannot_take() -> None:
    old = part("necks.csp_pan", channels=None, finest=4)
    assert dict(old.swapped(part(FPN)).args) == {"finest": 4}


def test_round_trip_of_a_model() -> None:
    model = retinanet(num_classes=3)
    data = model.to_dict()
    assert next(iter(data)) == "part"
    assert Part.from_dict(data) == model
    assert Part.from_dict(data).to_dict() == data


def test_only_the_house_can_be_named() -> None:
    with pytest.raises(PartError, match=r"'os:system' lies outside torso .*allow=\('os',\)"):
        find("os:system")
    with pytest.raises(PartError, match="no kind of part is called 'os'"):
        find("os.system")
    with pytest.raises(PartError, match="no neck is called '__init__'"):
        find("necks.__init__")
    with pytest.raises(PartError, match="no neck is called"):
        find("necks...data.files")
    with pytest.raises(PartError, match="defines no class called 'Path'"):  # imported there, not defined
        find("torso.weights:Path", allow=("torso.weights",))
    assert find(f"{__name__}:Engine", allow=(__name__,)) is Engine
    foreign = part(Engine, power=2)
    assert Part.from_dict(foreign.to_dict(), allow=(__name__,)) == foreign
    with pytest.raises(PartError, match="the key 'part'"):
        Part.from_dict({"power": 2})


def test_short_names_are_file_names() -> None:
    assert "fpn" in names("necks")
    assert not [n for n in names("necks") if n.startswith("_")]
    assert find("fpn", "necks") is FPN
    assert find("fpn") is FPN
    assert qualified_name(FPN) == "necks.fpn"
    assert part("necks.fpn", channels=8) == part(FPN, channels=8)
    with pytest.raises(PartError, match=r"it is a name of \[.*'heads'.*'assigners'.*\]: say which"):
        find("fcos")
    assert describe("necks")["fpn"].startswith("Feature pyramid network")


def test_nearest_lists_few_and_counts_many() -> None:
    assert nearest("fpm", ["fpn", "pan"]) == "did you mean 'fpn'?"
    assert nearest("zzz", ["fpn", "pan"]) == "there are fpn, pan"
    assert nearest("zzz", [f"model{i}" for i in range(50)]) == "there are 50, see `torso parts`"


def test_a_preset_changes_defaults_and_nothing_else() -> None:
    class Strong(Engine):
        __init__ = preset(Engine.__init__, {"power": 100})  # type: ignore[assignment]

    assert part(Strong).build().power == 100
    assert part(Strong, power=5).build().power == 5
    assert part(Strong).get("fuel") == "wind"
    with pytest.raises(PartError, match="has no argument 'speed'"):
        part(Strong, speed=1)
    with pytest.raises(PartError, match="a preset names 'speed', which is no argument"):
        preset(Engine.__init__, {"speed": 1})
