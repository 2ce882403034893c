"""Flags: nothing is abbreviated, nothing unknown passes, dotted ones are set apart with their text."""

from __future__ import annotations

import re

import pytest

from torso.cli._flags import Parser, UsageError


@pytest.fixture
def parser() -> Parser:
    made = Parser(prog="torso x", description="A verb.")
    made.add_argument("paths", nargs="+")
    made.add_argument("--batch-size", type=int, default=1)
    made.add_argument("--json", action="store_true")
    made.dotted = ("neck", "head", "cls_loss")
    return made


def test_dotted_flags_never_eat_positionals(parser: Parser) -> None:
    args = parser.parse(["a", "--neck.channels", "128", "b", "--head.tower=2", "--json", "--cls-loss.gamma", "-1.5"])
    assert args.paths == ["a", "b"]
    assert args.json
    assert args.dotted == {"neck.channels": "128", "head.tower": "2", "cls_loss.gamma": "-1.5"}


def test_a_value_may_hold_anything_after_the_equals_sign(parser: Parser) -> None:
    assert parser.parse(["a", "--neck.extra=--x=y"]).dotted == {"neck.extra": "--x=y"}
    assert parser.parse(["a", "--neck.extra="]).dotted == {"neck.extra": ""}


def test_everything_after_two_dashes_is_a_path(parser: Parser) -> None:
    args = parser.parse(["--json", "--", "--neck.channels=1", "--odd"])
    assert args.paths == ["--neck.channels=1", "--odd"]
    assert args.dotted == {}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["a", "--jsn"], "unknown flag --jsn; did you mean '--json'"),
        (["a", "--batch", "3"], "unknown flag --batch; did you mean '--batch-size'"),
        (["a", "--batch-size", "many"], "invalid int value: 'many'"),
        (["a", "--batch-size"], "expected one argument"),
        ([], "required: paths"),
        (["a", "--nek.channels=3"], "did you mean '--neck.channels'"),
        (["a", "--zzz.q=3"], "a dotted flag begins with one of neck, head, cls_loss"),
        (["a", "--neck.channels"], "--neck.channels=VALUE"),
        (["a", "--neck.channels", "--json"], "--neck.channels=VALUE"),
        (["a", "--neck.channels=1", "--neck.channels=2"], "came twice"),
        (["a", "--wxyz"], "unknown flag --wxyz; see torso x --help"),
    ],
)
def test_mistakes_are_named(parser: Parser, argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser.parse(argv)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("--loss", ["--cls-loss", "--box-loss"]),
        ("--assinger", ["--assigner"]),
        ("--siez", ["--size"]),
        ("--epoch", ["--epochs"]),
        ("--quantum", []),
    ],
)
def test_only_near_flags_are_offered(parser: Parser, typed: str, offered: list[str]) -> None:
    for flag in ("--assigner", "--cls-loss", "--box-loss", "--tiles", "--size", "--pretrained", "--epochs", "--ema"):
        parser.add_argument(flag)
    with pytest.raises(UsageError) as caught:
        parser.parse(["a", typed])
    assert sorted(re.findall(r"'(--[\w-]+)'", str(caught.value))) == sorted(offered)


def test_a_verb_without_parts_takes_no_dotted_flags(parser: Parser) -> None:
    parser.dotted = None
    with pytest.raises(UsageError, match="takes no arguments of parts"):
        parser.parse(["a", "--neck.channels=1"])
