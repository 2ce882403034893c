"""Arguments as `torso parts` writes them: what may be given, not the names that the sources have for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from torso.cli._signature import read_signature


def annotation(kind: str, name: str, argument: str) -> str:
    return next(a.annotation for a in read_signature(kind, name).arguments if a.name == argument)


@pytest.mark.parametrize(
    ("kind", "name", "argument", "value"),
    [
        ("necks", "fpn", "extra", "conv_c5"),  # an alias of its own file
        ("necks", "fpn", "norm", "gn"),  # one that is imported
        ("heads", "fcos", "activation", "silu"),  # of a base class in another file
        ("backbones", "timm", "activation", "mish"),  # inside another type: Activation | None
    ],
)
def test_an_alias_is_written_out(kind: str, name: str, argument: str, value: str) -> None:
    shown = annotation(kind, name, argument)
    assert shown.startswith("Literal[")
    assert repr(value) in shown


def test_other_types_stay_as_they_are_written() -> None:
    assert annotation("heads", "fcos", "coder") == "Part[Coder]"
    assert annotation("backbones", "timm", "activation").endswith(" | None")
    assert annotation("recipes", "recipe", "lr_batch") == "Annotated[int, Interval(ge=1)] | None"


def test_it_costs_no_torch() -> None:
    code = "import json, sys; from torso.cli._signature import read_signature; read_signature('heads', 'fcos'); "
    code += "print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
