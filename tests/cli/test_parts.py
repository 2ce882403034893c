"""`torso parts`, and the reading of signatures by ast that it stands on: the same as Python's own, for every part."""

from __future__ import annotations

import inspect
import json

import pytest
from cli.commands import Command

from torso.cli._signature import ancestors, read_signature
from torso.cli.parts import _ABOUT
from torso.parts import KINDS, describe, find, named, names

PARTS = [(kind, name) for kind in KINDS for name in names(kind)]


@pytest.mark.parametrize(("kind", "name"), PARTS, ids=[f"{k}.{n}" for k, n in PARTS])
def test_signatures_read_by_ast_are_pythons_own(kind: str, name: str) -> None:
    target = find(name, kind)
    shown = target
    if inspect.isfunction(target) and kind not in ("zoo", "recipes"):  # a preset shows what its part can be given
        shown = named(name, kind).target
    wanted = {n: p for n, p in inspect.signature(shown).parameters.items() if p.kind is p.KEYWORD_ONLY}
    got = read_signature(kind, name)
    assert [a.name for a in got.arguments] == list(wanted)
    assert got.symbol == target.__name__
    assert got.line
    for argument in got.arguments:
        default = wanted[argument.name].default
        if shown is not target:
            default = named(name, kind).get(argument.name)
        if default is inspect.Parameter.empty:
            assert argument.default is None
        elif isinstance(default, str | int | bool | None) and argument.default is not None:
            assert argument.default == repr(default) or not isinstance(default, str | bool)


def test_ancestors_tell_class_losses_from_box_losses() -> None:
    assert "BoxLoss" in ancestors("losses", "l1")
    assert "ClassLoss" in ancestors("losses", "focal")


def test_all_kinds_are_listed_with_a_line_each(torso: Command) -> None:
    done = torso("parts")
    assert done.code == 0
    assert all(kind in done.out for kind in KINDS)
    assert all(line in done.out for kind in KINDS for line in describe(kind).values())
    assert set(_ABOUT) == set(KINDS)


@pytest.mark.parametrize("word", ["necks", "neck"])
def test_one_kind_as_json(torso: Command, word: str) -> None:
    listed = json.loads(torso("parts", word, "--json").out)["necks"]
    assert "own levels" in listed.pop("none")
    assert listed == describe("necks")


@pytest.mark.parametrize("what", ["necks.none", "neck.none", "blocks.none", "samplers.none", "suppression.none"])
def test_none_is_listed_wherever_it_may_be_given(torso: Command, what: str) -> None:
    kind = what.partition(".")[0]
    assert any(line.startswith("  none ") for line in torso("parts", kind).out.splitlines())
    page = torso("parts", what)
    assert page.code == 0
    assert "no argument" in page.out or kind == "suppression"
    assert "heads.none" not in torso("parts", "none").sentence
    assert "necks.none" in torso("parts", "none").sentence


def test_one_part_shows_its_arguments(torso: Command) -> None:
    page = torso("parts", "necks.fpn").out
    assert "channels" in page
    assert "= 256" in page
    assert "1612.03144" in page
    assert json.loads(torso("parts", "neck.fpn", "--json").out)["symbol"] == "FPN"
    assert torso("parts", "fpn").out == page


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("fpnn", "did you mean 'fpn'"),
        ("necks.fpnn", "no neck is called 'fpnn'"),
        ("nekcs.fpn", "no kind of part is called 'nekcs'; did you mean 'necks'"),
        ("fcos", "zoo.fcos, heads.fcos"),
    ],
)
def test_mistakes(torso: Command, word: str, said: str) -> None:
    done = torso("parts", word)
    assert done.code == 2
    assert said in done.sentence
