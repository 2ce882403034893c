"""What every part of every folder promises: its constructor, its first line, its record as YAML."""

from __future__ import annotations

import inspect
import re

import pytest
from contract_cases import default

from torso.parts import KINDS, Part, describe, find, names, part
from torso.yaml_text import from_yaml, to_yaml

EVERY = [(kind, name) for kind in KINDS for name in names(kind)]
# kinds whose members are somebody's idea, so that the file must say whose
FROM_A_PAPER = ("backbones", "blocks", "necks", "heads", "zoo", "assigners", "samplers")
# what the part before it publishes; of a term the criterion, its assigner and what it divides by
NEIGHBOURS = ("in_specs", "in_channels", "strides_yx", "assigner", "normaliser_of_all")
OURS = {("heads", "dense"), ("recipes", "recipe")}


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_constructor_is_keyword_only_and_says_all_it_takes(kind: str, name: str) -> None:
    target = find(name, kind)
    for n, p in inspect.signature(target).parameters.items():
        assert p.kind is not inspect.Parameter.VAR_KEYWORD, f"**{n} swallows typing mistakes"
        assert p.kind is not inspect.Parameter.VAR_POSITIONAL
        if p.kind is not inspect.Parameter.KEYWORD_ONLY:  # what the neighbour before it publishes
            assert n in NEIGHBOURS, f"{n} must be keyword-only"
            assert p.default is inspect.Parameter.empty
        assert not isinstance(p.default, list | dict | set), f"{n} has a mutable default"


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_first_line_says_what_it_is_and_whose(kind: str, name: str) -> None:
    line = describe(kind)[name]
    assert 20 < len(line) <= 140
    assert line.endswith((".", ")"))
    if kind in FROM_A_PAPER and (kind, name) not in OURS:
        assert re.search(r"\b\d{4}\.\d{4,5}\b|https?://", line), "name the paper or the source"
    assert inspect.getdoc(find(name, kind))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_record_survives_yaml(kind: str, name: str) -> None:
    if kind == "models" or (kind, name) == ("recipes", "recipe"):
        pytest.skip("is made of parts; the zoo's are tested")
    made = default(kind, name)
    assert from_yaml(to_yaml(made)) == made
    assert Part.from_dict(made.to_dict()) == made
    assert made.name == f"{kind}.{name}" or inspect.isfunction(find(name, kind))  # a preset is a Part of its class
    if kind in ("zoo", "recipes"):
        composed = made.target(**dict(made.args))
        assert from_yaml(to_yaml(composed)) == composed
        assert hash(from_yaml(to_yaml(composed))) == hash(composed)


def test_the_zoo_and_its_recipes_go_together() -> None:
    assert set(names("zoo")) | {"recipe"} == set(names("recipes"))
    for name in names("zoo"):
        assert find(name, "recipes")().get("model") == find(name, "zoo")()


def test_short_names_are_told_apart_by_kind() -> None:
    assert part("heads.fcos").target is not part("assigners.fcos").target
